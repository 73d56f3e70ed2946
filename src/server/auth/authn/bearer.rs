//! Finds the bearer token of a request.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue, Uri};

/// How browsers send a token, which cannot set headers of a WebSocket.
const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The token of `Authorization: Bearer …`, or of a WebSocket's protocol list.
pub fn token(headers: &HeaderMap, _: &Uri) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        let mut words = value.trim().splitn(2, ' ');
        if words.next().is_some_and(|w| w.eq_ignore_ascii_case("bearer")) {
            return words.next().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
        }
        return None;
    }
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let encoded =
        protocols.flat_map(|v| v.split(',')).find_map(|p| p.trim().strip_prefix(WEBSOCKET_PREFIX))?;
    let decoded = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?;
    String::from_utf8(decoded).ok().filter(|t| !t.is_empty())
}

/// Takes the token out of the headers: what a request is passed on to must not learn it.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let values: Vec<HeaderValue> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
    if !values.iter().any(|v| v.to_str().is_ok_and(|v| v.contains(WEBSOCKET_PREFIX))) {
        return;
    }
    let texts = values.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let kept: Vec<&str> = texts.map(str::trim).filter(|p| !p.starts_with(WEBSOCKET_PREFIX)).collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(value) = Some(kept.join(", ")).filter(|v| !v.is_empty()).and_then(|v| v.parse().ok()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        token(&headers, &Uri::from_static("/api"))
    }

    #[test]
    fn a_token_comes_in_a_header_or_a_websocket_protocol() {
        assert_eq!(of("authorization", "Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("authorization", "bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(of("authorization", "Basic abc"), None);
        assert_eq!(of("authorization", "Bearer "), None);
        let protocols = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
        assert_eq!(of("sec-websocket-protocol", protocols).as_deref(), Some("abc"));
        assert_eq!(of("sec-websocket-protocol", "v5.channel.k8s.io"), None);
    }

    #[test]
    fn a_token_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer abc".parse().unwrap());
        let protocols = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocols.parse().unwrap());
        strip(&mut headers);
        assert_eq!(headers.get(AUTHORIZATION), None);
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
    }
}
