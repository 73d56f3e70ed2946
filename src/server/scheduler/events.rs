//! What the watches tell the scheduler, and which waiting pods it may help.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use tokio::sync::mpsc;

use super::filters::{
    ANYTHING, Events, NODE_ADDED, NODE_ALLOCATABLE, NODE_LABELS, NODE_TAINTS, POD_ADDED, POD_REMOVED, STORAGE,
};
use super::podinfo::PodInfo;
use super::queue::Queue;
use super::snapshot::Cluster;
use super::volumes::Storage;
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Change, Informers, Subscription, meta};

/// The name in `spec.schedulerName` of the pods that are placed here.
pub const SCHEDULER_NAME: &str = "default-scheduler";

/// A change the scheduler has to know of.
#[derive(Debug)]
pub enum Event {
    /// Of a pod.
    Pod(Change<Pod>),
    /// Of a node.
    Node(Change<Node>),
    /// Of a namespace.
    Namespace(Change<Namespace>),
    /// Of a claim, volume or class.
    Storage,
}

/// Subscribes to everything. The subscriptions last as long as the result.
pub fn subscribe(informers: &Informers) -> (mpsc::UnboundedReceiver<Event>, Storage, Vec<Subscription>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let storage = Storage {
        claims: informers.get::<PersistentVolumeClaim>(),
        volumes: informers.get::<PersistentVolume>(),
        classes: informers.get::<StorageClass>(),
    };
    // A closed channel means that the scheduler has ended; its subscriptions go with it.
    let send = move |event| drop(sender.send(event));
    let (pods, nodes, namespaces) = (send.clone(), send.clone(), send.clone());
    let (claims, volumes, classes) = (send.clone(), send.clone(), send);
    let subscriptions = vec![
        informers.get::<Node>().subscribe(move |c| nodes(Event::Node(c.clone()))),
        informers.get::<Namespace>().subscribe(move |c| namespaces(Event::Namespace(c.clone()))),
        storage.claims.subscribe(move |_| claims(Event::Storage)),
        storage.volumes.subscribe(move |_| volumes(Event::Storage)),
        storage.classes.subscribe(move |_| classes(Event::Storage)),
        informers.get::<Pod>().subscribe(move |c| pods(Event::Pod(c.clone()))),
    ];
    (receiver, storage, subscriptions)
}

/// Takes a change into the picture of the cluster. Gives what it may help.
pub fn apply(event: Event, cluster: &mut Cluster, queue: &mut Queue) -> Events {
    match event {
        Event::Pod(change) => pod(&change, cluster, queue),
        Event::Node(change) => node(&change, cluster),
        Event::Namespace(change) => {
            let namespace = change.latest();
            let name = meta::name(&namespace.metadata).to_owned();
            match &change.new {
                Some(n) => drop(cluster.namespaces.insert(name, meta::labels(&n.metadata).clone())),
                None => drop(cluster.namespaces.remove(&name)),
            }
            POD_ADDED
        }
        Event::Storage => STORAGE,
    }
}

fn pod(change: &Change<Pod>, cluster: &mut Cluster, queue: &mut Queue) -> Events {
    let pod = change.latest();
    let uid = meta::uid(&pod.metadata);
    if change.deleted() || pod.is_finished() {
        queue.remove(uid);
        return if cluster.unplace(uid) { POD_REMOVED } else { 0 };
    }
    if let Some(node) = pod.node() {
        queue.remove(uid);
        let known = cluster.placed_on(uid).is_some();
        let unchanged = change.old.as_ref().is_some_and(|old| {
            old.node() == pod.node()
                && old.spec == pod.spec
                && old.metadata.labels == pod.metadata.labels
                && old.metadata.deletion_timestamp == pod.metadata.deletion_timestamp
        });
        if known && unchanged {
            return 0;
        }
        let relabelled = change.old.as_ref().is_some_and(|o| o.metadata.labels != pod.metadata.labels);
        cluster.place(Arc::new(PodInfo::new(Arc::clone(pod))), node);
        return if !known || relabelled { POD_ADDED } else { 0 };
    }
    waiting(change, pod, cluster, queue);
    0
}

/// A pod without a node: it is queued if it is to be placed here and now.
fn waiting(change: &Change<Pod>, pod: &Arc<Pod>, cluster: &Cluster, queue: &mut Queue) {
    let uid = meta::uid(&pod.metadata);
    let ours = pod.spec.scheduler_name.as_deref().unwrap_or(SCHEDULER_NAME) == SCHEDULER_NAME;
    if !ours || pod.is_terminating() || !pod.spec.scheduling_gates.is_empty() {
        queue.remove(uid);
        return;
    }
    // An assumed pod is on its way already; this change was made before the binding.
    if cluster.placed_on(uid).is_some() {
        return;
    }
    let info = Arc::new(PodInfo::new(Arc::clone(pod)));
    let only_status = change
        .old
        .as_ref()
        .is_some_and(|old| old.spec == pod.spec && old.metadata.labels == pod.metadata.labels);
    if only_status && queue.get(uid).is_some() {
        queue.refresh(info);
    } else {
        queue.add(info);
    }
}

fn node(change: &Change<Node>, cluster: &mut Cluster) -> Events {
    let Some(new) = &change.new else {
        cluster.remove_node(meta::name(&change.latest().metadata));
        return POD_REMOVED;
    };
    let Some(old) = &change.old else {
        cluster.set_node(Arc::clone(new));
        return ANYTHING & !STORAGE | NODE_ADDED;
    };
    let mut events = 0;
    let offered = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
    let images = |n: &Node| n.status.as_ref().and_then(|s| s.images.clone());
    if offered(old) != offered(new) {
        events |= NODE_ALLOCATABLE;
    }
    if old.metadata.labels != new.metadata.labels {
        events |= NODE_LABELS;
    }
    if old.spec != new.spec {
        events |= NODE_TAINTS;
    }
    // Heartbeats change nothing that matters here.
    if events != 0 || images(old) != images(new) {
        cluster.set_node(Arc::clone(new));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::node as a_node;
    use super::*;
    use serde_json::{Value, json};

    fn a_pod(uid: &str, spec: Value) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": uid, "uid": uid, "namespace": "n"}, "spec": spec}),
            )
            .expect("a pod"),
        )
    }

    fn added(pod: &Arc<Pod>) -> Event {
        Event::Pod(Change { old: None, new: Some(Arc::clone(pod)) })
    }

    #[test]
    fn only_pods_that_are_ours_and_ungated_are_queued() {
        let (mut cluster, mut queue) = (Cluster::default(), Queue::default());
        for (spec, queued) in [
            (json!({}), true),
            (json!({"schedulerName": "default-scheduler"}), true),
            (json!({"schedulerName": "other"}), false),
            (json!({"schedulingGates": [{"name": "g"}]}), false),
            (json!({"nodeName": "a"}), false),
        ] {
            apply(added(&a_pod("p", spec.clone())), &mut cluster, &mut queue);
            assert_eq!(queue.pop().is_some(), queued, "{spec}");
            queue.remove("p");
            cluster.unplace("p");
        }
    }

    #[test]
    fn an_ungated_pod_is_queued_and_a_bound_one_leaves() {
        let (mut cluster, mut queue) = (Cluster::default(), Queue::default());
        let gated = a_pod("p", json!({"schedulingGates": [{"name": "g"}]}));
        apply(added(&gated), &mut cluster, &mut queue);
        let free = a_pod("p", json!({}));
        apply(
            Event::Pod(Change { old: Some(gated), new: Some(Arc::clone(&free)) }),
            &mut cluster,
            &mut queue,
        );
        assert!(queue.get("p").is_some());
        let bound = a_pod("p", json!({"nodeName": "a"}));
        let change = Change { old: Some(free), new: Some(Arc::clone(&bound)) };
        assert_eq!(apply(Event::Pod(change), &mut cluster, &mut queue), POD_ADDED);
        assert!(queue.get("p").is_none() && cluster.placed_on("p").is_some());
        let gone = Change { old: Some(bound), new: None };
        assert_eq!(apply(Event::Pod(gone), &mut cluster, &mut queue), POD_REMOVED);
    }

    #[test]
    fn a_heartbeat_helps_nobody_and_a_new_label_does() {
        let (mut cluster, mut queue) = (Cluster::default(), Queue::default());
        let first = a_node("a", json!({}));
        apply(Event::Node(Change { old: None, new: Some(Arc::clone(&first)) }), &mut cluster, &mut queue);
        let same = Change { old: Some(Arc::clone(&first)), new: Some(Arc::clone(&first)) };
        assert_eq!(apply(Event::Node(same), &mut cluster, &mut queue), 0);
        let labelled = Change { old: Some(first), new: Some(a_node("a", json!({"x": "y"}))) };
        assert_eq!(apply(Event::Node(labelled), &mut cluster, &mut queue), NODE_LABELS);
    }
}
