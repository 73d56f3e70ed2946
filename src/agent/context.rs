//! What all parts of the agent share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::runtime::reflector::Store;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::claims::Claims;
use super::counts::{ProbeCounts, Starts};
use super::events::Recorder;
use super::fields::Allocatable;
use super::images::{ImageService, Puller};
use super::mirrors::Statics;
use super::objects::Objects;
use super::orders::{Orders, Pressure};
use super::paths::Paths;
use super::spec;
use crate::config::NodeSettings;
use crate::network::PodNetwork;
use crate::runtime::Runtime;
use crate::supervisor::Supervisor;

/// Handles and settings, made once.
pub(crate) struct Context {
    /// The node's settings.
    pub settings: NodeSettings,
    /// A client that acts as this node.
    pub client: kube::Client,
    /// Sandboxes and containers.
    pub runtime: Runtime,
    /// Images.
    pub images: Arc<dyn ImageService>,
    /// Pulls of images.
    pub puller: Arc<Puller>,
    /// Notified when an image was pulled: the node's status lists them.
    pub images_changed: Arc<Notify>,
    /// Events.
    pub events: Recorder,
    /// ConfigMaps and Secrets.
    pub objects: Objects,
    /// Directories.
    pub paths: Paths,
    /// Spawns tasks.
    pub supervisor: Supervisor,
    /// The pod network, once the node has its pod CIDR.
    pub network: watch::Receiver<Option<PodNetwork>>,
    /// All Services.
    pub services: Store<Service>,
    /// This node's pods.
    pub pods: Pods,
    /// Results of their probes.
    pub probe_counts: ProbeCounts,
    /// This node, as last seen; before it is registered, as it is going to be.
    pub node: watch::Receiver<Arc<Node>>,
    /// Pods that files of this node define.
    pub statics: Statics,
    /// Bytes of memory of this machine.
    pub memory_capacity: i64,
    /// What pods of this node may use at most.
    pub allocatable: Allocatable,
    /// What the node is short of.
    pub pressure: watch::Receiver<Pressure>,
    /// Pods that are evicted.
    pub evictions: Orders,
    /// The volumes of claims that pods use.
    pub claims: Arc<Claims>,
}

impl Context {
    /// The node's addresses, the first one first.
    pub(crate) fn node_addresses(&self) -> [IpAddr; 1] {
        [self.settings.node_ip]
    }

    /// Tells of something about the node.
    pub(crate) fn node_event(&self, type_: &'static str, reason: &'static str, text: String) {
        self.events.node(&self.settings.node_name, type_, reason, text);
    }
}

/// A pod without its managed fields.
#[derive(Debug)]
struct Known {
    pod: Arc<Pod>,
    /// Its managed fields as JSON: nobody here needs them, and as trees they are larger than all the rest.
    managed_fields: Box<[u8]>,
}

/// This node's pods by uid, as the watch shows them.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    all: RwLock<BTreeMap<String, Known>>,
    /// How long they take to start.
    pub starts: Starts,
    changed: watch::Sender<()>,
}

impl Pods {
    /// Notes a pod's newest state; gives it back without its managed fields.
    pub(crate) fn set(&self, mut pod: Pod) -> Arc<Pod> {
        let fields = pod.metadata.managed_fields.take();
        let fields = fields.and_then(|f| serde_json::to_vec(&f).ok()).unwrap_or_default();
        let pod = Arc::new(pod);
        self.starts.observe(&pod);
        let known = Known { pod: Arc::clone(&pod), managed_fields: fields.into() };
        self.all.write().insert(spec::uid(&pod).to_owned(), known);
        self.changed.send_replace(());
        pod
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, uid: &str) {
        self.starts.forget(uid);
        self.all.write().remove(uid);
        self.changed.send_replace(());
    }

    /// Tells of every change.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// All pods, without their managed fields.
    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.all.read().values().map(|known| Arc::clone(&known.pod)).collect()
    }

    /// All pods in full.
    pub(crate) fn in_full(&self) -> Vec<Value> {
        let full = |known: &Known| {
            let mut pod = json!(*known.pod);
            if let Ok(fields) = serde_json::from_slice(&known.managed_fields) {
                pod["metadata"]["managedFields"] = fields;
            }
            pod
        };
        self.all.read().values().map(full).collect()
    }

    /// The pod of that name; a given uid must be its own.
    pub(crate) fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Pod>> {
        let pods = self.all.read();
        pods.values()
            .map(|known| &known.pod)
            .filter(|p| spec::namespace(p) == namespace && spec::name(p) == name)
            .filter(|p| uid.is_none_or(|u| u == spec::uid(p)))
            .max_by_key(|p| p.metadata.creation_timestamp.clone().map(|t| t.0))
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_fields_are_kept_aside() {
        let full = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u", "managedFields": [
            {"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:x": {}}}}]}});
        let pods = Pods::default();
        let pod = pods.set(serde_json::from_value(full.clone()).expect("a pod"));
        assert_eq!(pod.metadata.managed_fields, None);
        assert_eq!(pods.in_full(), [full]);
    }
}
