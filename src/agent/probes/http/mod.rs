//! HTTP requests of probes and lifecycle hooks, with the manners of kubelet's client: one connection
//! a request, no verification of certificates, redirects followed on the same host only.

mod place;
#[cfg(test)]
mod tests;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::check::resolve_port;
use place::Place;

/// Bodies are read up to this size, in bytes.
const MAX_BODY: usize = 10 << 10;
/// So many redirects are followed, as by Go's client.
const MAX_REDIRECTS: usize = 10;
/// Redirects that are followed when they say where to.
const FOLLOWED: [u16; 5] = [301, 302, 303, 307, 308];

/// An HTTP GET request.
#[derive(Clone, Debug)]
pub(crate) struct Get {
    place: Place,
    headers: Vec<(String, String)>,
    agent: &'static str,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// The body's first 10 KiB.
    pub body: String,
    location: Option<String>,
}

/// Why there was no answer; the text is for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// TLS was expected, but the other side does not speak it.
    #[error("Get \"{0}\": http: server gave HTTP response to HTTPS client")]
    Plain(String),
    /// Anything else.
    #[error("Get \"{url}\": {reason}")]
    Other {
        /// What was asked for last.
        url: String,
        /// In the words of Go's client.
        reason: String,
    },
}

/// Why one exchange failed.
enum Fault {
    Plain,
    Other(String),
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

/// Why a connection failed, as Go names it.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        std::io::ErrorKind::ConnectionReset => "connection reset by peer".into(),
        std::io::ErrorKind::UnexpectedEof => "EOF".into(),
        _ => error.to_string(),
    }
}

impl Get {
    /// The request of a probe or hook to the pod's address; an error if its port is none. `agent` is
    /// `probe` or `lifecycle`, as the server is told.
    pub(crate) fn new(
        action: &HTTPGetAction,
        container: &Container,
        address: &str,
        agent: &'static str,
    ) -> Result<Self, String> {
        let port = resolve_port(container, &action.port)?;
        let https = action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https"));
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(address);
        let headers = action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone()));
        Ok(Self {
            place: Place::new(https, host, port, action.path.as_deref().unwrap_or_default()),
            headers: headers.collect(),
            agent,
        })
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        self.place.authority()
    }

    /// The same request without TLS, and without what is only for who proved to be the right one.
    pub(crate) fn plain(mut self) -> Self {
        self.place.https = false;
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        self
    }

    /// Sends it and follows redirects on the same host.
    pub(crate) async fn send(&self, timeout: Duration) -> Result<Answer, Error> {
        let mut place = self.place.clone();
        let mut host = self.header("Host").map(str::to_owned);
        let end = tokio::time::Instant::now() + timeout;
        for _ in 0..MAX_REDIRECTS {
            let answer = match self.exchange(&place, host.as_deref(), end).await {
                Ok(answer) => answer,
                Err(Fault::Plain) => return Err(Error::Plain(place.url())),
                Err(Fault::Other(reason)) => return Err(Error::Other { url: place.url(), reason }),
            };
            let location = answer.location.as_ref().filter(|_| FOLLOWED.contains(&answer.status));
            let Some(location) = location else { return Ok(answer) };
            let Some(next) = place.join(location) else {
                let reason = format!("failed to parse Location header \"{location}\"");
                return Err(Error::Other { url: place.url(), reason });
            };
            if next.host != self.place.host {
                return Ok(answer);
            }
            if place::is_absolute(location) {
                host = None;
            }
            place = next;
        }
        let reason = format!("stopped after {MAX_REDIRECTS} redirects");
        Err(Error::Other { url: place.url(), reason })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    async fn exchange(
        &self,
        place: &Place,
        host: Option<&str>,
        end: tokio::time::Instant,
    ) -> Result<Answer, Fault> {
        let address = (place.host.as_str(), place.port);
        let dialled = tokio::time::timeout_at(end, TcpStream::connect(address)).await;
        let late = || Fault::Other(format!("dial tcp {}: i/o timeout", place.authority()));
        let stream = dialled
            .map_err(|_| late())?
            .map_err(|e| format!("dial tcp {}: connect: {}", place.authority(), reason(&e)))?;
        let talk = async {
            if !place.https {
                return self.over(stream, place, host).await;
            }
            let name = ServerName::try_from(place.host.clone()).map_err(|e| e.to_string())?;
            match tls::connector().connect(name, stream).await {
                Ok(stream) => self.over(stream, place, host).await,
                Err(error) if tls::speaks_plainly(&error) => Err(Fault::Plain),
                Err(error) => Err(reason(&error).into()),
            }
        };
        tokio::time::timeout_at(end, talk).await.unwrap_or_else(|_| {
            Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                .to_owned()
                .into())
        })
    }

    fn request(&self, place: &Place, host: Option<&str>) -> Result<http::Request<Full<Bytes>>, String> {
        let host = host.map_or_else(|| place.authority(), str::to_owned);
        let mut request = http::Request::builder().uri(&place.path).header("Host", host);
        let agent = format!("kube-{}/1.36", self.agent);
        for (name, default) in [("User-Agent", agent.as_str()), ("Accept", "*/*")] {
            if self.header(name).is_none() {
                request = request.header(name, default);
            }
        }
        for (name, value) in &self.headers {
            let silenced =
                value.is_empty() && ["User-Agent", "Accept"].iter().any(|n| name.eq_ignore_ascii_case(n));
            if !name.eq_ignore_ascii_case("Host") && !silenced {
                request = request.header(name, value);
            }
        }
        request.header("Connection", "close").body(Full::default()).map_err(|e| e.to_string())
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        place: &Place,
        host: Option<&str>,
    ) -> Result<Answer, Fault> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| told(&e))?;
        let request = self.request(place, host)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|e| told(&e))?;
            let status = answer.status().as_u16();
            let location = answer.headers().get("Location").and_then(|l| l.to_str().ok());
            let location = location.filter(|l| !l.is_empty()).map(str::to_owned);
            Ok(Answer { status, body: first_bytes(answer.into_body()).await, location })
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            result = &mut exchange => result,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(told(&error).into()),
            },
        }
    }
}

/// What of a body is looked at; the rest, and what is wrong with it, does not matter.
async fn first_bytes(body: hyper::body::Incoming) -> String {
    let mut body = Limited::new(body, MAX_BODY);
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An error of the connection in the words of Go's client.
fn told(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() {
        return "EOF".into();
    }
    if error.is_parse() {
        return format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}");
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return reason(io);
        }
        cause = inner.source();
    }
    error.to_string()
}
