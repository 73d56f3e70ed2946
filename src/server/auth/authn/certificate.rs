//! Users of client certificates: the common name is the user, the organizations are the groups.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};

use crate::server::auth::pki::Certificate;
use crate::server::auth::user::{CREDENTIAL_ID, User};

/// So many verified certificates are remembered: a signature is not checked again for each request.
const REMEMBERED: usize = 256;

/// Why a client certificate is not good.
#[derive(Debug, thiserror::Error)]
#[error("verifying certificate failed: {0}")]
pub struct Refused(String);

struct Verified {
    user: User,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Verifies client certificates.
pub struct Certificates {
    verifier: Arc<dyn ClientCertVerifier>,
    verified: Mutex<HashMap<Vec<u8>, Verified>>,
}

impl Certificates {
    /// Verifies with `verifier`.
    pub fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self { verifier, verified: Mutex::default() }
    }

    /// The user of a certificate; `rest` of the chain leads from it to the CA.
    pub fn user(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<User, Refused> {
        if let Some(known) = self.verified.lock().get(leaf.as_ref())
            && (known.not_before..=known.not_after).contains(&now)
        {
            return Ok(known.user.clone());
        }
        let at = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        self.verifier.verify_client_cert(leaf, rest, at).map_err(|e| Refused(e.to_string()))?;
        let cert = Certificate::from_der(leaf).map_err(Refused)?;
        if cert.leaf.common_name.is_empty() {
            return Err(Refused("its subject has no common name".to_owned()));
        }
        let fingerprint = format!("X509SHA256={}", hex::encode(Sha256::digest(leaf.as_ref())));
        let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![fingerprint])]);
        let user =
            User { name: cert.leaf.common_name, groups: cert.leaf.organizations, extra, ..User::default() };
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        let entry = Verified { user: user.clone(), not_before: cert.not_before, not_after: cert.not_after };
        verified.insert(leaf.to_vec(), entry);
        Ok(user)
    }
}
