//! Failures, in the words of upstream's HTTP client.

use std::error::Error as _;
use std::io;

use bytes::Bytes;
use http::StatusCode;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::target::Address;
use crate::api::field::quote;

/// The webhook took too long.
pub(super) const DEADLINE: &str = "context deadline exceeded";
/// So much of a page that is no answer is shown.
const SHOWN: usize = 1024;

/// Why a webhook did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::server::admission::webhook) enum Error {
    /// Its configuration cannot be used.
    #[error("could not get REST client: {0}")]
    Client(String),
    /// The exchange failed.
    #[error("failed to call webhook: Post {}: {why}", quote(url))]
    Post {
        /// With the query.
        url: String,
        /// Why.
        why: String,
    },
    /// The answer was a failure.
    #[error("failed to call webhook: {0}")]
    Answer(String),
}

/// No connection.
pub(super) fn of_dial((host, port): &Address, error: &io::Error) -> String {
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused",
        io::ErrorKind::HostUnreachable => "connect: no route to host",
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        io::ErrorKind::TimedOut => "i/o timeout",
        // The resolver's errors have no kind.
        _ if error.raw_os_error().is_none() => return format!("dial tcp: lookup {host}: no such host"),
        _ => return format!("dial tcp {place}: {error}"),
    };
    format!("dial tcp {place}: {why}")
}

/// No TLS.
pub(super) fn of_handshake(error: &io::Error) -> String {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!("tls: failed to verify certificate: x509: {}", of_certificate(why))
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        Some(rustls::Error::AlertReceived(alert)) => format!("remote error: tls: {alert:?}"),
        Some(other) => format!("tls: {other}"),
        None => of_io(error),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    let date = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map(crate::api::meta::time).unwrap_or_default()
    };
    let expired = "certificate has expired or is not yet valid";
    match error {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("{expired}: current time {} is after {}", date(time), date(not_after))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("{expired}: current time {} is before {}", date(time), date(not_before))
        }
        CertificateError::Expired | CertificateError::NotValidYet => expired.to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let inner = |name: &String| {
                let inner = name.split_once('(').map_or(&**name, |(_, rest)| rest.trim_end_matches(')'));
                inner.trim_matches('"').to_owned()
            };
            let names: Vec<String> = presented.iter().map(inner).collect();
            if names.is_empty() {
                return "certificate is not valid for any names, but wanted to match ".to_owned()
                    + &expected.to_str();
            }
            format!("certificate is valid for {}, not {}", names.join(", "), expected.to_str())
        }
        other => other.to_string(),
    }
}

fn of_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        io::ErrorKind::BrokenPipe => "write: broken pipe".to_owned(),
        _ => error.to_string(),
    }
}

/// No answer on a connection.
pub(super) fn of_exchange(error: &hyper::Error) -> String {
    if let Some(io) = error.source().and_then(|e| e.downcast_ref::<io::Error>()) {
        return of_io(io);
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "EOF".to_owned();
    }
    if error.is_parse() {
        return format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}");
    }
    error.to_string()
}

/// What an answer that is not 2xx says; the texts of `errors.NewGenericServerResponse`.
pub(super) fn of_status(status: StatusCode, body: &Bytes) -> Option<String> {
    if status.is_success() {
        return None;
    }
    let mut text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).trim().to_owned();
    if text.is_empty() {
        text = "unknown".to_owned();
    }
    Some(match status.as_u16() {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => text,
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        406 => "the server was unable to respond with a content type that the client supports".to_owned(),
        413 => "Request entity too large: limit exceeded".to_owned(),
        415 => "the body of the request was in an unknown format".to_owned(),
        422 => "the server rejected our request due to an error in our request".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing \
                the request"
                .to_owned()
        }
        code if code >= 500 => {
            format!("an error on the server ({}) has prevented the request from succeeding", quote(&text))
        }
        code => {
            format!("the server responded with the status code {code} but did not return more information")
        }
    })
}
