//! Upgrades of an HTTP/1.1 connection to WebSocket or SPDY/3.1.

use std::future::Future;
use std::time::Duration;

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::idle::Noted;
use super::{Body, Refusal, full};

const PROTOCOL_VERSION: &str = "x-stream-protocol-version";

/// An upgraded connection.
pub(super) type Io = Noted<TokioIo<Upgraded>>;

/// What the client asked for, and the protocol over it that both sides know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// WebSocket with this sub-protocol.
    WebSocket(String),
    /// SPDY/3.1 with this protocol version.
    Spdy(String),
}

fn tokens<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|t| !t.is_empty()).collect()
}

/// Chooses the first protocol of the client's that is among `web_socket` or `spdy`.
pub(super) fn negotiate(
    headers: &HeaderMap,
    web_socket: &[&str],
    spdy: &[&str],
) -> Result<Protocol, Refusal> {
    let wanted = tokens(headers, UPGRADE.as_str());
    let is = |name: &str| wanted.iter().any(|w| w.eq_ignore_ascii_case(name));
    let choose = |offered: Vec<&str>, known: &[&str]| -> Result<String, Refusal> {
        let found = offered.iter().find(|o| known.contains(o)).map(|o| (*o).to_owned());
        found.ok_or_else(|| {
            let text = format!(
                "unable to negotiate protocol: client supports [{}], server accepts [{}]",
                offered.join(" "),
                known.join(" ")
            );
            Refusal(StatusCode::FORBIDDEN, text)
        })
    };
    if is("websocket") {
        let offered = tokens(headers, SEC_WEBSOCKET_PROTOCOL.as_str());
        // As upstream: a client that names none gets the one without a version.
        let offered = if offered.is_empty() { vec![""] } else { offered };
        return choose(offered, web_socket).map(Protocol::WebSocket);
    }
    if is("SPDY/3.1") {
        return choose(tokens(headers, PROTOCOL_VERSION), spdy).map(Protocol::Spdy);
    }
    let text = format!("unable to upgrade: missing upgrade headers in request: {wanted:?}");
    Err(Refusal::bad_request(text))
}

/// The answer that switches protocols; `serve` is run on the connection once it is sent, until nothing moves on it
/// for the time of `idle`.
pub(super) fn switch<F, Fut>(
    mut request: Request<Incoming>,
    protocol: &Protocol,
    idle: Option<Duration>,
    serve: F,
) -> Result<Response<Body>, Refusal>
where
    F: FnOnce(Io) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let value = |text: &str| HeaderValue::from_str(text).map_err(|e| Refusal::bad_request(e.to_string()));
    match protocol {
        Protocol::WebSocket(name) => {
            let key = request.headers().get(SEC_WEBSOCKET_KEY);
            let key = key.ok_or_else(|| Refusal::bad_request("Sec-WebSocket-Key is missing"))?;
            headers.insert(SEC_WEBSOCKET_ACCEPT, value(&derive_accept_key(key.as_bytes()))?);
            if !name.is_empty() {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, value(name)?);
            }
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        Protocol::Spdy(version) => {
            headers.insert(PROTOCOL_VERSION, value(version)?);
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        }
    }
    let upgrade = hyper::upgrade::on(&mut request);
    // It lives as long as its connection, which ends with the listener's.
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => until_idle(TokioIo::new(upgraded), idle, serve).await,
            Err(error) => tracing::debug!(%error, "node API: an upgrade failed"),
        }
    });
    Ok(response)
}

async fn until_idle<F, Fut>(io: TokioIo<Upgraded>, idle: Option<Duration>, serve: F)
where
    F: FnOnce(Io) -> Fut,
    Fut: Future<Output = ()>,
{
    let (io, activity) = Noted::new(io);
    let Some(timeout) = idle else { return serve(io).await };
    tokio::select! {
        () = serve(io) => {}
        () = activity.idle_for(timeout) => tracing::info!(?timeout, "node API: an idle stream was closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(n, v): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(n), HeaderValue::from_static(v))
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn the_clients_first_known_protocol_is_taken() {
        let web_socket = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
        let spdy = ["v4.channel.k8s.io"];
        let asked = headers(&[
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", "x, v4.channel.k8s.io, v5.channel.k8s.io"),
        ]);
        let chosen = negotiate(&asked, &web_socket, &spdy).expect("agreed");
        assert_eq!(chosen, Protocol::WebSocket("v4.channel.k8s.io".into()));
        let mut asked = headers(&[("upgrade", "SPDY/3.1"), (PROTOCOL_VERSION, "v5.channel.k8s.io")]);
        asked.append(PROTOCOL_VERSION, HeaderValue::from_static("v4.channel.k8s.io"));
        assert_eq!(
            negotiate(&asked, &web_socket, &spdy).expect("agreed"),
            Protocol::Spdy("v4.channel.k8s.io".into())
        );
        let silent = headers(&[("upgrade", "websocket")]);
        assert_eq!(
            negotiate(&silent, &["x", ""], &spdy).expect("agreed"),
            Protocol::WebSocket(String::new())
        );
        assert!(negotiate(&silent, &web_socket, &spdy).is_err());
        assert!(negotiate(&headers(&[("upgrade", "SPDY/3.1")]), &web_socket, &spdy).is_err());
        assert!(negotiate(&HeaderMap::new(), &web_socket, &spdy).is_err());
    }
}
