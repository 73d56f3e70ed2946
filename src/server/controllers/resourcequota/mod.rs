//! ResourceQuotas: measures what new and changed quotas limit. Afterwards admission keeps `status.used`
//! with every write; measured again is what time alone changes (pods that should be gone by now), and
//! everything at start and rarely, in case that the ledger was written by hand.

mod measure;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::kit::informer::{Change, Informer, Key};
use super::kit::pod::Pod;
use super::kit::{Context, Error, Next, Queue, meta, patch};
use crate::api::quota::list;
use crate::supervisor::TaskError;
use measure::Measure;

const WORKERS: usize = 5;
/// A quota is measured again after this time, though nothing says that it must.
const RESYNC: Duration = Duration::from_secs(3600);

/// Runs the controller.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let quotas = cx.informers.get::<ResourceQuota>();
    let namespaces = cx.informers.get::<Namespace>();
    let pods = cx.informers.get::<Pod>();
    let queue: Queue<Key> = Queue::new("resourcequota");
    let fresh = queue.clone();
    let _quotas = quotas.subscribe(move |change| {
        if needs_measuring(change) {
            fresh.add(Key::of(change.latest().as_ref()));
        }
    });
    quotas.synced().await;
    let (known, delayed) = (Arc::clone(&quotas), queue.clone());
    let _pods = pods.subscribe(move |change| {
        if let Some(delay) = change.new.as_ref().and_then(|pod| lost_after(&pod.metadata)) {
            let namespace = meta::namespace(&change.latest().metadata);
            let here = known.in_namespace(namespace);
            here.iter().for_each(|quota| delayed.add_after(Key::of(quota.as_ref()), delay));
        }
    });
    namespaces.synced().await;
    let measure = Arc::new(Measure::new(cx.client.clone()));
    let sync = |key: Key| {
        let (cx, quotas, namespaces) = (cx.clone(), Arc::clone(&quotas), Arc::clone(&namespaces));
        let measure = Arc::clone(&measure);
        async move {
            let going =
                namespaces.named(&key.namespace).is_none_or(|n| n.metadata.deletion_timestamp.is_some());
            let Some(quota) = quotas.get(&key).filter(|_| !going) else { return Ok(Next::Done) };
            sync(&cx, &quotas, &measure, &quota).await
        }
    };
    queue.run(WORKERS, stop, sync).await;
    Ok(())
}

/// A quota is new, limits something else than before, or is not measured.
fn needs_measuring(change: &Change<ResourceQuota>) -> bool {
    let hard = |quota: &ResourceQuota| quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
    match (&change.old, &change.new) {
        (None, Some(_)) => true,
        (Some(_), Some(new)) => {
            hard(new) != new.status.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default()
        }
        _ => false,
    }
}

/// After which time a pod that is being deleted counts as lost: twice its grace period.
fn lost_after(pod: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<Duration> {
    let grace = Duration::from_secs(u64::try_from(pod.deletion_grace_period_seconds?).ok()?);
    let left = pod.deletion_timestamp.as_ref()?.0.duration_since(Timestamp::now());
    Some(Duration::try_from(left).unwrap_or_default() + grace + Duration::from_secs(1))
}

async fn sync(
    cx: &Context,
    quotas: &Informer<ResourceQuota>,
    measure: &Measure,
    quota: &ResourceQuota,
) -> Result<Next, Error> {
    // What is listed is newer than the quota; what comes after is charged to a newer quota, and the
    // write below fails.
    let value = serde_json::to_value(quota).map_err(|e| Error::Invalid(e.to_string()))?;
    let measured = measure.usage(meta::namespace(&quota.metadata), &value).await?;
    let next = Next::After(measured.again.map_or(RESYNC, |again| again.min(RESYNC)));
    let status = json!({"hard": value["spec"]["hard"], "used": list(&measured.used)});
    if same(&status, &value["status"]) {
        return Ok(next);
    }
    let mut new = quota.clone();
    new.status = serde_json::from_value(status).map_err(|e| Error::Invalid(e.to_string()))?;
    let api: Api<ResourceQuota> = Api::namespaced(cx.client.clone(), meta::namespace(&quota.metadata));
    let Some(written) = patch::write(&api, quota, &new, Some("status")).await? else { return Ok(next) };
    if value["spec"]["hard"] == value["status"]["hard"] {
        return Ok(next);
    }
    // Until this write nothing was charged, so what was made during the measuring may be missing.
    let (key, reached) = (Key::of(quota), version(&written));
    quotas.caught_up(|all| all.get(&key).is_none_or(|q| version(&q) >= reached)).await;
    Ok(Next::After(Duration::from_millis(1)))
}

fn version(quota: &ResourceQuota) -> u64 {
    quota.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

/// Whether two statuses hold the same amounts.
fn same(a: &Value, b: &Value) -> bool {
    ["hard", "used"]
        .iter()
        .all(|field| crate::api::quota::amounts(&a[field]) == crate::api::quota::amounts(&b[field]))
        && b["used"].is_object()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(hard: Value, known: Value) -> Arc<ResourceQuota> {
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": known}});
        Arc::new(serde_json::from_value(quota).expect("a quota"))
    }

    #[test]
    fn only_what_is_new_or_changed_is_measured() {
        let (pods, more) = (json!({"pods": "1"}), json!({"pods": "2"}));
        let fresh = Change { old: None, new: Some(quota(pods.clone(), pods.clone())) };
        assert!(needs_measuring(&fresh));
        let change = |hard: &Value| Change {
            old: Some(quota(pods.clone(), pods.clone())),
            new: Some(quota(hard.clone(), pods.clone())),
        };
        assert!(needs_measuring(&change(&more)));
        assert!(!needs_measuring(&change(&pods)));
        assert!(!needs_measuring(&Change { old: Some(quota(pods.clone(), pods)), new: None }));
    }

    #[test]
    fn statuses_are_compared_by_amount() {
        let status = |used: &str| json!({"hard": {"cpu": "1"}, "used": {"cpu": used}});
        assert!(same(&status("1000m"), &status("1")));
        assert!(!same(&status("1"), &status("2")));
        assert!(!same(&json!({"hard": {}, "used": {}}), &Value::Null));
    }

    #[test]
    fn a_deleted_pod_is_lost_after_twice_its_grace() {
        let mut meta = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta::default();
        assert_eq!(lost_after(&meta), None);
        meta.deletion_grace_period_seconds = Some(30);
        meta.deletion_timestamp = Some(meta::now());
        let delay = lost_after(&meta).expect("a time");
        assert!(delay > Duration::from_secs(29) && delay <= Duration::from_secs(31), "{delay:?}");
    }
}
