//! Counts what a namespace holds.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::ApiResource;
use parking_lot::Mutex;
use serde_json::Value;

use crate::api::Quantity;
use crate::api::quantity::Format;
use crate::api::quota::{Amounts, Evaluator, Scope, add, amounts, stops_counting};
use crate::server::controllers::kit::{Error, discovery};

/// What a namespace uses of what a quota limits.
#[derive(Debug, Default)]
pub struct Measured {
    /// All resources that can be measured.
    pub used: Amounts,
    /// After this time the amounts will be others, though nobody writes.
    pub again: Option<Duration>,
}

/// Measures through the API.
pub struct Measure {
    client: Client,
    /// Kinds by plural and group, as they were discovered.
    kinds: Mutex<HashMap<String, Option<ApiResource>>>,
}

impl Measure {
    /// Measures what this client may list.
    pub fn new(client: Client) -> Self {
        Self { client, kinds: Mutex::default() }
    }

    /// What a namespace uses of what a quota limits.
    pub async fn usage(&self, namespace: &str, quota: &Value) -> Result<Measured, Error> {
        let hard = amounts(&quota["spec"]["hard"]);
        let scopes = Scope::all(quota);
        let mut evaluators: BTreeMap<String, Evaluator> = BTreeMap::new();
        for name in hard.keys() {
            if let Some(evaluator) = Evaluator::charging(name) {
                evaluators.insert(evaluator.resource().to_owned(), evaluator);
            }
        }
        let mut measured = Measured::default();
        for evaluator in evaluators.values() {
            let mut tally = Tally::new(evaluator, &scopes);
            match evaluator {
                // Only their number matters.
                Evaluator::Count(_) if !scopes.is_empty() => {}
                Evaluator::Count(resource) => {
                    tally.count(self.count(namespace, resource).await?);
                }
                other => {
                    let objects = self.list(&path("", "v1", namespace, other.resource())).await?;
                    objects["items"].as_array().into_iter().flatten().for_each(|o| tally.take(o));
                }
            }
            for name in hard.keys().filter(|name| evaluator.tracks(name)) {
                let amount = tally.used.get(name).copied().unwrap_or(Quantity::ZERO);
                measured.used.insert(name.clone(), amount);
            }
            measured.again = [measured.again, tally.again].into_iter().flatten().min();
        }
        Ok(measured)
    }

    /// How many objects of a kind there are; none of a kind that is not served.
    async fn count(&self, namespace: &str, resource: &str) -> Result<i64, Error> {
        let path = match resource.split_once('.') {
            None => path("", "v1", namespace, resource),
            Some(_) => match self.kind(resource).await? {
                Some(kind) => path(&kind.group, &kind.version, namespace, &kind.plural),
                None => return Ok(0),
            },
        };
        let first = match self.list(&format!("{path}?limit=1")).await {
            Err(e) if e.is_not_found() => {
                // Served no longer, or in another version.
                self.kinds.lock().remove(resource);
                return Ok(0);
            }
            other => other?,
        };
        let shown = first["items"].as_array().map_or(0, Vec::len);
        let remaining = first["metadata"]["remainingItemCount"].as_i64().unwrap_or_default();
        Ok(i64::try_from(shown).unwrap_or(i64::MAX).saturating_add(remaining))
    }

    async fn kind(&self, resource: &str) -> Result<Option<ApiResource>, Error> {
        if let Some(Some(known)) = self.kinds.lock().get(resource) {
            return Ok(Some(known.clone()));
        }
        let found = discovery::kinds(&self.client).await?.into_iter().find(|k| k.name() == resource);
        let found = found.filter(|kind| kind.namespaced).map(|kind| kind.resource);
        self.kinds.lock().insert(resource.to_owned(), found.clone());
        Ok(found)
    }

    async fn list(&self, path: &str) -> Result<Value, Error> {
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|e| Error::Invalid(format!("{path}: {e}")))?;
        self.client.request(request).await.map_err(Error::api("counting objects for a quota"))
    }
}

fn path(group: &str, version: &str, namespace: &str, plural: &str) -> String {
    let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
    format!("{root}/{version}/namespaces/{namespace}/{plural}")
}

/// The objects of one kind, added up.
struct Tally<'a> {
    evaluator: &'a Evaluator,
    scopes: &'a [Scope],
    now: Timestamp,
    used: Amounts,
    again: Option<Duration>,
}

impl<'a> Tally<'a> {
    fn new(evaluator: &'a Evaluator, scopes: &'a [Scope]) -> Self {
        Self { evaluator, scopes, now: Timestamp::now(), used: Amounts::new(), again: None }
    }

    fn count(&mut self, number: i64) {
        let one = self.evaluator.usage(&Value::Null, self.now);
        let number = Quantity::from_units(number, Format::DecimalSi);
        self.used = one.into_keys().map(|name| (name, number)).collect();
    }

    fn take(&mut self, object: &Value) {
        if !self.evaluator.in_scopes(self.scopes, object) {
            return;
        }
        add(&mut self.used, &self.evaluator.usage(object, self.now));
        if *self.evaluator == Evaluator::Pods
            && let Some(left) = stops_counting(object).map(|at| at.duration_since(self.now))
            && let Ok(left) = Duration::try_from(left)
        {
            let left = left + Duration::from_secs(1);
            self.again = Some(self.again.map_or(left, |earlier| earlier.min(left)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::quota::list;
    use kube::client::Body;
    use serde_json::json;

    fn client() -> Client {
        let service = tower::service_fn(|request: http::Request<Body>| async move {
            let answer = match request.uri().to_string().as_str() {
                "/api/v1/namespaces/n/pods" => json!({"items": [
                    {"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}},
                    {"spec": {"containers": [{}]}, "metadata": {
                        "deletionTimestamp": "2999-01-01T00:00:00Z", "deletionGracePeriodSeconds": 1}},
                    {"status": {"phase": "Failed"}},
                ]}),
                "/api/v1/namespaces/n/secrets?limit=1" => {
                    json!({"items": [{}], "metadata": {"remainingItemCount": 6}})
                }
                other => panic!("{other} is not asked for"),
            };
            Ok::<_, std::io::Error>(http::Response::new(Body::from(answer.to_string().into_bytes())))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn what_a_quota_limits_is_added_up() {
        let quota = json!({"spec": {"hard": {"pods": "9", "requests.cpu": "9", "limits.cpu": "1", "count/pods": "9",
            "secrets": "9", "unknown": "1"}}});
        let measured = Measure::new(client()).usage("n", &quota).await.expect("measured");
        assert_eq!(
            list(&measured.used),
            json!({"pods": "2", "requests.cpu": "1", "limits.cpu": "0", "count/pods": "3", "secrets": "7"})
        );
        assert!(measured.again.is_some());
        let scoped = json!({"spec": {"hard": {"pods": "9", "secrets": "1"}, "scopes": ["NotBestEffort"]}});
        let measured = Measure::new(client()).usage("n", &scoped).await.expect("measured");
        assert_eq!(list(&measured.used), json!({"pods": "1", "secrets": "0"}));
    }
}
