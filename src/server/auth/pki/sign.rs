//! Signs what others ask a certificate for: `pkg/controller/certificates/authority`.
//!
//! The subject, the key and the alternative names are the request's, byte for byte; what the
//! certificate may be used for and how long is the signer's word.

use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use yasna::models::{GeneralizedTime, ObjectIdentifier, UTCTime};
use yasna::{DERWriter, DERWriterSeq, Tag};

use super::authority::Authority;
use super::error::Error;
use crate::api::csr::CertificateRequest;

/// The longest a signed certificate lives: upstream's `--cluster-signing-duration`.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The shortest.
const SHORTEST: Duration = Duration::from_secs(10 * 60);
/// How far in the past it begins: clocks of machines differ.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];

/// Bits of the key usage extension (RFC 5280, 4.2.1.3) by the API's names.
const KEY_USAGES: [(&str, u16); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// Extended key usages by the API's names.
const EXTENDED: [(&str, &[u64]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

/// What a signer grants.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// What the certificate may be used for, in the API's names.
    pub usages: &'a [String],
    /// How long it is to live, if the requester said so; a year at most.
    pub life: Option<Duration>,
}

/// A certificate (PEM) for `request`, signed by `authority`.
///
/// # Errors
/// A usage nobody knows, or a key that cannot sign.
pub fn sign(
    authority: &Authority,
    request: &CertificateRequest,
    grant: &Grant<'_>,
    now: SystemTime,
) -> Result<String, Error> {
    let malformed = |e: &dyn std::fmt::Display| Error::Request(e.to_string());
    let (_, ca) = X509Certificate::from_der(&authority.cert.der).map_err(|e| malformed(&e))?;
    let usages = Usages::of(grant.usages)?;
    let key = authority.key();
    let algorithm = signature_algorithm(key)?;
    let life = grant.life.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
    let begin = now.checked_sub(BACKDATED).unwrap_or(now);
    let end = (begin + life).min(authority.cert.not_after);
    let mut serial: [u8; 16] = rand::random();
    serial[0] &= 0x7f;
    let body = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            writer.next().write_bigint_bytes(&serial, true);
            writer.next().write_der(&algorithm);
            writer.next().write_der(ca.subject().as_raw());
            writer.next().write_sequence(|writer| {
                write_time(writer.next(), begin);
                write_time(writer.next(), end);
            });
            writer.next().write_der(&request.subject_der);
            writer.next().write_der(&request.public_key_der);
            writer.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|writer| extensions(writer, &usages, key, &ca, request));
            });
        });
    });
    let signature = key.sign(&body)?;
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&body);
            writer.next().write_der(&algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok(pem(&der))
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime from then on.
fn write_time(writer: DERWriter<'_>, at: SystemTime) {
    const YEAR_2050: Duration = Duration::from_secs(2_524_608_000);
    // Fractions of seconds must not be written.
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    if whole < SystemTime::UNIX_EPOCH + YEAR_2050 {
        writer.write_utctime(&UTCTime::from_datetime(whole.into()));
    } else {
        writer.write_generalized_time(&GeneralizedTime::from_datetime(whole.into()));
    }
}

/// The AlgorithmIdentifier of what `key` signs.
fn signature_algorithm(key: &KeyPair) -> Result<Vec<u8>, Error> {
    let (oid, null): (&[u64], bool) = match key.algorithm() {
        a if a == &rcgen::PKCS_ECDSA_P256_SHA256 => (&[1, 2, 840, 10_045, 4, 3, 2], false),
        a if a == &rcgen::PKCS_ECDSA_P384_SHA384 => (&[1, 2, 840, 10_045, 4, 3, 3], false),
        a if a == &rcgen::PKCS_ED25519 => (&[1, 3, 101, 112], false),
        a if a == &rcgen::PKCS_RSA_SHA256 => (&[1, 2, 840, 113_549, 1, 1, 11], true),
        _ => return Err(Error::Request("the CA's key is of a kind that cannot sign requests".to_owned())),
    };
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
            if null {
                writer.next().write_null();
            }
        });
    }))
}

/// Usages as the certificate has them.
struct Usages {
    /// Bit n of the key usage extension is bit 15-n.
    bits: u16,
    extended: Vec<&'static [u64]>,
}

impl Usages {
    fn of(names: &[String]) -> Result<Self, Error> {
        let mut usages = Self { bits: 0, extended: Vec::new() };
        for name in names {
            if let Some((_, bit)) = KEY_USAGES.iter().find(|(n, _)| n == name) {
                usages.bits |= 0x8000 >> bit;
            } else if let Some((_, oid)) = EXTENDED.iter().find(|(n, _)| n == name) {
                if !usages.extended.contains(oid) {
                    usages.extended.push(oid);
                }
            } else {
                return Err(Error::Request(format!("unrecognized usage values: {name:?}")));
            }
        }
        Ok(usages)
    }
}

fn extension(writer: &mut DERWriterSeq<'_>, oid: &[u64], critical: bool, value: &[u8]) {
    writer.next().write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(value);
    });
}

fn extensions(
    writer: &mut DERWriterSeq<'_>,
    usages: &Usages,
    key: &KeyPair,
    ca: &X509Certificate<'_>,
    request: &CertificateRequest,
) {
    if usages.bits != 0 {
        let used = 16 - usages.bits.trailing_zeros() as usize;
        let bytes = usages.bits.to_be_bytes();
        let value = yasna::construct_der(|w| w.write_bitvec_bytes(&bytes[..used.div_ceil(8)], used));
        extension(writer, KEY_USAGE, true, &value);
    }
    if !usages.extended.is_empty() {
        let value = yasna::construct_der(|w| {
            w.write_sequence(|w| {
                for oid in &usages.extended {
                    w.next().write_oid(&ObjectIdentifier::from_slice(oid));
                }
            });
        });
        extension(writer, EXTENDED_KEY_USAGE, false, &value);
    }
    extension(writer, BASIC_CONSTRAINTS, true, &yasna::construct_der(|w| w.write_sequence(|_| {})));
    let identifier = key_identifier(key, ca);
    let value = yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_tagged_implicit(Tag::context(0), |w| w.write_bytes(&identifier));
        });
    });
    extension(writer, AUTHORITY_KEY, false, &value);
    if !request.alternative_names_der.is_empty() {
        // RFC 5280, 4.2.1.6: critical when there is no subject.
        let nameless = request.subject_der == [0x30, 0];
        extension(writer, ALTERNATIVE_NAMES, nameless, &request.alternative_names_der);
    }
}

/// The CA's subject key identifier; that which is made of its key for a CA without one.
fn key_identifier(key: &KeyPair, ca: &X509Certificate<'_>) -> Vec<u8> {
    let own = ca.iter_extensions().find_map(|e| match e.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    own.unwrap_or_else(|| Sha256::digest(key.subject_public_key_info())[..20].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::pki::inspect::Certificate;
    use rcgen::{CertificateParams, DnType};
    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;
    use std::sync::Arc;

    fn request(common_name: &str, names: &[&str]) -> CertificateRequest {
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.distinguished_name.push(DnType::CommonName, common_name);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        CertificateRequest::parse(pem.as_bytes()).unwrap()
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn what_is_signed_verifies_and_says_what_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let ca = Authority::ensure(dir.path(), "ca", "test", now).unwrap();
        let usages = strings(&["digital signature", "key encipherment", "client auth"]);
        let grant = Grant { usages: &usages, life: Some(Duration::from_secs(3600)) };
        let signed = sign(&ca, &request("jane", &["a.example.org", "10.0.0.1"]), &grant, now).unwrap();
        let read = Certificate::parse(&signed).unwrap();
        assert_eq!(
            (read.leaf.common_name.as_str(), read.leaf.organizations.as_slice()),
            ("jane", strings(&["dev"]).as_slice())
        );
        assert_eq!(read.leaf.names, ["10.0.0.1", "a.example.org"]);
        assert!(read.signed_by(&ca.cert));
        let life = read.not_after.duration_since(read.not_before).unwrap();
        assert_eq!(life, Duration::from_secs(3600));
        let mut roots = RootCertStore::empty();
        roots.add(ca.cert.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let at =
            rustls_pki_types::UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        verifier.verify_client_cert(&read.der, &[], at).unwrap();
        let (_, x509) = X509Certificate::from_der(&read.der).unwrap();
        let usage = x509.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        assert!(!x509.is_ca());
    }

    #[test]
    fn the_life_has_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let ca = Authority::ensure(dir.path(), "ca", "test", now).unwrap();
        let usages = strings(&["client auth"]);
        for (asked, granted) in [(None, LONGEST), (Some(1), SHORTEST), (Some(86_400_000), LONGEST)] {
            let grant = Grant { usages: &usages, life: asked.map(Duration::from_secs) };
            let read = Certificate::parse(&sign(&ca, &request("a", &[]), &grant, now).unwrap()).unwrap();
            assert_eq!(read.not_after.duration_since(read.not_before).unwrap(), granted);
        }
        let late = ca.cert.not_after - Duration::from_secs(86_400);
        let grant = Grant { usages: &usages, life: None };
        let read = Certificate::parse(&sign(&ca, &request("a", &[]), &grant, late).unwrap()).unwrap();
        assert_eq!(read.not_after, ca.cert.not_after, "never longer than its CA");
        let unknown = strings(&["flying"]);
        let refused =
            sign(&ca, &request("a", &[]), &Grant { usages: &unknown, life: None }, now).unwrap_err();
        assert!(refused.to_string().contains("flying"), "{refused}");
    }
}
