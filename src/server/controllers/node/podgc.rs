//! Pods that nobody else cleans up: those of nodes that are gone, those deleted before they had a
//! node, and finished ones beyond a number.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::server::controllers::kit::informer::{Change, Informer, Key};
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Context, Error, Next, Queue, ignore_not_found, meta};
use crate::supervisor::TaskError;

/// A node may come back within this time.
const QUARANTINE: Duration = Duration::from_secs(40);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// The pods of a node that is gone.
    Node(String),
    /// A pod that was deleted before it had a node.
    Unscheduled(Key),
    /// All finished pods.
    Finished,
}

struct PodGc {
    cx: Context,
    nodes: Arc<Informer<Node>>,
    pods: Arc<Informer<Pod>>,
    queue: Queue<Work>,
}

/// Runs the pod garbage collector.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(PodGc {
        nodes: cx.informers.get(),
        pods: cx.informers.get(),
        queue: Queue::new("pod-gc"),
        cx,
    });
    this.nodes.synced().await;
    let (a, b) = (Arc::clone(&this), Arc::clone(&this));
    let _nodes = this.nodes.subscribe(move |change| {
        if change.deleted() {
            a.queue.add_after(Work::Node(meta::name(&change.latest().metadata).to_owned()), QUARANTINE);
        }
    });
    let _pods = this.pods.subscribe(move |change| b.pod_changed(change));
    this.pods.synced().await;
    this.queue.run(2, stop, |work| this.reconcile(work)).await;
    Ok(())
}

/// The oldest finished pods beyond `threshold`.
fn surplus(pods: &[Arc<Pod>], threshold: usize) -> Vec<Arc<Pod>> {
    let mut finished: Vec<_> = pods.iter().filter(|p| p.is_finished()).cloned().collect();
    if threshold == 0 || finished.len() <= threshold {
        return Vec::new();
    }
    finished.sort_by_key(|p| (p.metadata.creation_timestamp.clone(), p.metadata.name.clone()));
    finished.truncate(finished.len() - threshold);
    finished
}

impl PodGc {
    fn pod_changed(&self, change: &Change<Pod>) {
        let Some(pod) = &change.new else { return };
        match pod.node() {
            Some(node) if self.nodes.named(node).is_none() => {
                self.queue.add_after(Work::Node(node.to_owned()), QUARANTINE);
            }
            None if pod.is_terminating() => self.queue.add(Work::Unscheduled(Key::of(pod.as_ref()))),
            _ => {}
        }
        let threshold = self.cx.config.terminated_pod_threshold;
        if pod.is_finished() && threshold > 0 && self.pods.len() > threshold {
            self.queue.add(Work::Finished);
        }
    }

    async fn reconcile(&self, work: Work) -> Result<Next, Error> {
        match work {
            Work::Node(name) => {
                // The cache may be behind: ask.
                let nodes: Api<Node> = Api::all(self.cx.client.clone());
                if nodes.get_metadata_opt(&name).await.map_err(Error::api("reading a node"))?.is_some() {
                    return Ok(Next::Done);
                }
                for pod in self.pods.list().iter().filter(|p| p.node() == Some(&name)) {
                    self.remove(pod, Some("PodGC: node no longer exists")).await?;
                }
            }
            Work::Unscheduled(key) => {
                if let Some(pod) = self.pods.get(&key).filter(|p| p.node().is_none() && p.is_terminating()) {
                    self.remove(&pod, None).await?;
                }
            }
            Work::Finished => {
                for pod in surplus(&self.pods.list(), self.cx.config.terminated_pod_threshold) {
                    self.remove(&pod, None).await?;
                }
            }
        }
        Ok(Next::Done)
    }

    /// Removes a pod without asking its node; a reason is written to it first.
    async fn remove(&self, pod: &Pod, reason: Option<&str>) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.cx.client.clone(), meta::namespace(&pod.metadata));
        let name = meta::name(&pod.metadata);
        if let Some(reason) = reason.filter(|_| !pod.is_finished()) {
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": reason, "lastTransitionTime": meta::now()});
            let body = json!({"metadata": {"uid": pod.metadata.uid},
                "status": {"phase": "Failed", "conditions": [condition]}});
            let marked = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&body)).await;
            ignore_not_found(marked.map(|_| ()).map_err(Error::api("marking a lost pod")))?;
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..Default::default()
        };
        let deleted = api.delete(name, &params).await;
        ignore_not_found(deleted.map(|_| ()).map_err(Error::api("removing a pod")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_finished_pods_beyond_the_threshold_go() {
        let pod = |name: &str, day: u8, phase: &str| -> Arc<Pod> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name,
                    "creationTimestamp": format!("2020-01-{day:02}T00:00:00Z")}, "status": {"phase": phase}}))
                .expect("a pod"),
            )
        };
        let pods = [
            pod("b", 2, "Failed"),
            pod("a", 1, "Succeeded"),
            pod("c", 3, "Succeeded"),
            pod("r", 1, "Running"),
        ];
        let names =
            |n| surplus(&pods, n).iter().map(|p| meta::name(&p.metadata).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(1), ["a", "b"]);
        assert!(names(3).is_empty() && names(0).is_empty());
    }
}
