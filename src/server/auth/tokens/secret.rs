//! Tokens that lie in Secrets of type `kubernetes.io/service-account-token`.
//!
//! <https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets>. They end
//! with their Secret and their service account, not with time; they have the claims of the others, so
//! that one way of verifying serves both.

use std::time::SystemTime;

use super::{Claims, Private, Reference, TokenSigner, seconds};

/// The end of the year 9999, the last that dates can name.
const NEVER: u64 = 253_402_300_799;

impl TokenSigner {
    /// A token for the service account `account`, bound to the Secret `secret` of its namespace.
    ///
    /// # Errors
    /// The key cannot sign, which a key that was read cannot fail to.
    pub fn secret_token(
        &self,
        namespace: &str,
        account: Reference,
        secret: Reference,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let now = seconds(SystemTime::now());
        self.sign(&Claims {
            aud: vec![self.issuer.clone()],
            exp: NEVER,
            iat: now,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("system:serviceaccount:{namespace}:{}", account.name),
            kubernetes: Private {
                namespace: namespace.to_owned(),
                secret: Some(secret),
                service_account: account,
                ..Private::default()
            },
            nbf: now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_does_not_end_with_time() {
        let dir = tempfile::tempdir().unwrap();
        let signer = TokenSigner::ensure(&dir.path().join("key"), "https://issuer").unwrap();
        let reference = |name: &str| Reference { name: name.into(), uid: "u".into() };
        let token = signer.secret_token("n", reference("bot"), reference("s")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let claims = signer.verify(&token, &["https://issuer".into()], later).unwrap();
        assert_eq!(claims.user().name, "system:serviceaccount:n:bot");
        assert_eq!(claims.kubernetes.secret.unwrap().name, "s");
    }
}
