//! Taint-based eviction: pods leave nodes with taints of effect NoExecute, at once or after the time
//! they tolerate them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::server::controllers::kit::informer::{Change, Informer, Key};
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Context, Error, Next, Queue, ignore_not_found, meta, tolerations};
use crate::supervisor::TaskError;

const WORKERS: usize = 8;

struct Evictions {
    cx: Context,
    nodes: Arc<Informer<Node>>,
    pods: Arc<Informer<Pod>>,
    /// Since when a pod tolerates its node's taints.
    since: Mutex<HashMap<Key, Instant>>,
    queue: Queue<Key>,
}

/// Runs the controller that evicts pods from tainted nodes.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(Evictions {
        nodes: cx.informers.get(),
        pods: cx.informers.get(),
        since: Mutex::default(),
        queue: Queue::new("taint-eviction"),
        cx,
    });
    let (a, b) = (Arc::clone(&this), Arc::clone(&this));
    let _nodes = this.nodes.subscribe(move |change| a.node_changed(change));
    let _pods = this.pods.subscribe(move |change| b.pod_changed(change));
    this.nodes.synced().await;
    this.pods.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

fn expelling(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    taints.into_iter().filter(|t| t.effect == "NoExecute").collect()
}

/// How long a pod may stay: `None` for ever, zero not at all.
fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Option<Duration> {
    let mut shortest: Option<u64> = None;
    for taint in taints {
        let used: Vec<_> = tolerations.iter().filter(|t| tolerations::tolerates(t, taint)).collect();
        if used.is_empty() {
            return Some(Duration::ZERO);
        }
        for seconds in used.iter().filter_map(|t| t.toleration_seconds) {
            let seconds = u64::try_from(seconds).unwrap_or_default();
            shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)));
        }
    }
    shortest.map(Duration::from_secs)
}

impl Evictions {
    fn node_changed(&self, change: &Change<Node>) {
        let taints = |n: &Option<Arc<Node>>| n.as_deref().map(expelling).unwrap_or_default();
        if taints(&change.old) == taints(&change.new) {
            return;
        }
        let name = meta::name(&change.latest().metadata);
        for pod in self.pods.list().iter().filter(|p| p.node() == Some(name)) {
            self.queue.add(Key::of(pod.as_ref()));
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let key = Key::of(pod.as_ref());
        if change.deleted() {
            self.since.lock().remove(&key);
        } else if pod.node().and_then(|n| self.nodes.named(n)).is_some_and(|n| !expelling(&n).is_empty()) {
            self.queue.add(key);
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(pod) = self.pods.get(&key).filter(|p| p.is_active()) else {
            self.since.lock().remove(&key);
            return Ok(Next::Done);
        };
        let taints = pod.node().and_then(|n| self.nodes.named(n)).map(|n| expelling(&n)).unwrap_or_default();
        let cancelled = || {
            if self.since.lock().remove(&key).is_some() {
                let message = format!("Cancelling deletion of Pod {key}");
                self.cx.recorder.normal(pod.as_ref(), "TaintManagerEviction", message);
            }
            Ok(Next::Done)
        };
        if taints.is_empty() {
            return cancelled();
        }
        match stay(&taints, &pod.spec.tolerations) {
            None => cancelled(),
            Some(stay) => {
                let since = *self.since.lock().entry(key.clone()).or_insert_with(Instant::now);
                let left = stay.saturating_sub(since.elapsed());
                if !left.is_zero() {
                    return Ok(Next::After(left));
                }
                self.evict(&key, &pod).await?;
                self.since.lock().remove(&key);
                Ok(Next::Done)
            }
        }
    }

    async fn evict(&self, key: &Key, pod: &Pod) -> Result<(), Error> {
        self.cx.recorder.normal(pod, "TaintManagerEviction", format!("Marking for deletion Pod {key}"));
        let api: Api<Pod> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": meta::now()});
        let body = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let marked = api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&body)).await;
        ignore_not_found(marked.map(|_| ()).map_err(Error::api("marking an evicted pod")))?;
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..Default::default()
        };
        let deleted = api.delete(&key.name, &params).await;
        ignore_not_found(deleted.map(|_| ()).map_err(Error::api("evicting a pod")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str) -> Taint {
        Taint { key: key.into(), effect: "NoExecute".into(), ..Default::default() }
    }

    fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Default::default()
        }
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates_all_taints() {
        let both = [taint("a"), taint("b")];
        assert_eq!(stay(&both, &[]), Some(Duration::ZERO));
        assert_eq!(stay(&both, &[toleration("a", None)]), Some(Duration::ZERO));
        assert_eq!(stay(&both, &[toleration("a", None), toleration("b", None)]), None);
        let timed = [toleration("a", Some(300)), toleration("b", Some(60))];
        assert_eq!(stay(&both, &timed), Some(Duration::from_secs(60)));
        assert_eq!(stay(&both, &[toleration("a", Some(-1)), toleration("b", None)]), Some(Duration::ZERO));
        assert_eq!(stay(&[], &[]), None);
    }
}
