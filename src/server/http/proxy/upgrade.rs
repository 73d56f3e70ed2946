//! Protocol upgrades: WebSocket and SPDY pass through as bytes.

use http::HeaderMap;
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

/// Whether a request asks for another protocol.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let mut words = connection.flat_map(|v| v.split(','));
    headers.contains_key(UPGRADE) && words.any(|w| w.trim().eq_ignore_ascii_case("upgrade"))
}

/// The client's end of an upgrade it asks for.
pub(super) fn take(parts: &mut Parts) -> Option<OnUpgrade> {
    if is_asked(&parts.headers) { parts.extensions.remove() } else { None }
}

/// Connects both ends once both have changed protocol, until one closes.
pub(super) fn join(client: OnUpgrade, backend: OnUpgrade) {
    // As long as the stream: the client ends it.
    tokio::spawn(async move {
        let (client, backend) = match tokio::try_join!(client, backend) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "upgrade failed"),
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
            tracing::debug!(%error, "upgraded stream ended");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_needs_both_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, "websocket".parse().unwrap());
        assert!(!is_asked(&headers));
        headers.insert(CONNECTION, "keep-alive, Upgrade".parse().unwrap());
        assert!(is_asked(&headers));
    }
}
