//! Pods as controllers and scheduler see them. A cluster has more pods than anything else, and a
//! full `Pod` takes some 8 KiB decoded; this form holds only the fields that are read here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{
    Affinity, ContainerPort, PodCondition, PodIP, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::Deserialize;

/// A pod without what only its node needs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Identity, labels, owners.
    #[serde(deserialize_with = "lean_metadata")]
    pub metadata: ObjectMeta,
    /// What was asked for.
    pub spec: PodSpec,
    /// What the node reports.
    pub status: PodStatus,
}

/// Metadata without what takes room and is not read.
fn lean_metadata<'de, D: serde::Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let mut meta = ObjectMeta::deserialize(from)?;
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    Ok(meta)
}

/// The part of a pod's spec that matters for placing and counting it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Node it runs on.
    pub node_name: Option<String>,
    /// Scheduler that is responsible.
    pub scheduler_name: Option<String>,
    /// Priority; higher is placed first.
    pub priority: Option<i32>,
    /// `Never` keeps it from displacing others.
    pub preemption_policy: Option<String>,
    /// Labels its node must have.
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Node and pod affinity.
    pub affinity: Option<Box<Affinity>>,
    /// Taints it tolerates.
    pub tolerations: Vec<Toleration>,
    /// How its like are to be spread.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Gates that keep it from being scheduled.
    pub scheduling_gates: Vec<SchedulingGate>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Init containers.
    pub init_containers: Vec<Container>,
    /// What the pod takes beside its containers.
    pub overhead: Option<BTreeMap<String, Quantity>>,
    /// Pod-level resources.
    pub resources: Option<Resources>,
    /// Volumes that are claims.
    pub volumes: Vec<Volume>,
    /// Shares the node's network.
    pub host_network: bool,
    /// Host name.
    pub hostname: Option<String>,
    /// Subdomain: name of the governing headless Service.
    pub subdomain: Option<String>,
    /// `Always`, `OnFailure` or `Never`.
    pub restart_policy: Option<String>,
}

/// A named gate.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct SchedulingGate {
    /// Its name.
    pub name: String,
}

/// What of a container matters here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Image reference.
    pub image: Option<String>,
    /// Ports.
    pub ports: Vec<ContainerPort>,
    /// Requests.
    pub resources: Option<Resources>,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<String>,
}

/// Resource requests and limits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Requests by resource name.
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// Limits by resource name.
    pub limits: Option<BTreeMap<String, Quantity>>,
}

/// A volume, if it is a claim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Name within the pod.
    pub name: String,
    /// A claim in the pod's namespace.
    pub persistent_volume_claim: Option<ClaimSource>,
    /// A claim made for this pod alone, called `<pod>-<volume>`.
    pub ephemeral: Option<Ephemeral>,
}

/// Reference to a claim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    /// The claim's name.
    pub claim_name: String,
}

/// Marks a generic ephemeral volume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Ephemeral {}

/// The part of a pod's status that is read here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: Option<String>,
    /// Conditions.
    pub conditions: Vec<PodCondition>,
    /// First address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// All addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIP>,
    /// When the node took it over.
    pub start_time: Option<Time>,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// Node that is being cleared for it.
    pub nominated_node_name: Option<String>,
    /// Containers' states.
    pub container_statuses: Vec<ContainerStatus>,
    /// Init containers' states.
    pub init_container_statuses: Vec<ContainerStatus>,
}

/// What of a container's status matters here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Container.
    pub name: String,
    /// Passes its readiness probe.
    pub ready: bool,
    /// How often it was restarted.
    pub restart_count: i32,
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Pod {
    /// The phase; `Pending` before a node reported.
    pub fn phase(&self) -> &str {
        self.status.phase.as_deref().unwrap_or("Pending")
    }

    /// It has ended and will not run again.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// It counts as a running replica: neither ended nor being deleted.
    pub fn is_active(&self) -> bool {
        !self.is_finished() && !self.is_terminating()
    }

    /// Its deletion was asked for.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// A condition by type.
    pub fn condition(&self, kind: &str) -> Option<&PodCondition> {
        self.status.conditions.iter().find(|c| c.type_ == kind)
    }

    /// Its Ready condition is true.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|c| c.status == "True")
    }

    /// It has been ready for at least `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i32) -> bool {
        let Some(ready) = self.condition("Ready").filter(|c| c.status == "True") else { return false };
        let Ok(wanted) = u64::try_from(min_ready_seconds) else { return true };
        wanted == 0
            || ready.last_transition_time.as_ref().is_some_and(|t| super::meta::since(t).as_secs() >= wanted)
    }

    /// The node it was assigned to.
    pub fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|n| !n.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_full_pod_decodes_and_unknown_fields_are_left_out() {
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {
                "nodeName": "a", "dnsPolicy": "ClusterFirst",
                "containers": [{"name": "c", "image": "i", "env": [{"name": "A"}],
                    "ports": [{"containerPort": 80, "name": "http"}],
                    "resources": {"requests": {"cpu": "100m"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "d", "persistentVolumeClaim": {"claimName": "x"}}]
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}
        }))
        .expect("it decodes");
        assert!(pod.is_active() && pod.is_ready() && pod.is_available(10));
        assert_eq!(pod.node(), Some("a"));
        assert_eq!(pod.status.pod_ips[0].ip, "10.0.0.1");
        assert_eq!(pod.spec.containers[0].ports[0].container_port, 80);
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let mut pod = Pod::default();
        assert!(!pod.is_available(0));
        pod.status.conditions = vec![PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(crate::server::controllers::kit::meta::now()),
            ..Default::default()
        }];
        assert!(pod.is_available(0));
        assert!(!pod.is_available(60));
    }
}
