//! Taints that follow from a node's conditions. Pure functions.

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::server::controllers::kit::meta;

/// Taint of a node that is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a node that does not report.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Taint of a cordoned node.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its status, and the taint that follows.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// The status of a node's condition.
pub fn status<'n>(node: &'n Node, kind: &str) -> Option<&'n str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind).map(|c| c.status.as_str())
}

fn wanted(node: &Node) -> Vec<(&'static str, &'static str)> {
    let mut wanted = Vec::new();
    for (condition, value, taint) in BY_CONDITION {
        if status(node, condition) == Some(value) {
            wanted.push((taint, "NoSchedule"));
            if condition == "Ready" {
                wanted.push((taint, "NoExecute"));
            }
        }
    }
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    wanted
}

fn is_ours(taint: &Taint) -> bool {
    let ready = matches!(taint.key.as_str(), NOT_READY | UNREACHABLE);
    match taint.effect.as_str() {
        "NoExecute" => ready,
        "NoSchedule" => {
            taint.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key)
        }
        _ => false,
    }
}

/// The taints a node should have; `None` when it has them. Taints of others stay.
pub fn correct(node: &Node) -> Option<Vec<Taint>> {
    let present = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let wanted = wanted(node);
    let is_wanted = |t: &Taint| wanted.iter().any(|(key, effect)| t.key == *key && t.effect == *effect);
    let mut taints: Vec<Taint> = present.iter().filter(|t| !is_ours(t) || is_wanted(t)).cloned().collect();
    for (key, effect) in &wanted {
        if !taints.iter().any(|t| t.key == *key && t.effect == *effect) {
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                time_added: Some(meta::now()),
                value: None,
            });
        }
    }
    (taints != present).then_some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(ready: &str, taints: Value, unschedulable: bool) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "spec": {"taints": taints, "unschedulable": unschedulable},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}
        }))
        .expect("a node")
    }

    fn keys(taints: Option<Vec<Taint>>) -> Option<Vec<String>> {
        taints.map(|t| {
            t.iter().map(|t| format!("{}:{}", t.key.rsplit('/').next().unwrap_or(""), t.effect)).collect()
        })
    }

    #[test]
    fn taints_follow_the_ready_condition() {
        for (ready, expected) in [
            ("True", None),
            ("False", Some(vec!["not-ready:NoSchedule", "not-ready:NoExecute"])),
            ("Unknown", Some(vec!["unreachable:NoSchedule", "unreachable:NoExecute"])),
        ] {
            let expected = expected.map(|e| e.into_iter().map(str::to_owned).collect());
            assert_eq!(keys(correct(&node(ready, json!([]), false))), expected, "{ready}");
        }
    }

    #[test]
    fn stale_taints_go_and_foreign_ones_stay() {
        let taints =
            json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": "mine", "effect": "NoSchedule"}]);
        assert_eq!(keys(correct(&node("True", taints, false))), Some(vec!["mine:NoSchedule".to_owned()]));
        assert_eq!(
            keys(correct(&node("True", json!([]), true))),
            Some(vec!["unschedulable:NoSchedule".to_owned()])
        );
        let steady = json!([{"key": UNSCHEDULABLE, "effect": "NoSchedule"}]);
        assert_eq!(correct(&node("True", steady, true)), None);
    }
}
