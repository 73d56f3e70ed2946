//! A pod with everything the scheduler asks about it computed once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorTerm};

use super::resources::{self, Amounts};
use super::selectors::PodTerm;
use crate::server::controllers::kit::meta::{self, Matcher};
use crate::server::controllers::kit::pod::{Container, Pod};

/// A port on the node: address (empty is all), protocol, number.
pub type HostPort = (String, String, i32);

/// Rules of a pod that most pods do not have.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Required node affinity.
    pub required_node: Option<NodeSelector>,
    /// Preferred node affinity with weights.
    pub preferred_node: Vec<(i64, NodeSelectorTerm)>,
    /// Pods it must be together with.
    pub affinity: Vec<PodTerm>,
    /// Pods it must be apart from.
    pub anti_affinity: Vec<PodTerm>,
    /// Pods it would like to be together with (positive) or apart from (negative weight).
    pub preferred_pods: Vec<(i64, PodTerm)>,
    /// Topology spread constraints.
    pub spread: Vec<Spread>,
}

/// A topology spread constraint.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Largest allowed difference between domains.
    pub max_skew: i64,
    /// Label of nodes whose values are the domains.
    pub topology_key: String,
    /// Pods that are counted.
    pub selector: Matcher,
    /// With fewer domains, the least count is taken as 0.
    pub min_domains: i64,
    /// The constraint must hold (`DoNotSchedule`), or only should.
    pub required: bool,
    /// Count only nodes that the pod's node affinity selects.
    pub honor_affinity: bool,
    /// Count only nodes whose taints the pod tolerates.
    pub honor_taints: bool,
}

/// A pod as the scheduler sees it.
#[derive(Debug)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What it requests.
    pub requests: Amounts,
    /// CPU (thousandths) and memory it counts as when nodes are scored.
    pub scored: (i64, i64),
    /// Ports it takes on its node.
    pub ports: Vec<HostPort>,
    /// Rules, if it has any.
    pub rules: Option<Box<Rules>>,
}

impl PodInfo {
    /// Computes the scheduler's view of a pod.
    pub fn new(pod: Arc<Pod>) -> Self {
        let (requests, scored) = resources::of_pod(&pod);
        let sidecars =
            pod.spec.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let ports = pod.spec.containers.iter().chain(sidecars).flat_map(host_ports).collect();
        let rules = rules(&pod);
        Self { requests, scored, ports, rules, pod }
    }

    /// The pod's uid.
    pub fn uid(&self) -> &str {
        meta::uid(&self.pod.metadata)
    }

    /// The pod's priority.
    pub fn priority(&self) -> i32 {
        self.pod.spec.priority.unwrap_or_default()
    }

    /// The pod's images by their normalised names.
    pub fn images(&self) -> impl Iterator<Item = String> {
        let containers = self.pod.spec.init_containers.iter().chain(&self.pod.spec.containers);
        containers.filter_map(|c| c.image.as_deref()).map(normalize_image)
    }

    /// Names of the claims the pod mounts.
    pub fn claims(&self) -> impl Iterator<Item = String> {
        self.pod.spec.volumes.iter().filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", meta::name(&self.pod.metadata), v.name)),
            (None, None) => None,
        })
    }
}

fn host_ports(container: &Container) -> impl Iterator<Item = HostPort> {
    container.ports.iter().filter_map(|p| {
        let port = p.host_port.filter(|port| *port > 0)?;
        let address = p.host_ip.clone().filter(|a| a != "0.0.0.0").unwrap_or_default();
        let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some((address, protocol, port))
    })
}

/// Whether two pods cannot use these ports on one node.
pub fn ports_conflict(a: &HostPort, b: &HostPort) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0.is_empty() || b.0.is_empty())
}

/// An image name with the tag `latest` when it has neither tag nor digest.
pub fn normalize_image(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

fn rules(pod: &Pod) -> Option<Box<Rules>> {
    let spec = &pod.spec;
    if spec.affinity.is_none() && spec.topology_spread_constraints.is_empty() {
        return None;
    }
    let mut rules = Rules::default();
    let namespace = meta::namespace(&pod.metadata);
    let affinity = spec.affinity.as_deref();
    if let Some(node) = affinity.and_then(|a| a.node_affinity.as_ref()) {
        rules.required_node = node.required_during_scheduling_ignored_during_execution.clone();
        let preferred = node.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        rules.preferred_node = preferred.map(|p| (i64::from(p.weight), p.preference.clone())).collect();
    }
    if let Some(pods) = affinity.and_then(|a| a.pod_affinity.as_ref()) {
        let required = pods.required_during_scheduling_ignored_during_execution.iter().flatten();
        rules.affinity = required.map(|t| PodTerm::new(t, namespace)).collect();
        for p in pods.preferred_during_scheduling_ignored_during_execution.iter().flatten() {
            rules.preferred_pods.push((i64::from(p.weight), PodTerm::new(&p.pod_affinity_term, namespace)));
        }
    }
    if let Some(pods) = affinity.and_then(|a| a.pod_anti_affinity.as_ref()) {
        let required = pods.required_during_scheduling_ignored_during_execution.iter().flatten();
        rules.anti_affinity = required.map(|t| PodTerm::new(t, namespace)).collect();
        for p in pods.preferred_during_scheduling_ignored_during_execution.iter().flatten() {
            rules.preferred_pods.push((-i64::from(p.weight), PodTerm::new(&p.pod_affinity_term, namespace)));
        }
    }
    rules.spread = spec.topology_spread_constraints.iter().map(|c| spread(c, pod)).collect();
    Some(Box::new(rules))
}

fn spread(c: &k8s_openapi::api::core::v1::TopologySpreadConstraint, pod: &Pod) -> Spread {
    let mut selector = c.label_selector.clone();
    // `matchLabelKeys` narrows the selector to the incoming pod's own values.
    for key in c.match_label_keys.iter().flatten() {
        if let Some(value) = meta::labels(&pod.metadata).get(key) {
            let selector = selector.get_or_insert_default();
            selector.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
        }
    }
    Spread {
        max_skew: i64::from(c.max_skew),
        topology_key: c.topology_key.clone(),
        selector: Matcher::new(selector.as_ref()),
        min_domains: i64::from(c.min_domains.unwrap_or(1)),
        required: c.when_unsatisfiable != "ScheduleAnyway",
        honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_conflict_on_the_same_address_or_on_all() {
        let port = |a: &str, p: &str, n| (a.to_owned(), p.to_owned(), n);
        assert!(ports_conflict(&port("", "TCP", 80), &port("1.2.3.4", "TCP", 80)));
        assert!(!ports_conflict(&port("1.2.3.5", "TCP", 80), &port("1.2.3.4", "TCP", 80)));
        assert!(!ports_conflict(&port("", "UDP", 80), &port("", "TCP", 80)));
        assert!(!ports_conflict(&port("", "TCP", 81), &port("", "TCP", 80)));
    }

    #[test]
    fn images_without_tag_mean_latest() {
        assert_eq!(normalize_image("nginx"), "nginx:latest");
        assert_eq!(normalize_image("host:5000/nginx"), "host:5000/nginx:latest");
        assert_eq!(normalize_image("nginx:1"), "nginx:1");
        assert_eq!(normalize_image("nginx@sha256:ab"), "nginx@sha256:ab");
    }

    #[test]
    fn a_plain_pod_has_no_rules() {
        let info = PodInfo::new(Arc::new(Pod::default()));
        assert!(info.rules.is_none() && info.ports.is_empty());
    }
}
