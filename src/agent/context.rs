//! What all parts of the agent share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::runtime::reflector::Store;
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};

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

/// This node's pods by uid, as the watch shows them.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    all: RwLock<BTreeMap<String, Arc<Pod>>>,
    /// How long they take to start.
    pub starts: Starts,
    changed: watch::Sender<()>,
}

impl Pods {
    /// Notes a pod's newest state.
    pub(crate) fn set(&self, pod: Arc<Pod>) {
        self.starts.observe(&pod);
        self.all.write().insert(spec::uid(&pod).to_owned(), pod);
        self.changed.send_replace(());
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

    /// All pods.
    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.all.read().values().cloned().collect()
    }

    /// The pod of that name; a given uid must be its own.
    pub(crate) fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Pod>> {
        let pods = self.all.read();
        pods.values()
            .filter(|p| spec::namespace(p) == namespace && spec::name(p) == name)
            .filter(|p| uid.is_none_or(|u| u == spec::uid(p)))
            .max_by_key(|p| p.metadata.creation_timestamp.clone().map(|t| t.0))
            .cloned()
    }
}
