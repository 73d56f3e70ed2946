//! One decision: the best node for a pod, or why there is none.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::filters::{Events, NODE_ADDED, Prepared, Refusal, STORAGE};
use super::podinfo::PodInfo;
use super::scores;
use super::snapshot::{Cluster, NodeInfo};
use super::volumes::Demands;

/// With fewer nodes than this all possible ones are compared.
const MIN_FEASIBLE: usize = 100;
/// At least this percentage of all nodes is looked for.
const MIN_PERCENTAGE: usize = 5;

/// Why a pod fits nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Upstream's message, as in the event and the condition.
    pub message: String,
    /// What may make it fit.
    pub hints: Events,
}

/// Decides, and remembers where it stopped so that all nodes get their turn.
#[derive(Debug, Default)]
pub struct Decider {
    start: usize,
}

/// How many possible nodes are enough, as upstream's adaptive percentage.
fn enough(nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes;
    }
    let percentage = 50usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE);
    (nodes * percentage / 100).max(MIN_FEASIBLE)
}

impl Decider {
    /// Finds the node for a pod; the demands of its claims come with it.
    pub fn decide(
        &mut self,
        cluster: &Cluster,
        pod: &PodInfo,
        volumes: Result<Demands, String>,
    ) -> Result<usize, Unfit> {
        if cluster.candidates == 0 {
            return Err(Unfit {
                message: "no nodes available to schedule pods".to_owned(),
                hints: NODE_ADDED,
            });
        }
        let volumes = volumes.map_err(|reason| Unfit {
            message: fit_error(
                cluster.candidates,
                &[(Cow::Owned(reason), cluster.candidates)],
                pod,
                cluster.candidates,
            ),
            hints: STORAGE | NODE_ADDED,
        })?;
        let prepared = Prepared::new(cluster, pod, volumes);
        let mut feasible: Vec<usize> = Vec::new();
        let mut refusals: Vec<Refusal> = Vec::new();
        let wanted = enough(cluster.candidates);
        let all = cluster.nodes.len();
        let mut looked = 0;
        for offset in 0..all {
            let slot = (self.start + offset) % all;
            let node = &cluster.nodes[slot];
            looked += 1;
            if node.node.is_none() {
                continue;
            }
            match prepared.check(pod, node) {
                Ok(()) => feasible.push(slot),
                Err(refusal) => refusals.push(refusal),
            }
            if feasible.len() >= wanted {
                break;
            }
        }
        self.start = (self.start + looked) % all;
        match feasible.as_slice() {
            [] => Err(unfit(cluster.candidates, pod, refusals)),
            [only] => Ok(*only),
            _ => Ok(best(cluster, pod, &feasible)),
        }
    }
}

/// The feasible node of the highest score; a random one of several.
fn best(cluster: &Cluster, pod: &PodInfo, feasible: &[usize]) -> usize {
    let nodes: Vec<&NodeInfo> = feasible.iter().map(|i| &cluster.nodes[*i]).collect();
    let scores = scores::score(cluster, pod, &nodes);
    let (mut best, mut high, mut ties) = (feasible[0], i64::MIN, 0u32);
    for (slot, score) in feasible.iter().zip(scores) {
        if score > high {
            (best, high, ties) = (*slot, score, 1);
        } else if score == high {
            ties += 1;
            // Each of n equal nodes is taken with probability 1/n.
            if rand::random_range(0..ties) == 0 {
                best = *slot;
            }
        }
    }
    best
}

fn unfit(nodes: usize, pod: &PodInfo, refusals: Vec<Refusal>) -> Unfit {
    let mut counts: BTreeMap<Cow<'static, str>, usize> = BTreeMap::new();
    let mut hints = 0;
    let mut unresolvable = 0;
    for refusal in refusals {
        hints |= refusal.hints;
        unresolvable += usize::from(refusal.unresolvable);
        for reason in refusal.reasons {
            *counts.entry(reason).or_default() += 1;
        }
    }
    let counts: Vec<_> = counts.into_iter().collect();
    Unfit { message: fit_error(nodes, &counts, pod, unresolvable), hints }
}

/// `1 reason, 2 other reason`, in the order of the resulting text.
fn histogram(counts: &[(Cow<'static, str>, usize)]) -> String {
    let mut parts: Vec<String> = counts.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    parts.sort();
    parts.join(", ")
}

fn fit_error(
    nodes: usize,
    counts: &[(Cow<'static, str>, usize)],
    pod: &PodInfo,
    unresolvable: usize,
) -> String {
    let never = pod.pod.spec.preemption_policy.as_deref() == Some("Never");
    let preemption = if never {
        "not eligible due to preemptionPolicy=Never.".to_owned()
    } else {
        let helpless = [
            (Cow::Borrowed("No preemption victims found for incoming pod"), nodes - unresolvable),
            (Cow::Borrowed("Preemption is not helpful for scheduling"), unresolvable),
        ];
        let counts: Vec<_> = helpless.into_iter().filter(|(_, n)| *n > 0).collect();
        format!("0/{nodes} nodes are available: {}.", histogram(&counts))
    };
    format!(
        "0/{nodes} nodes are available: {}. no new claims to deallocate, preemption: {preemption}",
        histogram(counts)
    )
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::{cpu_pod, node, pod};
    use super::*;
    use serde_json::json;

    fn cluster(nodes: usize) -> Cluster {
        let mut cluster = Cluster::default();
        for i in 0..nodes {
            cluster.set_node(node(&format!("n{i}"), json!({"i": i.to_string()})));
        }
        cluster
    }

    fn decide(cluster: &Cluster, pod: &PodInfo) -> Result<usize, Unfit> {
        Decider::default().decide(cluster, pod, Ok(Demands::default()))
    }

    #[test]
    fn messages_are_upstreams() {
        let message = |c: &Cluster, p: &PodInfo| decide(c, p).map_err(|u| u.message);
        assert_eq!(
            message(&cluster(0), &cpu_pod("p", "1")),
            Err("no nodes available to schedule pods".into())
        );
        assert_eq!(
            message(&cluster(1), &cpu_pod("p", "9")),
            Err("0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes \
                 are available: 1 Preemption is not helpful for scheduling."
                .into())
        );
        let mut full = cluster(2);
        full.place(cpu_pod("q", "4"), "n0");
        let picky = pod(
            "p",
            json!({}),
            json!({"nodeSelector": {"i": "0"}, "containers":
            [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}),
        );
        assert_eq!(
            message(&full, &picky),
            Err("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector. \
                 no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found \
                 for incoming pod, 1 Preemption is not helpful for scheduling."
                .into())
        );
        let unbound = Decider::default().decide(
            &cluster(3),
            &picky,
            Err("pod has unbound immediate PersistentVolumeClaims".into()),
        );
        let text = unbound.expect_err("it is unbound").message;
        assert!(text.starts_with("0/3 nodes are available: 3 pod has unbound immediate"), "{text}");
    }

    #[test]
    fn equal_nodes_all_get_pods() {
        let cluster = cluster(3);
        let mut hits = [0; 3];
        for _ in 0..300 {
            hits[decide(&cluster, &cpu_pod("p", "1")).expect("it fits")] += 1;
        }
        assert!(hits.iter().all(|n| *n > 30), "{hits:?}");
    }

    #[test]
    fn large_clusters_are_sampled_and_every_node_gets_its_turn() {
        assert_eq!((enough(50), enough(1000), enough(10_000)), (50, 420, 500));
        let cluster = cluster(200);
        let mut decider = Decider::default();
        let mut used = std::collections::BTreeSet::new();
        for _ in 0..400 {
            used.insert(
                decider.decide(&cluster, &cpu_pod("p", "1"), Ok(Demands::default())).expect("it fits"),
            );
        }
        assert!(used.len() > 150, "{}", used.len());
    }

    #[test]
    fn hints_name_what_would_help() {
        use super::super::filters::{NODE_ALLOCATABLE, NODE_LABELS, POD_REMOVED};
        let unfit = decide(&cluster(1), &cpu_pod("p", "9")).expect_err("too large");
        assert!(unfit.hints & NODE_ALLOCATABLE != 0 && unfit.hints & POD_REMOVED != 0);
        assert_eq!(unfit.hints & NODE_LABELS, 0);
    }
}
