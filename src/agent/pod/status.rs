//! A pod's status: a pure function of the pod, the runtime's state and what the worker remembers.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, Pod, PodIP, PodSpec, PodStatus,
};

use super::labels;
use super::memory::{Memory, Verdict};
use super::observed::{Observed, finished, timestamp};
use super::phase::phase;
use super::plan::Role;
use super::resize::PENDING;
use crate::agent::qos;
use crate::agent::spec::{container_id, ephemeral, is_sidecar};
use crate::runtime::spec;

/// All that a status depends on.
pub(crate) struct Inputs<'a> {
    /// What is wanted, with the status the API has.
    pub pod: &'a Pod,
    /// What runs.
    pub observed: &'a Observed,
    /// What the worker remembers.
    pub memory: &'a Memory,
    /// The node's addresses.
    pub node_addresses: &'a [IpAddr],
    /// Nothing of the pod will run again.
    pub ended: bool,
    /// The time.
    pub now: Timestamp,
}

/// How a container that ended is shown.
pub(crate) fn terminated(
    container: &spec::ContainerStatus,
    message: Option<String>,
) -> ContainerStateTerminated {
    let code = container.exit_code.unwrap_or(137);
    let reason = match code {
        _ if container.oom_killed => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    };
    ContainerStateTerminated {
        container_id: Some(container_id(&container.id)),
        exit_code: code,
        finished_at: Some(finished(container).into()),
        message: message.filter(|m| !m.is_empty()),
        reason: Some(reason.into()),
        signal: None,
        started_at: Some(timestamp(container.started_at.unwrap_or(container.created_at)).into()),
    }
}

impl Inputs<'_> {
    /// The whole status.
    pub(crate) fn status(&self) -> PodStatus {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let old = self.pod.status.clone().unwrap_or_default();
        if let Some(verdict) = self.memory.failed.as_ref().filter(|_| self.memory.rejected) {
            return self.rejected(&spec, old, verdict);
        }
        let over = matches!(old.phase.as_deref(), Some("Succeeded" | "Failed"));
        if over && self.observed.containers.is_empty() && self.memory.history.is_empty() {
            // It ended before anything of it ran: there is nothing to add.
            return PodStatus { observed_generation: self.pod.metadata.generation, ..old };
        }
        let waiting = if spec.init_containers.as_ref().is_some_and(|i| !i.is_empty()) {
            "PodInitializing"
        } else {
            "ContainerCreating"
        };
        let init = self.init_statuses(&spec, waiting);
        let containers: Vec<_> =
            spec.containers.iter().map(|c| self.container(c, Role::App, waiting)).collect();
        let phase = match (&self.memory.failed, old.phase.as_deref()) {
            // A pod that has ended never comes back.
            (_, Some(end @ ("Succeeded" | "Failed"))) => end.to_owned(),
            (Some(_), _) => "Failed".to_owned(),
            _ => phase(&spec, &init, &containers, self.ended).to_owned(),
        };
        let mut status = PodStatus {
            start_time: old.start_time.clone().or_else(|| Some(self.now.into())),
            // The API server decided it when the pod was made, and lets nobody change it.
            qos_class: old.qos_class.clone().or_else(|| Some(qos::class(&spec).name().into())),
            reason: self.memory.failed.as_ref().map(|v| v.reason.clone()).or_else(|| old.reason.clone()),
            message: self.memory.failed.as_ref().map(|v| v.message.clone()).or_else(|| old.message.clone()),
            observed_generation: self.pod.metadata.generation,
            allocated_resources: spec.resources.as_ref().and_then(|r| r.requests.clone()),
            resources: spec.resources.clone(),
            ephemeral_container_statuses: self.ephemeral_statuses(&spec),
            ..old.clone()
        };
        status.conditions = Some(self.conditions(&spec, &init, &containers, &phase, &old));
        status.init_container_statuses = (!init.is_empty()).then_some(init);
        status.container_statuses = Some(containers);
        status.phase = Some(phase);
        self.addresses(&spec, &mut status);
        status
    }

    /// Of a pod that the node does not take, kubelet tells nothing else.
    fn rejected(&self, spec: &PodSpec, old: PodStatus, verdict: &Verdict) -> PodStatus {
        PodStatus {
            phase: Some("Failed".into()),
            reason: Some(verdict.reason.clone()),
            message: Some(verdict.message.clone()),
            qos_class: old.qos_class.clone().or_else(|| Some(qos::class(spec).name().into())),
            start_time: old.start_time.clone().or_else(|| Some(self.now.into())),
            observed_generation: self.pod.metadata.generation,
            ..old
        }
    }

    fn addresses(&self, spec: &PodSpec, status: &mut PodStatus) {
        let hosts = self.node_addresses;
        status.host_ip = hosts.first().map(ToString::to_string);
        status.host_ips = Some(hosts.iter().map(|a| HostIP { ip: a.to_string() }).collect());
        let pods = if spec.host_network == Some(true) { hosts } else { &self.memory.addresses };
        if let Some(first) = pods.first() {
            status.pod_ip = Some(first.to_string());
            status.pod_ips = Some(pods.iter().map(|a| PodIP { ip: a.to_string() }).collect());
        }
    }

    fn init_statuses(&self, spec: &PodSpec, waiting: &str) -> Vec<ContainerStatus> {
        let init = spec.init_containers.iter().flatten();
        init.map(|c| self.container(c, if is_sidecar(c) { Role::Sidecar } else { Role::Init }, waiting))
            .collect()
    }

    fn ephemeral_statuses(&self, spec: &PodSpec) -> Option<Vec<ContainerStatus>> {
        let all: Vec<_> = spec
            .ephemeral_containers
            .iter()
            .flatten()
            .map(|e| self.container(&ephemeral(e), Role::Ephemeral, "ContainerCreating"))
            .collect();
        (!all.is_empty()).then_some(all)
    }

    fn container(&self, container: &Container, role: Role, waiting: &str) -> ContainerStatus {
        let mut status = ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            // Always there, as with upstream: clients look into it unasked.
            last_state: Some(ContainerState::default()),
            ..ContainerStatus::default()
        };
        let past = self.memory.past(&container.name);
        let newest = self.observed.newest(&container.name).filter(|n| !past.is_some_and(|p| p.is_after(n)));
        let state = match (newest, past) {
            (Some(newest), past) => {
                self.known(newest, &mut status);
                let previous = self.observed.previous(&container.name).map(|p| self.ended(p));
                let last = previous.or_else(|| past.and_then(|p| p.state.clone()));
                status.last_state = Some(last.map_or_else(ContainerState::default, terminated_state));
                self.state_of(newest)
            }
            (None, Some(past)) => {
                status.restart_count = i32::try_from(past.restarts).unwrap_or(i32::MAX);
                status.image = past.image.clone();
                status.image_id = past.image_id.clone();
                status.container_id = past.container_id.clone();
                past.state.clone().map_or_else(ContainerState::default, terminated_state)
            }
            (None, None) => ContainerState::default(),
        };
        let running = newest.filter(|c| c.state == spec::ContainerState::Running && self.observed.ready());
        status.started = Some(running.is_some_and(|c| self.memory.started(container, &c.id)));
        status.ready = match role {
            Role::Init => state.terminated.as_ref().is_some_and(|t| t.exit_code == 0),
            Role::Ephemeral => false,
            _ => running.is_some_and(|c| self.memory.is_ready(container, &c.id)),
        };
        status.state = Some(self.shown(container, state, waiting, &mut status.last_state));
        status.volume_mounts = volume_mounts(container);
        if newest.is_some() || past.is_some() {
            let size = running.and_then(|c| self.memory.sizes.get(&c.id)).or(container.resources.as_ref());
            let pending = self.memory.undersized.as_ref().is_some_and(|u| u.condition == PENDING);
            let allocated = if pending { size } else { container.resources.as_ref() };
            status.allocated_resources = allocated.and_then(|r| r.requests.clone());
            status.resources = Some(size.cloned().unwrap_or_default());
        }
        status
    }

    fn known(&self, newest: &spec::ContainerStatus, status: &mut ContainerStatus) {
        status.restart_count = i32::try_from(labels::attempt(&newest.labels)).unwrap_or(i32::MAX);
        status.container_id = Some(container_id(&newest.id));
        if let Some(image) = newest.labels.get(labels::IMAGE) {
            status.image = image.clone();
        }
        status.image_id = newest.labels.get(labels::IMAGE_ID).unwrap_or(&newest.image).clone();
        status.stop_signal.clone_from(&newest.stop_signal);
        status.user = newest.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid.into(),
                gid: user.gid.into(),
                supplemental_groups: Some(user.groups.iter().map(|g| i64::from(*g)).collect()),
            }),
        });
    }

    fn ended(&self, container: &spec::ContainerStatus) -> ContainerStateTerminated {
        terminated(container, self.observed.messages.get(&container.id).cloned())
    }

    fn state_of(&self, container: &spec::ContainerStatus) -> ContainerState {
        match container.state {
            spec::ContainerState::Created => ContainerState::default(),
            spec::ContainerState::Running => ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: container.started_at.map(|t| timestamp(t).into()),
                }),
                ..ContainerState::default()
            },
            spec::ContainerState::Exited => terminated_state(self.ended(container)),
        }
    }

    /// A container that ended and is to be started again is shown as waiting, its end as last state.
    fn shown(
        &self,
        container: &Container,
        state: ContainerState,
        default_reason: &str,
        last: &mut Option<ContainerState>,
    ) -> ContainerState {
        if state.running.is_some() {
            return state;
        }
        let reason =
            self.memory.waiting.get(&container.name).filter(|_| !self.ended && self.memory.failed.is_none());
        if let Some((reason, message)) = reason {
            if state.terminated.is_some() {
                *last = Some(state);
            }
            return waiting_state(reason, Some(message.clone()));
        }
        if state.terminated.is_some() {
            return state;
        }
        if self.ended && self.memory.terminating {
            return terminated_state(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                ..ContainerStateTerminated::default()
            });
        }
        waiting_state(default_reason, None)
    }
}

/// The state of a container that ended.
fn terminated_state(terminated: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn waiting_state(reason: &str, message: Option<String>) -> ContainerState {
    let message = message.filter(|m| !m.is_empty());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
        ..ContainerState::default()
    }
}

fn volume_mounts(container: &Container) -> Option<Vec<k8s_openapi::api::core::v1::VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let all: Vec<_> = mounts
        .iter()
        .map(|m| k8s_openapi::api::core::v1::VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only,
            recursive_read_only: m.read_only.filter(|r| *r).map(|_| {
                let wanted = matches!(m.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
                if wanted { "Enabled" } else { "Disabled" }.to_owned()
            }),
            ..Default::default()
        })
        .collect();
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
