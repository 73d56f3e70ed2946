//! A certificate authority in two files, and the leaves it keeps beside itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{Issuer, KeyPair, PublicKeyData};

use super::error::Error;
use super::files;
use super::inspect::Certificate;
use super::issue::{self, DAY, Identity, Leaf};

/// A leaf with less life left is renewed.
pub const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY.as_secs());

/// A certificate authority.
pub struct Authority {
    /// Its certificate.
    pub cert_pem: String,
    /// Its certificate, read.
    pub cert: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads `<name>.crt` and `<name>.key` of `dir`, or makes them when both are missing.
    pub fn ensure(dir: &Path, name: &str, common_name: &str, now: SystemTime) -> Result<Self, Error> {
        let (cert_path, key_path) = paths(dir, name);
        let cert_pem = files::read(&cert_path).map_err(Error::io("read", &cert_path))?;
        let key_pem = files::read(&key_path).map_err(Error::io("read", &key_path))?;
        let key = match (&key_pem, &cert_pem) {
            (Some(pem), _) => KeyPair::from_pem(pem).map_err(|e| Error::damaged(&key_path, e))?,
            (None, Some(_)) => return Err(Error::KeyMissing { path: key_path }),
            (None, None) => {
                let key = KeyPair::generate()?;
                let pem = key.serialize_pem();
                files::write_private(&key_path, pem.as_bytes()).map_err(Error::io("write", &key_path))?;
                key
            }
        };
        // The key is written first: a key without a certificate was never used.
        let cert_pem = match cert_pem {
            Some(pem) => pem,
            None => {
                let unique = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                let pem = issue::ca(&format!("{common_name}@{unique}"), &key, now)?;
                files::write_private(&cert_path, pem.as_bytes()).map_err(Error::io("write", &cert_path))?;
                pem
            }
        };
        let cert = Certificate::parse(&cert_pem).map_err(|e| Error::damaged(&cert_path, e))?;
        if !cert.has_key(key.der_bytes()) {
            return Err(Error::damaged(&key_path, format!("it is not the key of {}", cert_path.display())));
        }
        let issuer = Issuer::from_ca_cert_der(&cert.der, key).map_err(|e| Error::damaged(&cert_path, e))?;
        Ok(Self { cert_pem, cert, issuer })
    }

    /// The leaf `<name>.crt` and `<name>.key` of `dir`; made anew when it is missing, damaged, of
    /// another authority, says something else than `leaf`, or ends soon.
    pub fn ensure_leaf(
        &self,
        dir: &Path,
        name: &str,
        leaf: &Leaf,
        now: SystemTime,
    ) -> Result<Identity, Error> {
        let (cert_path, key_path) = paths(dir, name);
        let stored = (
            files::read(&cert_path).map_err(Error::io("read", &cert_path))?,
            files::read(&key_path).map_err(Error::io("read", &key_path))?,
        );
        if let (Some(cert_pem), Some(key_pem)) = stored {
            let identity = Identity { cert_pem, key_pem };
            match self.check(&identity, leaf, now) {
                Ok(()) => return Ok(identity),
                Err(why) => tracing::info!(certificate = %cert_path.display(), why, "renewing a certificate"),
            }
        }
        let identity = issue::leaf(leaf, &self.issuer, now)?;
        files::write_private(&key_path, identity.key_pem.as_bytes())
            .map_err(Error::io("write", &key_path))?;
        files::write_private(&cert_path, identity.cert_pem.as_bytes())
            .map_err(Error::io("write", &cert_path))?;
        Ok(identity)
    }

    /// The key it signs with.
    pub fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    fn check(&self, identity: &Identity, leaf: &Leaf, now: SystemTime) -> Result<(), &'static str> {
        let cert = Certificate::parse(&identity.cert_pem).map_err(|_| "it is damaged")?;
        let key = KeyPair::from_pem(&identity.key_pem).map_err(|_| "its key is damaged")?;
        if !cert.has_key(key.der_bytes()) {
            return Err("its key is of another certificate");
        }
        if !cert.signed_by(&self.cert) {
            return Err("another authority signed it");
        }
        if cert.leaf != *leaf {
            return Err("its names changed");
        }
        if cert.not_after < now + RENEW_BEFORE {
            return Err("it ends soon");
        }
        Ok(())
    }
}

fn paths(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_authority_and_its_leaves_outlive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let first = Authority::ensure(dir.path(), "ca", "test", now).unwrap();
        let leaf = Leaf::server("api", vec!["localhost".into()]);
        let identity = first.ensure_leaf(dir.path(), "api", &leaf, now).unwrap();
        let second = Authority::ensure(dir.path(), "ca", "test", now + DAY).unwrap();
        assert_eq!(second.cert_pem, first.cert_pem);
        assert_eq!(second.ensure_leaf(dir.path(), "api", &leaf, now + DAY).unwrap(), identity);
    }

    #[test]
    fn a_leaf_is_renewed_when_it_ends_soon_changed_or_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let ca = Authority::ensure(dir.path(), "ca", "test", now).unwrap();
        let mut leaf = Leaf::server("api", vec!["localhost".into()]);
        let mut last = ca.ensure_leaf(dir.path(), "api", &leaf, now).unwrap();
        let mut renewed = |leaf: &Leaf, now: SystemTime| {
            let identity = ca.ensure_leaf(dir.path(), "api", leaf, now).unwrap();
            let renewed = identity != last;
            last = identity;
            renewed
        };
        assert!(!renewed(&leaf, now + 334 * DAY));
        assert!(renewed(&leaf, now + 336 * DAY));
        leaf.names.push("node-1".into());
        assert!(renewed(&leaf, now));
        assert!(!renewed(&leaf, now));
        fs::write(dir.path().join("api.crt"), "half a certif").unwrap();
        assert!(renewed(&leaf, now));
        fs::write(dir.path().join("api.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(renewed(&leaf, now));
        fs::remove_file(dir.path().join("ca.crt")).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let other = Authority::ensure(dir.path(), "ca", "test", now).unwrap();
        assert_ne!(other.ensure_leaf(dir.path(), "api", &leaf, now).unwrap(), last);
    }

    #[test]
    fn a_power_cut_between_key_and_certificate_is_made_good_and_a_lost_key_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        Authority::ensure(dir.path(), "ca", "test", now).unwrap();
        fs::remove_file(dir.path().join("ca.crt")).unwrap();
        Authority::ensure(dir.path(), "ca", "test", now).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = Authority::ensure(dir.path(), "ca", "test", now).err().unwrap().to_string();
        assert!(error.contains("ca.key is missing"), "{error}");
        fs::write(dir.path().join("ca.key"), "garbage").unwrap();
        let error = Authority::ensure(dir.path(), "ca", "test", now).err().unwrap().to_string();
        assert!(error.contains("ca.key is damaged"), "{error}");
        fs::write(dir.path().join("ca.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let error = Authority::ensure(dir.path(), "ca", "test", now).err().unwrap().to_string();
        assert!(error.contains("not the key of"), "{error}");
    }
}
