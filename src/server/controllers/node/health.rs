//! Signs of life: a node whose lease and status stand still becomes unknown, and is tainted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::taints;
use crate::server::controllers::kit::informer::{Change, Informer};
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Context, Error, Next, Queue, ignore_not_found, meta, patch};
use crate::supervisor::TaskError;

const WORKERS: usize = 8;
/// Conditions that only the node itself can know.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

struct Health {
    cx: Context,
    nodes: Arc<Informer<Node>>,
    pods: Arc<Informer<Pod>>,
    /// When each node last showed a sign of life, by this process's clock.
    seen: Mutex<HashMap<String, Instant>>,
    queue: Queue<String>,
}

/// Runs the controller that watches over nodes.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let leases = cx.informers.selected::<Lease>("metadata.namespace=kube-node-lease");
    let this = Arc::new(Health {
        nodes: cx.informers.get(),
        pods: cx.informers.get(),
        seen: Mutex::default(),
        queue: Queue::new("node-lifecycle"),
        cx,
    });
    let (a, b) = (Arc::clone(&this), Arc::clone(&this));
    let _leases = leases.subscribe(move |change| {
        let renewed = |l: &Option<Arc<Lease>>| l.as_ref().and_then(|l| l.spec.as_ref()?.renew_time.clone());
        if change.new.is_some() && renewed(&change.old) != renewed(&change.new) {
            a.sign_of_life(meta::name(&change.latest().metadata));
        }
    });
    let _nodes = this.nodes.subscribe(move |change| b.node_changed(change));
    this.nodes.synced().await;
    this.pods.synced().await;
    leases.synced().await;
    this.queue.run(WORKERS, stop, |name| this.reconcile(name)).await;
    Ok(())
}

fn heartbeat(node: &Node) -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == "Ready")?.last_heartbeat_time.clone()
}

impl Health {
    fn sign_of_life(&self, name: &str) {
        self.seen.lock().insert(name.to_owned(), Instant::now());
        // A node that was given up is looked at now; others when their time is over.
        if self.nodes.named(name).is_some_and(|n| taints::status(&n, "Ready") != Some("True")) {
            self.queue.add(name.to_owned());
        }
    }

    fn node_changed(&self, change: &Change<Node>) {
        let node = change.latest();
        let name = meta::name(&node.metadata).to_owned();
        if change.deleted() {
            self.seen.lock().remove(&name);
            self.cx.recorder.normal(
                node.as_ref(),
                "RemovingNode",
                format!("Node {name} event: Removing Node {name} from Controller"),
            );
            return;
        }
        if change.old.is_none() {
            self.cx.recorder.normal(
                node.as_ref(),
                "RegisteredNode",
                format!("Node {name} event: Registered Node {name} in Controller"),
            );
        }
        let beat = heartbeat(node);
        if change.old.as_ref().is_none_or(|old| {
            heartbeat(old) != beat || taints::status(old, "Ready") != taints::status(node, "Ready")
        }) {
            // What this controller itself writes is no sign of life.
            if taints::status(node, "Ready") != Some("Unknown") {
                self.seen.lock().insert(name.clone(), Instant::now());
            } else {
                self.seen.lock().entry(name.clone()).or_insert_with(Instant::now);
            }
        }
        let was_ready = change.old.as_ref().is_some_and(|old| taints::status(old, "Ready") == Some("True"));
        if was_ready && taints::status(node, "Ready") != Some("True") {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.cx.recorder.normal(node.as_ref(), "NodeNotReady", message);
        }
        self.queue.add(name);
    }

    /// How long until the node must have shown a sign of life; `None` when that time is over.
    fn remaining(&self, node: &Node) -> Option<Duration> {
        let seen = self.seen.lock().get(meta::name(&node.metadata)).copied()?;
        let grace = match heartbeat(node) {
            Some(_) => self.cx.config.node_monitor_grace,
            None => self.cx.config.node_startup_grace,
        };
        grace.checked_sub(seen.elapsed()).filter(|d| !d.is_zero())
    }

    async fn reconcile(&self, name: String) -> Result<Next, Error> {
        let Some(node) = self.nodes.named(&name) else { return Ok(Next::Done) };
        let api: Api<Node> = Api::all(self.cx.client.clone());
        let remaining = self.remaining(&node);
        if remaining.is_none() && taints::status(&node, "Ready") != Some("Unknown") {
            let mut wanted = Node::clone(&node);
            give_up(&mut wanted);
            patch::write(&api, node.as_ref(), &wanted, Some("status")).await?;
            // The change comes back and brings the taints.
            return Ok(Next::Done);
        }
        if taints::status(&node, "Ready").is_some_and(|s| s != "True") {
            self.mark_pods(&name).await?;
        }
        if let Some(taints) = taints::correct(&node) {
            let mut wanted = Node::clone(&node);
            wanted.spec.get_or_insert_default().taints = (!taints.is_empty()).then_some(taints);
            patch::write(&api, node.as_ref(), &wanted, None).await?;
        }
        Ok(remaining.map_or(Next::Done, Next::After))
    }

    /// The pods of a node that is not ready are not ready either.
    async fn mark_pods(&self, node: &str) -> Result<(), Error> {
        let pods = self.pods.list().into_iter().filter(|p| p.node() == Some(node) && p.is_ready());
        let marks = pods.map(|pod| async move {
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": meta::now()});
            let body = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
            let api: Api<Pod> = Api::namespaced(self.cx.client.clone(), meta::namespace(&pod.metadata));
            let name = meta::name(&pod.metadata);
            let written = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&body)).await;
            if written.is_ok() {
                self.cx.recorder.warning(pod.as_ref(), "NodeNotReady", "Node is not ready");
            }
            ignore_not_found(written.map(|_| ()).map_err(Error::api("marking a pod as not ready")))
        });
        join_all(marks.collect::<Vec<_>>()).await.into_iter().collect()
    }
}

/// Sets what the node no longer reports to unknown.
fn give_up(node: &mut Node) {
    let created = node.metadata.creation_timestamp.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in REPORTED {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(c) if c.status != "Unknown" => {
                c.status = "Unknown".into();
                c.reason = Some("NodeStatusUnknown".into());
                c.message = Some("Kubelet stopped posting node status.".into());
                c.last_transition_time = Some(meta::now());
            }
            Some(_) => {}
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: created.clone(),
                last_transition_time: Some(meta::now()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_becomes_unknown() {
        let mut node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": "False"}]}}))
            .expect("a node");
        give_up(&mut node);
        let of = |kind: &str| {
            let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref()).expect("conditions");
            let c = conditions.iter().find(|c| c.type_ == kind).expect("the condition");
            (c.status.clone(), c.reason.clone().unwrap_or_default())
        };
        assert_eq!(of("Ready"), ("Unknown".into(), "NodeStatusUnknown".into()));
        assert_eq!(of("DiskPressure"), ("Unknown".into(), "NodeStatusNeverUpdated".into()));
        assert_eq!(of("NetworkUnavailable"), ("False".into(), String::new()));
        let again = node.clone();
        give_up(&mut node);
        assert_eq!(node, again);
    }
}
