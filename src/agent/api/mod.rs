//! The node API: HTTPS for the API server, which fetches logs and runs exec, attach and port-forward
//! through it, and for monitoring. Paths and query parameters are those of kubelet's server.
//!
//! | path | parameters |
//! |---|---|
//! | `/healthz`, `/healthz/ping`, `/healthz/log`, `/healthz/syncloop` | |
//! | `/pods`, `/runningpods/`, `/configz`, `/logs/…` (below `/var/log`) | |
//! | `/stats/summary` | `only_cpu_and_memory` |
//! | `/metrics`, `/metrics/resource`, `/metrics/cadvisor`, `/metrics/probes` | |
//! | `/containerLogs/{namespace}/{pod}/{container}` | `follow`, `previous`, `tailLines`, `sinceSeconds`, `sinceTime`, `timestamps`, `limitBytes`, `stream` |
//! | `/run/{namespace}/{pod}[/{uid}]/{container}` | `cmd` |
//! | `/exec/{namespace}/{pod}[/{uid}]/{container}` | `command` (repeated), `input`, `output`, `error`, `tty` |
//! | `/attach/{namespace}/{pod}[/{uid}]/{container}` | `input`, `output`, `error`, `tty` |
//! | `/portForward/{namespace}/{pod}[/{uid}]` | `port` (WebSocket only) |
//!
//! The last three upgrade to WebSocket (`v5.channel.k8s.io`, `v4.channel.k8s.io`; port-forward also
//! `SPDY/3.1+portforward.k8s.io`) or to SPDY/3.1. Who may come in, [`door`] says.

mod door;
mod exec;
mod follow;
mod identity;
mod idle;
mod logs;
mod portforward;
mod spdy;
mod system;
mod target;
mod upgrade;
mod websocket;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::NodeCredentials;
use super::context::Context;
use super::error::Error;
use super::stats::Stats;
use door::Door;
use identity::Caller;
pub(crate) use target::Query;

type Body = BoxBody<Bytes, std::io::Error>;

/// The type of metrics in Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An answer that is not the one hoped for: status and text.
#[derive(Debug)]
pub(super) struct Refusal(StatusCode, String);

impl Refusal {
    fn bad_request(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }

    fn not_found(text: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, text.into())
    }

    fn internal(text: impl Into<String>) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, text.into())
    }
}

fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).map_err(|never| match never {}).boxed()
}

fn answer(status: StatusCode, content_type: &'static str, data: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(data));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

/// The node API's certificates, checked.
pub(crate) struct NodeTls(TlsAcceptor);

impl NodeTls {
    /// Reads certificates and key.
    pub(crate) fn new(credentials: &NodeCredentials) -> Result<Self, Error> {
        Ok(Self(TlsAcceptor::from(Arc::new(identity::server_config(credentials)?))))
    }
}

/// The node API.
pub(crate) struct NodeApi {
    context: Arc<Context>,
    tls: TlsAcceptor,
    door: Door,
    stats: Stats,
}

impl NodeApi {
    /// Serves `context`'s pods.
    pub(crate) fn new(context: Arc<Context>, tls: NodeTls) -> Self {
        let door = Door::new(context.client.clone(), &context.settings.node_name);
        let stats = Stats::new(Arc::clone(&context));
        Self { context, tls: tls.0, door, stats }
    }

    /// Listens on the node API's port.
    pub(crate) async fn bind(&self) -> Result<TcpListener, Error> {
        let port = self.context.settings.node_api_port;
        let address = SocketAddr::from(([0, 0, 0, 0], port));
        TcpListener::bind(address).await.map_err(|e| {
            Error::Other(format!(
                "node API: cannot listen on port {port}: {e}; if another program or kedge has it, choose another \
                 with --node-api-port"
            ))
        })
    }

    /// Serves until cancelled; connections that stream end then.
    pub(crate) async fn run(
        self: &Arc<Self>,
        listener: TcpListener,
        token: CancellationToken,
    ) -> Result<(), Error> {
        let connections = TaskTracker::new();
        loop {
            let stream = tokio::select! {
                () = token.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "node API: a connection was not accepted");
                        continue;
                    }
                },
            };
            let (api, token) = (Arc::clone(self), token.clone());
            connections.spawn(async move {
                tokio::select! {
                    () = token.cancelled() => {}
                    result = api.connection(stream) => if let Err(error) = result {
                        tracing::debug!(%error, "node API: a connection ended");
                    },
                }
            });
        }
        connections.close();
        connections.wait().await;
        Ok(())
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let _ = stream.set_nodelay(true);
        let stream = self.tls.accept(stream).await?;
        let caller = Caller::of(stream.get_ref().1.peer_certificates());
        let service = service_fn(|request: Request<Incoming>| {
            let (api, caller) = (Arc::clone(&self), caller.clone());
            async move { Ok::<_, Infallible>(api.respond(request, &caller).await) }
        });
        let io = TokioIo::new(stream);
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await?;
        Ok(())
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>, caller: &Caller) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let admitted = self.door.admit(caller, request.headers(), &method, &path).await;
        if let Err(Refusal(status, text)) = admitted {
            return answer(status, "text/plain; charset=utf-8", text);
        }
        match self.route(request).await {
            Ok(response) => response,
            Err(Refusal(status, text)) => answer(status, "text/plain; charset=utf-8", text),
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let context = &self.context;
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        if ![Method::GET, Method::POST, Method::HEAD].contains(request.method()) {
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed".into()));
        }
        match parts.as_slice() {
            ["containerLogs", namespace, pod, container] => {
                logs::serve(context, namespace, pod, container, &query).await
            }
            ["run", namespace, pod, rest @ ..] => {
                let target = target::find(context, namespace, pod, rest).await?;
                exec::run_sync(context, &target, &query).await
            }
            ["exec", namespace, pod, rest @ ..] => {
                let target = target::find(context, namespace, pod, rest).await?;
                exec::serve(context, request, target, &query, true)
            }
            ["attach", namespace, pod, rest @ ..] => {
                let target = target::find(context, namespace, pod, rest).await?;
                exec::serve(context, request, target, &query, false)
            }
            ["portForward", namespace, pod] => {
                portforward::serve(context, request, namespace, pod, None, &query)
            }
            ["portForward", namespace, pod, uid] => {
                portforward::serve(context, request, namespace, pod, Some(uid), &query)
            }
            ["logs", ..] => system::logs(&path).await,
            _ => self.about_node(&parts, &query).await,
        }
    }

    /// Paths about the node as a whole.
    async fn about_node(&self, parts: &[&str], query: &Query) -> Result<Response<Body>, Refusal> {
        let metrics = |text: String| answer(StatusCode::OK, METRICS, text);
        let stats = &self.stats;
        Ok(match parts {
            ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => {
                answer(StatusCode::OK, "text/plain; charset=utf-8", "ok")
            }
            ["pods"] => system::pods(&self.context),
            ["runningpods"] => system::running_pods(&self.context).await,
            ["configz"] => system::configz(&self.context),
            ["stats", "summary"] => {
                let summary = stats.summary(query.flag(&["only_cpu_and_memory"])).await;
                answer(StatusCode::OK, "application/json", summary.to_string())
            }
            ["metrics"] => metrics(stats.kubelet_metrics().await),
            ["metrics", "resource"] => metrics(stats.resource_metrics().await),
            ["metrics", "cadvisor"] => metrics(stats.cadvisor_metrics().await),
            ["metrics", "probes"] => metrics(stats.probe_metrics()),
            _ => return Err(Refusal::not_found("404 page not found\n")),
        })
    }
}
