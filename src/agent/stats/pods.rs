//! What pods and containers use.

use crate::agent::context::Context;
use crate::agent::labels;
use crate::runtime::spec::{ContainerState, ContainerStats, ContainerStatus, SandboxStatus};

use super::disk::{Space, Volume};
use super::network::Interface;
use super::rates::Rates;

/// The interface of a pod's own network.
const POD_INTERFACE: &str = "eth0";

/// A pod that runs.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Its sandbox.
    pub sandbox: String,
    /// When its sandbox was made, in milliseconds since the epoch.
    pub started: i64,
    /// Of all its containers together.
    pub stats: ContainerStats,
    /// Nanoseconds of CPU time a second.
    pub cpu_rate: u64,
    /// Its own network interface; none on the host's network.
    pub network: Option<Interface>,
    /// Its containers that run.
    pub containers: Vec<Container>,
    /// Its volumes, if they were looked at.
    pub volumes: Vec<Volume>,
    /// What it has on the node's disk, if that was looked at.
    pub ephemeral: Option<Space>,
}

/// A container that runs.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Container {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its cgroup.
    pub cgroup: String,
    /// Its image, as statuses show it.
    pub image: String,
    /// When it was started, in milliseconds since the epoch.
    pub started: i64,
    /// What it uses.
    pub stats: ContainerStats,
    /// Nanoseconds of CPU time a second.
    pub cpu_rate: u64,
    /// What it wrote to its root file system, if that was looked at.
    pub rootfs: Option<Space>,
    /// Its logs, if they were looked at.
    pub logs: Option<Space>,
}

fn label(labels: &std::collections::BTreeMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

/// All pods that run, by namespace and name.
pub(super) async fn read(context: &Context, rates: &Rates, interfaces: &[Interface]) -> Vec<Pod> {
    let network = context.network.borrow().clone();
    let attached = network.map(|n| n.attachments()).unwrap_or_default();
    let mut pods = Vec::new();
    for sandbox in context.runtime.sandboxes().await.into_iter().filter(|s| s.ready) {
        let own = attached.iter().find(|a| a.sandbox == sandbox.id);
        let own = own.and_then(|a| interfaces.iter().find(|i| i.name == a.interface));
        if let Some(pod) = pod(context, rates, &sandbox, own).await {
            pods.push(pod);
        }
    }
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    pods
}

async fn pod(
    context: &Context,
    rates: &Rates,
    sandbox: &SandboxStatus,
    interface: Option<&Interface>,
) -> Option<Pod> {
    let stats = context.runtime.sandbox_stats(&sandbox.id).ok()?;
    let mut containers = Vec::new();
    for container in sandbox.containers.iter().filter(|c| c.state == ContainerState::Running) {
        containers.extend(self::container(context, rates, container).await);
    }
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    let started = sandbox.created_at;
    Some(Pod {
        name: label(&sandbox.labels, labels::POD_NAME),
        namespace: label(&sandbox.labels, labels::POD_NAMESPACE),
        uid: label(&sandbox.labels, labels::POD_UID),
        sandbox: sandbox.id.clone(),
        started,
        cpu_rate: rates.rate(&sandbox.id, stats.at, stats.cpu_usage_ns, started),
        stats,
        network: interface.map(|i| i.peer(POD_INTERFACE)),
        containers,
        volumes: Vec::new(),
        ephemeral: None,
    })
}

async fn container(context: &Context, rates: &Rates, status: &ContainerStatus) -> Option<Container> {
    let stats = context.runtime.stats(&status.id).await.ok()?;
    let started = status.started_at.unwrap_or(status.created_at);
    Some(Container {
        name: label(&status.labels, labels::CONTAINER_NAME),
        id: status.id.clone(),
        cgroup: context.runtime.cgroup_of(&status.id).unwrap_or_default(),
        image: label(&status.labels, labels::IMAGE),
        started,
        cpu_rate: rates.rate(&status.id, stats.at, stats.cpu_usage_ns, started),
        stats,
        rootfs: None,
        logs: None,
    })
}
