//! Authentication: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/>.
//!
//! A client certificate of the client CA, or else a bearer token: a service account's, a bootstrap token
//! or one of the static token file. A request with neither is `system:anonymous`, unless that is
//! switched off, and RBAC says what that may do. Credentials that are wrong are never taken for none:
//! they are answered with 401.

mod bearer;
pub mod bootstrap;
mod certificate;
pub mod review;
pub mod token_file;

use std::sync::Arc;
use std::time::SystemTime;

use ::http::{HeaderMap, Uri};
use rustls_pki_types::CertificateDer;

use super::pki::Pki;
use super::tokens::{TokenError, bound};
use super::user::{AUTHENTICATED, User};
use crate::api::Status;
use crate::server::reader::Reader;
pub use bearer::strip;
use token_file::TokenFile;

/// What of authentication the cluster's owner chooses.
#[derive(Debug)]
pub struct Options {
    /// Users with static tokens.
    pub token_file: TokenFile,
    /// Requests without credentials are somebody: upstream's `--anonymous-auth`.
    pub anonymous: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { token_file: TokenFile::default(), anonymous: true }
    }
}

/// Finds out whom requests are from.
pub struct Authenticator {
    pki: Pki,
    reader: Arc<dyn Reader>,
    certificates: certificate::Certificates,
    options: Options,
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("[invalid bearer token, {0}]")]
    Token(#[from] TokenError),
    /// Upstream tells no more of it either.
    #[error("invalid bearer token")]
    Bootstrap(#[from] bootstrap::Refused),
    #[error("invalid bearer token")]
    Unknown,
}

impl Authenticator {
    /// Certificates are verified with `pki`, and what tokens are bound to is looked up in `reader`.
    pub fn new(pki: Pki, reader: Arc<dyn Reader>, options: Options) -> Self {
        let certificates = certificate::Certificates::new(pki.client_verifier());
        Self { pki, reader, certificates, options }
    }

    /// The user of a request; `peer` is the certificate chain the client showed in the TLS handshake.
    ///
    /// # Errors
    /// 401 for a certificate or token that is not good, and for neither if anonymous requests are nobody's.
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
        let refused = |error: &dyn std::error::Error| {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::debug!(%error, source, "authentication refused");
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
                None if self.options.anonymous => return Ok(User::anonymous()),
                None => return Err(Status::unauthorized()),
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
    ) -> Result<(User, Vec<String>), Refused> {
        let signer = self.pki.token_signer();
        // Tokens that name no audience are for the API.
        let api = || {
            let of = signer.issuer().to_owned();
            if audiences.contains(&of) { Ok(vec![of]) } else { Err(Refused::Unknown) }
        };
        if let Some(user) = self.options.token_file.user(token) {
            return Ok((user.clone(), api()?));
        }
        if let Some((id, secret)) = bootstrap::parse(token) {
            return Ok((bootstrap::user(&*self.reader, id, secret, now)?, api()?));
        }
        let claims = match signer.verify(token, audiences, now) {
            Err(TokenError::Foreign) => return Err(Refused::Unknown),
            verified => verified?,
        };
        bound::check(&claims, token, &*self.reader, now)?;
        Ok((claims.user(), claims.aud))
    }
}

#[cfg(test)]
mod tests;
