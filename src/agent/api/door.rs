//! Who may use the node API: kubelet's authentication and authorisation
//! (<https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/>).
//!
//! The API server's certificate opens everything. Others show a certificate of the client CA or a bearer token,
//! which a TokenReview checks; what they may do is asked of the API server with SubjectAccessReviews of a
//! subresource of this node. Answers are kept for a while, as kubelet keeps them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::Refusal;
use super::identity::{Caller, User};

/// How long answers are kept: kubelet's defaults.
const AUTHENTICATED: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const FORBIDDEN: Duration = Duration::from_secs(30);
/// Of each kind at most so many are kept.
const KEPT: usize = 1024;

/// Answers by question, until they are too old.
struct Cache<T>(Mutex<HashMap<[u8; 32], (T, Instant)>>);

impl<T: Clone> Cache<T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, question: &[u8; 32]) -> Option<T> {
        let all = self.0.lock();
        all.get(question).filter(|(_, until)| Instant::now() < *until).map(|(answer, _)| answer.clone())
    }

    fn put(&self, question: [u8; 32], answer: T, keep: Duration) {
        let (mut all, now) = (self.0.lock(), Instant::now());
        if all.len() >= KEPT {
            all.retain(|_, (_, until)| now < *until);
        }
        if all.len() < KEPT {
            all.insert(question, (answer, now + keep));
        }
    }
}

/// Lets callers in.
pub(super) struct Door {
    client: kube::Client,
    node: String,
    users: Cache<Option<User>>,
    decisions: Cache<bool>,
}

impl Door {
    /// The door of a node; `client` must be allowed to create TokenReviews and SubjectAccessReviews.
    pub(super) fn new(client: kube::Client, node: &str) -> Self {
        Self { client, node: node.to_owned(), users: Cache::new(), decisions: Cache::new() }
    }

    /// Whether the caller may do this.
    ///
    /// # Errors
    /// 401, 403, or 500 if the API server cannot be asked; texts are kubelet's.
    pub(super) async fn admit(
        &self,
        caller: &Caller,
        headers: &http::HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<(), Refusal> {
        let user = match caller {
            Caller::ApiServer => return Ok(()),
            Caller::Known(user) => user.clone(),
            Caller::Nobody => self.by_token(headers).await?,
        };
        let verb = verb(method);
        let subresources = subresources(path);
        let about = format!(
            "user={}, verb={verb}, resource=nodes, subresource(s)=[{}]",
            user.name,
            subresources.join(" ")
        );
        for subresource in &subresources {
            match self.allowed(&user, verb, subresource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "node API: authorisation could not be asked for");
                    return Err(Refusal::internal(format!("Authorization error ({about})")));
                }
            }
        }
        Err(Refusal(StatusCode::FORBIDDEN, format!("Forbidden ({about})\n")))
    }

    async fn by_token(&self, headers: &http::HeaderMap) -> Result<User, Refusal> {
        let nobody = || Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".into());
        let header = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(nobody()),
        };
        let question: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.users.get(&question) {
            return known.ok_or_else(nobody);
        }
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(|error| {
            tracing::warn!(%error, "node API: a token could not be reviewed");
            nobody()
        })?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|u| User {
            name: u.username.unwrap_or_default(),
            uid: u.uid.unwrap_or_default(),
            groups: u.groups.unwrap_or_default(),
            extra: u.extra.unwrap_or_default(),
        });
        self.users.put(question, user.clone(), AUTHENTICATED);
        user.ok_or_else(nobody)
    }

    async fn allowed(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, kube::Error> {
        let question: [u8; 32] = Sha256::digest(format!("{user:?}\0{verb}\0{subresource}")).into();
        if let Some(known) = self.decisions.get(&question) {
            return Ok(known);
        }
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some(subresource.to_owned()),
            name: Some(self.node.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: Some(user.uid.clone()).filter(|u| !u.is_empty()),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|SubjectAccessReviewStatus { allowed, .. }| allowed);
        self.decisions.put(question, allowed, if allowed { ALLOWED } else { FORBIDDEN });
        Ok(allowed)
    }
}

/// The API's verb of a method.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The subresources of `nodes` of which one must be allowed, the narrowest first.
fn subresources(path: &str) -> Vec<&'static str> {
    let below =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let narrow =
        [("/pods", "pods"), ("/runningpods", "pods"), ("/healthz", "healthz"), ("/configz", "configz")];
    let mut all: Vec<&str> = narrow.iter().filter(|(root, _)| below(root)).map(|(_, name)| *name).collect();
    let wide =
        [("/stats", "stats"), ("/metrics", "metrics"), ("/logs", "log"), ("/checkpoint", "checkpoint")];
    all.push(wide.iter().find(|(root, _)| below(root)).map_or("proxy", |(_, name)| name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources_of_the_node() {
        for (path, wanted) in [
            ("/stats/summary", &["stats"][..]),
            ("/metrics", &["metrics"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/metricsx", &["proxy"]),
            ("/logs/", &["log"]),
            ("/pods", &["pods", "proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/containerLogs/a/b/c", &["proxy"]),
        ] {
            assert_eq!(subresources(path), wanted, "{path}");
        }
        assert_eq!((verb(&Method::GET), verb(&Method::HEAD), verb(&Method::POST)), ("get", "get", "create"));
    }

    #[test]
    fn answers_are_kept_until_they_are_old() {
        let cache = Cache::new();
        cache.put([1; 32], 1, Duration::from_secs(60));
        cache.put([2; 32], 2, Duration::ZERO);
        assert_eq!((cache.get(&[1; 32]), cache.get(&[2; 32]), cache.get(&[3; 32])), (Some(1), None, None));
    }
}
