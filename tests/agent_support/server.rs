//! A server for probes and hooks on the node: HTTP/1.1, gRPC's health service, TLS.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;

use crate::harness::Cluster;

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// What was asked for, a line each: method, path, user agent.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// Serves on both ports, the second with TLS, until the test ends.
pub fn start(cluster: &Cluster, plain: u16, secure: u16) -> Asked {
    let (plain, secure) = (crate::support::listen(cluster, plain), crate::support::listen(cluster, secure));
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let plain = tokio::net::TcpListener::from_std(plain).expect("a listener");
            let secure = tokio::net::TcpListener::from_std(secure).expect("a listener");
            let tls = acceptor();
            tokio::join!(
                async {
                    while let Ok((stream, _)) = plain.accept().await {
                        tokio::spawn(serve(TokioIo::new(stream), Arc::clone(&log)));
                    }
                },
                async {
                    while let Ok((stream, _)) = secure.accept().await {
                        if let Ok(stream) = tls.accept(stream).await {
                            tokio::spawn(serve(TokioIo::new(stream), Arc::clone(&log)));
                        }
                    }
                }
            );
        });
    });
    asked
}

fn acceptor() -> tokio_rustls::TlsAcceptor {
    let certified = rcgen::generate_simple_self_signed(["not.the.host".to_owned()]).expect("a certificate");
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a configuration");
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

async fn serve<I>(io: TokioIo<I>, asked: Asked)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let agent = request.headers().get("user-agent").and_then(|a| a.to_str().ok()).unwrap_or("-");
        let line = format!("{} {} {agent}", request.method(), request.uri().path());
        asked.lock().expect("not poisoned").push(line);
        async { Ok::<_, Infallible>(answer(request).await) }
    });
    let _ = Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
}

fn text(status: u16, location: Option<&str>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    if let Some(location) = location {
        response = response.header("Location", location);
    }
    response.body(Full::from("moved").boxed()).expect("a response")
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    match request.uri().path() {
        "/here" => text(302, Some("/ok")),
        "/away" => text(302, Some("http://0.0.0.0/")),
        "/fail" => text(500, None),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            text(200, None)
        }
        "/grpc.health.v1.Health/Check" => health(request).await,
        _ => text(200, None),
    }
}

/// The service `up` serves, `down` does not, others are not known.
async fn health(request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let (frame, status, message): (&'static [u8], _, _) = match body.get(7..) {
        Some(b"up") => (&[0, 0, 0, 0, 2, 8, 1], "0", ""),
        Some(b"down") => (&[0, 0, 0, 0, 2, 8, 2], "0", ""),
        _ => (&[], "5", "unknown service"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    trailers.insert("grpc-message", HeaderValue::from_static(message));
    let body = Full::from(Bytes::from_static(frame)).with_trailers(async move { Some(Ok(trailers)) });
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body.boxed()).expect("a response")
}
