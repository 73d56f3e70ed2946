//! Who calls the node API: TLS with client certificates.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::agent::NodeCredentials;
use crate::agent::error::Error;

/// Common names under which API servers call: kubeadm's, k3s' and kedge's own.
const API_SERVER_NAMES: [&str; 3] =
    ["kube-apiserver-kubelet-client", "system:kube-apiserver", "system:apiserver"];
/// The group that may do everything.
const ADMIN_GROUP: &str = "system:masters";
/// The group of all who were told apart.
const AUTHENTICATED_GROUP: &str = "system:authenticated";

/// Who a connection's certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The API server, or a cluster administrator.
    ApiServer,
    /// Somebody else the cluster knows.
    Known(User),
    /// No certificate; the request may bring a token.
    Nobody,
}

/// Somebody, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    /// The name.
    pub name: String,
    /// The uid, where there is one.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Caller {
    /// Reads the certificate that the handshake verified.
    pub(super) fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let Some(certificate) = certificates.and_then(<[_]>::first) else { return Self::Nobody };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Self::Nobody };
        let subject = parsed.subject();
        let name = subject.iter_common_name().filter_map(|n| n.as_str().ok()).next().unwrap_or_default();
        let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned);
        let mut groups: Vec<String> = groups.collect();
        if groups.iter().any(|g| g == ADMIN_GROUP) || API_SERVER_NAMES.contains(&name) {
            return Self::ApiServer;
        }
        groups.push(AUTHENTICATED_GROUP.to_owned());
        Self::Known(User { name: name.to_owned(), groups, ..User::default() })
    }
}

/// TLS that asks for a certificate of the client CA, and lets those without one in to be told so.
pub(super) fn server_config(credentials: &NodeCredentials) -> Result<rustls::ServerConfig, Error> {
    let wrong = |what: &str, e: &dyn std::fmt::Display| Error::Credentials(format!("{what}: {e}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&credentials.client_ca_pem)? {
        roots.add(certificate).map_err(|e| wrong("client CA", &e))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|e| wrong("client CA", &e))?;
    let key = PrivateKeyDer::from_pem_slice(credentials.serving_key_pem.as_bytes());
    let key = key.map_err(|e| wrong("serving key", &e))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong("TLS", &e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&credentials.serving_cert_pem)?, key)
        .map_err(|e| wrong("serving certificate", &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|e| Error::Credentials(format!("certificate: {e}")))?;
    if all.is_empty() {
        return Err(Error::Credentials("there is no certificate in the PEM text".into()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn caller(name: &str, organization: &str) -> Caller {
        let mut params = CertificateParams::new(vec![]).expect("params");
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("signed");
        Caller::of(Some(&[certificate.der().clone()]))
    }

    #[test]
    fn the_api_server_and_administrators_are_told_from_others() {
        assert_eq!(caller("system:apiserver", "x"), Caller::ApiServer);
        assert_eq!(caller("admin", "system:masters"), Caller::ApiServer);
        let groups = vec!["system:nodes".to_owned(), AUTHENTICATED_GROUP.to_owned()];
        let node = User { name: "system:node:n1".into(), groups, ..User::default() };
        assert_eq!(caller("system:node:n1", "system:nodes"), Caller::Known(node));
        assert_eq!(Caller::of(None), Caller::Nobody);
    }
}
