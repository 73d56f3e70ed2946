//! Claims of a pod: which nodes their volumes can be used on.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::podinfo::PodInfo;
use super::selectors;
use super::snapshot::NodeInfo;
use crate::server::controllers::kit::meta;
use crate::server::controllers::kit::{Informer, Key, Subscription};

/// Annotation by which the scheduler tells the provisioner where a volume is needed.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Claims, volumes and classes.
#[derive(Clone)]
pub struct Storage {
    /// PersistentVolumeClaims.
    pub claims: Arc<Informer<PersistentVolumeClaim>>,
    /// PersistentVolumes.
    pub volumes: Arc<Informer<PersistentVolume>>,
    /// StorageClasses.
    pub classes: Arc<Informer<StorageClass>>,
}

/// What a pod's claims demand.
#[derive(Debug, Default)]
pub struct Demands {
    /// Node affinities of the bound volumes.
    pub affinities: Vec<NodeSelector>,
    /// Claims that are bound only once a node is chosen.
    pub waiting: Vec<String>,
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_ref()).is_some_and(|n| !n.is_empty())
        && claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
}

impl Storage {
    /// What a pod's claims demand, or why it cannot be placed anywhere yet.
    pub fn demands(&self, pod: &PodInfo) -> Result<Demands, String> {
        let mut demands = Demands::default();
        for name in pod.claims() {
            let key = Key::new(meta::namespace(&pod.pod.metadata), &name);
            let Some(claim) = self.claims.get(&key) else {
                return Err(format!("persistentvolumeclaim \"{name}\" not found"));
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            if is_bound(&claim) {
                demands.affinities.extend(self.affinity(&claim));
            } else if self.waits_for_consumer(&claim) {
                demands.waiting.push(name);
            } else {
                return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
            }
        }
        Ok(demands)
    }

    fn affinity(&self, claim: &PersistentVolumeClaim) -> Option<NodeSelector> {
        let name = claim.spec.as_ref()?.volume_name.as_deref()?;
        let volume = self.volumes.named(name)?;
        volume.spec.as_ref()?.node_affinity.as_ref()?.required.clone()
    }

    fn waits_for_consumer(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
        let class = self.classes.named(class);
        class.is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
    }

    /// Whether all the claims are bound.
    pub fn all_bound(&self, namespace: &str, names: &[String]) -> bool {
        names.iter().all(|n| self.claims.get(&Key::new(namespace, n)).is_some_and(|c| is_bound(&c)))
    }

    /// Calls `changed` when a claim changes.
    pub fn on_claim(&self, changed: impl Fn() + Send + Sync + 'static) -> Subscription {
        self.claims.subscribe(move |_| changed())
    }
}

impl Demands {
    /// Whether a node can use all volumes.
    pub fn allow(&self, node: &NodeInfo) -> bool {
        self.affinities.iter().all(|s| selectors::selects(s, &node.name, node.labels()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Cluster;
    use super::super::snapshot::tests::{node, pod};
    use super::*;
    use serde_json::json;

    fn storage() -> Storage {
        let storage = Storage { claims: Arc::default(), volumes: Arc::default(), classes: Arc::default() };
        let object = |v| v;
        for (name, class, volume) in [("bound", "local", "pv"), ("late", "local", ""), ("now", "fast", "")] {
            let phase = if volume.is_empty() { "Pending" } else { "Bound" };
            storage.claims.apply(
                serde_json::from_value(object(json!({"metadata": {"name": name, "namespace": "default"},
                    "spec": {"storageClassName": class, "volumeName": volume}, "status": {"phase": phase}})))
                .expect("a claim"),
            );
        }
        storage.classes.apply(
            serde_json::from_value(json!({"metadata": {"name": "local"}, "provisioner": "p",
                "volumeBindingMode": "WaitForFirstConsumer"}))
            .expect("a class"),
        );
        storage.volumes.apply(
            serde_json::from_value(json!({"metadata": {"name": "pv"}, "spec": {"nodeAffinity": {"required":
                {"nodeSelectorTerms": [{"matchExpressions":
                    [{"key": "host", "operator": "In", "values": ["a"]}]}]}}}}))
            .expect("a volume"),
        );
        storage
    }

    fn with_claim(name: &str) -> Arc<PodInfo> {
        pod("p", json!({}), json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}))
    }

    #[test]
    fn a_bound_local_volume_ties_the_pod_to_its_node() {
        let mut cluster = Cluster::default();
        cluster.set_node(node("a", json!({"host": "a"})));
        cluster.set_node(node("b", json!({"host": "b"})));
        let demands = storage().demands(&with_claim("bound")).expect("it is bound");
        assert!(demands.allow(cluster.node("a").expect("a")));
        assert!(!demands.allow(cluster.node("b").expect("b")));
    }

    #[test]
    fn unbound_claims_wait_for_the_node_or_the_pod_for_them() {
        let storage = storage();
        assert_eq!(storage.demands(&with_claim("late")).map(|d| d.waiting), Ok(vec!["late".to_owned()]));
        for (claim, message) in [
            ("now", "pod has unbound immediate PersistentVolumeClaims"),
            ("none", "persistentvolumeclaim \"none\" not found"),
        ] {
            assert_eq!(storage.demands(&with_claim(claim)).map(|d| d.waiting), Err(message.to_owned()));
        }
        assert!(storage.all_bound("default", &["bound".to_owned()]));
        assert!(!storage.all_bound("default", &["late".to_owned()]));
    }
}
