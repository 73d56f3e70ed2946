//! Logs over a WebSocket: `binary.k8s.io` and `base64.binary.k8s.io`, each message a piece of the text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::api::Status;
use crate::server::http::api::Answer;
use crate::server::http::body::{self, Body};

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|v| v.to_str().ok());
    super::upgrade::is_asked(headers) && upgrade.is_some_and(|u| u.eq_ignore_ascii_case("websocket"))
}

/// The first protocol of the client's that is known; none if it names none.
fn negotiate(headers: &HeaderMap) -> Result<Option<&'static str>, Status> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let offered: Vec<&str> = values.flat_map(|v| v.split(',')).map(str::trim).collect();
    let known = offered.iter().find_map(|o| [BINARY, BASE64].into_iter().find(|known| known == o));
    if known.is_none() && !offered.is_empty() {
        let why = format!(
            "unable to negotiate protocol: client supports {offered:?}, server accepts [{BINARY} {BASE64}]"
        );
        return Err(Status::bad_request(why));
    }
    Ok(known)
}

/// Answers with a WebSocket on which `log` is sent.
pub(super) fn serve(client: OnUpgrade, headers: &HeaderMap, log: Body) -> Answer {
    let protocol = negotiate(headers)?;
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Status::bad_request("Sec-WebSocket-Key is missing"))?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(Status::internal)?;
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(protocol) = protocol {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    // It lives as long as the log, or the client.
    tokio::spawn(async move {
        match client.await {
            Ok(upgraded) => send(TokioIo::new(upgraded), protocol == Some(BASE64), log).await,
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    });
    Ok(response)
}

fn message(base64: bool, data: Bytes) -> Message {
    if base64 { Message::Text(STANDARD.encode(data).into()) } else { Message::Binary(data) }
}

async fn send<S>(io: S, base64: bool, mut log: Body)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    let (mut sink, mut stream) = socket.split();
    let sending = async {
        // An empty message tells the client that the connection stands.
        sink.send(message(base64, Bytes::new())).await?;
        while let Some(Ok(frame)) = log.frame().await {
            if let Ok(data) = frame.into_data() {
                sink.send(message(base64, data)).await?;
            }
        }
        let end = CloseFrame { code: CloseCode::Normal, reason: Default::default() };
        sink.send(Message::Close(Some(end))).await
    };
    let gone = async { while let Some(Ok(_)) = stream.next().await {} };
    tokio::select! {
        result = sending => if let Err(error) = result {
            tracing::debug!(%error, "a log was not sent to its end");
        },
        () = gone => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_negotiated() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(text));
            negotiate(&headers)
        };
        assert_eq!(of("binary.k8s.io").unwrap(), Some(BINARY));
        assert_eq!(
            of("base64url.bearer.authorization.k8s.io.abc, base64.binary.k8s.io").unwrap(),
            Some(BASE64)
        );
        assert_eq!(negotiate(&HeaderMap::new()).unwrap(), None);
        assert_eq!(of("v4.channel.k8s.io").unwrap_err().code, 400);
    }

    #[tokio::test]
    async fn a_log_comes_in_messages_and_ends() {
        for (base64, wanted) in [
            (false, Message::Binary(Bytes::from_static(b"line\n"))),
            (true, Message::Text("bGluZQo=".into())),
        ] {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let sending = tokio::spawn(send(ours, base64, body::full("line\n")));
            let mut socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
            assert_eq!(socket.next().await.unwrap().unwrap(), message(base64, Bytes::new()));
            assert_eq!(socket.next().await.unwrap().unwrap(), wanted);
            assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
            sending.await.unwrap();
        }
    }
}
