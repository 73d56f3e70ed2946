//! The scheduler's picture of the cluster, kept up to date change by change: what each node offers
//! and what is taken of it, pods whose binding is still under way included.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use super::podinfo::{HostPort, PodInfo, normalize_image};
use super::resources::Amounts;
use super::selectors::Namespaces;
use crate::server::controllers::kit::meta::{self, Labels};
use crate::server::controllers::kit::quantity;

/// One node.
#[derive(Debug, Default)]
pub struct NodeInfo {
    /// Its name.
    pub name: Arc<str>,
    /// The object; `None` when only pods of it are known.
    pub node: Option<Arc<Node>>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// What it offers.
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub max_pods: i64,
    /// What its pods request.
    pub requested: Amounts,
    /// CPU and memory its pods count as when it is scored.
    pub scored: (i64, i64),
    /// Ports in use.
    pub ports: Vec<HostPort>,
    /// Sizes of the images it has.
    pub images: HashMap<String, i64>,
    /// Its pods by uid.
    pub pods: BTreeMap<String, Arc<PodInfo>>,
    /// How many of them have rules about other pods.
    pub with_pod_rules: usize,
    /// How many of them refuse the company of some pods.
    pub with_anti_affinity: usize,
}

impl NodeInfo {
    /// Its labels.
    pub fn labels(&self) -> &Labels {
        static NONE: Labels = Labels::new();
        self.node.as_ref().map_or(&NONE, |n| meta::labels(&n.metadata))
    }

    fn set(&mut self, node: Arc<Node>) {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let offered = status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref()));
        self.taints = spec.and_then(|s| s.taints.clone()).unwrap_or_default();
        self.unschedulable = spec.and_then(|s| s.unschedulable).unwrap_or(false);
        self.allocatable = Amounts::parse(offered);
        self.max_pods = offered.and_then(|o| o.get("pods")).map_or(0, |q| quantity::value(&q.0));
        self.images = HashMap::new();
        for image in status.and_then(|s| s.images.as_ref()).into_iter().flatten() {
            for name in image.names.iter().flatten() {
                self.images.insert(normalize_image(name), image.size_bytes.unwrap_or_default());
            }
        }
        self.node = Some(node);
    }

    fn account(&mut self, info: &PodInfo, sign: i64) {
        self.requested.add(&info.requests, sign);
        self.scored.0 += sign * info.scored.0;
        self.scored.1 += sign * info.scored.1;
        let count = |n: &mut usize, yes: bool| {
            if yes {
                *n = if sign > 0 { *n + 1 } else { n.saturating_sub(1) };
            }
        };
        let rules = info.rules.as_deref();
        count(&mut self.with_anti_affinity, rules.is_some_and(|r| !r.anti_affinity.is_empty()));
        count(
            &mut self.with_pod_rules,
            rules.is_some_and(|r| !r.affinity.is_empty() || !r.preferred_pods.is_empty()),
        );
        for port in &info.ports {
            if sign > 0 {
                self.ports.push(port.clone());
            } else if let Some(i) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(i);
            }
        }
    }
}

/// All nodes with their pods.
#[derive(Debug, Default)]
pub struct Cluster {
    /// Nodes, in no order; those without an object are not candidates.
    pub nodes: Vec<NodeInfo>,
    index: HashMap<Arc<str>, usize>,
    /// On which node a pod is, by uid.
    placed: HashMap<String, Arc<str>>,
    /// On how many nodes an image is.
    pub image_spread: HashMap<String, i64>,
    /// Labels of namespaces.
    pub namespaces: Namespaces,
    /// How many nodes have an object.
    pub candidates: usize,
    /// How many pods there are with required anti-affinity.
    pub anti_affinity_pods: usize,
    /// How many pods there are with rules about other pods.
    pub pod_rule_pods: usize,
}

impl Cluster {
    /// The node of this name.
    #[cfg(test)]
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|i| &self.nodes[*i])
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(i) = self.index.get(name) {
            return *i;
        }
        let name: Arc<str> = name.into();
        self.nodes.push(NodeInfo { name: Arc::clone(&name), ..NodeInfo::default() });
        self.index.insert(name, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn count_images(&mut self, slot: usize, sign: i64) {
        for image in self.nodes[slot].images.keys() {
            let count = self.image_spread.entry(image.clone()).or_default();
            *count += sign;
        }
        self.image_spread.retain(|_, n| *n > 0);
    }

    /// A node was created or changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let slot = self.slot(meta::name(&node.metadata));
        if self.nodes[slot].node.is_none() {
            self.candidates += 1;
        }
        let same_images = {
            let images = |n: &Node| n.status.as_ref().and_then(|s| s.images.clone());
            self.nodes[slot].node.as_ref().is_some_and(|old| images(old) == images(&node))
        };
        if same_images {
            self.nodes[slot].set(node);
        } else {
            self.count_images(slot, -1);
            self.nodes[slot].set(node);
            self.count_images(slot, 1);
        }
    }

    /// A node was deleted. Its pods stay known until they are deleted too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.index.get(name).copied() else { return };
        self.count_images(slot, -1);
        if self.nodes[slot].node.take().is_some() {
            self.candidates -= 1;
        }
        self.nodes[slot].images.clear();
        self.drop_if_empty(slot);
    }

    fn drop_if_empty(&mut self, slot: usize) {
        let info = &self.nodes[slot];
        if info.node.is_some() || !info.pods.is_empty() {
            return;
        }
        let name = Arc::clone(&info.name);
        self.index.remove(&name);
        self.nodes.swap_remove(slot);
        if let Some(moved) = self.nodes.get(slot) {
            self.index.insert(Arc::clone(&moved.name), slot);
        }
    }

    /// Puts a pod on a node, also before the API knows (the pod is then assumed). A pod that is known
    /// already is replaced.
    pub fn place(&mut self, info: Arc<PodInfo>, node: &str) {
        self.unplace(info.uid());
        let slot = self.slot(node);
        let target = &mut self.nodes[slot];
        target.account(&info, 1);
        self.anti_affinity_pods +=
            usize::from(info.rules.as_ref().is_some_and(|r| !r.anti_affinity.is_empty()));
        self.pod_rule_pods += usize::from(
            info.rules.as_ref().is_some_and(|r| !r.affinity.is_empty() || !r.preferred_pods.is_empty()),
        );
        self.placed.insert(info.uid().to_owned(), Arc::clone(&target.name));
        target.pods.insert(info.uid().to_owned(), info);
    }

    /// Takes a pod off its node. Tells whether it was on one.
    pub fn unplace(&mut self, uid: &str) -> bool {
        let Some(node) = self.placed.remove(uid) else { return false };
        let Some(slot) = self.index.get(&node).copied() else { return false };
        if let Some(info) = self.nodes[slot].pods.remove(uid) {
            self.nodes[slot].account(&info, -1);
            self.anti_affinity_pods -=
                usize::from(info.rules.as_ref().is_some_and(|r| !r.anti_affinity.is_empty()));
            self.pod_rule_pods -= usize::from(
                info.rules.as_ref().is_some_and(|r| !r.affinity.is_empty() || !r.preferred_pods.is_empty()),
            );
        }
        self.drop_if_empty(slot);
        true
    }

    /// The node a pod is on.
    pub fn placed_on(&self, uid: &str) -> Option<&Arc<str>> {
        self.placed.get(uid)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::server::controllers::kit::pod::Pod;
    use serde_json::{Value, json};

    /// A node with labels and room for 4 CPUs, 8 GiB and 110 pods.
    pub fn node(name: &str, labels: Value) -> Arc<Node> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": labels},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}
            }))
            .expect("a node"),
        )
    }

    /// A pod with uid = name, labels and spec.
    pub fn pod(name: &str, labels: Value, spec: Value) -> Arc<PodInfo> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels}, "spec": spec
        }))
        .expect("a pod");
        Arc::new(PodInfo::new(Arc::new(pod)))
    }

    /// A pod that requests CPU.
    pub fn cpu_pod(name: &str, cpu: &str) -> Arc<PodInfo> {
        pod(name, json!({}), json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
    }

    #[test]
    fn placing_and_removing_pods_balances_out() {
        let mut cluster = Cluster::default();
        cluster.set_node(node("a", json!({})));
        cluster.place(cpu_pod("p", "1"), "a");
        cluster.place(cpu_pod("p", "1"), "a");
        assert_eq!(cluster.node("a").map(|n| n.requested.milli_cpu), Some(1000));
        assert!(cluster.unplace("p") && !cluster.unplace("p"));
        let a = cluster.node("a").expect("it is there");
        assert_eq!((a.requested.milli_cpu, a.scored, a.pods.len()), (0, (0, 0), 0));
    }

    #[test]
    fn a_deleted_node_is_no_candidate_but_its_pods_stay_known() {
        let mut cluster = Cluster::default();
        cluster.set_node(node("a", json!({})));
        cluster.set_node(node("b", json!({})));
        cluster.place(cpu_pod("p", "1"), "a");
        cluster.remove_node("a");
        assert_eq!((cluster.candidates, cluster.nodes.len()), (1, 2));
        cluster.unplace("p");
        assert_eq!(cluster.nodes.len(), 1);
        assert!(cluster.node("b").is_some());
    }

    #[test]
    fn images_are_counted_over_nodes() {
        let mut cluster = Cluster::default();
        let with = |name: &str| {
            let mut n = Node::clone(&node(name, json!({})));
            n.status.get_or_insert_default().images =
                Some(vec![k8s_openapi::api::core::v1::ContainerImage {
                    names: Some(vec!["nginx".into()]),
                    size_bytes: Some(7),
                }]);
            Arc::new(n)
        };
        cluster.set_node(with("a"));
        cluster.set_node(with("b"));
        cluster.set_node(with("b"));
        assert_eq!(cluster.image_spread["nginx:latest"], 2);
        cluster.remove_node("a");
        assert_eq!(cluster.image_spread["nginx:latest"], 1);
    }
}
