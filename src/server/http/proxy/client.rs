//! One connection to a node API or a pod for one request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, Error as TlsError, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::{Scheme, Target};
use crate::client::tls::{self, Anyone};
use crate::server::auth::Pki;
use crate::server::http::body::Body;

/// A node that does not answer a connection within this time is away.
const CONNECT: Duration = Duration::from_secs(10);

/// Connects to node APIs as the kubelet client, and to pods.
pub(in crate::server::http) struct NodeClient {
    nodes: TlsConnector,
    unverified_nodes: TlsConnector,
    pods: TlsConnector,
}

impl NodeClient {
    /// With the cluster's certificates.
    ///
    /// # Errors
    /// The kubelet client certificate cannot be used.
    pub(in crate::server::http) fn new(pki: &Pki) -> Result<Self, TlsError> {
        let identity = pki.kubelet_client_identity();
        let bad = |e: rustls::pki_types::pem::Error| TlsError::General(e.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pki.server_ca_pem().as_bytes()) {
            roots.add(certificate.map_err(bad)?)?;
        }
        let chain = CertificateDer::pem_slice_iter(identity.cert_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(bad)?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(bad)?;
        let chain: Vec<CertificateDer<'static>> = chain;
        let unverified = tls::config(Anyone)?.with_client_auth_cert(chain.clone(), key.clone_key())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let nodes = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        // What a pod's certificate says is the pod's business, as upstream has it for `https:` proxies.
        let pods = tls::config(Anyone)?.with_no_client_auth();
        let connector = |config| TlsConnector::from(Arc::new(config));
        Ok(Self { nodes: connector(nodes), unverified_nodes: connector(unverified), pods: connector(pods) })
    }

    /// Sends one request over a connection of its own.
    ///
    /// # Errors
    /// The target cannot be reached, or does not speak HTTP.
    pub(super) async fn send(
        &self,
        target: &Target,
        request: Request<Body>,
    ) -> io::Result<Response<Incoming>> {
        let connect = TcpStream::connect((&*target.host, target.port));
        let late = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{}: no answer within {CONNECT:?}", target.authority()),
            )
        };
        let named = |e: io::Error| {
            io::Error::new(e.kind(), format!("dial tcp {}: {}", target.authority(), refusal(&e)))
        };
        let tcp = tokio::time::timeout(CONNECT, connect).await.map_err(|_| late())?.map_err(named)?;
        tcp.set_nodelay(true)?;
        let connector = match target.scheme {
            Scheme::Http => return exchange(tcp, request).await,
            Scheme::Node => &self.nodes,
            Scheme::UnverifiedNode => &self.unverified_nodes,
            Scheme::Https => &self.pods,
        };
        let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
        let tls = tokio::time::timeout(CONNECT, connector.connect(name, tcp)).await.map_err(|_| late())??;
        exchange(tls, request).await
    }
}

/// Why a connection was not made, in the words of Go's `net` package, which people search for.
fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    }
}

async fn exchange<S>(stream: S, request: Request<Body>) -> io::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // It lives as long as the request, the answer's body or the upgraded stream.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a node or pod ended");
        }
    });
    sender.send_request(request).await.map_err(io::Error::other)
}
