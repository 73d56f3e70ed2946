//! The certificates a server makes work in a real TLS handshake.

use std::sync::Arc;

use kedge::server::auth::pki::{Identity, Pki, PkiParams};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn pki(dir: &std::path::Path) -> Pki {
    let params = PkiParams {
        sans: vec!["api.example.org".into()],
        node_name: "node-1".into(),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        service_ip: "10.43.0.1".parse().unwrap(),
    };
    Pki::ensure(dir, &params).unwrap()
}

fn client(pki: &Pki, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.server_ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// Shakes hands, and answers how many certificates the client showed.
async fn handshake(pki: &Pki, config: Arc<ClientConfig>, name: &str) -> Result<usize, std::io::Error> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(pki.rustls_server_config().unwrap());
    let server = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await?;
        let shown = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
        stream.write_all(b"ok").await?;
        stream.shutdown().await?;
        Ok::<usize, std::io::Error>(shown)
    });
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(config).connect(name, near).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    server.await.expect("the server does not panic")
}

#[tokio::test]
async fn clients_reach_the_api_by_every_name_with_and_without_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path());
    for name in [
        "localhost",
        "127.0.0.1",
        "kubernetes.default.svc",
        "10.43.0.1",
        "192.0.2.1",
        "node-1",
        "api.example.org",
    ] {
        assert_eq!(handshake(&pki, client(&pki, None), name).await.unwrap(), 0, "{name}");
    }
    let identity = pki.kubelet_client_identity();
    assert_eq!(handshake(&pki, client(&pki, Some(&identity)), "localhost").await.unwrap(), 1);
    let refused = handshake(&pki, client(&pki, None), "elsewhere.example.org").await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

#[tokio::test]
async fn another_clusters_client_completes_the_handshake_and_another_clusters_server_does_not() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (pki(one.path()), pki(two.path()));
    // Who it is, authentication says with a 401, which a client can show to its user.
    let stranger = there.kubelet_client_identity();
    assert_eq!(handshake(&here, client(&here, Some(&stranger)), "localhost").await.unwrap(), 1);
    assert!(handshake(&here, client(&there, None), "localhost").await.is_err());
}
