//! Resources of running containers changed in place (KEP-1287): whether the node has room for what is
//! asked for now, the new limits, and what is told of it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

use super::observed::Observed;
use super::plan::Kill;
use super::worker::Worker;
use crate::agent::admit;
use crate::agent::mirrors::is_static;
use crate::agent::qos;
use crate::agent::spec::{full_name, is_sidecar, is_terminal, uid};
use crate::agent::steady;
use crate::runtime::Error;
use crate::runtime::spec::Resources;

/// A resize that the kernel refused is tried again this often.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// What may change in place.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Why containers do not have the resources yet that the pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsized {
    /// `PodResizePending` or `PodResizeInProgress`.
    pub condition: &'static str,
    /// The condition's reason.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
}

impl Unsized {
    /// The node has no room, never or not now.
    fn pending(reason: &'static str, message: String) -> Self {
        Self { condition: PENDING, reason, message }
    }

    /// The node will have room when other pods are gone.
    pub(super) fn is_deferred(&self) -> bool {
        self.reason == DEFERRED
    }
}

const DEFERRED: &str = "Deferred";
/// The resize waits.
pub(crate) const PENDING: &str = "PodResizePending";
/// The resize is being carried out.
pub(crate) const IN_PROGRESS: &str = "PodResizeInProgress";

fn amount<'r>(list: Option<&'r BTreeMap<String, Quantity>>, name: &str) -> Option<&'r Quantity> {
    list.and_then(|l| l.get(name))
}

/// The resources that differ, of those that may.
fn changed(is: &ResourceRequirements, wanted: &ResourceRequirements) -> Vec<&'static str> {
    let differs = |name: &&str| {
        amount(is.requests.as_ref(), name) != amount(wanted.requests.as_ref(), name)
            || amount(is.limits.as_ref(), name) != amount(wanted.limits.as_ref(), name)
    };
    RESIZABLE.into_iter().filter(differs).collect()
}

fn needs_restart(container: &Container, resources: &[&str]) -> bool {
    let mut policies = container.resize_policy.iter().flatten();
    policies.any(|p| p.restart_policy == "RestartContainer" && resources.contains(&p.resource_name.as_str()))
}

/// The pod's specification with the resources its containers have.
fn with_sizes(spec: &PodSpec, sizes: &BTreeMap<String, ResourceRequirements>) -> PodSpec {
    let mut spec = spec.clone();
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(size) = sizes.get(&container.name) {
            container.resources = Some(size.clone());
        }
    }
    spec
}

/// The wider of both limits, so that neither stands in the way of the other.
fn wider(a: &Resources, b: &Resources) -> Resources {
    let max = |a: Option<i64>, b: Option<i64>| a.zip(b).map(|(a, b)| a.max(b));
    Resources {
        cpu_shares: a.cpu_shares.max(b.cpu_shares),
        cpu_quota: max(a.cpu_quota, b.cpu_quota),
        memory_limit: max(a.memory_limit, b.memory_limit),
        ..b.clone()
    }
}

/// A container to be resized.
struct Change {
    id: String,
    container: Container,
    restart: bool,
}

impl Worker {
    /// Gives running containers the resources the pod asks for now; containers that have to be restarted
    /// for that.
    pub(super) async fn resize(&mut self, pod: &Pod, observed: &Observed) -> Vec<Kill> {
        let Some(spec) = pod.spec.as_ref().filter(|_| self.memory.sized != pod.metadata.generation) else {
            return Vec::new();
        };
        self.memory.sizes.retain(|id, _| observed.containers.values().flatten().any(|c| c.id == *id));
        let (changes, sizes) = self.changes(spec, observed);
        if changes.is_empty() {
            self.settle(pod, spec, observed);
            return Vec::new();
        }
        if let Err(refused) = self.has_room(pod) {
            self.refuse(pod, spec, refused);
            return Vec::new();
        }
        if self.memory.undersized.as_ref().is_none_or(|u| u.condition == PENDING) {
            let started = format!("Pod resize started: {}", told(spec, pod, None));
            self.context.events.pod(pod, None, "Normal", "ResizeStarted", started);
        }
        if let Err(error) = self.apply(pod, spec, &changes, &sizes).await {
            let message = error.to_string();
            self.memory.undersized = Some(Unsized { condition: IN_PROGRESS, reason: "Error", message });
            self.retry_at(Some(steady::now() + RETRY));
            return Vec::new();
        }
        self.memory.undersized = None;
        let completed = format!("Pod resize completed: {}", told(spec, pod, None));
        self.context.events.pod(pod, None, "Normal", "ResizeCompleted", completed);
        // The pod's own limits are for the next round, when all containers keep to theirs.
        self.wake.notify_one();
        let kill = |change: &Change| Kill {
            container: change.container.name.clone(),
            id: change.id.clone(),
            message: format!("Container {} resize requires restart", change.container.name),
            grace: None,
        };
        changes.iter().filter(|c| c.restart).map(kill).collect()
    }

    /// The resize waits, for another one or for room: says so once.
    fn refuse(&mut self, pod: &Pod, spec: &PodSpec, refused: Unsized) {
        if self.memory.undersized.as_ref() != Some(&refused) {
            let told = told(spec, pod, Some(&refused.message));
            let (event, word) = if refused.is_deferred() {
                ("ResizeDeferred", "deferred")
            } else {
                ("ResizeInfeasible", "infeasible")
            };
            self.context.events.pod(pod, None, "Warning", event, format!("Pod resize {word}: {told}"));
        }
        self.memory.undersized = Some(refused);
    }

    /// The resources a container had before a resize that waits: it is started with these again.
    pub(super) async fn size_before(&self, name: &str) -> Option<ResourceRequirements> {
        self.memory.undersized.as_ref().filter(|u| u.condition == PENDING)?;
        let observed = self.observe_quietly().await;
        self.memory.sizes.get(&observed.newest(name)?.id).cloned()
    }

    /// All containers have what is asked for: so is the pod to have.
    fn settle(&mut self, pod: &Pod, spec: &PodSpec, observed: &Observed) {
        self.memory.undersized = None;
        let resized = pod.metadata.generation.is_some_and(|g| g > 1) && observed.sandbox.is_some();
        let wanted = || qos::pod_resources(spec, self.context.settings.kubelet.pod_pids_limit);
        match resized.then(|| self.context.runtime.limit_group(&qos::group_of(pod), &wanted())).transpose() {
            Ok(_) => self.memory.sized = pod.metadata.generation,
            Err(error) => {
                tracing::warn!(pod = %full_name(pod), %error, "the pod's limits are not those of its containers yet");
                self.retry_at(Some(steady::now() + RETRY));
            }
        }
    }

    /// The running containers that ask for other resources than they have, and what all have, by name.
    fn changes(
        &self,
        spec: &PodSpec,
        observed: &Observed,
    ) -> (Vec<Change>, BTreeMap<String, ResourceRequirements>) {
        let (mut changes, mut sizes) = (Vec::new(), BTreeMap::new());
        let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
        for container in spec.containers.iter().chain(sidecars) {
            let running = observed.running().find(|(name, _)| *name == container.name);
            let Some((_, status)) = running else { continue };
            let Some(size) = self.memory.sizes.get(&status.id) else { continue };
            sizes.insert(container.name.clone(), size.clone());
            let changed = changed(size, &container.resources.clone().unwrap_or_default());
            if !changed.is_empty() {
                let restart = needs_restart(container, &changed);
                changes.push(Change { id: status.id.clone(), container: container.clone(), restart });
            }
        }
        (changes, sizes)
    }

    fn has_room(&self, pod: &Pod) -> Result<(), Unsized> {
        if is_static(pod) {
            let text = "In-place resize of static-pods is not supported";
            return Err(Unsized::pending("Infeasible", text.into()));
        }
        let node = self.context.node.borrow().clone();
        let mut others = self.context.pods.all();
        others.retain(|p| uid(p) != uid(pod) && !is_terminal(p));
        admit::room(&node, pod, &others).map_err(|lack| match lack {
            admit::NoRoom::Never(message) => Unsized::pending("Infeasible", message),
            admit::NoRoom::NotNow(message) => Unsized::pending(DEFERRED, message),
        })
    }

    /// The pod's group is made wide enough for what is and what shall be, then the containers get their
    /// new limits.
    async fn apply(
        &mut self,
        pod: &Pod,
        spec: &PodSpec,
        changes: &[Change],
        sizes: &BTreeMap<String, ResourceRequirements>,
    ) -> Result<(), Error> {
        let node = self.context.runtime.clone();
        let pids = self.context.settings.kubelet.pod_pids_limit;
        let wanted = qos::pod_resources(spec, pids);
        let present = qos::pod_resources(&with_sizes(spec, sizes), pids);
        node.limit_group(&qos::group_of(pod), &wider(&present, &wanted))?;
        for change in changes {
            let resources = change.container.resources.clone().unwrap_or_default();
            if !change.restart {
                node.update(&change.id, &qos::container_resources(spec, &change.container)).await?;
            }
            self.memory.sizes.insert(change.id.clone(), resources);
        }
        Ok(())
    }
}

/// The event's text: what every container asks for, in upstream's form.
fn told(spec: &PodSpec, pod: &Pod, error: Option<&str>) -> String {
    let all = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)).chain(&spec.containers);
    let containers: Vec<_> = all.map(|c| json!({"name": c.name, "resources": c.resources})).collect();
    let mut told = json!({"containers": containers, "generation": pod.metadata.generation});
    if let Some(error) = error {
        told["error"] = json!(error);
    }
    told.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(cpu: &str, memory: &str) -> ResourceRequirements {
        let list = json!({"cpu": cpu, "memory": memory, "ephemeral-storage": "1Gi"});
        serde_json::from_value(json!({"requests": list, "limits": list})).expect("resources")
    }

    #[test]
    fn what_differs_and_what_restarts() {
        let container = json!({"name": "c", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
            {"resourceName": "memory", "restartPolicy": "RestartContainer"}]});
        let container: Container = serde_json::from_value(container).expect("a container");
        for (wanted, expected, restart) in [
            (sized("1", "1Gi"), vec![], false),
            (sized("2", "1Gi"), vec!["cpu"], false),
            (sized("1", "2Gi"), vec!["memory"], true),
            (sized("500m", "2Gi"), vec!["cpu", "memory"], true),
        ] {
            let changed = changed(&sized("1", "1Gi"), &wanted);
            assert_eq!((needs_restart(&container, &changed), changed), (restart, expected));
        }
    }

    #[test]
    fn a_group_is_as_wide_as_both() {
        let limits = |shares, quota, memory| Resources {
            cpu_shares: Some(shares),
            cpu_quota: quota,
            memory_limit: memory,
            ..Resources::default()
        };
        let both = wider(&limits(2, Some(10), Some(5)), &limits(1, Some(20), None));
        assert_eq!((both.cpu_shares, both.cpu_quota, both.memory_limit), (Some(2), Some(20), None));
    }
}
