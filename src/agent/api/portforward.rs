//! Port-forward: connections to `localhost` inside the pod's network namespace.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use super::target::{Query, find_pod, observe};
use super::upgrade::{Io, Protocol, negotiate, switch};
use super::{Body, Refusal, spdy, websocket};
use crate::agent::context::Context;
use crate::agent::spec::{host_network, name, uid as uid_of};

/// SPDY/3.1 carried in WebSocket messages, as newer clients do.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Two channels a port, as older WebSocket clients do.
const CHANNELS: &str = "v4.channel.k8s.io";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where connections are made.
#[derive(Clone, Debug)]
enum Place {
    /// The host's network.
    Host,
    /// The network namespace that this path opens.
    Namespace(PathBuf),
}

/// Upgrades the connection and forwards what comes to the pod's ports.
pub(super) fn serve(
    context: &Arc<Context>,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let pod = find_pod(context, namespace, pod, uid)?;
    let protocol = negotiate(request.headers(), &[TUNNEL, CHANNELS], &[spdy::forward::PROTOCOL])?;
    let names = [query.all("port"), query.all("ports")].concat();
    let ports: Vec<u16> = names.iter().flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
    let (context, chosen) = (Arc::clone(context), protocol.clone());
    let about = format!("to pod {}, uid {}", name(&pod), uid_of(&pod));
    let idle = context.settings.kubelet.streaming_connection_idle_timeout;
    switch(request, &protocol, idle, move |io| async move {
        let place = if host_network(&pod) {
            Place::Host
        } else {
            let sandbox = observe(&context, &pod).await.sandbox.filter(|s| s.ready);
            let Some(path) = sandbox.and_then(|s| s.netns.or_else(|| context.runtime.netns_of(&s.id))) else {
                tracing::debug!("node API: port-forward to a pod without a sandbox");
                return;
            };
            Place::Namespace(path)
        };
        let result = match &chosen {
            Protocol::Spdy(_) => spdy::forward::serve(io, &about, |port| connect(place.clone(), port)).await,
            Protocol::WebSocket(name) if name == TUNNEL => {
                let (ours, theirs) = tokio::io::duplex(64 << 10);
                let session = spdy::forward::serve(ours, &about, |port| connect(place.clone(), port));
                tokio::select! {
                    result = session => result,
                    () = websocket::tunnel(io, theirs) => Ok(()),
                }
            }
            Protocol::WebSocket(_) => {
                channels(io, place, ports, &about).await;
                Ok(())
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "node API: port-forward ended");
        }
    })
}

/// Connects to a port of the pod's `localhost`, by IPv4, then IPv6.
async fn connect(place: Place, port: u16) -> Result<TcpStream, String> {
    let dial = move || -> Result<std::net::TcpStream, String> {
        let to = |address| std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
        let v4 = |e| format!("IPv4: dial tcp4 127.0.0.1:{port}: {}", reason(&e));
        let v6 = |e| format!("IPv6 dial tcp6 [::1]:{port}: {}", reason(&e));
        let both = |first| move |second| format!("{} {}", v4(first), v6(second));
        to(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .or_else(|first| to(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).map_err(both(first)))
    };
    let (sender, receiver) = oneshot::channel();
    // A thread of its own: entering a namespace changes the thread for good, and threads that the
    // runtime's start inherit theirs.
    let thread = std::thread::Builder::new().name("port-forward".into()).spawn(move || {
        let result = match &place {
            Place::Host => Ok(()),
            Place::Namespace(path) => enter(path).map_err(|e| e.to_string()),
        };
        let _ = sender.send(result.and_then(|()| dial()));
    });
    thread.map_err(|e| e.to_string())?;
    let socket = receiver.await.map_err(|_| "the connecting thread died".to_owned())?;
    let socket =
        socket.map_err(|e| format!("failed to connect to localhost:{port} inside the pod's network, {e}"))?;
    socket.set_nonblocking(true).map_err(|e| e.to_string())?;
    let _ = socket.set_nodelay(true);
    TcpStream::from_std(socket).map_err(|e| e.to_string())
}

/// Why a connection was not made, in the words of Go's `net` package, which people search for.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}

fn enter(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::fd::AsFd;
    let namespace = std::fs::File::open(path)?;
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?)
}

/// The older WebSocket form: port `n` of the query has channel `2n` for data and `2n + 1` for errors;
/// each channel begins with the port in two bytes, little-endian.
async fn channels(io: Io, place: Place, ports: Vec<u16>, about: &str) {
    let (mut sink, mut stream) = websocket::accept(io).await.split();
    let (frames, mut to_send) = mpsc::channel::<Bytes>(16);
    let mut inputs = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for (index, port) in ports.into_iter().enumerate().take(127) {
        let Ok(channel) = u8::try_from(index * 2) else { break };
        let (sender, receiver) = mpsc::channel::<Bytes>(16);
        inputs.push(sender);
        let about = format!("error forwarding port {port} {about}");
        tasks.spawn(channel_pair(place.clone(), port, channel, receiver, frames.clone(), about));
    }
    drop(frames);
    let sending = async {
        while let Some(data) = to_send.recv().await {
            if sink.send(Message::Binary(data)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(websocket::normal_end()).await;
    };
    let receiving = async {
        while let Some(Ok(message)) = stream.next().await {
            let Message::Binary(data) = message else { continue };
            let Some(channel) = data.first().filter(|c| *c % 2 == 0) else { continue };
            if let Some(input) = inputs.get(usize::from(*channel / 2)) {
                let _ = input.send(data.slice(1..)).await;
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
}

fn on_channel(channel: u8, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put_slice(data);
    message.freeze()
}

async fn channel_pair(
    place: Place,
    port: u16,
    channel: u8,
    mut input: mpsc::Receiver<Bytes>,
    frames: mpsc::Sender<Bytes>,
    about: String,
) {
    for channel in [channel, channel + 1] {
        let _ = frames.send(on_channel(channel, &port.to_le_bytes())).await;
    }
    let mut socket = match connect(place, port).await {
        Ok(socket) => socket,
        Err(problem) => {
            let text = format!("{about}: {problem}");
            let _ = frames.send(on_channel(channel + 1, text.as_bytes())).await;
            return;
        }
    };
    let (mut read, mut write) = socket.split();
    let upwards = async {
        while let Some(data) = input.recv().await {
            if write.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
        std::future::pending::<()>().await;
    };
    let downwards = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n) = read.read(&mut buffer).await {
            if n == 0 || frames.send(on_channel(channel, &buffer[..n])).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = upwards => {}
        () = downwards => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn connections_are_made_in_this_or_another_namespace() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        connect(Place::Host, port).await.expect("connected");
        // Entering needs root; one's own namespace is as good as any to try it.
        if nix::unistd::geteuid().is_root() {
            connect(Place::Namespace("/proc/self/ns/net".into()), port).await.expect("connected");
        }
        drop(listener);
        let refused = connect(Place::Host, port).await.expect_err("refused");
        let wanted = format!(
            "failed to connect to localhost:{port} inside the pod's network, IPv4: dial tcp4 127.0.0.1:{port}: \
             connect: connection refused IPv6 dial tcp6 [::1]:{port}: connect: "
        );
        assert!(refused.starts_with(&wanted), "{refused}");
    }
}
