//! One connection to a node API or a pod for one request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::{Scheme, Target};
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
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()
        };
        let anyone = || {
            let verifier = Arc::new(Anyone(Arc::clone(&provider)));
            builder().map(|b| b.dangerous().with_custom_certificate_verifier(verifier))
        };
        let chain: Vec<CertificateDer<'static>> = chain;
        let unverified = anyone()?.with_client_auth_cert(chain.clone(), key.clone_key())?;
        let nodes = builder()?.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        // What a pod's certificate says is the pod's business, as upstream has it for `https:` proxies.
        let pods = anyone()?.with_no_client_auth();
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
        let named = |e: io::Error| io::Error::new(e.kind(), format!("dial tcp {}: {e}", target.authority()));
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

/// Accepts every certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
