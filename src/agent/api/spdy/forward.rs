//! Port-forward over SPDY/3.1: for each connection of the client's a pair of streams, error and data,
//! that name the port and share a `requestID`.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Frame, Reader, Writer};

/// The protocol's name.
pub(in crate::agent::api) const PROTOCOL: &str = "portforward.k8s.io";

/// So long the pod may take in what the client sends after the pod said all, as with containerd.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Frames of one stream that may wait for the pod to read them.
const QUEUE: usize = 16;

#[derive(Default)]
struct Pair {
    error: Option<u32>,
    data: Option<(u32, mpsc::Receiver<Bytes>)>,
    port: u16,
}

/// Serves connections, each made by `connect` with its port, until the client is gone. `about` says in errors to
/// which pod.
pub(in crate::agent::api) async fn serve<S, C, Fut>(io: S, about: &str, connect: C) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Fn(u16) -> Fut,
    Fut: Future<Output = Result<TcpStream, String>> + Send + 'static,
{
    let (read, write) = tokio::io::split(io);
    let mut reader = Reader::new(BufReader::new(read));
    let mut writer = Writer::new(write)?;
    let (frames, mut to_send) = mpsc::channel::<Frame>(QUEUE);
    let sending = async {
        while let Some(frame) = to_send.recv().await {
            writer.send(frame).await?;
        }
        Ok::<(), io::Error>(())
    };
    let receiving = async {
        let mut session =
            Session { about, pairs: BTreeMap::new(), data: BTreeMap::new(), tasks: JoinSet::new(), frames };
        while let Some(frame) = reader.next().await? {
            session.frame(frame, &connect).await;
        }
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        result = sending => result,
        result = receiving => result,
    }
}

struct Session<'a> {
    about: &'a str,
    /// Half-open pairs by request.
    pairs: BTreeMap<String, Pair>,
    /// Where the data of each stream goes.
    data: BTreeMap<u32, mpsc::Sender<Bytes>>,
    tasks: JoinSet<()>,
    frames: mpsc::Sender<Frame>,
}

impl Session<'_> {
    async fn frame<C, Fut>(&mut self, frame: Frame, connect: &C)
    where
        C: Fn(u16) -> Fut,
        Fut: Future<Output = Result<TcpStream, String>> + Send + 'static,
    {
        match frame {
            Frame::Open { stream, headers, .. } => {
                let _ = self.frames.send(Frame::Accept(stream)).await;
                self.open(stream, &headers, connect);
            }
            Frame::Data { stream, data, fin } => {
                if let Some(sender) = self.data.get(&stream).filter(|_| !data.is_empty()) {
                    let _ = sender.send(data).await;
                }
                if fin {
                    self.data.remove(&stream);
                }
            }
            Frame::Reset { stream, .. } => {
                self.data.remove(&stream);
            }
            Frame::Ping(id) => {
                let _ = self.frames.send(Frame::Ping(id)).await;
            }
            Frame::Accept(_) | Frame::GoAway => {}
        }
        // Finished connections are not kept.
        while self.tasks.try_join_next().is_some() {}
    }

    fn open<C, Fut>(&mut self, stream: u32, headers: &[(String, String)], connect: &C)
    where
        C: Fn(u16) -> Fut,
        Fut: Future<Output = Result<TcpStream, String>> + Send + 'static,
    {
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let port = header("port").and_then(|p| p.parse().ok()).unwrap_or(0);
        let is_data = header("streamtype") == Some("data");
        // Old clients name no request: their data stream follows the error stream at once.
        let request = header("requestid").map_or_else(
            || if is_data { (stream - stream.min(2)).to_string() } else { stream.to_string() },
            str::to_owned,
        );
        let pair = self.pairs.entry(request.clone()).or_default();
        pair.port = port;
        if is_data {
            let (sender, receiver) = mpsc::channel(QUEUE);
            self.data.insert(stream, sender);
            pair.data = Some((stream, receiver));
        } else {
            pair.error = Some(stream);
        }
        if pair.error.is_some()
            && pair.data.is_some()
            && let Some(Pair { error: Some(error), data: Some((data, receiver)), port }) =
                self.pairs.remove(&request)
        {
            let connecting = connect(port);
            let frames = self.frames.clone();
            let about = format!("error forwarding port {port} {}", self.about);
            self.tasks.spawn(async move {
                let end = |stream| Frame::Data { stream, data: Bytes::new(), fin: true };
                match connecting.await {
                    Ok(socket) => copy(socket, data, receiver, &frames).await,
                    Err(problem) => {
                        let text = format!("{about}: {problem}").into();
                        let _ = frames.send(Frame::Data { stream: error, data: text, fin: false }).await;
                        let _ = frames.send(end(data)).await;
                    }
                }
                let _ = frames.send(end(error)).await;
            });
        }
    }
}

/// Copies both ways until the pod has closed its side; the client is told at once, and what it still sends gets a
/// moment to arrive. That a connection breaks off is its end: told as an error, it would end all others of the client.
async fn copy(
    mut socket: TcpStream,
    stream: u32,
    mut from_client: mpsc::Receiver<Bytes>,
    frames: &mpsc::Sender<Frame>,
) {
    let (mut read, mut write) = socket.split();
    let upwards = async {
        while let Some(data) = from_client.recv().await {
            if write.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    };
    let downwards = async {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let n = read.read(&mut buffer).await.unwrap_or(0);
            let (data, fin) = (Bytes::copy_from_slice(&buffer[..n]), n == 0);
            if frames.send(Frame::Data { stream, data, fin }).await.is_err() || fin {
                return;
            }
        }
    };
    match select(pin!(upwards), pin!(downwards)).await {
        Either::Left(((), downwards)) => downwards.await,
        Either::Right(((), upwards)) => drop(tokio::time::timeout(LAST_WORDS, upwards).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn two_connections_and_a_port_that_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("accepted");
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let connect = move |port: u16| async move {
            if port == 1 {
                Err("refused".to_owned())
            } else {
                TcpStream::connect(address).await.map_err(|e| e.to_string())
            }
        };
        let serving = tokio::spawn(async move { serve(ours, "to pod p, uid u", connect).await });
        let (read, write) = tokio::io::split(theirs);
        let (mut reader, mut writer) = (Reader::new(read), Writer::new(write).expect("a writer"));
        for (stream, type_, request, port) in
            [(1, "error", "0", "80"), (3, "data", "0", "80"), (5, "error", "1", "1"), (7, "data", "1", "1")]
        {
            let headers = [("streamtype", type_), ("requestid", request), ("port", port)];
            let headers = headers.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
            writer.send(Frame::Open { stream, headers, fin: false }).await.expect("opened");
        }
        writer
            .send(Frame::Data { stream: 3, data: Bytes::from_static(b"echo"), fin: true })
            .await
            .expect("sent");
        let mut seen = BTreeMap::<u32, Vec<u8>>::new();
        let mut ended = Vec::new();
        while ended.len() < 4 {
            match reader.next().await.expect("read").expect("a frame") {
                Frame::Data { stream, data, fin } => {
                    seen.entry(stream).or_default().extend(&data);
                    if fin {
                        ended.push(stream);
                    }
                }
                Frame::Accept(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen[&3], b"echo");
        assert!(seen[&1].is_empty() && seen[&7].is_empty());
        assert_eq!(String::from_utf8_lossy(&seen[&5]), "error forwarding port 1 to pod p, uid u: refused");
        drop((reader, writer));
        assert!(serving.await.expect("served").is_ok());
    }
}
