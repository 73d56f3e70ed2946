//! Making and deleting the pods of a controller, with its events and expectations.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod as FullPod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::informer::{Change, Key};
use super::meta::{self, Matcher};
use super::pod::Pod;
use super::{Context, Error, ignore_not_found};

/// Expectations not met by then are given up: an event was lost.
const EXPECTATION_TIMEOUT: Duration = Duration::from_secs(300);

/// The pod that a template describes, owned by `owner`.
pub fn from_template(
    template: Option<&PodTemplateSpec>,
    namespace: &str,
    prefix: &str,
    owner: OwnerReference,
) -> FullPod {
    let template = template.cloned().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    FullPod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            generate_name: Some(prefix.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// Creates a pod for `owner` and says so in an event. Gives the pod's name.
pub async fn create<K: Resource<DynamicType = ()>>(
    cx: &Context,
    owner: &K,
    pod: &FullPod,
) -> Result<String, Error> {
    let namespace = meta::namespace(&pod.metadata);
    let api: Api<FullPod> = Api::namespaced(cx.client.clone(), namespace);
    match api.create(&PostParams::default(), pod).await.map_err(Error::api("creating a pod")) {
        Ok(pod) => {
            let name = meta::name(&pod.metadata).to_owned();
            cx.recorder.normal(owner, "SuccessfulCreate", format!("Created pod: {name}"));
            Ok(name)
        }
        Err(error) => {
            if !error.is_namespace_terminating() {
                cx.recorder.warning(owner, "FailedCreate", format!("Error creating: {}", error.message()));
            }
            Err(error)
        }
    }
}

/// Deletes a pod for `owner` and says so in an event. A pod that is gone already is no error.
pub async fn delete<K: Resource<DynamicType = ()>>(cx: &Context, owner: &K, pod: &Pod) -> Result<(), Error> {
    let name = meta::name(&pod.metadata);
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), meta::namespace(&pod.metadata));
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..Default::default()
    };
    match api.delete(name, &params).await.map(|_| ()).map_err(Error::api("deleting a pod")) {
        Ok(()) => {
            cx.recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {name}"));
            Ok(())
        }
        Err(error) => {
            if !error.is_not_found() {
                cx.recorder.warning(owner, "FailedDelete", format!("Error deleting: {}", error.message()));
            }
            Err(error)
        }
    }
}

/// Creates `count` pods, one, then two, then four at once and so on, and stops at the first batch
/// with a failure: a quota that refuses one pod is not asked a thousand times. `made` is told of
/// each success. Gives the first error and how many were not tried or failed.
pub async fn slow_start<F, Fut>(count: usize, create: F) -> (usize, Result<(), Error>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    let mut done = 0;
    let mut batch = count.min(1);
    while batch > 0 {
        let results = join_all((done..done + batch).map(&create)).await;
        let failed = results.iter().filter(|r| r.is_err()).count();
        done += batch - failed;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            return (done, Err(error));
        }
        batch = (count - done).min(batch * 2);
    }
    (done, Ok(()))
}

/// The pods of `owner`: those it controls, and orphans its selector matches, which are adopted.
/// Pods it controls that no longer match are released.
pub async fn claim<K>(cx: &Context, owner: &K, matcher: &Matcher) -> Result<Vec<Arc<Pod>>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let informer = cx.informers.get::<Pod>();
    let owner_meta = owner.meta();
    let (owned, strangers) =
        (informer.controlled_by(meta::uid(owner_meta)), informer.in_namespace(meta::namespace(owner_meta)));
    let mut claimed = Vec::new();
    let deleting = owner_meta.deletion_timestamp.is_some();
    for pod in owned {
        if matcher.matches(meta::labels(&pod.metadata)) {
            claimed.push(pod);
        } else if !deleting {
            ignore_not_found(release(cx, &pod, meta::uid(owner_meta)).await)?;
        }
    }
    if deleting {
        return Ok(claimed);
    }
    let mut checked = false;
    for pod in strangers {
        let orphan = meta::controller_of(&pod.metadata).is_none();
        if !orphan || pod.is_terminating() || !matcher.matches(meta::labels(&pod.metadata)) {
            continue;
        }
        // The cache may be behind: adopt only for an owner that still exists and is not on its way out.
        if !checked {
            let api: Api<K> = Api::namespaced(cx.client.clone(), meta::namespace(owner_meta));
            let now = api.get_opt(meta::name(owner_meta)).await.map_err(Error::api("reading an owner"))?;
            if now.is_none_or(|o| o.meta().uid != owner_meta.uid || o.meta().deletion_timestamp.is_some()) {
                return Err(Error::Unfinished("the owner is gone or being deleted".into()));
            }
            checked = true;
        }
        match adopt(cx, &pod, meta::controller_ref(owner)).await {
            Ok(()) => claimed.push(pod),
            Err(e) if e.is_not_found() || e.code() == 422 => {}
            Err(e) => return Err(e),
        }
    }
    Ok(claimed)
}

async fn adopt(cx: &Context, pod: &Pod, owner: OwnerReference) -> Result<(), Error> {
    let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
    owners.push(owner);
    let patch = json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": owners}});
    patch_pod(cx, pod, &patch, "adopting a pod").await
}

async fn release(cx: &Context, pod: &Pod, owner_uid: &str) -> Result<(), Error> {
    let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
    owners.retain(|o| o.uid != owner_uid);
    let patch = json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": owners}});
    patch_pod(cx, pod, &patch, "releasing a pod").await
}

async fn patch_pod(
    cx: &Context,
    pod: &Pod,
    patch: &serde_json::Value,
    doing: &'static str,
) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), meta::namespace(&pod.metadata));
    let params = PatchParams::default();
    api.patch(meta::name(&pod.metadata), &params, &Patch::Merge(patch))
        .await
        .map(|_| ())
        .map_err(Error::api(doing))
}

#[derive(Default)]
struct Expected {
    creations: usize,
    deletions: HashSet<String>,
    since: Option<Instant>,
}

/// What a controller has asked for and not seen yet. Until it is seen the cache is behind, and
/// counting pods in it would make the controller create or delete them twice.
#[derive(Clone, Default)]
pub struct Expectations(Arc<Mutex<HashMap<Key, Expected>>>);

impl Expectations {
    /// `count` creations are under way.
    pub fn expect_creations(&self, key: &Key, count: usize) {
        let mut all = self.0.lock();
        let e = all.entry(key.clone()).or_default();
        e.creations += count;
        e.since = Some(Instant::now());
    }

    /// The deletion of these pods (by uid) is under way.
    pub fn expect_deletions(&self, key: &Key, uids: impl IntoIterator<Item = String>) {
        let mut all = self.0.lock();
        let e = all.entry(key.clone()).or_default();
        e.deletions.extend(uids);
        e.since = Some(Instant::now());
    }

    /// `count` creations were seen, or failed.
    pub fn created(&self, key: &Key, count: usize) {
        if let Some(e) = self.0.lock().get_mut(key) {
            e.creations = e.creations.saturating_sub(count);
        }
    }

    /// A deletion was seen, or failed.
    pub fn deleted(&self, key: &Key, uid: &str) {
        if let Some(e) = self.0.lock().get_mut(key) {
            e.deletions.remove(uid);
        }
    }

    /// Whether the cache shows everything that was asked for.
    pub fn satisfied(&self, key: &Key) -> bool {
        let all = self.0.lock();
        let Some(e) = all.get(key) else { return true };
        (e.creations == 0 && e.deletions.is_empty())
            || e.since.is_none_or(|s| s.elapsed() > EXPECTATION_TIMEOUT)
    }

    /// The owner is gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }

    /// Takes note of a pod's change on behalf of its owner `key`.
    pub fn observe(&self, key: &Key, change: &Change<Pod>) {
        let pod = change.latest();
        if change.deleted() || pod.is_terminating() {
            self.deleted(key, meta::uid(&pod.metadata));
        }
        if change.old.is_none() && !pod.is_terminating() {
            self.created(key, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_start_doubles_and_stops_at_the_first_failure() {
        let batches = Mutex::new(Vec::new());
        let (made, result) = slow_start(10, |i| {
            batches.lock().push(i);
            async move { if i < 5 { Ok(()) } else { Err(Error::Invalid("quota".into())) } }
        })
        .await;
        assert!(result.is_err());
        // 1, 2, 4: of the third batch (3..7) two fail, and the rest is not tried.
        assert_eq!(made, 5);
        assert_eq!(batches.lock().len(), 7);
        let (made, result) = slow_start(0, |_| async { Ok(()) }).await;
        assert!(result.is_ok() && made == 0);
        let (made, _) = slow_start(9, |_| async { Ok(()) }).await;
        assert_eq!(made, 9);
    }

    #[tokio::test(start_paused = true)]
    async fn expectations_are_met_by_what_is_seen_or_given_up() {
        let e = Expectations::default();
        let key = Key::new("n", "rs");
        assert!(e.satisfied(&key));
        e.expect_creations(&key, 2);
        e.expect_deletions(&key, ["u".to_owned()]);
        e.created(&key, 1);
        assert!(!e.satisfied(&key));
        e.created(&key, 1);
        e.deleted(&key, "other");
        assert!(!e.satisfied(&key));
        e.deleted(&key, "u");
        assert!(e.satisfied(&key));
        e.expect_creations(&key, 1);
        tokio::time::advance(EXPECTATION_TIMEOUT + Duration::from_secs(1)).await;
        assert!(e.satisfied(&key));
    }

    #[test]
    fn a_pod_takes_labels_annotations_and_spec_from_its_template() {
        let template: PodTemplateSpec = serde_json::from_value(json!({
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"containers": [{"name": "x"}]}
        }))
        .expect("a template");
        let pod = from_template(Some(&template), "ns", "web-", OwnerReference::default());
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
        assert_eq!(meta::labels(&pod.metadata)["a"], "b");
        assert_eq!(pod.spec.map(|s| s.containers.len()), Some(1));
    }
}
