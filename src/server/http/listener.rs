//! The TLS listener: HTTP/1.1 with upgrades and HTTP/2 on one port.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api::Api;
use super::chain::{self, Sender};

/// A client that does not finish its TLS handshake within this time is gone.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What is on its way when the server stops may take so long.
const DRAIN: Duration = Duration::from_secs(2);
/// After an error of accept, such as too many open files, before the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `stop`, then lets requests on their way finish for a short time.
pub async fn run(api: Arc<Api>, listener: Arc<TcpListener>, tls: Arc<ServerConfig>, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (api, acceptor, stop) = (Arc::clone(&api), acceptor.clone(), stop.clone());
                connections.spawn(connection(api, acceptor, stream, stop));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::info!("{} connections did not end in time", connections.len());
    }
}

async fn connection(api: Arc<Api>, acceptor: TlsAcceptor, stream: TcpStream, stop: CancellationToken) {
    // Small answers, such as watch events, are not to wait for more.
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let certificates = tls.get_ref().1.peer_certificates();
    let peer =
        certificates.map(|list| Arc::new(list.iter().map(|c| c.clone().into_owned()).collect::<Vec<_>>()));
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, peer) = (Arc::clone(&api), peer.clone());
        async move {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            Ok::<_, Infallible>(chain::serve(&api, Sender::Peer(peer), request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1000)
        .adaptive_window(true)
        .max_send_buf_size(256 << 10);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            bounded(connection).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

async fn bounded<E>(connection: impl Future<Output = Result<(), E>>) -> Result<(), E> {
    tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
}
