//! Health checks by the gRPC health protocol
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Outcome;
use crate::api::go_duration;

/// Answers are a few bytes; more is no health check.
const MAX_BODY: usize = 10 << 10;
/// Pause before a refused connection is tried again, as gRPC's clients make it.
const REDIAL: Duration = Duration::from_secs(1);
/// Status codes of gRPC that callers tell apart.
const DEADLINE_EXCEEDED: u32 = 4;
const UNIMPLEMENTED: u32 = 12;

/// Names of gRPC's status codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// What the server answered.
enum Reply {
    /// The service's `ServingStatus`.
    Status(u64),
    /// An error of gRPC.
    Error { code: u32, message: String },
}

/// Asks the server for the health of a service; all that goes wrong is a failure.
pub(super) async fn check(address: &str, port: i32, service: &str, timeout: Duration) -> Outcome {
    let authority =
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    let Ok(port) = u16::try_from(port) else { return Outcome::Failure(format!("invalid port {port}")) };
    let end = Instant::now() + timeout;
    let Ok(stream) = tokio::time::timeout_at(end, connect(address, port)).await else {
        return Outcome::Failure(format!(
            "timeout: failed to connect service \"{authority}\" within {}: context deadline exceeded",
            go_duration(timeout)
        ));
    };
    let text = match tokio::time::timeout_at(end, ask(stream, &authority, service)).await {
        Ok(Ok(Reply::Status(1))) => return Outcome::Success,
        Ok(Ok(Reply::Status(status))) => {
            let names = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
            let name = usize::try_from(status).ok().and_then(|s| names.get(s));
            let name = name.map_or_else(|| status.to_string(), |n| (*n).to_owned());
            format!("service unhealthy (responded with \"{name}\")")
        }
        Ok(Ok(Reply::Error { code: UNIMPLEMENTED, message })) => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        ),
        Err(_) | Ok(Ok(Reply::Error { code: DEADLINE_EXCEEDED, .. })) => {
            format!("timeout: health rpc did not complete within {}", go_duration(timeout))
        }
        Ok(Ok(Reply::Error { code, message })) => {
            let name = usize::try_from(code).ok().and_then(|c| CODES.get(c)).copied();
            let name = name.map_or_else(|| format!("Code({code})"), str::to_owned);
            format!("error: health rpc probe failed: rpc error: code = {name} desc = {message}")
        }
        Ok(Err(text)) => {
            format!("error: health rpc probe failed: rpc error: code = Unavailable desc = {text}")
        }
    };
    Outcome::Failure(text)
}

/// Tries until somebody listens.
async fn connect(address: &str, port: u16) -> TcpStream {
    loop {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(REDIAL).await,
        }
    }
}

async fn ask(stream: TcpStream, authority: &str, service: &str) -> Result<Reply, String> {
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("user-agent", "kube-probe/1.36")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(request(service))))
        .map_err(|e| e.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let (head, body) = answer.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(format!("unexpected HTTP status code received from server: {}", head.status));
        }
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|e| e.to_string())?;
        let trailers = body.trailers();
        let header = |name: &str| {
            let value = trailers.and_then(|t| t.get(name)).or_else(|| head.headers.get(name));
            value.and_then(|v| v.to_str().ok())
        };
        let code = header("grpc-status").and_then(|s| s.parse().ok()).unwrap_or(0);
        if code == 0 {
            return Ok(Reply::Status(serving_status(&body.to_bytes())));
        }
        let message = percent_encoding::percent_decode_str(header("grpc-message").unwrap_or_default());
        Ok(Reply::Error { code, message: message.decode_utf8_lossy().into_owned() })
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        result = &mut exchange => result,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// A gRPC frame with `HealthCheckRequest { service = 1 }`.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend(message);
    frame
}

/// `HealthCheckResponse { status = 1 }` of a gRPC frame; 0, which is left out, is unknown.
fn serving_status(frame: &[u8]) -> u64 {
    let Some([0x08, rest @ ..]) = frame.get(5..) else { return 0 };
    let mut value = 0;
    for (at, byte) in rest.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("db"), [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        let long = request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), 1);
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), 0);
        assert_eq!(serving_status(&[0, 0, 0, 0, 3, 8, 0x81, 1]), 129);
    }
}
