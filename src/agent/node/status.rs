//! The Node's status, and the patch that brings the API's up to date.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus,
};
use serde_json::{Map, Value, json};

use super::info::Machine;
use crate::agent::orders::Pressure;
use crate::agent::pod::HANDLERS;
use crate::config::NodeSettings;
use crate::runtime::spec::Image;

/// kubelet reports this many names of an image at most.
const MAX_NAMES: usize = 5;

/// The status is written this often at least.
const REPORT: Duration = Duration::from_secs(300);

/// What the status depends on.
pub(super) struct Observation<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Images on it.
    pub images: &'a [Image],
    /// Pods can be given addresses.
    pub network_ready: bool,
    /// What the node is short of.
    pub pressure: Pressure,
}

impl Observation<'_> {
    /// The status as it should be.
    pub(super) fn status(&self, node: &Node, settings: &NodeSettings) -> NodeStatus {
        let [capacity, allocatable] = self.machine.resources(settings);
        NodeStatus {
            capacity: Some(capacity),
            allocatable: Some(allocatable),
            addresses: Some(addresses(settings)),
            conditions: Some(self.conditions(node)),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(settings.node_api_port) }),
            }),
            node_info: Some(self.machine.info.clone()),
            images: Some(self.image_list(settings.kubelet.node_status_max_images)),
            features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
            runtime_handlers: Some(handlers()),
            ..NodeStatus::default()
        }
    }

    fn image_list(&self, most: Option<usize>) -> Vec<ContainerImage> {
        let mut images: Vec<&Image> = self.images.iter().collect();
        images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| b.id.cmp(&a.id)));
        let entry = |i: &Image| ContainerImage {
            names: Some(i.digests.iter().chain(&i.tags).take(MAX_NAMES).cloned().collect()),
            size_bytes: i64::try_from(i.size).ok(),
        };
        images.into_iter().take(most.unwrap_or(usize::MAX)).map(entry).collect()
    }

    fn conditions(&self, node: &Node) -> Vec<NodeCondition> {
        let ready = if self.network_ready {
            (true, "KubeletReady", "kubelet is posting ready status")
        } else {
            (false, "KubeletNotReady", NETWORK_NOT_READY)
        };
        let memory = if self.pressure.memory {
            (true, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
        } else {
            (false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available")
        };
        let disk = if self.pressure.disk {
            (true, "KubeletHasDiskPressure", "kubelet has disk pressure")
        } else {
            (false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
        };
        let pid = if self.pressure.pids {
            (true, "KubeletHasInsufficientPID", "kubelet has insufficient PID available")
        } else {
            (false, "KubeletHasSufficientPID", "kubelet has sufficient PID available")
        };
        let all =
            [("MemoryPressure", memory), ("DiskPressure", disk), ("PIDPressure", pid), ("Ready", ready)];
        let now = Timestamp::now();
        all.into_iter().map(|(type_, told)| condition(node, type_, told, now)).collect()
    }
}

/// What pods may name by a RuntimeClass, and what it can do; the empty name is the default's.
fn handlers() -> Vec<NodeRuntimeHandler> {
    let features =
        NodeRuntimeHandlerFeatures { recursive_read_only_mounts: Some(true), user_namespaces: Some(false) };
    let handler =
        |name: &str| NodeRuntimeHandler { name: Some(name.into()), features: Some(features.clone()) };
    std::iter::once("").chain(HANDLERS).map(handler).collect()
}

fn addresses(settings: &NodeSettings) -> Vec<NodeAddress> {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.into(), address };
    let external = settings.node_external_ips.iter().map(|ip| address("ExternalIP", ip.to_string()));
    std::iter::once(address("InternalIP", settings.node_ip.to_string()))
        .chain(external)
        .chain([address("Hostname", settings.node_name.clone())])
        .collect()
}

const NETWORK_NOT_READY: &str = "container runtime network not ready: NetworkReady=false \
     reason:NetworkPluginNotReady message:the node has no pod CIDR yet";

fn condition(
    node: &Node,
    type_: &str,
    (yes, reason, message): (bool, &str, &str),
    now: Timestamp,
) -> NodeCondition {
    let status = if yes { "True" } else { "False" };
    let known = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let old = known.and_then(|c| c.iter().find(|c| c.type_ == type_));
    let since = old.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
    NodeCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(now.into()),
        last_transition_time: Some(since.unwrap_or_else(|| now.into())),
    }
}

/// The condition without the time it was written at.
fn essence(condition: &NodeCondition) -> (&str, &str, Option<&str>, Option<&str>) {
    (&condition.type_, &condition.status, condition.reason.as_deref(), condition.message.as_deref())
}

/// How long until the status is to be written again though nothing changed: kubelet's
/// `nodeStatusReportFrequency` after it was. The lease tells that the node lives; this is for who reads
/// the conditions' heartbeats.
pub(super) fn report_in(node: &Node, now: Timestamp) -> Duration {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let own = conditions.filter(|c| c.type_ == "Ready").filter_map(|c| c.last_heartbeat_time.as_ref());
    let Some(last) = own.map(|t| t.0).max() else { return Duration::ZERO };
    match Duration::try_from(now.duration_since(last)) {
        Ok(age) => REPORT.saturating_sub(age),
        // The clock was set back.
        Err(_) => Duration::ZERO,
    }
}

/// A strategic merge patch with what differs; `None` if nothing does. A new heartbeat time alone is
/// a difference when the last one is old.
pub(super) fn patch(node: &Node, wanted: &NodeStatus) -> Option<Value> {
    let old = node.status.clone().unwrap_or_default();
    let mut changes = Map::new();
    let conditions = wanted.conditions.as_deref().unwrap_or_default();
    let known = old.conditions.as_deref().unwrap_or_default();
    let told = |c: &NodeCondition| known.iter().any(|k| essence(k) == essence(c));
    if report_in(node, Timestamp::now()).is_zero() || !conditions.iter().all(told) {
        changes.insert("conditions".into(), json!(conditions));
    }
    let mut compare = |field: &str, new: Value, old: Value| {
        if new != old {
            changes.insert(field.into(), new);
        }
    };
    compare("capacity", json!(wanted.capacity), json!(old.capacity));
    compare("allocatable", json!(wanted.allocatable), json!(old.allocatable));
    compare("daemonEndpoints", json!(wanted.daemon_endpoints), json!(old.daemon_endpoints));
    compare("nodeInfo", json!(wanted.node_info), json!(old.node_info));
    compare("features", json!(wanted.features), json!(old.features));
    compare("runtimeHandlers", json!(wanted.runtime_handlers), json!(old.runtime_handlers));
    compare("images", json!(wanted.images), json!(old.images.unwrap_or_default()));
    if wanted.addresses != old.addresses {
        // Addresses merge by type, of which there may be several, and one that is gone must go.
        let mut addresses: Vec<Value> = wanted.addresses.iter().flatten().map(|a| json!(a)).collect();
        addresses.push(json!({"$patch": "replace"}));
        changes.insert("addresses".into(), json!(addresses));
    }
    (!changes.is_empty()).then(|| json!({ "status": changes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    use crate::config::{Instance, Kubelet, ProxyMode};
    use std::path::Path;

    fn settings() -> NodeSettings {
        let cidr = |t: &str| t.parse().expect("a network");
        NodeSettings {
            data_dir: "/var/lib/kedge".into(),
            instance: Instance::of(Path::new("/var/lib/kedge")),
            node_name: "n1".into(),
            node_ip: "10.0.0.1".parse().expect("an address"),
            node_labels: vec![("a".into(), "b".into())],
            node_taints: Vec::new(),
            node_external_ips: Vec::new(),
            node_api_port: 10250,
            cluster_cidr: cidr("10.42.0.0/16"),
            service_cidr: cidr("10.43.0.0/16"),
            cluster_dns: "10.43.0.10".parse().expect("an address"),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            private_registry: "/etc/kedge/registries.yaml".into(),
            disable_default_registry_endpoint: false,
            proxy_mode: ProxyMode::Auto,
            max_pods: 110,
            kubelet: Kubelet::new("/var/lib/kedge/agent/pod-manifests".into(), 1 << 30),
        }
    }

    #[test]
    fn the_largest_images_are_told_with_a_few_of_their_names() {
        let machine = Machine::read(Path::new("/")).expect("a machine");
        let image = |size: u64| Image {
            id: format!("sha256:{size}"),
            tags: (0..9).map(|n| format!("r.example/x:{n}")).collect(),
            digests: vec!["r.example/x@sha256:1".into()],
            size,
            user: String::new(),
        };
        let images: Vec<Image> = (1..80).map(image).collect();
        let pressure = Pressure::default();
        let observation = Observation { machine: &machine, images: &images, network_ready: true, pressure };
        let list = observation.image_list(Some(50));
        assert_eq!((list.len(), list[0].size_bytes, list[49].size_bytes), (50, Some(79), Some(30)));
        let names = list[0].names.as_ref().expect("names");
        assert_eq!((names.len(), names[0].as_str()), (5, "r.example/x@sha256:1"));
        assert_eq!(observation.image_list(None).len(), 79);
    }

    #[test]
    fn an_equal_status_is_not_written_again() {
        let machine = Machine::read(Path::new("/")).expect("a machine");
        let mut node = machine.node(&settings());
        let labels = node.metadata.labels.clone().expect("labels");
        assert_eq!((labels["a"].as_str(), labels["kubernetes.io/hostname"].as_str()), ("b", "n1"));
        let image = Image {
            id: "sha256:1".into(),
            tags: vec!["docker.io/library/x:1".into()],
            digests: vec![],
            size: 7,
            user: String::new(),
        };
        let images = [image];
        let observation = Observation {
            machine: &machine,
            images: &images,
            network_ready: true,
            pressure: Pressure::default(),
        };
        let status = observation.status(&node, &settings());
        let first = patch(&node, &status).expect("a patch");
        assert_eq!(first["status"]["images"][0]["sizeBytes"], 7);
        let ready = first["status"]["conditions"]
            .as_array()
            .expect("conditions")
            .iter()
            .find(|c| c["type"] == "Ready");
        assert_eq!(ready.expect("Ready")["reason"], "KubeletReady");
        node.status = Some(status);
        let again = observation.status(&node, &settings());
        assert_eq!(patch(&node, &again), None);
        let old = |seconds: i64| {
            let mut node = node.clone();
            for condition in node.status.iter_mut().flat_map(|s| s.conditions.iter_mut().flatten()) {
                condition.last_heartbeat_time =
                    Some((Timestamp::now() - SignedDuration::from_secs(seconds)).into());
            }
            node
        };
        for (age, written) in [(0, false), (290, false), (300, true), (-9999, true)] {
            let node = old(age);
            let status = observation.status(&node, &settings());
            assert_eq!(patch(&node, &status).is_some(), written, "{age} s");
            assert!(report_in(&node, Timestamp::now()) <= REPORT);
        }
        let moved = NodeSettings { node_ip: "10.0.0.2".parse().expect("an address"), ..settings() };
        let change = patch(&node, &observation.status(&node, &moved)).expect("a patch");
        let addresses = change["status"]["addresses"].as_array().expect("a list");
        assert_eq!((addresses.len(), &addresses[0]["address"]), (3, &json!("10.0.0.2")), "{change}");
        assert_eq!(addresses[2], json!({"$patch": "replace"}), "addresses that are gone go: {change}");
        let lost = Observation { network_ready: false, pressure: Pressure::default(), ..observation }
            .status(&node, &settings());
        let change = patch(&node, &lost).expect("a patch");
        assert_eq!(change["status"].as_object().expect("an object").len(), 1, "only conditions: {change}");
        let all = Pressure { memory: true, disk: true, pids: true };
        let short = Observation { pressure: all, ..observation }.status(&node, &settings());
        let told: Vec<_> = short.conditions.iter().flatten().filter_map(|c| c.reason.as_deref()).collect();
        let expected = [
            "KubeletHasInsufficientMemory",
            "KubeletHasDiskPressure",
            "KubeletHasInsufficientPID",
            "KubeletReady",
        ];
        assert_eq!(told, expected);
    }
}
