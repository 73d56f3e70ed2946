//! Authentication: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/>.
//!
//! A client certificate of the client CA, or else a bearer token: a service account's. A request with
//! neither is `system:anonymous`, and RBAC says what that may do. Credentials that are wrong are never
//! taken for none: they are answered with 401.

mod bearer;
mod certificate;
pub mod review;

use std::sync::Arc;
use std::time::SystemTime;

use ::http::{HeaderMap, Uri};
use rustls_pki_types::CertificateDer;

use super::pki::Pki;
use super::tokens::{TokenError, bound};
use super::user::{AUTHENTICATED, User};
use crate::api::Status;
use crate::server::reader::Reader;

/// Finds out whom requests are from.
pub struct Authenticator {
    pki: Pki,
    reader: Arc<dyn Reader>,
    certificates: certificate::Certificates,
}

impl Authenticator {
    /// Certificates are verified with `pki`, and what tokens are bound to is looked up in `reader`.
    pub fn new(pki: Pki, reader: Arc<dyn Reader>) -> Self {
        let certificates = certificate::Certificates::new(pki.client_verifier());
        Self { pki, reader, certificates }
    }

    /// The user of a request; `peer` is the certificate chain the client showed in the TLS handshake.
    ///
    /// # Errors
    /// 401 for a certificate or token that is not good.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        peer: Option<&[CertificateDer<'static>]>,
    ) -> Result<User, Status> {
        self.authenticate_at(headers, uri, peer, SystemTime::now())
    }

    fn authenticate_at(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        peer: Option<&[CertificateDer<'static>]>,
        now: SystemTime,
    ) -> Result<User, Status> {
        let refused = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, "authentication refused");
            Status::unauthorized()
        };
        let own = [self.pki.token_signer().issuer().to_owned()];
        let by_token = || {
            let token = bearer::token(headers, uri)?;
            Some(self.token(&token, &own, now).map(|(user, _)| user).map_err(|e| refused(&e)))
        };
        let mut user = match peer {
            Some([leaf, rest @ ..]) => match self.certificates.user(leaf, rest, now) {
                Ok(user) => user,
                // As upstream, where each authenticator is asked before the request fails.
                Err(error) => by_token().unwrap_or_else(|| Err(refused(&error)))?,
            },
            _ => match by_token() {
                Some(user) => user?,
                None => return Ok(User::anonymous()),
            },
        };
        if !user.in_group(AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_owned());
        }
        Ok(user)
    }

    /// The user of a token for one of `audiences`, and the token's own audiences.
    fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: SystemTime,
    ) -> Result<(User, Vec<String>), TokenError> {
        let claims = self.pki.token_signer().verify(token, audiences, now)?;
        bound::check(&claims, &*self.reader, now)?;
        Ok((claims.user(), claims.aud))
    }
}

#[cfg(test)]
mod tests;
