//! exec and attach over SPDY/3.1: a stream for each of error, stdin, stdout, stderr and resize.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::{Frame, Reader, Writer};
use crate::agent::api::exec::{Input, Options, Output, Wire, parse_resize};

/// Protocol versions: 2 and older tell an end as plain text.
pub(in crate::agent::api) const PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// The client has to open its streams within this time, as with kubelet.
const STREAM_CREATION: Duration = Duration::from_secs(30);

/// Streams by type.
type Streams = BTreeMap<String, u32>;

/// Carries an exec or attach until it has ended or the client is gone.
pub(in crate::agent::api) async fn serve<S>(io: S, version: &str, options: Options, wire: Wire)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = session(io, version, options, wire).await {
        tracing::debug!(%error, "node API: a SPDY session ended");
    }
}

async fn session<S>(io: S, version: &str, options: Options, wire: Wire) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (read, write) = tokio::io::split(io);
    let (mut reader, mut writer) = (Reader::new(BufReader::new(read)), Writer::new(write)?);
    let opening = open_streams(&mut reader, &mut writer, version, options);
    let (streams, early) = tokio::time::timeout(STREAM_CREATION, opening).await??;
    let Wire { input, output } = wire;
    let (replies, to_reply) = mpsc::channel(8);
    tokio::select! {
        result = outgoing(&mut writer, &streams, version, output, to_reply) => result?,
        result = incoming(&mut reader, &streams, early, input, replies) => return result,
    }
    writer.close().await;
    Ok(())
}

/// How many streams the client opens: error, those it asked for, and resize with a terminal.
fn expected(version: &str, options: Options) -> usize {
    let resize = options.tty && !matches!(version, "v2.channel.k8s.io" | "channel.k8s.io");
    1 + [options.stdin, options.stdout, options.stderr, resize].into_iter().filter(|w| *w).count()
}

type Buffered<S> = Reader<BufReader<ReadHalf<S>>>;

/// Accepts streams until all are there; what came on them meanwhile is kept.
async fn open_streams<S>(
    reader: &mut Buffered<S>,
    writer: &mut Writer<WriteHalf<S>>,
    version: &str,
    options: Options,
) -> io::Result<(Streams, Vec<Frame>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut streams, mut early) = (Streams::new(), Vec::new());
    while streams.len() < expected(version, options) {
        match reader.next().await? {
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Frame::Open { stream, headers, fin }) => {
                writer.send(Frame::Accept(stream)).await?;
                let type_ =
                    headers.into_iter().find(|(n, _)| n == "streamtype").map(|(_, v)| v).unwrap_or_default();
                streams.insert(type_, stream);
                if fin {
                    early.push(Frame::Data { stream, data: Bytes::new(), fin: true });
                }
            }
            Some(Frame::Ping(id)) => writer.send(Frame::Ping(id)).await?,
            Some(frame) => early.push(frame),
        }
    }
    Ok((streams, early))
}

async fn outgoing<S>(
    writer: &mut Writer<WriteHalf<S>>,
    streams: &Streams,
    version: &str,
    mut output: mpsc::Receiver<Output>,
    mut replies: mpsc::Receiver<Frame>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = tokio::select! {
            message = output.recv() => message,
            Some(frame) = replies.recv() => {
                writer.send(frame).await?;
                continue;
            }
        };
        let (type_, data) = match message {
            None => break,
            Some(Output::Stdout(data)) => ("stdout", data),
            Some(Output::Stderr(data)) => ("stderr", data),
            Some(Output::Status(status)) => ("error", end_message(version, &status)),
        };
        if let (Some(stream), false) = (streams.get(type_), data.is_empty()) {
            writer.send(Frame::Data { stream: *stream, data, fin: false }).await?;
        }
    }
    for type_ in ["stdout", "stderr", "error"] {
        if let Some(stream) = streams.get(type_) {
            writer.send(Frame::Data { stream: *stream, data: Bytes::new(), fin: true }).await?;
        }
    }
    Ok(())
}

/// What goes on the error stream: the Status since version 4, text before, nothing on success.
fn end_message(version: &str, status: &serde_json::Value) -> Bytes {
    if version == "v4.channel.k8s.io" {
        return status.to_string().into();
    }
    if status["status"] == "Success" {
        return Bytes::new();
    }
    status["message"].as_str().unwrap_or_default().to_owned().into()
}

async fn incoming<S>(
    reader: &mut Buffered<S>,
    streams: &Streams,
    early: Vec<Frame>,
    input: mpsc::Sender<Input>,
    replies: mpsc::Sender<Frame>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut early = early.into_iter();
    // A message of the terminal's size may come in pieces.
    let mut sizes = Vec::new();
    loop {
        let frame = match early.next() {
            Some(frame) => frame,
            None => match reader.next().await? {
                Some(frame) => frame,
                None => return Ok(()),
            },
        };
        let is = |type_: &str, stream: u32| streams.get(type_) == Some(&stream);
        match frame {
            Frame::Data { stream, data, fin } if is("stdin", stream) => {
                if !data.is_empty() {
                    let _ = input.send(Input::Stdin(data)).await;
                }
                if fin {
                    let _ = input.send(Input::End).await;
                }
            }
            Frame::Data { stream, data, .. } if is("resize", stream) => {
                sizes.extend_from_slice(&data);
                while let Some(end) = sizes.iter().position(|b| *b == b'}') {
                    let message: Vec<u8> = sizes.drain(..=end).collect();
                    if let Some(size) = parse_resize(&message) {
                        let _ = input.send(size).await;
                    }
                }
            }
            Frame::Ping(id) => {
                let _ = replies.send(Frame::Ping(id)).await;
            }
            Frame::Reset { stream, .. } if is("stdin", stream) => {
                let _ = input.send(Input::End).await;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::api::exec::pair;
    use serde_json::json;

    async fn open<W: AsyncWrite + Unpin>(writer: &mut Writer<W>, stream: u32, type_: &str) {
        let headers = vec![("streamtype".to_owned(), type_.to_owned())];
        writer.send(Frame::Open { stream, headers, fin: false }).await.expect("opened");
    }

    #[tokio::test]
    async fn a_session_with_stdin_a_terminal_size_and_a_failure() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (mut client, wire) = pair();
        let options = Options { stdin: true, stdout: true, stderr: false, tty: true };
        let serving = tokio::spawn(serve(ours, "v4.channel.k8s.io", options, wire));
        let (read, write) = tokio::io::split(theirs);
        let (mut reader, mut writer) = (Reader::new(read), Writer::new(write).expect("a writer"));
        for (stream, type_) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
            open(&mut writer, stream, type_).await;
            assert_eq!(reader.next().await.expect("read"), Some(Frame::Accept(stream)));
        }
        let send = |stream, text: &'static str, fin| Frame::Data {
            stream,
            data: Bytes::from_static(text.as_bytes()),
            fin,
        };
        writer.send(send(7, "{\"Width\":80,", false)).await.expect("sent");
        writer.send(send(7, "\"Height\":24}\n", false)).await.expect("sent");
        assert_eq!(client.input.recv().await, Some(Input::Resize(80, 24)));
        writer.send(send(3, "in", true)).await.expect("sent");
        assert_eq!(client.input.recv().await, Some(Input::Stdin(Bytes::from_static(b"in"))));
        assert_eq!(client.input.recv().await, Some(Input::End));
        writer.send(Frame::Ping(9)).await.expect("sent");
        assert_eq!(reader.next().await.expect("read"), Some(Frame::Ping(9)));
        client.output.send(Output::Stdout(Bytes::from_static(b"out"))).await.expect("sent");
        assert_eq!(reader.next().await.expect("read"), Some(send(5, "out", false)));
        client.output.send(Output::Status(json!({"status": "Failure"}))).await.expect("sent");
        assert_eq!(reader.next().await.expect("read"), Some(send(1, "{\"status\":\"Failure\"}", false)));
        drop(client);
        assert_eq!(reader.next().await.expect("read"), Some(send(5, "", true)));
        assert_eq!(reader.next().await.expect("read"), Some(send(1, "", true)));
        serving.await.expect("served");
    }

    #[test]
    fn old_versions_are_told_the_end_as_text() {
        let failure = json!({"status": "Failure", "message": "no"});
        assert_eq!(end_message("v3.channel.k8s.io", &failure), Bytes::from_static(b"no"));
        assert!(end_message("v3.channel.k8s.io", &json!({"status": "Success"})).is_empty());
        let tty = Options { stdin: true, stdout: true, stderr: false, tty: true };
        assert_eq!((expected("v4.channel.k8s.io", tty), expected("v2.channel.k8s.io", tty)), (4, 3));
    }
}
