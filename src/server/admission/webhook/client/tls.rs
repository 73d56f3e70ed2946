//! Whom webhooks are believed.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::client::tls::{self, Judge};

/// The authorities that the system trusts, read when they are first needed.
#[derive(Default)]
pub(in crate::server::admission::webhook) struct SystemRoots(OnceLock<Arc<RootCertStore>>);

impl SystemRoots {
    fn get(&self) -> Arc<RootCertStore> {
        let load = || {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        };
        Arc::clone(self.0.get_or_init(load))
    }
}

/// TLS to a webhook whose certificate these authorities (PEM) vouch for; the system's if there are none.
///
/// # Errors
/// The authorities cannot be read.
pub(super) fn config(authorities: &[u8], system: &SystemRoots) -> Result<Arc<ClientConfig>, String> {
    let mut own = Vec::new();
    let roots = if authorities.is_empty() {
        system.get()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities).flatten() {
            // One that is no authority may still be the webhook's own.
            let _ = roots.add(certificate.clone());
            own.push(certificate);
        }
        Arc::new(roots)
    };
    if own.is_empty() && !authorities.is_empty() {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".to_owned());
    }
    let chain = if roots.is_empty() {
        None
    } else {
        let provider = Arc::new(ring::default_provider());
        let built = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        Some(built.map_err(|e| e.to_string())?)
    };
    let config = tls::config(Trust { chain, own }).map_err(|e| e.to_string())?;
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Believes whom an authority vouches for, and certificates that are in the bundle themselves: many webhooks sign
/// their own and put it there, which makes it an authority that is also a server, as WebPKI knows none.
#[derive(Debug)]
struct Trust {
    chain: Option<Arc<WebPkiServerVerifier>>,
    own: Vec<CertificateDer<'static>>,
}

impl Judge for Trust {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if self.own.iter().any(|own| own == certificate) {
            check_time(certificate, now)?;
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.chain {
            Some(chain) => chain.verify_server_cert(certificate, intermediates, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }
}

fn check_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let at = |time: i64| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(time).unwrap_or_default()))
    };
    let validity = parsed.validity();
    let (from, to) = (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()));
    if now.as_secs() > to.as_secs() {
        return Err(CertificateError::ExpiredContext { time: now, not_after: to }.into());
    }
    if now.as_secs() < from.as_secs() {
        return Err(CertificateError::NotValidYetContext { time: now, not_before: from }.into());
    }
    Ok(())
}
