//! Inter-pod affinity and anti-affinity: counts of matching pods by topology domain, computed once
//! a pod to be placed and looked up for every node.

use std::collections::HashMap;

use super::podinfo::PodInfo;
use super::selectors::PodTerm;
use super::snapshot::{Cluster, NodeInfo};

/// Weight of another pod's required affinity to the incoming pod, when nodes are scored.
const HARD_AFFINITY_WEIGHT: i64 = 1;

type Domain = (String, String);
type Counts = HashMap<Domain, i64>;

/// Why a node is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A pod there refuses the incoming pod.
    Existing,
    /// The incoming pod's affinity is not met.
    Affinity,
    /// The incoming pod's anti-affinity is violated.
    AntiAffinity,
}

/// What required rules demand of a node for one incoming pod.
#[derive(Debug, Default)]
pub struct Required {
    existing: Counts,
    affinity: Counts,
    anti_affinity: Counts,
    matches_self: bool,
}

fn domain(node: &NodeInfo, key: &str) -> Option<Domain> {
    node.labels().get(key).map(|value| (key.to_owned(), value.clone()))
}

fn bump(counts: &mut Counts, node: &NodeInfo, key: &str, by: i64) {
    if let Some(domain) = domain(node, key) {
        *counts.entry(domain).or_default() += by;
    }
}

fn count_at(counts: &Counts, node: &NodeInfo, key: &str) -> Option<i64> {
    domain(node, key).map(|d| counts.get(&d).copied().unwrap_or_default())
}

impl Required {
    /// Counts for an incoming pod; `None` when no required rule of anybody concerns it.
    pub fn of(cluster: &Cluster, pod: &PodInfo) -> Option<Self> {
        let none: &[PodTerm] = &[];
        let (affinity, anti) =
            pod.rules.as_ref().map_or((none, none), |r| (r.affinity.as_slice(), r.anti_affinity.as_slice()));
        if affinity.is_empty() && anti.is_empty() && cluster.anti_affinity_pods == 0 {
            return None;
        }
        let matches = |term: &PodTerm, other: &PodInfo| term.matches(&other.pod, &cluster.namespaces);
        let mut state = Self { matches_self: affinity.iter().all(|t| matches(t, pod)), ..Self::default() };
        let all = !affinity.is_empty() || !anti.is_empty();
        for node in cluster.nodes.iter().filter(|n| n.node.is_some() && (all || n.with_anti_affinity > 0)) {
            for other in node.pods.values() {
                for term in other.rules.iter().flat_map(|r| &r.anti_affinity) {
                    if term.matches(&pod.pod, &cluster.namespaces) {
                        bump(&mut state.existing, node, &term.topology_key, 1);
                    }
                }
                if other.pod.is_terminating() && !all {
                    continue;
                }
                if !affinity.is_empty() && affinity.iter().all(|t| matches(t, other)) {
                    affinity.iter().for_each(|t| bump(&mut state.affinity, node, &t.topology_key, 1));
                }
                for term in anti.iter().filter(|t| matches(t, other)) {
                    bump(&mut state.anti_affinity, node, &term.topology_key, 1);
                }
            }
        }
        Some(state)
    }

    /// Whether the rules allow a node.
    pub fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
        if let Some(rules) = &pod.rules {
            let here = |t: &PodTerm| count_at(&self.affinity, node, &t.topology_key);
            if !rules.affinity.iter().all(|t| here(t).is_some_and(|n| n > 0)) {
                // The first pod of a group that wants to be together has nobody to join.
                let first = self.affinity.is_empty()
                    && self.matches_self
                    && rules.affinity.iter().all(|t| here(t).is_some());
                if !first {
                    return Err(Refusal::Affinity);
                }
            }
            let violated =
                |t: &PodTerm| count_at(&self.anti_affinity, node, &t.topology_key).is_some_and(|n| n > 0);
            if rules.anti_affinity.iter().any(violated) {
                return Err(Refusal::AntiAffinity);
            }
        }
        if !self.existing.is_empty() && self.existing.keys().any(|(k, v)| node.labels().get(k) == Some(v)) {
            return Err(Refusal::Existing);
        }
        Ok(())
    }
}

/// Scores of topology domains from preferred rules, the incoming pod's and those of the pods there.
#[derive(Debug)]
pub struct Preferred(Counts);

impl Preferred {
    /// Scores for an incoming pod; `None` when no preference concerns it.
    pub fn of(cluster: &Cluster, pod: &PodInfo) -> Option<Self> {
        let own = pod.rules.as_ref().map(|r| r.preferred_pods.as_slice()).unwrap_or_default();
        if own.is_empty() && cluster.pod_rule_pods == 0 {
            return None;
        }
        let mut scores = Counts::new();
        for node in
            cluster.nodes.iter().filter(|n| n.node.is_some() && (!own.is_empty() || n.with_pod_rules > 0))
        {
            for other in node.pods.values() {
                for (weight, term) in own {
                    if term.matches(&other.pod, &cluster.namespaces) {
                        bump(&mut scores, node, &term.topology_key, *weight);
                    }
                }
                let Some(rules) = &other.rules else { continue };
                let required = rules.affinity.iter().map(|t| (HARD_AFFINITY_WEIGHT, t));
                for (weight, term) in rules.preferred_pods.iter().map(|(w, t)| (*w, t)).chain(required) {
                    if term.matches(&pod.pod, &cluster.namespaces) {
                        bump(&mut scores, node, &term.topology_key, weight);
                    }
                }
            }
        }
        (!scores.is_empty()).then_some(Self(scores))
    }

    /// The node's raw score.
    pub fn score(&self, node: &NodeInfo) -> i64 {
        let labels = node.labels();
        self.0.iter().filter(|((k, v), _)| labels.get(k) == Some(v)).map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::{node, pod};
    use super::*;
    use serde_json::{Value, json};

    fn term(app: &str) -> Value {
        json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "zone"})
    }

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        cluster.set_node(node("a", json!({"zone": "1"})));
        cluster.set_node(node("b", json!({"zone": "2"})));
        cluster.set_node(node("c", json!({})));
        cluster.place(pod("web", json!({"app": "web"}), json!({})), "a");
        cluster
    }

    fn check(cluster: &Cluster, pod: &PodInfo, name: &str) -> Result<(), Refusal> {
        let required = Required::of(cluster, pod).expect("rules apply");
        required.check(pod, cluster.node(name).expect("the node"))
    }

    #[test]
    fn required_affinity_follows_the_pod_and_needs_the_label() {
        let cluster = cluster();
        let spec = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term("web")]}}});
        let p = pod("p", json!({}), spec);
        assert_eq!(check(&cluster, &p, "a"), Ok(()));
        assert_eq!(check(&cluster, &p, "b"), Err(Refusal::Affinity));
        assert_eq!(check(&cluster, &p, "c"), Err(Refusal::Affinity));
    }

    #[test]
    fn the_first_of_a_group_may_go_anywhere_with_the_label() {
        let cluster = cluster();
        let spec = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term("new")]}}});
        let first = pod("p", json!({"app": "new"}), spec.clone());
        assert_eq!(check(&cluster, &first, "b"), Ok(()));
        assert_eq!(check(&cluster, &first, "c"), Err(Refusal::Affinity));
        let stranger = pod("q", json!({"app": "x"}), spec);
        assert_eq!(check(&cluster, &stranger, "b"), Err(Refusal::Affinity));
    }

    #[test]
    fn anti_affinity_works_both_ways() {
        let mut cluster = cluster();
        let spec = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term("web")]}}});
        let p = pod("p", json!({"app": "web"}), spec);
        assert_eq!(check(&cluster, &p, "a"), Err(Refusal::AntiAffinity));
        assert_eq!(check(&cluster, &p, "b"), Ok(()));
        cluster.place(p, "b");
        let plain = pod("q", json!({"app": "web"}), json!({}));
        assert_eq!(check(&cluster, &plain, "b"), Err(Refusal::Existing));
        assert_eq!(check(&cluster, &plain, "c"), Ok(()));
        let other = pod("r", json!({"app": "db"}), json!({}));
        assert_eq!(check(&cluster, &other, "b"), Ok(()));
    }

    #[test]
    fn preferences_attract_and_repel() {
        let cluster = cluster();
        for (kind, expected) in [("podAffinity", 10), ("podAntiAffinity", -10)] {
            let spec = json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 10, "podAffinityTerm": term("web")}]}}});
            let scores = Preferred::of(&cluster, &pod("p", json!({}), spec)).expect("it has a preference");
            assert_eq!(scores.score(cluster.node("a").expect("a")), expected);
            assert_eq!(scores.score(cluster.node("b").expect("b")), 0);
        }
        assert!(Preferred::of(&cluster, &pod("p", json!({}), json!({}))).is_none());
    }
}
