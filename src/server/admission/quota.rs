//! ResourceQuota: what a namespace may hold. <https://kubernetes.io/docs/concepts/policy/resource-quotas/>
//!
//! A quota's `status.used` is a ledger that every write keeps: what a write costs, or gives back, is
//! committed in the same transaction as the object itself, so nothing is reserved that a failed write
//! would leak, and nobody sees an object that is not charged. The quota is compared and swapped;
//! writers of one process take turns by namespace instead of losing against each other. New and changed
//! quotas are measured by their controller.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::{Attributes, Operation};
use crate::api::quota::{Amounts, Evaluator, Scope, amounts, list};
use crate::api::{Object, Quantity, Status};

/// The kind, as its plural.
pub const QUOTAS: &str = "resourcequotas";

/// Whose turn it is to write in a namespace that has quotas.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<String, Weak<AsyncMutex<()>>>>);

impl Turns {
    /// Waits for the turn, which ends with the guard.
    pub async fn take(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock();
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(namespace).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::new(AsyncMutex::new(()));
                turns.insert(namespace.to_owned(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

/// A quota as it will be once the write is committed.
#[derive(Debug)]
pub struct Charge {
    /// Its name.
    pub name: String,
    /// The revision it was read at.
    pub revision: u64,
    /// It, with its new `status.used`.
    pub quota: Value,
}

/// Whether a write must take its turn: its namespace has quotas, or it is about one.
pub fn concerns(attributes: &Attributes<'_>) -> bool {
    let Some(namespace) = attributes.namespace else { return false };
    let resource = attributes.resource.stored_name();
    resource == QUOTAS
        || (Evaluator::of(&resource).is_some()
            && !attributes.reader.list(QUOTAS, Some(namespace)).is_empty()
            // Nothing is made there any more, and all that is there goes away.
            && attributes.reader.get("namespaces", None, namespace).is_none_or(|n| n.deletion_timestamp().is_none()))
}

/// Whether a write is a change that costs nothing, as most reports of a status: it needs no turn. One of a
/// quota does, so that nobody is charged to the old one meanwhile.
pub fn is_free(attributes: &Attributes<'_>) -> bool {
    let changed = attributes.object.is_some() && attributes.old.is_some();
    changed
        && attributes.resource.stored_name() != QUOTAS
        && charges(attributes).is_ok_and(|charges| charges.is_empty())
}

/// What a write changes in the quotas of its namespace. An object that is `None` will be gone.
///
/// # Errors
/// 403 if a quota would be exceeded, is not measured yet, or limits what the object does not state.
pub fn charges(attributes: &Attributes<'_>) -> Result<Vec<Charge>, Status> {
    let resource = attributes.resource.stored_name();
    let Some(evaluator) = Evaluator::of(&resource).filter(|_| attributes.namespace.is_some()) else {
        return Ok(Vec::new());
    };
    let own_name = attributes.name;
    let quotas = attributes.reader.list(QUOTAS, attributes.namespace);
    // A quota is not charged to itself: its controller counts it.
    let quotas = quotas.iter().filter(|q| resource != QUOTAS || q.name() != own_name);
    let write = Write::new(attributes, evaluator);
    quotas.filter_map(|quota| write.charge(quota).transpose()).collect()
}

/// A write, as one evaluator sees it.
struct Write<'a> {
    attributes: &'a Attributes<'a>,
    evaluator: Evaluator,
    /// Upstream's plugin would look at it: the quota is enforced, not only kept.
    enforced: bool,
    before: Option<Amounts>,
    after: Option<Amounts>,
}

impl<'a> Write<'a> {
    fn new(attributes: &'a Attributes<'a>, evaluator: Evaluator) -> Self {
        let now = Timestamp::now();
        let enforced = handles(&evaluator, attributes);
        let before = attributes.old.map(|old| evaluator.usage(old, now));
        let after = attributes.object.as_deref().map(|new| evaluator.usage(new, now));
        Self { attributes, evaluator, enforced, before, after }
    }

    fn charge(&self, quota: &Object) -> Result<Option<Charge>, Status> {
        let mut value = quota.value();
        let hard = amounts(&value["status"]["hard"]);
        let tracked: BTreeSet<&str> =
            hard.keys().map(String::as_str).filter(|name| self.evaluator.tracks(name)).collect();
        if tracked.is_empty() {
            return Ok(None);
        }
        let scopes = Scope::all(&value);
        let old = self.attributes.old.filter(|o| self.evaluator.in_scopes(&scopes, o));
        let new = self.attributes.object.as_deref().filter(|o| self.evaluator.in_scopes(&scopes, o));
        let used = amounts(&value["status"]["used"]);
        let enforced = new.filter(|_| self.enforced);
        if let Some(object) = enforced {
            self.check_stated(quota.name(), &tracked, &used, object)?;
        }
        let before = self.before.as_ref().filter(|_| old.is_some());
        let after = self.after.as_ref().filter(|_| new.is_some());
        let delta = difference(after, before, &tracked);
        if delta.is_empty() {
            return Ok(None);
        }
        let new_used = sum(&used, &delta);
        if enforced.is_some() && self.attributes.subresource != Some("status") {
            self.check_limits(quota.name(), &delta, &used, &new_used, &hard)?;
        }
        value["status"]["used"] = list(&new_used);
        Ok(Some(Charge { name: quota.name().to_owned(), revision: quota.revision(), quota: value }))
    }

    fn check_stated(
        &self,
        quota: &str,
        tracked: &BTreeSet<&str>,
        used: &Amounts,
        object: &Value,
    ) -> Result<(), Status> {
        if let Some(unspecified) = self.evaluator.unspecified(tracked, object) {
            let why = format!("failed quota: {quota}: must specify {unspecified}");
            return Err(self.attributes.forbidden(why));
        }
        if tracked.iter().all(|name| used.contains_key(*name)) {
            return Ok(());
        }
        let names: Vec<&str> = tracked.iter().copied().collect();
        let why = format!("status unknown for quota: {quota}, resources: {}", names.join(","));
        Err(self.attributes.forbidden(why))
    }

    fn check_limits(
        &self,
        quota: &str,
        delta: &Amounts,
        used: &Amounts,
        new_used: &Amounts,
        hard: &Amounts,
    ) -> Result<(), Status> {
        let negative = self.after.iter().flatten().filter(|(_, amount)| amount.is_negative());
        let negative: Vec<&str> = negative.map(|(name, _)| name.as_str()).collect();
        if !negative.is_empty() {
            let why = format!("quota usage is negative for resource(s): {}", negative.join(","));
            return Err(self.attributes.forbidden(why));
        }
        let risen = delta.iter().filter(|(_, amount)| **amount > Quantity::ZERO).map(|(name, _)| name);
        let exceeded: Vec<&String> =
            risen.filter(|name| hard.get(*name).is_some_and(|limit| new_used[*name] > *limit)).collect();
        if exceeded.is_empty() {
            return Ok(());
        }
        let print = |from: &Amounts| {
            let some = exceeded.iter().filter_map(|name| Some(format!("{name}={}", from.get(*name)?)));
            some.collect::<Vec<_>>().join(",")
        };
        Err(self.attributes.forbidden(format!(
            "exceeded quota: {quota}, requested: {}, used: {}, limited: {}",
            print(delta),
            print(used),
            print(hard)
        )))
    }
}

/// Whether upstream's evaluator handles such a request.
fn handles(evaluator: &Evaluator, attributes: &Attributes<'_>) -> bool {
    let (created, updated) =
        (attributes.operation == Operation::Create, attributes.operation == Operation::Update);
    match (evaluator, attributes.subresource) {
        (Evaluator::Pods, Some("resize")) | (Evaluator::Claims, Some("status")) => updated,
        (Evaluator::Pods | Evaluator::Count(_), None) => created,
        (Evaluator::Services, _) | (Evaluator::Claims, None) => created || updated,
        _ => false,
    }
}

/// What changes of the tracked amounts; those that stay are left out.
fn difference(after: Option<&Amounts>, before: Option<&Amounts>, tracked: &BTreeSet<&str>) -> Amounts {
    let amount = |from: Option<&Amounts>, name: &str| {
        from.and_then(|amounts| amounts.get(name)).copied().unwrap_or(Quantity::ZERO)
    };
    let changes = tracked.iter().map(|name| {
        let change = amount(after, name).minus(amount(before, name));
        ((*name).to_owned(), change)
    });
    changes.filter(|(_, change)| !change.is_zero()).collect()
}

/// The new ledger: never less than nothing.
fn sum(used: &Amounts, delta: &Amounts) -> Amounts {
    let mut sum = used.clone();
    crate::api::quota::add(&mut sum, delta);
    for amount in sum.values_mut().filter(|a| a.is_negative()) {
        *amount = Quantity::ZERO;
    }
    sum
}

impl Charge {
    /// The quota, as it is to be stored.
    pub fn into_value(mut self) -> Value {
        if self.quota["status"].is_null() {
            self.quota["status"] = json!({});
        }
        self.quota
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::registry::Resource;

    fn cluster(hard: Value, used: Value, spec: Value) -> Fake {
        let fake = Fake::default();
        fake.put(QUOTAS, json!({"metadata": {"name": "q", "namespace": "a"}, "spec": spec, "status": {"hard": hard, "used": used}}));
        fake
    }

    /// The new `used` of the quota, if it changes.
    fn charged(request: &Request<'_>, fake: &Fake, object: Option<Value>) -> Result<Option<Value>, String> {
        let mut object = object;
        let name = object
            .as_ref()
            .or(request.old.as_ref())
            .and_then(|o| o["metadata"]["name"].as_str())
            .unwrap_or_default()
            .to_owned();
        let attributes = Attributes {
            operation: request.operation,
            resource: &request.resource,
            subresource: request.subresource,
            namespace: Some("a"),
            name: &name,
            user: &request.user,
            dry_run: false,
            object: object.as_mut(),
            old: request.old.as_ref(),
            reader: fake,
            warnings: Vec::new(),
            notices: Vec::new(),
            asked: None,
        };
        let charges = charges(&attributes).map_err(|status| status.message)?;
        Ok(charges.into_iter().next().map(|c| c.into_value()["status"]["used"].clone()))
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn a_new_pod_is_charged_or_refused() {
        let create = Request::create("Pod", "pods");
        let fake = cluster(
            json!({"pods": "2", "requests.cpu": "1"}),
            json!({"pods": "1", "requests.cpu": "500m"}),
            json!({}),
        );
        let asking = |cpu: &str| Some(pod(json!({"requests": {"cpu": cpu}})));
        assert_eq!(
            charged(&create, &fake, asking("500m")).unwrap(),
            Some(json!({"pods": "2", "requests.cpu": "1"}))
        );
        assert_eq!(
            charged(&create, &fake, asking("600m")).unwrap_err(),
            "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, \
             limited: requests.cpu=1"
        );
        assert_eq!(
            charged(&create, &fake, Some(pod(json!({})))).unwrap_err(),
            "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c"
        );
        let full = cluster(json!({"pods": "2"}), json!({"pods": "2"}), json!({}));
        assert_eq!(
            charged(&create, &full, Some(pod(json!({})))).unwrap_err(),
            "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"
        );
    }

    #[test]
    fn an_unmeasured_quota_refuses_and_an_unread_one_does_not_matter() {
        let create = Request::create("Pod", "pods");
        let fake = cluster(json!({"pods": "2"}), json!({}), json!({}));
        assert_eq!(
            charged(&create, &fake, Some(pod(json!({})))).unwrap_err(),
            "pods \"p\" is forbidden: status unknown for quota: q, resources: pods"
        );
        let fresh = cluster(json!({}), json!({}), json!({"hard": {"pods": "0"}}));
        assert_eq!(charged(&create, &fresh, Some(pod(json!({})))).unwrap(), None);
    }

    #[test]
    fn what_goes_is_given_back() {
        let fake = cluster(
            json!({"pods": "2", "count/pods": "9"}),
            json!({"pods": "2", "count/pods": "1"}),
            json!({}),
        );
        let mut request = Request {
            operation: Operation::Delete,
            old: Some(pod(json!({}))),
            ..Request::create("Pod", "pods")
        };
        assert_eq!(charged(&request, &fake, None).unwrap(), Some(json!({"pods": "1", "count/pods": "0"})));
        // A pod that ends frees its place, though it is full; it is still counted.
        request.operation = Operation::Update;
        request.subresource = Some("status");
        let mut ended = pod(json!({}));
        ended["status"]["phase"] = json!("Succeeded");
        assert_eq!(
            charged(&request, &fake, Some(ended.clone())).unwrap(),
            Some(json!({"pods": "1", "count/pods": "1"}))
        );
        request.old = Some(ended.clone());
        assert_eq!(charged(&request, &fake, Some(ended)).unwrap(), None);
    }

    #[test]
    fn scopes_decide_which_pods_count() {
        let create = Request::create("Pod", "pods");
        let fake = cluster(json!({"pods": "0"}), json!({"pods": "0"}), json!({"scopes": ["BestEffort"]}));
        assert!(charged(&create, &fake, Some(pod(json!({})))).is_err());
        assert_eq!(charged(&create, &fake, Some(pod(json!({"requests": {"cpu": "1"}})))).unwrap(), None);
    }

    #[test]
    fn a_service_is_charged_for_what_changes() {
        let service = |kind: &str| json!({"metadata": {"name": "s", "namespace": "a"}, "spec": {"type": kind, "ports": [{}]}});
        let update = Request {
            operation: Operation::Update,
            old: Some(service("ClusterIP")),
            ..Request::create("Service", "services")
        };
        let fake = cluster(
            json!({"services": "1", "services.nodeports": "0"}),
            json!({"services": "1", "services.nodeports": "0"}),
            json!({}),
        );
        assert_eq!(charged(&update, &fake, Some(service("ClusterIP"))).unwrap(), None);
        assert_eq!(
            charged(&update, &fake, Some(service("NodePort"))).unwrap_err(),
            "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=0, \
             limited: services.nodeports=0"
        );
    }

    #[test]
    fn any_kind_is_counted_and_a_quota_not_to_itself() {
        let widget = json!({"metadata": {"name": "w", "namespace": "a"}});
        let fake = cluster(
            json!({"count/widgets.example.com": "1"}),
            json!({"count/widgets.example.com": "1"}),
            json!({}),
        );
        let create = Request::of("example.com", "Widget", "widgets");
        assert!(charged(&create, &fake, Some(widget)).unwrap_err().contains("count/widgets.example.com=1"));
        let fake = cluster(json!({QUOTAS: "1"}), json!({QUOTAS: "1"}), json!({}));
        let of = |name: &str| Some(json!({"metadata": {"name": name, "namespace": "a"}}));
        let resource = Resource::new("", "v1", "ResourceQuota", QUOTAS);
        let mut request = Request { resource, ..Request::create("Pod", "pods") };
        assert!(charged(&request, &fake, of("other")).unwrap_err().contains("exceeded quota"));
        (request.operation, request.old) = (Operation::Delete, of("q"));
        assert_eq!(charged(&request, &fake, None).unwrap(), None);
    }
}
