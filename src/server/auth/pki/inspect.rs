//! Reads what a certificate says.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::issue::{Leaf, Usage};

/// What matters of a certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate itself.
    pub der: CertificateDer<'static>,
    /// Subject, names and use.
    pub leaf: Leaf,
    /// When it begins.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(pem: &str) -> Result<Self, String> {
        Self::from_der(&CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?)
    }

    /// Reads a certificate.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_der(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, cert) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            a.as_str().map(str::to_owned).unwrap_or_default()
        };
        let mut names: Vec<String> = match cert.subject_alternative_name().map_err(|e| e.to_string())? {
            Some(extension) => extension.value.general_names.iter().filter_map(name).collect(),
            None => Vec::new(),
        };
        names.sort();
        let server = cert.extended_key_usage().ok().flatten().is_some_and(|usage| usage.value.server_auth);
        let leaf = Leaf {
            common_name: cert.subject().iter_common_name().next().map(text).unwrap_or_default(),
            organizations: cert.subject().iter_organization().map(text).collect(),
            names,
            usage: if server { Usage::Server } else { Usage::Client },
        };
        let validity = cert.validity();
        Ok(Self {
            der: der.clone().into_owned(),
            leaf,
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
        })
    }

    /// `issuer`'s key signed this certificate.
    pub fn signed_by(&self, issuer: &Certificate) -> bool {
        let parsed = (X509Certificate::from_der(&self.der), X509Certificate::from_der(&issuer.der));
        match parsed {
            (Ok((_, cert)), Ok((_, ca))) => {
                cert.issuer() == ca.subject() && cert.verify_signature(Some(ca.public_key())).is_ok()
            }
            _ => false,
        }
    }

    /// The certificate is of this key (its raw public part).
    pub fn has_key(&self, public_key: &[u8]) -> bool {
        X509Certificate::from_der(&self.der)
            .is_ok_and(|(_, cert)| cert.public_key().subject_public_key.data.as_ref() == public_key)
    }
}

fn time(seconds: i64) -> SystemTime {
    match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => SystemTime::UNIX_EPOCH,
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        GeneralName::IPAddress(bytes) => {
            if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                return Some(IpAddr::from(v4).to_string());
            }
            <[u8; 16]>::try_from(*bytes).ok().map(|v6| IpAddr::from(v6).to_string())
        }
        _ => None,
    }
}
