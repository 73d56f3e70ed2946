//! Service account tokens: signed (ES256), verified, requested, published.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>. A token is bound to
//! its service account's uid, and, when a pod or a node asked for it, to that object's: it ends with the
//! first of them ([`bound`]). Nothing about a token is stored.

pub mod bound;
mod claims;
pub mod request;
mod secret;

use std::path::Path;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::pki::{self, files};
use crate::api::field::quote_list;
pub use claims::{Claims, Private, Reference};

/// Clocks may differ by this many seconds, as upstream has it.
const LEEWAY: u64 = 60;

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT signed by this cluster: perhaps another authenticator knows it.
    #[error("the token was not issued by this cluster")]
    Foreign,
    /// Its time is over.
    #[error("service account token has expired")]
    Expired,
    /// Its time has not come.
    #[error("service account token is not valid yet")]
    NotYet,
    /// It is for somebody else.
    #[error(
        "token audiences {} is invalid for the target audiences {}",
        quote_list(token),
        quote_list(wanted)
    )]
    Audience {
        /// Whom it is for.
        token: Vec<String>,
        /// Whom it should be for.
        wanted: Vec<String>,
    },
    /// What it is bound to is gone.
    #[error("{0}")]
    Unbound(String),
}

/// The cluster's key for service account tokens, and its name as an issuer.
pub struct TokenSigner {
    issuer: String,
    key_id: String,
    /// The raw point of the public key: 0x04, x, y.
    public: Vec<u8>,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner")
            .field("issuer", &self.issuer)
            .field("kid", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// Reads the key, or makes it. `issuer` is the URL tokens name as theirs.
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged.
    pub fn ensure(path: &Path, issuer: &str) -> Result<Self, pki::Error> {
        let key = match files::read(path).map_err(pki::Error::io("read", path))? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|e| pki::Error::damaged(path, e))?,
            None => {
                let key = KeyPair::generate()?;
                files::write_private(path, key.serialize_pem().as_bytes())
                    .map_err(pki::Error::io("write", path))?;
                key
            }
        };
        let public = key.der_bytes().to_vec();
        if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 || public.len() != 65 {
            return Err(pki::Error::damaged(path, "it is not an ECDSA P-256 key"));
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            key_id: URL_SAFE_NO_PAD.encode(Sha256::digest(key.subject_public_key_info())),
            encoding: EncodingKey::from_ec_der(key.serialized_der()),
            decoding: DecodingKey::from_ec_der(&public),
            public,
        })
    }

    /// The issuer, which is also the audience of tokens for the API.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs claims.
    ///
    /// # Errors
    /// The key cannot sign, which a key that was read cannot fail to.
    pub fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: Some(self.key_id.clone()), typ: None, ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.encoding)
    }

    /// Verifies signature, issuer, time and audience; [`bound::check`] does the rest.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, token: &str, audiences: &[String], now: SystemTime) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(Algorithm::ES256);
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|_| TokenError::Foreign)?
            .claims;
        if claims.iss != self.issuer {
            return Err(TokenError::Foreign);
        }
        let now = seconds(now);
        if now > claims.exp.saturating_add(LEEWAY) {
            return Err(TokenError::Expired);
        }
        if now.saturating_add(LEEWAY) < claims.nbf {
            return Err(TokenError::NotYet);
        }
        if !claims.aud.iter().any(|a| audiences.contains(a)) {
            return Err(TokenError::Audience { token: claims.aud, wanted: audiences.to_vec() });
        }
        Ok(claims)
    }

    /// The document at `/openid/v1/jwks`: RFC 7517.
    pub fn jwks(&self) -> Value {
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&self.public[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&self.public[33..]),
        }]})
    }

    /// The document at `/.well-known/openid-configuration`: OpenID Connect Discovery 1.0.
    /// `server_url` is where the API is reached, such as `https://10.0.0.1:6443`.
    pub fn openid_configuration(&self, server_url: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{server_url}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

/// Seconds since the epoch; 0 before it.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    pub(in crate::server::auth) fn claims(now: SystemTime) -> Claims {
        let now = seconds(now);
        Claims {
            aud: vec!["https://kubernetes.default.svc.cluster.local".into()],
            exp: now + 3600,
            iat: now,
            iss: "https://kubernetes.default.svc.cluster.local".into(),
            jti: "id".into(),
            kubernetes: Private {
                namespace: "default".into(),
                service_account: Reference { name: "default".into(), uid: "u".into() },
                ..Private::default()
            },
            nbf: now,
            sub: "system:serviceaccount:default:default".into(),
        }
    }

    fn signer(dir: &Path) -> TokenSigner {
        TokenSigner::ensure(&dir.join("service.key"), "https://kubernetes.default.svc.cluster.local").unwrap()
    }

    #[test]
    fn a_token_holds_after_a_restart_until_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let wanted = claims(now);
        let token = signer(dir.path()).sign(&wanted).unwrap();
        let again = signer(dir.path());
        let audiences = wanted.aud.clone();
        assert_eq!(again.verify(&token, &audiences, now).unwrap(), wanted);
        let at = |s: i64| {
            if s < 0 { now - Duration::from_secs(-s as u64) } else { now + Duration::from_secs(s as u64) }
        };
        assert!(again.verify(&token, &audiences, at(3655)).is_ok());
        assert_eq!(again.verify(&token, &audiences, at(3700)), Err(TokenError::Expired));
        assert_eq!(again.verify(&token, &audiences, at(-100)), Err(TokenError::NotYet));
        assert!(matches!(again.verify(&token, &["vault".into()], now), Err(TokenError::Audience { .. })));
    }

    #[test]
    fn changed_or_foreign_tokens_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let audiences = claims(now).aud;
        let token = signer(dir.path()).sign(&claims(now)).unwrap();
        assert_eq!(signer(other.path()).verify(&token, &audiences, now), Err(TokenError::Foreign));
        let mut parts: Vec<&str> = token.split('.').collect();
        let body = URL_SAFE_NO_PAD.encode(json!({"sub": "system:admin"}).to_string());
        parts[1] = &body;
        assert_eq!(signer(dir.path()).verify(&parts.join("."), &audiences, now), Err(TokenError::Foreign));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        parts = token.split('.').collect();
        (parts[0], parts[2]) = (&none, "");
        assert_eq!(signer(dir.path()).verify(&parts.join("."), &audiences, now), Err(TokenError::Foreign));
        for text in ["", "a", "a.b.c", "K10abc::server:x"] {
            assert_eq!(signer(dir.path()).verify(text, &audiences, now), Err(TokenError::Foreign), "{text}");
        }
    }

    #[test]
    fn the_published_key_verifies_the_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let signer = signer(dir.path());
        let token = signer.sign(&claims(SystemTime::now())).unwrap();
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(signer.jwks()["keys"][0].clone()).unwrap();
        assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid, jwk.common.key_id);
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&claims(SystemTime::now()).aud);
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
        let document = signer.openid_configuration("https://h:6443");
        assert_eq!(document["jwks_uri"], "https://h:6443/openid/v1/jwks");
        assert_eq!(document["issuer"], "https://kubernetes.default.svc.cluster.local");
    }
}
