//! Webhooks as users run them: HTTPS servers that answer AdmissionReviews, and requests to a server that asks them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kedge::server::Server;
use kedge::server::auth::User;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// What a webhook does with a review.
pub enum Reply {
    /// Answers so; the uid is filled in.
    Response(Value),
    /// Answers with this body.
    Raw(u16, String),
    /// Never answers.
    Hang,
    /// Closes the connection.
    Close,
}

pub fn allow() -> Reply {
    Reply::Response(json!({"allowed": true}))
}

pub fn deny(message: &str) -> Reply {
    Reply::Response(json!({"allowed": false, "status": {"message": message}}))
}

pub fn patch(operations: Value) -> Reply {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    Reply::Response(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}

type Answer = dyn Fn(&str, &Value) -> Reply + Send + Sync;

/// A running webhook. It ends with its value.
pub struct Hook {
    pub address: SocketAddr,
    pub ca_bundle: String,
    /// Path and review of each request.
    pub seen: Arc<Mutex<Vec<(String, Value)>>>,
    pub headers: Arc<Mutex<Vec<HeaderMap>>>,
    pub connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The names in the certificates of hooks.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "hook.default.svc"];

struct Identity {
    ca_bundle: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// A certificate of an authority of its own.
fn signed() -> Identity {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "hook-ca");
    let root = ca.self_signed(&ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(NAMES.map(String::from)).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
    Identity {
        ca_bundle: root.pem(),
        chain: vec![leaf.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

/// A certificate that is its own authority, as `openssl req -x509` makes them.
fn self_signed() -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(NAMES.map(String::from)).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let leaf = params.self_signed(&key).unwrap();
    Identity {
        ca_bundle: leaf.pem(),
        chain: vec![leaf.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

impl Hook {
    pub async fn start(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(signed(), Arc::new(answer)).await
    }

    pub async fn self_signed(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(self_signed(), Arc::new(answer)).await
    }

    async fn with(identity: Identity, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listener.local_addr().unwrap().port());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain, identity.key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let (seen, headers) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let connections = Arc::new(AtomicUsize::new(0));
        let state = (Arc::clone(&seen), Arc::clone(&headers), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, answer, state) = (acceptor.clone(), Arc::clone(&answer), state.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    state.2.fetch_add(1, Ordering::SeqCst);
                    let service = service_fn(|request| serve(request, &*answer, &state.0, &state.1));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let ca_bundle = base64::engine::general_purpose::STANDARD.encode(identity.ca_bundle);
        Self { address, ca_bundle, seen, headers, connections, task }
    }

    /// The client configuration that leads to it.
    pub fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://{}{path}", self.address), "caBundle": self.ca_bundle})
    }

    /// A webhook at `path` about the creation of ConfigMaps, changed by a merge patch.
    pub fn webhook(&self, name: &str, path: &str, change: Value) -> Value {
        let mut webhook = json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": self.client(path),
            "rules": [rule(&["CREATE"], "", "v1", &["configmaps"])],
        });
        json_patch::merge(&mut webhook, &change);
        webhook
    }

    pub fn requests(&self) -> Vec<Value> {
        self.seen.lock().iter().map(|(_, review)| review["request"].clone()).collect()
    }

    /// What was seen since the last call.
    pub fn take(&self) -> Vec<Value> {
        let seen = std::mem::take(&mut *self.seen.lock());
        seen.into_iter().map(|(_, review)| review["request"].clone()).collect()
    }
}

async fn serve(
    request: Request<Incoming>,
    answer: &Answer,
    seen: &Mutex<Vec<(String, Value)>>,
    headers: &Mutex<Vec<HeaderMap>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let path = request.uri().path_and_query().unwrap().to_string();
    headers.lock().push(request.headers().clone());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    seen.lock().push((path.clone(), review.clone()));
    let path = path.split('?').next().unwrap().to_owned();
    match answer(&path, &review["request"]) {
        Reply::Response(mut response) => {
            if response["uid"].is_null() {
                response["uid"] = review["request"]["uid"].clone();
            }
            let version = &review["apiVersion"];
            let body = json!({"apiVersion": version, "kind": "AdmissionReview", "response": response});
            Ok(Response::new(Full::from(body.to_string())))
        }
        Reply::Raw(code, body) => {
            let mut response = Response::new(Full::from(body));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            Ok(response)
        }
        Reply::Hang => std::future::pending().await,
        Reply::Close => Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
}

pub fn rule(operations: &[&str], group: &str, version: &str, resources: &[&str]) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": [version], "resources": resources})
}

/// Code, `Warning` headers and JSON of an answer. The method APPLY is a server-side apply.
pub async fn ask(
    server: &Server,
    user: User,
    method: &str,
    uri: &str,
    body: Value,
) -> (u16, Vec<String>, Value) {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let (method, kind) = match method {
        "PATCH" => ("PATCH", "application/merge-patch+json"),
        "APPLY" => ("PATCH", "application/apply-patch+yaml"),
        other => (other, "application/json"),
    };
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("accept", "application/json")
        .header("content-type", kind)
        .body(kube::client::Body::from(body))
        .unwrap();
    let response = server.service_as(user).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let warnings = parts.headers.get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
    (parts.status.as_u16(), warnings, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

pub async fn admin(server: &Server, method: &str, uri: &str, body: Value) -> (u16, Value) {
    let (code, _, value) = ask(server, User::new("admin", &["system:masters"]), method, uri, body).await;
    (code, value)
}

/// As [`admin`], and it must succeed.
pub async fn done(server: &Server, method: &str, uri: &str, body: Value) -> Value {
    let (code, value) = admin(server, method, uri, body).await;
    assert!((200..300).contains(&code), "{method} {uri}: {code} {value}");
    value
}

pub const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
pub const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Registers webhooks.
pub async fn register(server: &Server, uri: &str, name: &str, webhooks: &[Value]) {
    let configuration = json!({"metadata": {"name": name, "labels": {"test": "yes"}}, "webhooks": webhooks});
    done(server, "POST", uri, configuration).await;
}

pub fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// The account of pods, which a controller would make.
pub async fn account(server: &Server) {
    let uri = "/api/v1/namespaces/default/serviceaccounts";
    done(server, "POST", uri, json!({"metadata": {"name": "default"}})).await;
}

/// An address of this machine that is not of the loopback interface.
pub fn own_address() -> IpAddr {
    let all = nix::ifaddrs::getifaddrs().unwrap();
    let addresses = all.filter_map(|i| i.address?.as_sockaddr_in().map(|a| IpAddr::V4(a.ip())));
    addresses.into_iter().find(|ip| !ip.is_loopback()).expect("the machine has a network interface")
}

/// Bytes that are no TLS, for whoever connects.
pub async fn plain_server() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    (address, task)
}

/// The text of `/metrics`.
pub async fn metrics(server: &Server) -> String {
    let request = Request::builder().uri("/metrics").body(kube::client::Body::from(Vec::new())).unwrap();
    let response = server.service_as(User::loopback()).oneshot(request).await.unwrap();
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}
