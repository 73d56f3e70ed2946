//! Which nodes a pod can run on, and why not on the others. The reasons and their order are
//! upstream's default plugins'.

use std::borrow::Cow;

use super::interpod;
use super::podinfo::{PodInfo, ports_conflict};
use super::selectors;
use super::snapshot::{Cluster, NodeInfo};
use super::spread;
use super::volumes::Demands;

/// What may make a refused pod fit; a set of bits.
pub type Events = u16;
/// A node appeared.
pub const NODE_ADDED: Events = 1;
/// A node offers other amounts.
pub const NODE_ALLOCATABLE: Events = 2;
/// A node has other labels.
pub const NODE_LABELS: Events = 4;
/// A node has other taints, or was cordoned or uncordoned.
pub const NODE_TAINTS: Events = 8;
/// A pod was placed, or a placed pod has other labels.
pub const POD_ADDED: Events = 16;
/// A placed pod is gone.
pub const POD_REMOVED: Events = 32;
/// A claim, volume or class changed.
pub const STORAGE: Events = 64;
/// Anything.
pub const ANYTHING: Events = Events::MAX;

/// Why a node is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Upstream's words, one an unmet condition.
    pub reasons: Vec<Cow<'static, str>>,
    /// Removing pods from the node would not help.
    pub unresolvable: bool,
    /// What may make the pod fit.
    pub hints: Events,
}

fn refuse(reason: &'static str, unresolvable: bool, hints: Events) -> Result<(), Refusal> {
    Err(Refusal { reasons: vec![Cow::Borrowed(reason)], unresolvable, hints: hints | NODE_ADDED })
}

/// What is computed once a pod, before nodes are looked at.
pub struct Prepared<'p> {
    interpod: Option<interpod::Required>,
    spread: Option<spread::Counted<'p>>,
    /// What the pod's claims demand.
    pub volumes: Demands,
}

impl<'p> Prepared<'p> {
    /// Prepares filtering for a pod.
    pub fn new(cluster: &Cluster, pod: &'p PodInfo, volumes: Demands) -> Self {
        Self {
            interpod: interpod::Required::of(cluster, pod),
            spread: spread::Counted::of(cluster, pod, true),
            volumes,
        }
    }

    /// Whether the pod can run on the node.
    pub fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
        let spec = &pod.pod.spec;
        if node.unschedulable && !tolerates_cordon(pod) {
            return refuse("node(s) were unschedulable", true, NODE_TAINTS);
        }
        if spec.node_name.as_deref().is_some_and(|n| !n.is_empty() && *n != *node.name) {
            return refuse("node(s) didn't match the requested node name", true, 0);
        }
        if !node.taints.is_empty()
            && selectors::untolerated(&node.taints, &spec.tolerations, &["NoSchedule", "NoExecute"]).is_some()
        {
            return refuse("node(s) had untolerated taint(s)", true, NODE_TAINTS);
        }
        if !node_affinity_selects(pod, node) {
            return refuse("node(s) didn't match Pod's node affinity/selector", true, NODE_LABELS);
        }
        if pod.ports.iter().any(|p| node.ports.iter().any(|q| ports_conflict(p, q))) {
            return refuse("node(s) didn't have free ports for the requested pod ports", false, POD_REMOVED);
        }
        fits(pod, node)?;
        if !self.volumes.allow(node) {
            return refuse(
                "node(s) didn't match PersistentVolume's node affinity",
                true,
                STORAGE | NODE_LABELS,
            );
        }
        self.check_spread(pod, node)?;
        self.check_interpod(pod, node)
    }

    fn check_spread(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
        let hints = POD_ADDED | POD_REMOVED | NODE_LABELS;
        match self.spread.as_ref().map(|s| s.check(pod, node)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(spread::Refusal::MissingLabel)) => refuse(
                "node(s) didn't match pod topology spread constraints (missing required label)",
                true,
                hints,
            ),
            Some(Err(spread::Refusal::Skew)) => {
                refuse("node(s) didn't match pod topology spread constraints", false, hints)
            }
        }
    }

    fn check_interpod(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
        let hints = POD_ADDED | POD_REMOVED | NODE_LABELS;
        match self.interpod.as_ref().map(|s| s.check(pod, node)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(interpod::Refusal::Affinity)) => {
                refuse("node(s) didn't match pod affinity rules", true, hints)
            }
            Some(Err(interpod::Refusal::AntiAffinity)) => {
                refuse("node(s) didn't match pod anti-affinity rules", false, hints)
            }
            Some(Err(interpod::Refusal::Existing)) => {
                refuse("node(s) didn't satisfy existing pods anti-affinity rules", false, hints)
            }
        }
    }
}

fn tolerates_cordon(pod: &PodInfo) -> bool {
    let cordon = k8s_openapi::api::core::v1::Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Default::default()
    };
    pod.pod.spec.tolerations.iter().any(|t| selectors::tolerates(t, &cordon))
}

/// Whether a pod's node selector and required node affinity select a node.
pub fn node_affinity_selects(pod: &PodInfo, node: &NodeInfo) -> bool {
    if let Some(selector) = &pod.pod.spec.node_selector {
        let labels = node.labels();
        if !selector.iter().all(|(k, v)| labels.get(k) == Some(v)) {
            return false;
        }
    }
    let required = pod.rules.as_ref().and_then(|r| r.required_node.as_ref());
    required.is_none_or(|r| selectors::selects(r, &node.name, node.labels()))
}

/// Whether the node has room for what the pod requests.
fn fits(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    let mut unresolvable = false;
    let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    if pods + 1 > node.max_pods {
        reasons.push("Too many pods".into());
    }
    let (wanted, taken, offered) = (&pod.requests, &node.requested, &node.allocatable);
    let mut check = |reason: Cow<'static, str>, wanted: i64, taken: i64, offered: i64| {
        if wanted > 0 && wanted > offered - taken {
            reasons.push(reason);
            unresolvable |= wanted > offered;
        }
    };
    check("Insufficient cpu".into(), wanted.milli_cpu, taken.milli_cpu, offered.milli_cpu);
    check("Insufficient memory".into(), wanted.memory, taken.memory, offered.memory);
    check("Insufficient ephemeral-storage".into(), wanted.ephemeral, taken.ephemeral, offered.ephemeral);
    for (name, amount) in &wanted.extended {
        let of = |a: &super::resources::Amounts| a.extended.get(name).copied().unwrap_or_default();
        check(format!("Insufficient {name}").into(), *amount, of(taken), of(offered));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Refusal { reasons, unresolvable, hints: NODE_ADDED | NODE_ALLOCATABLE | POD_REMOVED })
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::{cpu_pod, node, pod};
    use super::*;
    use k8s_openapi::api::core::v1::{Node, Taint};
    use serde_json::json;
    use std::sync::Arc;

    fn verdict(cluster: &Cluster, pod: &PodInfo) -> String {
        let prepared = Prepared::new(cluster, pod, Demands::default());
        match prepared.check(pod, &cluster.nodes[0]) {
            Ok(()) => "fits".into(),
            Err(r) => format!("{}{}", if r.unresolvable { "!" } else { "" }, r.reasons.join("; ")),
        }
    }

    fn one(change: impl FnOnce(&mut Node)) -> Cluster {
        let mut n = Node::clone(&node("a", json!({"disk": "ssd"})));
        change(&mut n);
        let mut cluster = Cluster::default();
        cluster.set_node(Arc::new(n));
        cluster
    }

    #[test]
    fn room_is_checked_for_every_resource() {
        let mut cluster = one(|_| {});
        assert_eq!(verdict(&cluster, &cpu_pod("p", "4")), "fits");
        assert_eq!(verdict(&cluster, &cpu_pod("p", "5")), "!Insufficient cpu");
        cluster.place(cpu_pod("q", "3"), "a");
        assert_eq!(verdict(&cluster, &cpu_pod("p", "2")), "Insufficient cpu");
        let greedy = pod(
            "p",
            json!({}),
            json!({"containers": [{"name": "c",
            "resources": {"requests": {"memory": "9Gi", "gpu.io/x": "1"}}}]}),
        );
        assert_eq!(verdict(&cluster, &greedy), "!Insufficient memory; Insufficient gpu.io/x");
        let full = one(|n| {
            let offered = n.status.get_or_insert_default().allocatable.get_or_insert_default();
            offered
                .insert("pods".into(), k8s_openapi::apimachinery::pkg::api::resource::Quantity("0".into()));
        });
        assert_eq!(verdict(&full, &cpu_pod("p", "1")), "Too many pods");
    }

    #[test]
    fn taints_cordons_and_selectors() {
        let tainted = one(|n| {
            n.spec.get_or_insert_default().taints =
                Some(vec![Taint { key: "k".into(), effect: "NoSchedule".into(), ..Default::default() }]);
        });
        assert_eq!(verdict(&tainted, &cpu_pod("p", "1")), "!node(s) had untolerated taint(s)");
        let tolerant = pod("p", json!({}), json!({"tolerations": [{"operator": "Exists"}]}));
        assert_eq!(verdict(&tainted, &tolerant), "fits");
        let cordoned = one(|n| n.spec.get_or_insert_default().unschedulable = Some(true));
        assert_eq!(verdict(&cordoned, &cpu_pod("p", "1")), "!node(s) were unschedulable");
        assert_eq!(verdict(&cordoned, &tolerant), "fits");
        for (disk, expected) in
            [("ssd", "fits"), ("hdd", "!node(s) didn't match Pod's node affinity/selector")]
        {
            assert_eq!(
                verdict(&one(|_| {}), &pod("p", json!({}), json!({"nodeSelector": {"disk": disk}}))),
                expected
            );
        }
    }

    #[test]
    fn host_ports_are_exclusive() {
        let mut cluster = one(|_| {});
        let web = |name: &str| {
            pod(
                name,
                json!({}),
                json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
            )
        };
        assert_eq!(verdict(&cluster, &web("p")), "fits");
        cluster.place(web("q"), "a");
        assert_eq!(
            verdict(&cluster, &web("p")),
            "node(s) didn't have free ports for the requested pod ports"
        );
    }
}
