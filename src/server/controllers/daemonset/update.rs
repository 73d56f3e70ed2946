//! Rolling update of daemons: which old pods may go now, and which nodes get a new pod beside the
//! old one. Pure functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::nodes::Verdict;
use crate::server::controllers::kit::pod::Pod;

/// Limits of a rolling update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes that may be without an available pod.
    pub unavailable: usize,
    /// Nodes that may have two pods.
    pub surge: usize,
}

fn resolve(value: Option<&IntOrString>, of: usize) -> Option<usize> {
    match value? {
        IntOrString::Int(n) => usize::try_from(*n).ok(),
        IntOrString::String(text) => {
            let percent: usize = text.trim_end_matches('%').parse().ok()?;
            Some((percent * of).div_ceil(100))
        }
    }
}

/// The limits for a number of nodes; by default one node may be without a pod.
pub fn limits(ds: &DaemonSet, nodes: usize) -> Limits {
    let strategy = ds.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), nodes).unwrap_or(0);
    let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), nodes);
    let unavailable = unavailable.unwrap_or(usize::from(surge == 0));
    // Neither would stop the update for ever.
    Limits { unavailable: if surge == 0 { unavailable.max(1) } else { unavailable }, surge }
}

/// Old pods are replaced only when they are deleted by hand.
pub fn is_on_delete(ds: &DaemonSet) -> bool {
    let strategy = ds.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete")
}

/// The next step: old pods to delete, nodes to put a new pod on beside the old one.
pub fn step(
    verdicts: &BTreeMap<String, Verdict>,
    pods: &BTreeMap<String, Vec<Arc<Pod>>>,
    limits: Limits,
    min_ready: i32,
    is_new: impl Fn(&Pod) -> bool,
) -> (Vec<Arc<Pod>>, Vec<String>) {
    let (mut unavailable, mut surging) = (0, 0);
    // Unavailable old pods can go at any time; available ones only within the limit.
    let (mut delete, mut candidates, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    for (node, _) in verdicts.iter().filter(|(_, v)| v.run) {
        let here = pods.get(node).map(Vec::as_slice).unwrap_or_default();
        let living = || here.iter().filter(|p| p.is_active());
        let new = living().find(|p| is_new(p));
        let old = living().find(|p| !is_new(p));
        let new_available = new.is_some_and(|p| p.is_available(min_ready));
        let old_available = old.is_some_and(|p| p.is_available(min_ready));
        if !new_available && !old_available {
            unavailable += 1;
        }
        match (new, old) {
            (Some(_), Some(old)) if limits.surge > 0 => {
                if new_available {
                    delete.push(Arc::clone(old));
                } else {
                    surging += 1;
                }
            }
            (None, Some(old)) if !old_available => {
                if limits.surge > 0 {
                    nodes.insert(0, node.clone())
                } else {
                    delete.push(Arc::clone(old))
                }
            }
            (None, Some(old)) => {
                if limits.surge > 0 {
                    nodes.push(node.clone())
                } else {
                    candidates.push(Arc::clone(old))
                }
            }
            _ => {}
        }
    }
    candidates.truncate(limits.unavailable.saturating_sub(unavailable));
    delete.extend(candidates);
    nodes.truncate(limits.surge.saturating_sub(surging));
    (delete, nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::controllers::kit::meta;
    use serde_json::json;

    fn pod(name: &str, generation: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"g": generation}},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}))
            .expect("a pod"),
        )
    }

    fn run(pods: &[Vec<Arc<Pod>>], limits: Limits) -> (Vec<String>, Vec<String>) {
        let name = |i: usize| format!("n{i}");
        let verdicts = (0..pods.len()).map(|i| (name(i), Verdict { run: true, stay: true })).collect();
        let pods = pods.iter().enumerate().map(|(i, p)| (name(i), p.clone())).collect();
        let (delete, create) = step(&verdicts, &pods, limits, 0, |p| meta::labels(&p.metadata)["g"] == "new");
        (delete.iter().map(|p| meta::name(&p.metadata).to_owned()).collect(), create)
    }

    #[test]
    fn one_node_after_the_other_is_updated() {
        let limits = Limits { unavailable: 1, surge: 0 };
        let old = |n: &str| vec![pod(n, "old", true)];
        assert_eq!(run(&[old("a"), old("b")], limits).0, ["a"]);
        assert!(run(&[vec![pod("a", "new", false)], old("b")], limits).0.is_empty());
        assert_eq!(run(&[vec![pod("a", "new", true)], old("b")], limits).0, ["b"]);
        assert_eq!(run(&[vec![pod("a", "old", false)], old("b")], limits).0, ["a"]);
    }

    #[test]
    fn with_surge_the_new_pod_comes_first() {
        let limits = Limits { unavailable: 0, surge: 1 };
        let old = |n: &str| vec![pod(n, "old", true)];
        assert_eq!(run(&[old("a"), old("b")], limits), (vec![], vec!["n0".to_owned()]));
        let both = |ready| vec![pod("a", "old", true), pod("a2", "new", ready)];
        assert_eq!(run(&[both(false), old("b")], limits), (vec![], vec![]));
        assert_eq!(run(&[both(true), old("b")], limits), (vec!["a".to_owned()], vec!["n1".to_owned()]));
    }

    #[test]
    fn limits_have_defaults_and_percentages() {
        let ds = |rolling: serde_json::Value| -> DaemonSet {
            serde_json::from_value(json!({"metadata": {}, "spec": {"selector": {}, "template": {},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}))
            .expect("a daemon set")
        };
        assert_eq!(limits(&ds(json!({})), 10), Limits { unavailable: 1, surge: 0 });
        assert_eq!(limits(&ds(json!({"maxUnavailable": "25%"})), 10), Limits { unavailable: 3, surge: 0 });
        assert_eq!(
            limits(&ds(json!({"maxSurge": 2, "maxUnavailable": 0})), 10),
            Limits { unavailable: 0, surge: 2 }
        );
    }
}
