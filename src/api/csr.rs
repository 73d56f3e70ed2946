//! What a PKCS #10 certificate signing request asks for: RFC 2986.

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

/// Why a text is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has no PEM block of the right type.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    /// What the block holds is no PKCS #10 request.
    #[error("the certificate request is malformed: {0}")]
    Malformed(String),
    /// Somebody without the key made it.
    #[error("the certificate request's signature does not verify: {0}")]
    Signature(String),
}

/// A request that was signed with the key it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations, in their order.
    pub organizations: Vec<String>,
    /// Alternative names that are DNS names.
    pub dns_names: Vec<String>,
    /// Alternative names that are addresses: 4 or 16 bytes each.
    pub addresses: Vec<Vec<u8>>,
    /// Alternative names that are e-mail addresses.
    pub emails: Vec<String>,
    /// Alternative names that are URIs.
    pub uris: Vec<String>,
    /// The subject, DER.
    pub subject_der: Vec<u8>,
    /// The public key with its algorithm (SubjectPublicKeyInfo), DER.
    pub public_key_der: Vec<u8>,
    /// The value of the alternative names' extension, DER; empty without one.
    pub alternative_names_der: Vec<u8>,
}

impl CertificateRequest {
    /// Reads the first PEM block, and verifies that its key signed it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn parse(pem: &[u8]) -> Result<Self, Error> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem).map_err(|_| Error::Pem)?;
        let (_, request) =
            X509CertificationRequest::from_der(&der).map_err(|e| Error::Malformed(e.to_string()))?;
        request.verify_signature().map_err(|e| Error::Signature(e.to_string()))?;
        let info = &request.certification_request_info;
        let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            a.as_str().map(str::to_owned).unwrap_or_default()
        };
        let mut parsed = Self {
            common_name: info.subject.iter_common_name().next().map(text).unwrap_or_default(),
            organizations: info.subject.iter_organization().map(text).collect(),
            subject_der: info.subject.as_raw().to_vec(),
            public_key_der: info.subject_pki.raw.to_vec(),
            ..Self::default()
        };
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else { continue };
            for extension in asked.extensions.iter().filter(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME) {
                parsed.alternative_names_der = extension.value.to_vec();
                let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                    return Err(Error::Malformed("its subjectAltNames cannot be read".to_owned()));
                };
                names.general_names.iter().for_each(|name| parsed.add(name));
            }
        }
        Ok(parsed)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => self.addresses.push(bytes.to_vec()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn request(key: &KeyPair) -> String {
        let mut params =
            CertificateParams::new(vec!["a.example.org".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_request_says_who_it_is_for() {
        let key = KeyPair::generate().unwrap();
        let parsed = CertificateRequest::parse(request(&key).as_bytes()).unwrap();
        assert_eq!(
            (parsed.common_name.as_str(), parsed.organizations.as_slice()),
            ("jane", ["dev".to_owned()].as_slice())
        );
        assert_eq!(parsed.dns_names, ["a.example.org"]);
        assert_eq!(parsed.addresses, [vec![10, 0, 0, 1]]);
        assert!(!parsed.alternative_names_der.is_empty() && !parsed.public_key_der.is_empty());
    }

    #[test]
    fn what_is_no_request_or_not_signed_by_its_key_is_refused() {
        assert_eq!(CertificateRequest::parse(b"x").unwrap_err(), Error::Pem);
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(CertificateRequest::parse(other.as_bytes()).unwrap_err(), Error::Pem);
        let empty = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        assert!(matches!(CertificateRequest::parse(empty.as_bytes()), Err(Error::Malformed(_))));
        let key = KeyPair::generate().unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(request(&key).as_bytes()).unwrap();
        let mut forged = der.as_ref().to_vec();
        let at = forged.windows(4).position(|w| w == b"jane").unwrap();
        forged[at..at + 4].copy_from_slice(b"root");
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &forged);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
        assert!(matches!(CertificateRequest::parse(pem.as_bytes()), Err(Error::Signature(_))));
    }
}
