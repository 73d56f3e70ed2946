//! HTTP requests of probes and lifecycle hooks: certificates are not verified, as in kubelet.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Outcome;

/// Bodies are read up to this size.
const MAX_BODY: usize = 10 << 10;

/// An HTTP GET request.
#[derive(Clone, Debug)]
pub(crate) struct Get {
    https: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
}

/// The answer's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status code.
    pub status: u16,
}

/// Why a connection failed, as Go names it.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        _ => error.to_string(),
    }
}

impl Get {
    /// The request of a probe or hook to the pod's address.
    pub(crate) fn new(action: &HTTPGetAction, address: &str, port: u16) -> Self {
        let path = action.path.clone().unwrap_or_default();
        let headers = action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone()));
        Self {
            https: action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
            host: action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| address.to_owned()),
            port,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            headers: headers.collect(),
        }
    }

    /// The URL, as messages show it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Sends it; the error's text is for people.
    pub(crate) async fn send(&self, timeout: Duration) -> Result<Answer, String> {
        match tokio::time::timeout(timeout, self.exchange()).await {
            Ok(result) => result,
            Err(_) => {
                Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into())
            }
        }
    }

    async fn exchange(&self) -> Result<Answer, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|e| format!("dial tcp {}: connect: {}", self.authority(), reason(&e)))?;
        if !self.https {
            return self.over(stream).await;
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
        let stream = connector().connect(name, stream).await.map_err(|e| e.to_string())?;
        self.over(stream).await
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Answer, String> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let mut request = http::Request::builder().uri(&self.path);
        let given = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        for (name, default) in
            [("Host", self.authority()), ("User-Agent", "kube-probe/1.36".into()), ("Accept", "*/*".into())]
        {
            if !given(name) {
                request = request.header(name, default);
            }
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request
            .header("Connection", "close")
            .body(Full::<Bytes>::default())
            .map_err(|e| e.to_string())?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let status = answer.status().as_u16();
            // The body is read so that the server sees an orderly end; what is too long is left.
            let _ = Limited::new(answer.into_body(), MAX_BODY).collect().await;
            Ok(Answer { status })
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            result = &mut exchange => result,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// Asks a gRPC server for its health (grpc.health.v1.Health/Check).
pub(crate) async fn grpc_health(address: &str, port: i32, service: &str, timeout: Duration) -> Outcome {
    let Ok(port) = u16::try_from(port) else { return Outcome::Failure(format!("invalid port {port}")) };
    let result = tokio::time::timeout(timeout, grpc_check(address, port, service)).await;
    match result {
        Ok(Ok(1)) => Outcome::Success,
        Ok(Ok(status)) => {
            let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
            let name = name.get(usize::from(status)).copied().unwrap_or("UNKNOWN");
            Outcome::Failure(format!("service unhealthy (responded with \"{name}\")"))
        }
        Ok(Err(error)) => {
            Outcome::Failure(format!("error: this server does not answer health checks: {error}"))
        }
        Err(_) => {
            let text = format!(
                "timeout: failed to connect service \"{address}:{port}\" within {}s",
                timeout.as_secs()
            );
            Outcome::Failure(text)
        }
    }
}

async fn grpc_check(address: &str, port: u16, service: &str) -> Result<u8, String> {
    let stream = TcpStream::connect((address, port)).await.map_err(|e| reason(&e))?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let request = http::Request::post(format!("http://{address}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(health_request(service))))
        .map_err(|e| e.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let header = answer.headers().get("grpc-status").cloned();
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|e| e.to_string())?;
        let status = body.trailers().and_then(|t| t.get("grpc-status").cloned()).or(header);
        match status.as_ref().and_then(|s| s.to_str().ok()) {
            None | Some("0") => Ok(serving_status(&body.to_bytes())),
            Some(code) => Err(format!("rpc error: code = {code}")),
        }
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
fn health_request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if let (false, Ok(length)) = (service.is_empty(), u8::try_from(service.len())) {
        message.push(0x0a);
        if length < 0x80 {
            message.push(length);
        } else {
            message.extend([length, 1]);
        }
        message.extend(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend(message);
    frame
}

/// `HealthCheckResponse { status = 1 }` of a gRPC frame; 0 is unknown.
fn serving_status(frame: &[u8]) -> u8 {
    match frame.get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    }
}

fn connector() -> tokio_rustls::TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

/// Accepts whatever certificate a pod shows: probes ask whether it answers, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn get(port: u16, path: &str) -> Get {
        let action = HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(i32::from(port)),
            http_headers: Some(vec![k8s_openapi::api::core::v1::HTTPHeader {
                name: "X".into(),
                value: "y".into(),
            }]),
            ..HTTPGetAction::default()
        };
        Get::new(&action, "127.0.0.1", port)
    }

    /// Answers one connection and gives what was asked.
    async fn serve(listener: TcpListener, answer: &'static str) -> String {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 512];
            let n = stream.read(&mut buffer).await.expect("read");
            asked.extend(&buffer[..n]);
        }
        stream.write_all(answer.as_bytes()).await.expect("written");
        String::from_utf8(asked).expect("text")
    }

    #[tokio::test]
    async fn a_get_sends_its_headers_and_tells_the_status() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let server = tokio::spawn(serve(listener, "HTTP/1.1 503 no\r\nContent-Length: 2\r\n\r\nno"));
        let answer = get(port, "ready?x=1").send(Duration::from_secs(5)).await;
        assert_eq!(answer, Ok(Answer { status: 503 }));
        let asked = server.await.expect("served").to_lowercase();
        assert!(asked.starts_with("get /ready?x=1 http/1.1"), "{asked}");
        assert!(asked.contains("user-agent: kube-probe/") && asked.contains("x: y"), "{asked}");
    }

    #[tokio::test]
    async fn failures_are_told_as_upstream_tells_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let silent = get(port, "/").send(Duration::from_millis(50)).await.expect_err("no answer");
        assert!(silent.starts_with("context deadline exceeded"), "{silent}");
        drop(listener);
        let refused = get(port, "/").send(Duration::from_secs(5)).await.expect_err("refused");
        assert_eq!(refused, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
    }

    #[test]
    fn grpc_frames() {
        assert_eq!(health_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(health_request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), 1);
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), 0);
    }
}
