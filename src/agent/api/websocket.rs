//! exec and attach over WebSocket: `v5.channel.k8s.io`, `v4.channel.k8s.io` and what was before them.
//!
//! Each binary message begins with its channel: 0 standard input, 1 output, 2 error, 3 the final
//! Status, 4 terminal size. Version 5 adds 255: the channel in the next byte is closed. The protocols with `base64`,
//! which consoles in browsers use, have text messages: the channel as a digit, then the data in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::exec::{Input, Options, Output, Wire, parse_resize};

/// Sub-protocols, the newest first.
pub(super) const PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];

/// What a protocol is made of.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    base64: bool,
    /// The client can close its channels.
    closes: bool,
    /// Without a version: a failure is told in plain text, success not at all.
    oldest: bool,
}

impl Protocol {
    fn of(name: &str) -> Self {
        let closes = name.starts_with("v5.");
        Self { base64: name.contains("base64."), closes, oldest: !name.starts_with('v') }
    }

    fn frame(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            return Message::Text(format!("{channel}{}", STANDARD.encode(data)).into());
        }
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.put_u8(channel);
        message.put_slice(data);
        Message::Binary(message.freeze())
    }

    fn parse(self, data: &Bytes) -> Option<Input> {
        let (mut channel, mut rest) = (*data.first()?, data.slice(1..));
        if self.base64 {
            channel = channel.checked_sub(b'0')?;
            rest = STANDARD.decode(&rest).ok()?.into();
        }
        match channel {
            STDIN if !rest.is_empty() => Some(Input::Stdin(rest)),
            RESIZE => parse_resize(&rest),
            CLOSE if self.closes && rest.first() == Some(&STDIN) => Some(Input::End),
            _ => None,
        }
    }
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// How long the client gets to answer a close.
const CLOSE_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// A server's WebSocket over a connection whose handshake is done.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    WebSocketStream::from_raw_socket(io, Role::Server, None).await
}

/// The close message of an orderly end; clients take one without a code for a failure.
pub(super) fn normal_end() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Default::default() }))
}

/// Carries an exec or attach until it has ended or the client is gone.
pub(super) async fn exec<S>(io: S, version: &str, options: Options, wire: Wire)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = accept(io).await.split();
    let protocol = Protocol::of(version);
    // An empty message tells the client that the connection stands.
    let first = match options {
        Options { stdout: true, .. } => STDOUT,
        Options { stderr: true, .. } => STDERR,
        _ => STATUS,
    };
    if sink.send(protocol.frame(first, b"")).await.is_err() {
        return;
    }
    let Wire { input, output } = wire;
    let done = tokio::select! {
        done = write(&mut sink, protocol, options, output) => done,
        () = read(&mut stream, input, protocol) => false,
    };
    if done && sink.send(normal_end()).await.is_ok() {
        let answer = async { while let Some(Ok(_)) = stream.next().await {} };
        let _ = tokio::time::timeout(CLOSE_WAIT, answer).await;
    }
}

async fn write<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    protocol: Protocol,
    options: Options,
    mut output: mpsc::Receiver<Output>,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = output.recv().await {
        let frame = match message {
            // What the client did not ask for.
            Output::Stdout(_) if !options.stdout => continue,
            Output::Stderr(_) if !options.stderr => continue,
            Output::Stdout(data) => protocol.frame(STDOUT, &data),
            Output::Stderr(data) => protocol.frame(STDERR, &data),
            Output::Status(status) if protocol.oldest => match status["message"].as_str() {
                Some(text) => protocol.frame(STATUS, text.as_bytes()),
                None => continue,
            },
            Output::Status(status) => protocol.frame(STATUS, status.to_string().as_bytes()),
        };
        if sink.send(frame).await.is_err() {
            return false;
        }
    }
    true
}

async fn read<S>(stream: &mut SplitStream<WebSocketStream<S>>, input: mpsc::Sender<Input>, protocol: Protocol)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => return,
            _ => continue,
        };
        let Some(message) = protocol.parse(&data) else { continue };
        // A process that has ended reads no more; its Status is still on its way.
        let _ = input.send(message).await;
    }
}

/// Carries a byte stream in binary messages, as port-forward through a WebSocket needs it, until either
/// side ends.
pub(super) async fn tunnel<S>(io: S, bytes: DuplexStream)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = accept(io).await.split();
    let (mut from, mut to) = tokio::io::split(bytes);
    let outgoing = async {
        let mut buffer = vec![0; 32 << 10];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    if sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
                        return;
                    }
                }
            }
        }
        let _ = sink.send(normal_end()).await;
    };
    let incoming = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(data) => {
                    let written = to.write_all(&data).await;
                    if written.is_err() {
                        return;
                    }
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::select! {
        () = outgoing => {}
        () = incoming => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::api::exec::pair;
    use serde_json::json;

    fn frame(channel: u8, data: &[u8]) -> Message {
        Protocol::of(PROTOCOLS[0]).frame(channel, data)
    }

    #[test]
    fn channels() {
        let parse = |name, data: &'static [u8]| Protocol::of(name).parse(&Bytes::from_static(data));
        let message =
            |data, closes| parse(if closes { "v5.channel.k8s.io" } else { "v4.channel.k8s.io" }, data);
        assert_eq!(message(b"\x00abc", true), Some(Input::Stdin(Bytes::from_static(b"abc"))));
        assert_eq!(message(b"\x04{\"Width\":1,\"Height\":2}", true), Some(Input::Resize(1, 2)));
        assert_eq!(message(b"\xff\x00", true), Some(Input::End));
        assert_eq!(message(b"\xff\x00", false), None, "version 4 cannot close");
        assert_eq!(message(b"", true), None);
        let text = |data| parse("base64.channel.k8s.io", data);
        assert_eq!(text(b"0YWJj"), Some(Input::Stdin(Bytes::from_static(b"abc"))));
        assert_eq!((text(b"0?"), text(b"\0YWJj")), (None, None));
        let sent = Protocol::of("v4.base64.channel.k8s.io").frame(STDOUT, b"abc");
        assert_eq!(sent, Message::Text("1YWJj".into()));
    }

    #[tokio::test]
    async fn the_oldest_protocol_tells_failures_in_text() {
        for (status, wanted) in [
            (json!({"status": "Success"}), normal_end()),
            (json!({"status": "Failure", "message": "no"}), frame(STATUS, b"no")),
        ] {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let (client, wire) = pair();
            let options = Options { stdin: false, stdout: true, stderr: false, tty: false };
            let serving = tokio::spawn(exec(ours, "", options, wire));
            let mut socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
            assert_eq!(socket.next().await.expect("open").expect("first"), frame(STDOUT, b""));
            client.output.send(Output::Status(status)).await.expect("sent");
            drop(client);
            assert_eq!(socket.next().await.expect("open").expect("last"), wanted);
            drop(socket);
            serving.await.expect("served");
        }
    }

    #[tokio::test]
    async fn a_session_from_first_message_to_status() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (mut client, wire) = pair();
        let options = Options { stdin: true, stdout: true, stderr: false, tty: false };
        let serving = tokio::spawn(exec(ours, PROTOCOLS[0], options, wire));
        let mut socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        assert_eq!(socket.next().await.expect("open").expect("first"), frame(STDOUT, b""));
        socket.send(frame(STDIN, b"hello")).await.expect("sent");
        assert_eq!(client.input.recv().await, Some(Input::Stdin(Bytes::from_static(b"hello"))));
        socket.send(frame(CLOSE, &[STDIN])).await.expect("sent");
        assert_eq!(client.input.recv().await, Some(Input::End));
        client.output.send(Output::Stdout(Bytes::from_static(b"out"))).await.expect("sent");
        client.output.send(Output::Status(json!({"status": "Success"}))).await.expect("sent");
        drop(client);
        assert_eq!(socket.next().await.expect("open").expect("stdout"), frame(STDOUT, b"out"));
        assert_eq!(
            socket.next().await.expect("open").expect("status"),
            frame(STATUS, b"{\"status\":\"Success\"}")
        );
        assert_eq!(socket.next().await.expect("open").expect("close"), normal_end());
        let _ = socket.close(None).await;
        serving.await.expect("served");
    }
}
