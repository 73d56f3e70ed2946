//! Which pods go first when there are too many.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::server::controllers::kit::meta;
use crate::server::controllers::kit::pod::Pod;

/// Annotation with which users say which pods to give up first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods to delete. `related` are the active pods of all sibling replica sets: of nodes
/// that hold many of them, one is given up first.
pub fn choose(active: &[Arc<Pod>], related: &[Arc<Pod>], count: usize) -> Vec<Arc<Pod>> {
    let mut pods = active.to_vec();
    if count < pods.len() {
        let mut on_node: HashMap<&str, usize> = HashMap::new();
        for node in related.iter().filter_map(|p| p.node()) {
            *on_node.entry(node).or_default() += 1;
        }
        let rank = |p: &Pod| p.node().and_then(|n| on_node.get(n)).copied().unwrap_or_default();
        pods.sort_by(|a, b| compare(a, b, rank(a), rank(b)));
    }
    pods.truncate(count);
    pods
}

fn phase(pod: &Pod) -> u8 {
    match pod.phase() {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn cost(pod: &Pod) -> i32 {
    meta::annotation(&pod.metadata, DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or_default()
}

fn ready_since(pod: &Pod) -> Option<Time> {
    pod.condition("Ready").filter(|c| c.status == "True").and_then(|c| c.last_transition_time.clone())
}

/// Ages are compared by their order of magnitude, so that not always the youngest are taken.
fn magnitude(time: Option<&Time>) -> u32 {
    time.map_or(0, |t| meta::since(t).as_secs().max(1).ilog2() + 1)
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.container_statuses.iter().map(|c| c.restart_count).max().unwrap_or_default()
}

/// Upstream's order: less useful pods first.
fn compare(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize) -> Ordering {
    let ready = |p: &Pod| p.is_ready();
    a.node()
        .is_some()
        .cmp(&b.node().is_some())
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| ready(a).cmp(&ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| Reverse(rank_a).cmp(&Reverse(rank_b)))
        .then_with(|| {
            let (a, b) = (ready_since(a), ready_since(b));
            magnitude(a.as_ref()).cmp(&magnitude(b.as_ref()))
        })
        .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
        .then_with(|| {
            let created = |p: &Pod| p.metadata.creation_timestamp.clone();
            magnitude(created(a).as_ref()).cmp(&magnitude(created(b).as_ref()))
        })
        .then_with(|| meta::uid(&a.metadata).cmp(meta::uid(&b.metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, change: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2020-01-01T00:00:00Z"},
            "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "containerStatuses": [{"restartCount": 0}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}
        });
        json_patch::merge(&mut pod, &change);
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn first(pods: &[Arc<Pod>]) -> String {
        meta::name(&choose(pods, pods, 1)[0].metadata).to_owned()
    }

    #[test]
    fn the_less_useful_pod_goes_first() {
        let now = meta::now();
        for (what, change) in [
            ("unassigned", json!({"spec": {"nodeName": null}})),
            ("pending", json!({"status": {"phase": "Pending"}})),
            ("not ready", json!({"status": {"conditions": []}})),
            ("cheap", json!({"metadata": {"annotations": {DELETION_COST: "-5"}}})),
            (
                "ready for a shorter time",
                json!({"status": {"conditions":
                [{"type": "Ready", "status": "True", "lastTransitionTime": now}]}}),
            ),
            ("restarting", json!({"status": {"containerStatuses": [{"restartCount": 3}]}})),
            ("younger", json!({"metadata": {"creationTimestamp": now}})),
        ] {
            let pods = [pod("good", json!({})), pod("victim", change)];
            assert_eq!(first(&pods), "victim", "{what}");
        }
    }

    #[test]
    fn a_crowded_node_gives_up_one_first() {
        let pods = [
            pod("alone", json!({"spec": {"nodeName": "m"}})),
            pod("crowd1", json!({})),
            pod("crowd2", json!({})),
        ];
        assert_eq!(first(&pods), "crowd1");
    }

    #[test]
    fn all_go_when_all_are_too_many() {
        let pods = [pod("a", json!({})), pod("b", json!({}))];
        assert_eq!(choose(&pods, &[], 2).len(), 2);
    }
}
