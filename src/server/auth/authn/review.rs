//! Answers `TokenReview` and `SelfSubjectReview` of `authentication.k8s.io/v1`.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::Authenticator;
use crate::api::Status;
use crate::server::auth::user::{AUTHENTICATED, User};

/// A user as reviews and CertificateSigningRequests show it: `authentication/v1.UserInfo`.
pub fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// Answers a `SelfSubjectReview`: `review` with its status.
pub fn self_subject(user: &User, mut review: Value) -> Value {
    review["status"] = json!({"userInfo": user_info(user)});
    review
}

impl Authenticator {
    /// Answers a `TokenReview`: `review` with its status.
    ///
    /// # Errors
    /// 400 without a token.
    pub fn token_review(&self, mut review: Value) -> Result<Value, Status> {
        let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let wanted = review["spec"]["audiences"].as_array().filter(|a| !a.is_empty());
        let audiences: Vec<String> = match wanted {
            Some(list) => list.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect(),
            None => vec![self.pki.token_signer().issuer().to_owned()],
        };
        review["status"] = match self.token(&token, &audiences, SystemTime::now()) {
            Ok((mut user, of_token)) => {
                user.groups.push(AUTHENTICATED.to_owned());
                let common: Vec<&String> = audiences.iter().filter(|a| of_token.contains(a)).collect();
                json!({"authenticated": true, "user": user_info(&user), "audiences": common})
            }
            Err(error) => json!({"user": {}, "error": error.to_string()}),
        };
        review["spec"]["token"] = json!(token);
        Ok(review)
    }
}
