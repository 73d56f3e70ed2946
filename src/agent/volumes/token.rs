//! Bound service account tokens: requested from the API, renewed after four fifths of their life.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::Api;
use kube::api::PostParams;

use crate::agent::spec::{name, namespace, uid};

/// No token is used longer than this.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// So far ahead of the clock a token is valid already: half of what the API server allows.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(30);
/// Tokens made together are renewed within this time of each other, not at once.
const JITTER_MS: i64 = 10_000;
/// An API that does not answer must not hold up a pod that runs.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
struct Token {
    value: String,
    issued_at: Timestamp,
    refresh_at: Timestamp,
    expires_at: Timestamp,
}

/// A pod's tokens by audience and life time.
#[derive(Debug, Default)]
pub(super) struct Tokens(BTreeMap<(String, i64), Token>);

impl Tokens {
    /// When the next token has to be renewed.
    pub(super) fn refresh_at(&self) -> Option<Timestamp> {
        self.0.values().map(|t| t.refresh_at).min()
    }

    /// The token of a projection, requested anew when it is due. While the API is away an old token is
    /// used as long as it is valid.
    pub(super) async fn get(
        &mut self,
        client: &kube::Client,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
    ) -> Result<String, String> {
        let seconds = source.expiration_seconds.unwrap_or(3600);
        let key = (source.audience.clone().unwrap_or_default(), seconds);
        let now = Timestamp::now();
        // One that was issued later than now is not valid yet: the clock was set back.
        let usable = |t: &&Token| now < t.refresh_at && now.duration_since(t.issued_at) > -TOLERANCE;
        if let Some(token) = self.0.get(&key).filter(usable) {
            return Ok(token.value.clone());
        }
        let answer = tokio::time::timeout(ANSWER, request(client, pod, source, seconds, now)).await;
        let answer = answer.unwrap_or_else(|_| Err("the API server did not answer in time".into()));
        match answer {
            Ok(token) => {
                let value = token.value.clone();
                self.0.insert(key, token);
                Ok(value)
            }
            Err(error) => match self.0.get_mut(&key).filter(|t| now < t.expires_at) {
                Some(token) => {
                    tracing::warn!(pod = name(pod), %error, "a service account token could not be renewed yet");
                    token.refresh_at = now + SignedDuration::from_secs(30);
                    Ok(token.value.clone())
                }
                None => Err(format!("failed to fetch token: {error}")),
            },
        }
    }
}

async fn request(
    client: &kube::Client,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    seconds: i64,
    now: Timestamp,
) -> Result<Token, String> {
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace(pod));
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(source.audience.iter().filter(|a| !a.is_empty()).cloned().collect()),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(name(pod).into()),
                uid: Some(uid(pod).into()),
            }),
        }),
        ..TokenRequest::default()
    };
    let answer = api.create_token_request(account, &PostParams::default(), &wanted).await;
    let answer = answer.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    })?;
    let status = answer.status.unwrap_or_default();
    let expires_at = status.expiration_timestamp.map_or(now + SignedDuration::from_secs(seconds), |t| t.0);
    let jitter = SignedDuration::from_millis(rand::random_range(0..JITTER_MS));
    let refresh_at = refresh_at(now, expires_at, jitter);
    Ok(Token { value: status.token.unwrap_or_default(), issued_at: now, refresh_at, expires_at })
}

/// After four fifths of its life, daily at least, and a little earlier than that.
fn refresh_at(issued: Timestamp, expires: Timestamp, jitter: SignedDuration) -> Timestamp {
    let life = expires.duration_since(issued);
    let due = (life * 4 / 5).min(MAX_AGE);
    issued + (due - jitter.min(due / 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn renewed_after_four_fifths_but_daily_at_least() {
        let at = |s: i64| Timestamp::from_second(s).expect("in range");
        let none = SignedDuration::ZERO;
        assert_eq!(refresh_at(at(0), at(3600), none), at(2880));
        assert_eq!(refresh_at(at(0), at(365 * 86_400), none), at(86_400));
        assert_eq!(refresh_at(at(0), at(3600), SignedDuration::from_secs(10)), at(2870));
        assert_eq!(refresh_at(at(0), at(50), SignedDuration::from_secs(10)), at(36));
    }

    /// An API that hands out tokens with the numbers of its answers, `limit` of them.
    fn api(limit: usize) -> kube::Client {
        use http_body_util::Full;
        let count = AtomicUsize::new(0);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/ns/serviceaccounts/robot/token");
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let expires = Timestamp::now() + SignedDuration::from_hours(1);
            let mut answer = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
                "spec": {"audiences": []}, "status": {"token": number.to_string(), "expirationTimestamp": expires}});
            let code = if number <= limit { 201 } else { 403 };
            if code == 403 {
                answer = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                    "message": "serviceaccounts \"robot\" is forbidden", "reason": "Forbidden", "code": 403});
            }
            let body = Full::new(bytes::Bytes::from(serde_json::to_vec(&answer).expect("JSON")));
            let answer = http::Response::builder().status(code).body(body).expect("an answer");
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        kube::Client::new(service, "default")
    }

    #[tokio::test]
    async fn a_token_that_is_due_is_replaced_and_kept_while_the_api_refuses() {
        let client = api(3);
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"serviceAccountName": "robot", "containers": []}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let source = ServiceAccountTokenProjection { expiration_seconds: Some(600), ..Default::default() };
        let mut tokens = Tokens::default();
        assert_eq!(tokens.refresh_at(), None);
        for _ in 0..3 {
            assert_eq!(tokens.get(&client, &pod, &source).await.as_deref(), Ok("1"), "asked for once");
        }
        let due = tokens.refresh_at().expect("there is one");
        let in_minutes = due.duration_since(Timestamp::now()).as_mins();
        assert!((46..=48).contains(&in_minutes), "four fifths of what the API gave: {in_minutes}");
        let now = Timestamp::now();
        tokens.0.values_mut().for_each(|t| t.refresh_at = now);
        assert_eq!(tokens.get(&client, &pod, &source).await.as_deref(), Ok("2"));
        let in_an_hour = Timestamp::now() + SignedDuration::from_hours(1);
        tokens.0.values_mut().for_each(|t| t.issued_at = in_an_hour);
        assert_eq!(tokens.get(&client, &pod, &source).await.as_deref(), Ok("3"), "the clock was set back");
        tokens.0.values_mut().for_each(|t| t.refresh_at = now);
        assert_eq!(tokens.get(&client, &pod, &source).await.as_deref(), Ok("3"), "it is valid still");
        tokens.0.values_mut().for_each(|t| (t.refresh_at, t.expires_at) = (now, now));
        let refused = tokens.get(&client, &pod, &source).await.expect_err("refused");
        assert_eq!(refused, "failed to fetch token: serviceaccounts \"robot\" is forbidden");
    }
}
