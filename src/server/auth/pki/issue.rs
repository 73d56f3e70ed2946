//! Makes CAs and leaf certificates: ECDSA P-256, X.509 v3.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::error::Error;

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a CA lives.
pub const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long a leaf lives.
pub const LEAF_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How far in the past certificates begin: clocks of nodes differ, jump when they are set, and may have been
/// on local time.
const BACKDATED: Duration = DAY;
/// No certificate's life is counted from before this moment (2026-01-01): a machine without a
/// battery-backed clock starts in 1970 and would make certificates that end before its clock is set.
const EARLIEST_START: Duration = Duration::from_secs(1_767_225_600);

/// What a leaf is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// A TLS server.
    Server,
    /// A TLS client.
    Client,
}

/// What a leaf certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Subject's common name: the user's name.
    pub common_name: String,
    /// Subject's organizations: the user's groups. At most one can be issued.
    pub organizations: Vec<String>,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// What it is used for.
    pub usage: Usage,
}

impl Leaf {
    /// A client's certificate.
    pub fn client(user: impl Into<String>, group: Option<&str>) -> Self {
        Self {
            common_name: user.into(),
            organizations: group.map(str::to_owned).into_iter().collect(),
            names: Vec::new(),
            usage: Usage::Client,
        }
    }

    /// A server's certificate.
    pub fn server(common_name: impl Into<String>, mut names: Vec<String>) -> Self {
        names.sort();
        names.dedup();
        Self { common_name: common_name.into(), organizations: Vec::new(), names, usage: Usage::Server }
    }
}

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS #8.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// When certificates made at `now` begin and end.
fn life(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    let epoch = SystemTime::UNIX_EPOCH;
    params.not_before = now.checked_sub(BACKDATED).filter(|t| *t > epoch).unwrap_or(epoch).into();
    params.not_after = (now.max(epoch + EARLIEST_START) + life).into();
}

/// A self-signed CA's certificate for `key`.
pub fn ca(common_name: &str, key: &KeyPair, now: SystemTime) -> Result<String, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    life(&mut params, now, CA_LIFE);
    Ok(params.self_signed(key)?.pem())
}

/// A leaf with a key of its own.
pub fn leaf(leaf: &Leaf, issuer: &Issuer<'_, KeyPair>, now: SystemTime) -> Result<Identity, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for organization in &leaf.organizations {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    params.distinguished_name.push(DnType::CommonName, leaf.common_name.as_str());
    params.subject_alt_names = leaf.names.iter().map(|n| alternative_name(n)).collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![match leaf.usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    life(&mut params, now, LEAF_LIFE);
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, issuer)?;
    Ok(Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

fn alternative_name(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let what = "neither an IP address nor a DNS name";
    let label_ok =
        |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let labels = name.strip_prefix("*.").unwrap_or(name);
    if labels.len() > 253 || !labels.split('.').all(label_ok) {
        return Err(Error::Name { name: name.to_owned(), what: what.to_owned() });
    }
    let dns = name.try_into().map_err(|_| Error::Name { name: name.to_owned(), what: what.to_owned() })?;
    Ok(SanType::DnsName(dns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::pki::inspect::Certificate;

    fn authority(now: SystemTime) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (ca("test-ca", &key, now).unwrap(), key)
    }

    #[test]
    fn a_leaf_says_what_it_was_asked_to_say() {
        let now = SystemTime::now();
        let (ca_pem, key) = authority(now);
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key).unwrap();
        let wanted = Leaf::server(
            "api",
            vec!["localhost".into(), "::1".into(), "10.0.0.1".into(), "localhost".into()],
        );
        let identity = leaf(&wanted, &issuer, now).unwrap();
        let read = Certificate::parse(&identity.cert_pem).unwrap();
        assert_eq!(read.leaf, wanted);
        assert!(read.signed_by(&Certificate::parse(&ca_pem).unwrap()));
        assert!(read.not_before < now && read.not_after > now + LEAF_LIFE - DAY);
        let client = Leaf::client("system:node:a", Some("system:nodes"));
        let read = Certificate::parse(&leaf(&client, &issuer, now).unwrap().cert_pem).unwrap();
        assert_eq!(read.leaf, client);
    }

    #[test]
    fn another_authority_of_the_same_name_did_not_sign_it() {
        let now = SystemTime::now();
        let (ca_pem, key) = authority(now);
        let (other, _) = authority(now);
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key).unwrap();
        let identity = leaf(&Leaf::client("a", None), &issuer, now).unwrap();
        assert!(
            !Certificate::parse(&identity.cert_pem).unwrap().signed_by(&Certificate::parse(&other).unwrap())
        );
    }

    #[test]
    fn a_clock_that_starts_in_1970_makes_certificates_that_are_valid_once_it_is_set() {
        let boot = SystemTime::UNIX_EPOCH + Duration::from_secs(90);
        let (ca_pem, _) = authority(boot);
        let read = Certificate::parse(&ca_pem).unwrap();
        assert!(read.not_before <= boot);
        assert!(read.not_after >= SystemTime::UNIX_EPOCH + EARLIEST_START + CA_LIFE - DAY);
    }

    #[test]
    fn a_name_that_is_none_is_refused_by_name() {
        for bad in ["", "a b", "a..b", "ä.example"] {
            let e = alternative_name(bad).unwrap_err().to_string();
            assert!(e.contains("neither an IP address nor a DNS name"), "{bad}: {e}");
        }
        assert!(alternative_name("*.example.org").is_ok());
    }
}
