//! What a worker remembers beside the pod and the runtime's state.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, ResourceRequirements,
};

use super::labels;
use super::observed::Observed;
use super::resize::Unsized;
use super::restart::{RESTARTING_ALL, RESTARTING_ALL_MESSAGE};
use super::status::terminated;
use crate::agent::probes::{ProbeKind, ProbeState};
use crate::agent::spec::{container_id, find_container, status_addresses};
use crate::agent::steady;
use crate::runtime::spec;

/// What is left of a container that the runtime no longer knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Past {
    /// Its attempt number.
    pub restarts: u32,
    /// Exit code and time of its end, on the time line of [`crate::agent::steady`].
    pub ended: Option<(i32, Timestamp)>,
    /// Its end, as the status shows it.
    pub state: Option<ContainerStateTerminated>,
    /// Image as the status showed it.
    pub image: String,
    /// Image id as the status showed it.
    pub image_id: String,
    /// Container id as the status showed it.
    pub container_id: Option<String>,
}

impl Past {
    /// This attempt came after that container: its program could not be executed.
    pub(crate) fn is_after(&self, container: &spec::ContainerStatus) -> bool {
        self.restarts > labels::attempt(&container.labels)
    }
}

/// Why a pod ended or is to end, for its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Such as `DeadlineExceeded`.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// All a worker remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// By container name: why its last start came to nothing.
    pub waiting: BTreeMap<String, (String, String)>,
    /// By container id: what its probes found.
    pub probes: BTreeMap<String, ProbeState>,
    /// By id of a container that runs: the resources it has.
    pub sizes: BTreeMap<String, ResourceRequirements>,
    /// Why containers have other resources than the pod asks for.
    pub undersized: Option<Unsized>,
    /// The generation of the pod's specification that its containers and its group have the resources of.
    pub sized: Option<i64>,
    /// By container name: its last attempt of which the runtime knows nothing any more.
    pub history: BTreeMap<String, Past>,
    /// The pod's addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// The pod has failed as a whole.
    pub failed: Option<Verdict>,
    /// The node ends the pod for its own sake: what the condition `DisruptionTarget` says of it.
    pub disrupted: Option<String>,
    /// The node does not take the pod: it failed before anything of it was made.
    pub rejected: bool,
    /// The pod is being ended: what is missing is gone for good.
    pub terminating: bool,
    /// All containers are being removed, to begin anew.
    pub restarting_all: bool,
}

impl Memory {
    /// What is known of a container that is gone.
    pub(crate) fn past(&self, name: &str) -> Option<&Past> {
        self.history.get(name)
    }

    /// The probe for whose failure this container is to be restarted.
    pub(crate) fn probe_failure(&self, id: &str) -> Option<ProbeKind> {
        self.probes.get(id)?.failed
    }

    /// A running container counts as started: no startup probe, or it succeeded.
    pub(crate) fn started(&self, container: &Container, id: &str) -> bool {
        container.startup_probe.is_none() || self.probes.get(id).is_some_and(|p| p.started)
    }

    /// A running container counts as ready.
    pub(crate) fn is_ready(&self, container: &Container, id: &str) -> bool {
        self.started(container, id)
            && (container.readiness_probe.is_none() || self.probes.get(id).is_some_and(|p| p.ready))
    }

    /// Takes over what the API's status tells of containers that the runtime does not know: after a
    /// reboot restart counts go on, and what ran is known to have ended.
    pub(crate) fn adopt(&mut self, pod: &Pod, observed: &Observed, now: Timestamp) {
        let Some(status) = &pod.status else { return };
        let statuses = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        for status in statuses.into_iter().flatten().flatten() {
            self.adopt_size(pod, status, observed);
            if observed.newest(&status.name).is_none()
                && let Some(past) = past_of(status, now)
            {
                self.history.insert(status.name.clone(), past);
            }
        }
        self.addresses = status_addresses(pod);
    }

    /// A container that ran before the agent did has what the API's status tells, or else what the pod asks for.
    fn adopt_size(&mut self, pod: &Pod, status: &ContainerStatus, observed: &Observed) {
        let Some(newest) = observed.newest(&status.name) else { return };
        let own = status.container_id == Some(container_id(&newest.id));
        let told = status.resources.clone().filter(|_| own);
        let asked = || find_container(pod.spec.as_ref()?, &status.name)?.resources.clone();
        let size = told.or_else(asked).unwrap_or_default();
        self.sizes.insert(newest.id.clone(), size);
    }

    /// Keeps what is needed of containers whose sandbox is about to be removed.
    ///
    /// `now` is the clock's time.
    pub(crate) fn absorb(&mut self, observed: &Observed, now: Timestamp) {
        for name in observed.containers.keys() {
            let Some(container) = observed.newest(name) else { continue };
            let ended = container.state == spec::ContainerState::Exited;
            let time = if ended { observed.ended_at(container) } else { steady::past(now) };
            let mut state = terminated(container, observed.messages.get(&container.id).cloned());
            if !ended {
                state.exit_code = 137;
                state.reason = Some("ContainerStatusUnknown".into());
                state.message = Some(GONE.into());
            }
            let past = Past {
                restarts: labels::attempt(&container.labels),
                ended: Some((state.exit_code, time)),
                state: Some(state),
                image: container.labels.get(labels::IMAGE).cloned().unwrap_or_default(),
                image_id: container.labels.get(labels::IMAGE_ID).cloned().unwrap_or_default(),
                container_id: Some(container_id(&container.id)),
            };
            self.history.insert(name.clone(), past);
        }
    }
}

impl Memory {
    /// Notes that all containers were removed to begin anew: they count as ended once more, and wait
    /// for no back-off.
    pub(crate) fn begin_anew(&mut self, observed: &Observed) {
        for name in observed.containers.keys() {
            let Some(container) = observed.newest(name) else { continue };
            let mut state = terminated(container, None);
            state.exit_code = 137;
            state.reason = Some(RESTARTING_ALL.into());
            state.message = Some(RESTARTING_ALL_MESSAGE.into());
            let label = |key| container.labels.get(key).cloned().unwrap_or_default();
            let past = Past {
                restarts: labels::attempt(&container.labels),
                ended: None,
                state: Some(state),
                image: label(labels::IMAGE),
                image_id: label(labels::IMAGE_ID),
                container_id: Some(container_id(&container.id)),
            };
            self.history.insert(name.clone(), past);
            let waiting = (RESTARTING_ALL.to_owned(), RESTARTING_ALL_MESSAGE.to_owned());
            self.waiting.insert(name.clone(), waiting);
        }
    }
}

/// Upstream's message for containers nobody knows the end of.
const GONE: &str = "The container could not be located when the pod was terminated";

fn past_of(status: &ContainerStatus, now: Timestamp) -> Option<Past> {
    let ContainerState { terminated, running, .. } = status.state.clone().unwrap_or_default();
    let state = match (terminated, running) {
        (Some(terminated), _) => terminated,
        (None, Some(running)) => ContainerStateTerminated {
            container_id: status.container_id.clone(),
            // As runtimes tell of containers that were there before a reboot.
            exit_code: 255,
            reason: Some("Unknown".into()),
            message: None,
            started_at: running.started_at,
            finished_at: Some(now.into()),
            signal: None,
        },
        (None, None) => status.last_state.clone()?.terminated?,
    };
    let finished = state.finished_at.as_ref().map_or(now, |t| t.0);
    // What was removed to begin anew has no end that a policy decides upon.
    let ended = state.reason.as_deref() != Some(RESTARTING_ALL);
    Some(Past {
        restarts: u32::try_from(status.restart_count).unwrap_or(0),
        ended: ended.then_some((state.exit_code, steady::past(finished))),
        state: Some(state),
        image: status.image.clone(),
        image_id: status.image_id.clone(),
        container_id: status.container_id.clone(),
    })
}
