//! Which of the possible nodes is best: upstream's default plugins and their weights.

use super::interpod::Preferred;
use super::podinfo::PodInfo;
use super::selectors;
use super::snapshot::{Cluster, NodeInfo};
use super::spread::{self, Counted};

const TAINT_WEIGHT: i64 = 3;
const NODE_AFFINITY_WEIGHT: i64 = 2;
const SPREAD_WEIGHT: i64 = 2;
const INTERPOD_WEIGHT: i64 = 2;
const MEBIBYTE: i64 = 1024 * 1024;
/// An image smaller than this, for each container, does not count.
const IMAGE_MIN: i64 = 23 * MEBIBYTE;
/// An image larger than this, for each container, counts no more.
const IMAGE_MAX: i64 = 1000 * MEBIBYTE;

/// Scores the nodes for a pod; more is better.
pub fn score(cluster: &Cluster, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut total: Vec<i64> = nodes.iter().map(|n| least_allocated(pod, n)).collect();
    let mut add = |scores: Vec<i64>, weight: i64| {
        total.iter_mut().zip(scores).for_each(|(sum, score)| *sum += weight * score);
    };
    if !pod.requests.is_zero() {
        add(nodes.iter().map(|n| balanced(pod, n)).collect(), 1);
    }
    if nodes.iter().any(|n| n.taints.iter().any(|t| t.effect == "PreferNoSchedule")) {
        let raw = nodes.iter().map(|n| intolerable(pod, n)).collect();
        add(normalize(raw, true), TAINT_WEIGHT);
    }
    let preferred = pod.rules.as_ref().map(|r| r.preferred_node.as_slice()).unwrap_or_default();
    if !preferred.is_empty() {
        let one = |n: &&NodeInfo| {
            let selects = |t| selectors::term_selects(t, &n.name, n.labels());
            preferred.iter().filter(|(_, t)| selects(t)).map(|(w, _)| w).sum()
        };
        add(normalize(nodes.iter().map(one).collect(), false), NODE_AFFINITY_WEIGHT);
    }
    if let Some(counted) = Counted::of(cluster, pod, false) {
        add(spread::normalize(&counted.scores(nodes)), SPREAD_WEIGHT);
    }
    if let Some(scores) = Preferred::of(cluster, pod) {
        add(stretch(nodes.iter().map(|n| scores.score(n)).collect()), INTERPOD_WEIGHT);
    }
    if !cluster.image_spread.is_empty() {
        let images: Vec<String> = pod.images().collect();
        if images.iter().any(|i| cluster.image_spread.contains_key(i)) {
            add(nodes.iter().map(|n| image_locality(cluster, &images, n)).collect(), 1);
        }
    }
    total
}

/// The share of CPU and memory that would stay free.
fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let free = |wanted: i64, offered: i64| {
        if offered == 0 || wanted > offered { 0 } else { (offered - wanted) * 100 / offered }
    };
    let cpu = free(node.scored.0 + pod.scored.0, node.allocatable.milli_cpu);
    let memory_share = |bytes: i64| bytes / 1024;
    let memory = free(memory_share(node.scored.1 + pod.scored.1), memory_share(node.allocatable.memory));
    match (node.allocatable.milli_cpu, node.allocatable.memory) {
        (0, 0) => 0,
        (0, _) => memory,
        (_, 0) => cpu,
        _ => i64::midpoint(cpu, memory),
    }
}

/// How evenly CPU and memory would be used.
fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (offered, taken, wanted) = (&node.allocatable, &node.requested, &pod.requests);
    if offered.milli_cpu == 0 || offered.memory == 0 {
        return 0;
    }
    let share = |amount: i64, of: i64| (amount as f64 / of as f64).min(1.0);
    let cpu = share(taken.milli_cpu + wanted.milli_cpu, offered.milli_cpu);
    let memory = share(taken.memory + wanted.memory, offered.memory);
    ((1.0 - (cpu - memory).abs() / 2.0) * 100.0) as i64
}

/// How many taints speak against the pod without forbidding it.
fn intolerable(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let speaks = |t: &&k8s_openapi::api::core::v1::Taint| {
        t.effect == "PreferNoSchedule" && !pod.pod.spec.tolerations.iter().any(|x| selectors::tolerates(x, t))
    };
    i64::try_from(node.taints.iter().filter(speaks).count()).unwrap_or(i64::MAX)
}

/// How much of the pod's images the node has already. An image on few nodes counts less, so that
/// not all pods gather there.
fn image_locality(cluster: &Cluster, images: &[String], node: &NodeInfo) -> i64 {
    let all = i64::try_from(cluster.candidates).unwrap_or(1).max(1);
    let one = |image: &String| {
        let size = node.images.get(image).copied().unwrap_or_default();
        let on = cluster.image_spread.get(image).copied().unwrap_or_default();
        (size as f64 * on as f64 / all as f64) as i64
    };
    let sum: i64 = images.iter().map(one).sum();
    let max = IMAGE_MAX * i64::try_from(images.len()).unwrap_or(1).max(1);
    100 * (sum.clamp(IMAGE_MIN, max) - IMAGE_MIN) / (max - IMAGE_MIN)
}

/// Scales scores so that the highest is 100; reversed, the highest becomes 0.
fn normalize(mut raw: Vec<i64>, reverse: bool) -> Vec<i64> {
    let max = raw.iter().copied().max().unwrap_or_default();
    for score in &mut raw {
        let scaled = if max == 0 { 0 } else { *score * 100 / max };
        *score = if reverse { 100 - scaled } else { scaled };
    }
    raw
}

/// Scales scores so that the lowest is 0 and the highest 100.
fn stretch(mut raw: Vec<i64>) -> Vec<i64> {
    let (min, max) =
        (raw.iter().copied().min().unwrap_or_default(), raw.iter().copied().max().unwrap_or_default());
    for score in &mut raw {
        *score = if max == min { 0 } else { 100 * (*score - min) / (max - min) };
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::{cpu_pod, node, pod};
    use super::*;
    use k8s_openapi::api::core::v1::{ContainerImage, Node, Taint};
    use serde_json::json;
    use std::sync::Arc;

    fn cluster(change: impl FnOnce(&mut Node)) -> Cluster {
        let mut b = Node::clone(&node("b", json!({"disk": "ssd"})));
        change(&mut b);
        let mut cluster = Cluster::default();
        cluster.set_node(node("a", json!({})));
        cluster.set_node(Arc::new(b));
        cluster
    }

    fn scores(cluster: &Cluster, pod: &PodInfo) -> Vec<i64> {
        score(cluster, pod, &cluster.nodes.iter().collect::<Vec<_>>())
    }

    #[test]
    fn the_emptier_node_is_better() {
        let mut c = cluster(|_| {});
        c.place(cpu_pod("q", "2"), "a");
        let s = scores(&c, &cpu_pod("p", "100m"));
        assert!(s[1] > s[0], "{s:?}");
        assert_eq!(least_allocated(&cpu_pod("p", "9"), &c.nodes[0]) / 10, 4, "memory alone counts half");
    }

    #[test]
    fn uneven_use_is_worse() {
        let c = cluster(|_| {});
        let even = pod(
            "p",
            json!({}),
            json!({"containers": [{"name": "c",
            "resources": {"requests": {"cpu": "2", "memory": "4Gi"}}}]}),
        );
        assert_eq!(balanced(&even, &c.nodes[0]), 100);
        assert_eq!(balanced(&cpu_pod("p", "4"), &c.nodes[0]), 50);
    }

    #[test]
    fn soft_taints_and_preferences_count() {
        let c = cluster(|n| {
            n.spec.get_or_insert_default().taints = Some(vec![Taint {
                key: "k".into(),
                effect: "PreferNoSchedule".into(),
                ..Default::default()
            }]);
        });
        let s = scores(&c, &pod("p", json!({}), json!({})));
        assert_eq!(s[0] - s[1], 100 * TAINT_WEIGHT);
        let wants = pod(
            "p",
            json!({}),
            json!({"affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "preference": {"matchExpressions":
                [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}}}),
        );
        let s = scores(&cluster(|_| {}), &wants);
        assert_eq!(s[1] - s[0], 100 * NODE_AFFINITY_WEIGHT);
    }

    #[test]
    fn a_large_image_attracts() {
        let c = cluster(|n| {
            n.status.get_or_insert_default().images = Some(vec![ContainerImage {
                names: Some(vec!["big:1".into()]),
                size_bytes: Some(800 * MEBIBYTE),
            }]);
        });
        let p = pod("p", json!({}), json!({"containers": [{"name": "c", "image": "big:1"}]}));
        let s = scores(&c, &p);
        assert!(s[1] > s[0], "{s:?}");
    }
}
