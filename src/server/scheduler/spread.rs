//! Topology spread constraints: how evenly pods are distributed over the domains of a label.

use std::collections::{BTreeMap, HashMap};

use super::filters::node_affinity_selects;
use super::podinfo::{PodInfo, Spread};
use super::selectors;
use super::snapshot::{Cluster, NodeInfo};
use crate::server::controllers::kit::meta::{labels, namespace};

/// Why a node is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It lacks a constraint's label.
    MissingLabel,
    /// The difference between domains would grow too large.
    Skew,
}

/// The constraints of one incoming pod with the counts of each domain.
#[derive(Debug)]
pub struct Counted<'p>(Vec<(&'p Spread, HashMap<String, i64>)>);

fn matching(constraint: &Spread, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let own = namespace(&pod.pod.metadata);
    let counts = |other: &&std::sync::Arc<PodInfo>| {
        namespace(&other.pod.metadata) == own
            && !other.pod.is_terminating()
            && constraint.selector.matches(labels(&other.pod.metadata))
    };
    i64::try_from(node.pods.values().filter(counts).count()).unwrap_or(i64::MAX)
}

fn counts_node(constraint: &Spread, pod: &PodInfo, node: &NodeInfo) -> bool {
    let effects = &["NoSchedule", "NoExecute"];
    (!constraint.honor_affinity || node_affinity_selects(pod, node))
        && (!constraint.honor_taints
            || selectors::untolerated(&node.taints, &pod.pod.spec.tolerations, effects).is_none())
}

impl<'p> Counted<'p> {
    /// Counts for the pod's required or its optional constraints; `None` when it has none.
    pub fn of(cluster: &Cluster, pod: &'p PodInfo, required: bool) -> Option<Self> {
        let rules = pod.rules.as_deref()?;
        let constraints: Vec<&Spread> = rules.spread.iter().filter(|s| s.required == required).collect();
        if constraints.is_empty() {
            return None;
        }
        let mut counted: Vec<_> = constraints.into_iter().map(|c| (c, HashMap::new())).collect();
        for node in cluster.nodes.iter().filter(|n| n.node.is_some()) {
            if !counted.iter().all(|(c, _)| node.labels().contains_key(&c.topology_key)) {
                continue;
            }
            for (constraint, counts) in &mut counted {
                if counts_node(constraint, pod, node) {
                    let value = node.labels()[&constraint.topology_key].clone();
                    *counts.entry(value).or_default() += matching(constraint, pod, node);
                }
            }
        }
        Some(Self(counted))
    }

    /// Whether the required constraints allow a node.
    pub fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
        for (constraint, counts) in &self.0 {
            let value = node.labels().get(&constraint.topology_key).ok_or(Refusal::MissingLabel)?;
            let domains = i64::try_from(counts.len()).unwrap_or(i64::MAX);
            let least = if domains < constraint.min_domains {
                0
            } else {
                counts.values().copied().min().unwrap_or_default()
            };
            let own = i64::from(constraint.selector.matches(labels(&pod.pod.metadata)));
            let here = counts.get(value).copied().unwrap_or_default();
            if here + own - least > constraint.max_skew {
                return Err(Refusal::Skew);
            }
        }
        Ok(())
    }

    /// Raw scores of candidate nodes by the optional constraints: fewer is better; `None` for nodes
    /// that lack a label.
    pub fn scores(&self, nodes: &[&NodeInfo]) -> Vec<Option<i64>> {
        let has_labels = |n: &NodeInfo| self.0.iter().all(|(c, _)| n.labels().contains_key(&c.topology_key));
        let mut sizes = BTreeMap::new();
        for (constraint, _) in &self.0 {
            let key = constraint.topology_key.as_str();
            let mut values: Vec<_> =
                nodes.iter().filter(|n| has_labels(n)).map(|n| &n.labels()[key]).collect();
            values.sort_unstable();
            values.dedup();
            sizes.insert(key, ((values.len() + 2) as f64).ln());
        }
        let score = |node: &NodeInfo| {
            let one = |(c, counts): &(&Spread, HashMap<String, i64>)| {
                let count = counts.get(&node.labels()[&c.topology_key]).copied().unwrap_or_default();
                count as f64 * sizes[c.topology_key.as_str()] + (c.max_skew - 1) as f64
            };
            self.0.iter().map(one).sum::<f64>().round() as i64
        };
        nodes.iter().map(|n| has_labels(n).then(|| score(n))).collect()
    }
}

/// Turns raw scores into 0 to 100, the least count getting most.
pub fn normalize(raw: &[Option<i64>]) -> Vec<i64> {
    let known = || raw.iter().flatten().copied();
    let (Some(min), Some(max)) = (known().min(), known().max()) else { return vec![0; raw.len()] };
    let one = |score: i64| if max == 0 { 100 } else { 100 * (max + min - score) / max };
    raw.iter().map(|s| s.map_or(0, one)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::{node, pod};
    use super::*;
    use serde_json::json;

    fn cluster(pods: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::default();
        cluster.set_node(node("a", json!({"zone": "1"})));
        cluster.set_node(node("b", json!({"zone": "2"})));
        cluster.set_node(node("c", json!({})));
        for (name, on) in pods {
            cluster.place(pod(name, json!({"app": "x"}), json!({})), on);
        }
        cluster
    }

    fn spreading(when: &str, more: serde_json::Value) -> std::sync::Arc<PodInfo> {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": {"app": "x"}}});
        json_patch::merge(&mut constraint, &more);
        pod("new", json!({"app": "x"}), json!({"topologySpreadConstraints": [constraint]}))
    }

    #[test]
    fn the_fuller_domain_is_refused() {
        let p = spreading("DoNotSchedule", json!({}));
        let cluster = cluster(&[("1", "a")]);
        let counted = Counted::of(&cluster, &p, true).expect("it has constraints");
        let check = |n: &str| counted.check(&p, cluster.node(n).expect("the node"));
        assert_eq!(check("a"), Err(Refusal::Skew));
        assert_eq!(check("b"), Ok(()));
        assert_eq!(check("c"), Err(Refusal::MissingLabel));
        assert!(Counted::of(&cluster, &p, false).is_none());
    }

    #[test]
    fn too_few_domains_count_as_an_empty_one() {
        let p = spreading("DoNotSchedule", json!({"minDomains": 3}));
        let cluster = cluster(&[("1", "a"), ("2", "b")]);
        let counted = Counted::of(&cluster, &p, true).expect("it has constraints");
        assert_eq!(counted.check(&p, cluster.node("a").expect("a")), Err(Refusal::Skew));
    }

    #[test]
    fn optional_constraints_prefer_the_emptier_domain() {
        let p = spreading("ScheduleAnyway", json!({}));
        let cluster = cluster(&[("1", "a"), ("2", "a"), ("3", "b")]);
        let counted = Counted::of(&cluster, &p, false).expect("it has constraints");
        let nodes: Vec<_> = ["a", "b", "c"].iter().filter_map(|n| cluster.node(n)).collect();
        let scores = normalize(&counted.scores(&nodes));
        assert!(scores[1] > scores[0], "{scores:?}");
        assert_eq!(scores[2], 0);
        assert_eq!(normalize(&[Some(0), Some(0)]), [100, 100]);
    }
}
