//! On which nodes a daemon pod belongs, and what is to be done about those that are there. Pure
//! functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod as FullPod,
    PodSpec, Toleration,
};

use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{meta, node_selectors, tolerations};

/// Taints that daemons tolerate whatever their template says, with their effects.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// What a node means to a daemon set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A pod shall be started there.
    pub run: bool,
    /// A pod that is there may stay.
    pub stay: bool,
}

/// Adds the tolerations that all daemons have.
pub fn add_tolerations(spec: &mut PodSpec) {
    let host_network = spec.host_network == Some(true);
    let list = spec.tolerations.get_or_insert_default();
    let network = host_network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let wanted = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Default::default()
        };
        if !list.contains(&wanted) {
            list.push(wanted);
        }
    }
}

/// Ties a pod to a node through its affinity: the scheduler places it, and sees the node's room.
pub fn tie(pod: &mut FullPod, node: &str) {
    let spec = pod.spec.get_or_insert_default();
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let nodes: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required: &mut NodeSelector =
        nodes.required_during_scheduling_ignored_during_execution.get_or_insert_default();
    let this = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![this.clone()]);
    }
}

/// The node a daemon pod is on or tied to.
pub fn node_of(pod: &Pod) -> Option<&str> {
    if let Some(node) = pod.node() {
        return Some(node);
    }
    let nodes = pod.spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = nodes.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    let name = fields.into_iter().find(|f| f.key == "metadata.name" && f.operator == "In")?;
    name.values.as_ref()?.first().map(String::as_str)
}

/// Judges a node for a daemon set.
pub fn judge(ds: &DaemonSet, node: &Node) -> Verdict {
    let mut spec = ds.spec.as_ref().and_then(|s| s.template.spec.clone()).unwrap_or_default();
    add_tolerations(&mut spec);
    let name = meta::name(&node.metadata);
    let labels = meta::labels(&node.metadata);
    let named = spec.node_name.as_deref().is_none_or(|n| n.is_empty() || n == name);
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
    let wanted = required.is_none_or(|r| node_selectors::selects(r, name, labels));
    if !(named && selected && wanted) {
        return Verdict { run: false, stay: false };
    }
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let list = spec.tolerations.as_deref().unwrap_or_default();
    let refused = |effects: &[&str]| tolerations::untolerated(taints, list, effects).is_some();
    Verdict { run: !refused(&["NoSchedule", "NoExecute"]), stay: !refused(&["NoExecute"]) }
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Nodes that need a pod.
    pub create: Vec<String>,
    /// Pods that are too many or in the wrong place.
    pub delete: Vec<Arc<Pod>>,
    /// Pods that have ended, to be replaced.
    pub ended: Vec<Arc<Pod>>,
}

/// Compares the nodes with the pods, given by node. With `surge`, an old pod may stay beside a newer
/// one until that is available; `is_new` tells them apart.
pub fn plan(
    verdicts: &BTreeMap<String, Verdict>,
    pods: &BTreeMap<String, Vec<Arc<Pod>>>,
    surge: bool,
    is_new: impl Fn(&Pod) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    for (node, verdict) in verdicts {
        let here = pods.get(node).map(Vec::as_slice).unwrap_or_default();
        if verdict.run && here.is_empty() {
            plan.create.push(node.clone());
        } else if !verdict.stay {
            plan.delete.extend(here.iter().filter(|p| !p.is_terminating()).cloned());
        } else {
            plan_node(here, surge, &is_new, &mut plan);
        }
    }
    // Pods of nodes that are gone.
    for (node, here) in pods {
        if !verdicts.contains_key(node) {
            plan.delete.extend(here.iter().filter(|p| !p.is_terminating()).cloned());
        }
    }
    plan
}

fn plan_node(here: &[Arc<Pod>], surge: bool, is_new: &impl Fn(&Pod) -> bool, plan: &mut Plan) {
    let mut running = Vec::new();
    for pod in here.iter().filter(|p| !p.is_terminating()) {
        if pod.is_finished() {
            plan.ended.push(Arc::clone(pod));
        } else {
            running.push(Arc::clone(pod));
        }
    }
    running.sort_by_key(|p| (p.metadata.creation_timestamp.clone(), p.metadata.name.clone()));
    if !surge {
        plan.delete.extend(running.into_iter().skip(1));
        return;
    }
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| is_new(p));
    plan.delete.extend(new.into_iter().skip(1));
    plan.delete.extend(old.into_iter().skip(1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(spec: Value) -> DaemonSet {
        serde_json::from_value(json!({"metadata": {"name": "d"},
            "spec": {"selector": {}, "template": {"spec": spec}}}))
        .expect("a daemon set")
    }

    fn node(taints: Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}}, "spec": {"taints": taints}}),
        )
        .expect("a node")
    }

    #[test]
    fn nodes_are_judged_by_selector_and_taints() {
        let plain = || json!({"containers": []});
        for (spec, taints, run, stay) in [
            (plain(), json!([]), true, true),
            (json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), json!([]), false, false),
            (plain(), json!([{"key": "k", "effect": "NoSchedule"}]), false, true),
            (plain(), json!([{"key": "k", "effect": "NoExecute"}]), false, false),
            (
                plain(),
                json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]),
                true,
                true,
            ),
            (plain(), json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]), true, true),
            (
                plain(),
                json!([{"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"}]),
                false,
                true,
            ),
            (
                json!({"containers": [], "hostNetwork": true}),
                json!([{"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"}]),
                true,
                true,
            ),
        ] {
            assert_eq!(
                judge(&set(spec.clone()), &node(taints.clone())),
                Verdict { run, stay },
                "{spec} {taints}"
            );
        }
    }

    #[test]
    fn a_tied_pod_knows_its_node_before_it_is_placed() {
        let mut pod = FullPod::default();
        tie(&mut pod, "n");
        let lean: Pod =
            serde_json::from_value(serde_json::to_value(&pod).expect("it encodes")).expect("it decodes");
        assert_eq!(node_of(&lean), Some("n"));
    }

    #[test]
    fn each_node_has_one_living_pod() {
        let pod = |name: &str, phase: &str| -> Arc<Pod> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name}, "status": {"phase": phase}}))
                    .expect("a pod"),
            )
        };
        let yes = Verdict { run: true, stay: true };
        let no = Verdict { run: false, stay: false };
        let verdicts = BTreeMap::from([
            ("empty".into(), yes),
            ("full".into(), yes),
            ("no".into(), no),
            ("ended".into(), yes),
        ]);
        let pods = BTreeMap::from([
            ("full".into(), vec![pod("a", "Running"), pod("b", "Running")]),
            ("no".into(), vec![pod("c", "Running")]),
            ("ended".into(), vec![pod("d", "Failed")]),
            ("vanished".into(), vec![pod("e", "Running")]),
        ]);
        let names =
            |pods: &[Arc<Pod>]| pods.iter().map(|p| meta::name(&p.metadata).to_owned()).collect::<Vec<_>>();
        let plan = plan(&verdicts, &pods, false, |_| true);
        assert_eq!(plan.create, ["empty"]);
        assert_eq!(names(&plan.delete), ["b", "c", "e"]);
        assert_eq!(names(&plan.ended), ["d"]);
    }
}
