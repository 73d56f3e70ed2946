//! Streams through the API to a node: logs, exec with its upgrade, node and service proxies. The node
//! is a small server that tells what it was asked.

mod server_support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use server_support::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NODE_IP: [u8; 4] = [127, 0, 0, 1];

/// Answers every request with its method, path and query; an upgrade with an echo of what follows.
async fn tell(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("{} {}", request.method(), request.uri());
    assert!(request.headers().get("authorization").is_none(), "credentials of the API reach the node");
    let Some(protocol) = request.headers().get("upgrade").cloned() else {
        return Ok(Response::new(Full::from(text)));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        let n = stream.read(&mut buffer).await.unwrap();
        stream.write_all(&buffer[..n]).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let response =
        Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header("connection", "Upgrade");
    let response =
        response.header("upgrade", protocol).header("x-stream-protocol-version", "v4.channel.k8s.io");
    Ok(response.body(Full::default()).unwrap())
}

/// Starts the node API with the credentials the cluster gives a node; only the API server may call.
async fn node_api(server: &TestServer) -> SocketAddr {
    let credentials = server.server.node_credentials("n", &[NODE_IP.into()]).unwrap();
    let chain =
        CertificateDer::pem_slice_iter(credentials.serving.cert_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(credentials.serving.key_pem.as_bytes()).unwrap();
    let mut clients = rustls::RootCertStore::empty();
    clients.add(CertificateDer::from_pem_slice(credentials.client_ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider));
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config =
        config.with_client_cert_verifier(verifier.build().unwrap()).with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((std::net::Ipv4Addr::from(NODE_IP), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = acceptor.accept(stream).await.unwrap();
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(tls), service_fn(tell)).with_upgrades());
        }
    });
    address
}

async fn send(client: &Client, method: &str, uri: &str, body: Value) -> Value {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(uri).header("content-type", kind);
    client.request(request.body(body.to_string().into_bytes()).unwrap()).await.unwrap()
}

async fn text(client: &Client, uri: &str) -> String {
    client.request_text(Request::get(uri).body(Vec::new()).unwrap()).await.unwrap()
}

/// A node, and a pod on it.
async fn setup(server: &TestServer) -> Client {
    let (client, address) = (server.admin(), node_api(server).await);
    send(
        &client,
        "POST",
        "/api/v1/namespaces/default/serviceaccounts",
        json!({"metadata": {"name": "default"}}),
    )
    .await;
    send(&client, "POST", "/api/v1/nodes", json!({"metadata": {"name": "n"}})).await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address.ip().to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}}}});
    send(&client, "PATCH", "/api/v1/nodes/n/status", status).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"automountServiceAccountToken": false,
        "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}});
    send(&client, "POST", "/api/v1/namespaces/default/pods", pod).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    send(&client, "POST", "/api/v1/namespaces/default/pods/p/binding", binding).await;
    client
}

#[tokio::test]
async fn logs_and_proxies_reach_the_node() {
    let server = TestServer::start().await;
    let client = setup(&server).await;
    let pod = "/api/v1/namespaces/default/pods/p";
    let log = text(&client, &format!("{pod}/log?container=b&follow=true&tailLines=5")).await;
    assert_eq!(log, "GET /containerLogs/default/p/b?container=b&follow=true&tailLines=5");
    let node = text(&client, "/api/v1/nodes/n/proxy/stats/summary?only=cpu").await;
    assert_eq!(node, "GET /stats/summary?only=cpu");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let request = Request::builder().method(method).uri("/api/v1/nodes/n/proxy/some/path?a=b");
        let told = client.request_text(request.body(Vec::new()).unwrap()).await.unwrap();
        assert_eq!(told, format!("{method} /some/path?a=b"));
    }
    let request = Request::get(format!("{pod}/log")).body(Vec::new()).unwrap();
    let kube::Error::Api(status) = client.request_text(request).await.unwrap_err() else { panic!() };
    assert_eq!(status.message, "a container name must be specified for pod p, choose one of: [a b]");
    send(
        &client,
        "PATCH",
        "/api/v1/nodes/n/status",
        json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.2"}]}}),
    )
    .await;
    let request = Request::get(format!("{pod}/log?container=a")).body(Vec::new()).unwrap();
    let kube::Error::Api(status) = client.request_text(request).await.unwrap_err() else { panic!() };
    let request = Request::get("/api/v1/nodes/n/proxy/healthz").body(Vec::new()).unwrap();
    let kube::Error::Api(proxied) = client.request_text(request).await.unwrap_err() else { panic!() };
    let wanted = "error trying to reach service: dial tcp 127.0.0.2";
    assert!(proxied.code == 503 && proxied.message.starts_with(wanted), "{proxied:?}");
    assert!(
        status.code == 500 && status.message.contains("error dialing backend: dial tcp 127.0.0.2"),
        "{status:?}"
    );
}

/// A connection to the API as the administrator, speaking HTTP/1.1.
async fn dial(server: &TestServer) -> tokio_rustls::client::TlsStream<TcpStream> {
    use base64::Engine;
    let kubeconfig: Value =
        serde_yaml::from_str(&std::fs::read_to_string(server.kubeconfig()).unwrap()).unwrap();
    let decoded =
        |value: &Value| base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
    let user = &kubeconfig["users"][0]["user"];
    let chain = CertificateDer::pem_slice_iter(&decoded(&user["client-certificate-data"]))
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(&decoded(&user["client-key-data"])).unwrap();
    let ca = decoded(&kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let address = server.server.address();
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(address.ip().to_string()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

#[tokio::test]
async fn an_exec_is_upgraded_from_end_to_end() {
    let server = TestServer::start().await;
    setup(&server).await;
    for (protocol, method) in [("SPDY/3.1", "POST"), ("websocket", "GET")] {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(dial(&server).await)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let uri = "/api/v1/namespaces/default/pods/p/exec?container=a&command=sh&command=-c&stdin=true&stdout=true&tty=true";
        let request = Request::builder().method(method).uri(uri).header("host", "x");
        let request = request
            .header("connection", "Upgrade")
            .header("upgrade", protocol)
            .header("x-stream-protocol-version", "v4.channel.k8s.io");
        let mut response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            panic!("{:?}", response.into_body().collect().await.unwrap().to_bytes());
        }
        assert_eq!(response.headers()["upgrade"], protocol);
        assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        stream.write_all(b" and back").await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(
            all,
            format!("{method} /exec/default/p/a?input=1&output=1&tty=1&command=sh&command=-c and back")
        );
    }
}

#[tokio::test]
async fn anonymous_clients_see_health_and_no_objects() {
    let server = TestServer::start().await;
    let ca = kedge::server::Server::url(&server.server);
    assert!(ca.starts_with("https://127.0.0.1:"));
    let admin = dial(&server).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(admin)).await.unwrap();
    tokio::spawn(connection);
    for (path, token, code) in [("/readyz", "", 200), ("/api/v1/pods", "", 200), ("/nowhere", "", 404)] {
        let request = Request::get(path).header("host", "x").header("authorization", token);
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), code, "{path}");
        response.into_body().collect().await.unwrap();
    }
    let anonymous =
        kedge::client::in_process(server.server.service_as(kedge::server::auth::User::anonymous()));
    text(&anonymous, "/healthz").await;
    let request = Request::get("/api/v1/pods").body(Vec::new()).unwrap();
    let kube::Error::Api(status) = anonymous.request_text(request).await.unwrap_err() else { panic!() };
    assert_eq!(status.code, 403);
    assert!(
        status.message.contains("User \"system:anonymous\" cannot list resource \"pods\""),
        "{}",
        status.message
    );
}
