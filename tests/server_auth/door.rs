//! Requests over TLS, with the credentials somebody shows; and, for comparison, inside the process.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kedge::server::Server;
use kedge::server::auth::User;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tower::ServiceExt;

use crate::server_support::TestServer;

/// What a client shows.
#[derive(Clone, Debug)]
pub enum Credentials {
    None,
    Token(String),
    /// Certificate and key, PEM.
    Certificate(String, String),
}

/// A client that keeps its connection as long as it can.
pub struct Door {
    address: std::net::SocketAddr,
    tls: Arc<ClientConfig>,
    token: Option<String>,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Door {
    pub fn open(server: &Server, files: &TestServer, credentials: Credentials) -> Self {
        let ca = std::fs::read(files.dir.path().join("server/tls/server-ca.crt")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let (tls, token) = match credentials {
            Credentials::None => (builder.with_no_client_auth(), None),
            Credentials::Token(token) => (builder.with_no_client_auth(), Some(token)),
            Credentials::Certificate(cert, key) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                (builder.with_client_auth_cert(chain, key).unwrap(), None)
            }
        };
        Self { address: server.address(), tls: Arc::new(tls), token, sender: None }
    }

    async fn connect(&self) -> http1::SendRequest<Full<Bytes>> {
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Code and JSON of the answer; null for text.
    pub async fn ask(&mut self, method: &str, uri: &str, body: Value) -> (u16, Value) {
        let mut kept = self.sender.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect().await,
        };
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut request = Request::builder().method(method).uri(uri).header("host", "localhost");
        request = request.header("content-type", kind).header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        self.sender = Some(sender);
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

/// The same inside the process, as a user.
pub async fn in_process(server: &Server, user: User, method: &str, uri: &str, body: Value) -> (u16, Value) {
    let (code, bytes) = raw(server, user, method, uri, body).await;
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Code and bytes of an answer inside the process.
pub async fn raw(server: &Server, user: User, method: &str, uri: &str, body: Value) -> (u16, Bytes) {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    let request = request.body(kube::client::Body::from(body)).unwrap();
    let response = server.service_as(user).oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    (code, response.into_body().collect().await.unwrap().to_bytes())
}
