//! What a pod needs next: a pure function of the pod, the runtime's state and the time.
//!
//! The rules are kubelet's: a sandbox first, init containers one by one, sidecars (init containers
//! with `restartPolicy: Always`) as soon as it is their turn, then all containers; restarts by
//! rules and policies with back-off; a pod none of whose containers runs or is to run is finished.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::labels;
use super::memory::Memory;
use super::observed::Observed;
use super::restart;
use crate::agent::backoff::Backoff;
use crate::agent::probes::ProbeKind;
use crate::agent::spec::{full_name, is_sidecar};
use crate::api::go_duration;
use crate::runtime::spec::{ContainerState, ContainerStatus};

/// What role a container plays in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that keeps running.
    Sidecar,
    /// An ordinary container.
    App,
    /// Added by `kubectl debug`; never restarted.
    Ephemeral,
}

/// A container to end before its next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    /// Its name.
    pub container: String,
    /// Its id.
    pub id: String,
    /// The event's text.
    pub message: String,
    /// Seconds it gets, when not the pod's.
    pub grace: Option<i64>,
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Its name.
    pub container: String,
    /// Its role.
    pub role: Role,
    /// How often it was started before.
    pub attempt: u32,
    /// When it ended last.
    pub ended: Option<Timestamp>,
}

/// A container that waits because it ended too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Its name.
    pub container: String,
    /// The waiting state's message.
    pub message: String,
}

/// What to do now, in this order, and when to look again if nothing else happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Nothing runs and nothing will: give up sandbox, network and volumes.
    pub finish: bool,
    /// A (new) sandbox is needed before anything can start.
    pub create_sandbox: bool,
    /// Containers to end.
    pub kill: Vec<Kill>,
    /// Containers to start.
    pub start: Vec<Start>,
    /// Containers in `CrashLoopBackOff`.
    pub waiting: Vec<Wait>,
    /// When a back-off ends.
    pub wake_at: Option<Timestamp>,
    /// A container ended with a code that restarts all: every one is removed, and all begin anew.
    pub restart_all: bool,
}

/// All that a plan depends on.
pub(crate) struct Inputs<'a> {
    /// What is wanted.
    pub pod: &'a Pod,
    /// What runs.
    pub observed: &'a Observed,
    /// What the worker remembers.
    pub memory: &'a Memory,
    /// Pauses between restarts.
    pub backoff: &'a Backoff,
    /// The time.
    pub now: Timestamp,
}

/// The key of a container's restart back-off.
pub(crate) fn backoff_key(container: &Container) -> String {
    format!("{}/{}", container.name, labels::hash(container))
}

impl Inputs<'_> {
    /// Decides.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let Some(spec) = &self.pod.spec else { return plan };
        if self.restarts_all(spec) {
            return Plan { restart_all: true, ..Plan::default() };
        }
        if !self.observed.ready() && self.all_settled(spec) {
            return Plan { finish: true, ..Plan::default() };
        }
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let initialised = spec.containers.iter().any(|c| self.active(&c.name).is_some());
        let outcome = self.init_containers(init, initialised, &mut plan);
        let mut kept = 0;
        match outcome {
            InitOutcome::Failed => {}
            InitOutcome::InProgress => kept += 1,
            InitOutcome::Done => {
                for container in &spec.containers {
                    kept += usize::from(self.app_container(container, &mut plan));
                }
            }
        }
        if kept == 0 {
            return Plan { finish: true, ..Plan::default() };
        }
        if outcome == InitOutcome::Done || initialised {
            self.ephemeral_containers(&mut plan);
        }
        // While everything waits the sandbox can wait too.
        plan.create_sandbox = !self.observed.ready() && !plan.start.is_empty();
        plan
    }

    /// The newest attempt in the present sandbox.
    fn active(&self, name: &str) -> Option<&ContainerStatus> {
        if self.observed.ready() { self.observed.newest(name) } else { None }
    }

    fn restarts_all(&self, spec: &PodSpec) -> bool {
        let code = |c: &Container| {
            let status = self.active(&c.name).filter(|s| s.state == ContainerState::Exited)?;
            status.exit_code
        };
        let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        containers.any(|c| code(c).is_some_and(|code| restart::all(c, code)))
    }

    /// Every ordinary container has ended for good: no new sandbox, and no init container, runs for it.
    fn all_settled(&self, spec: &PodSpec) -> bool {
        let settled = |c: &Container| self.last_end(&c.name).is_some_and(|(code, _)| !self.again(c, code));
        spec.containers.iter().all(settled)
    }

    /// Exit code and time of a container's last end, in whichever sandbox.
    fn last_end(&self, name: &str) -> Option<(i32, Timestamp)> {
        let past = self.memory.past(name);
        match self.observed.newest(name) {
            Some(c) if c.state == ContainerState::Exited && !past.is_some_and(|p| p.is_after(c)) => {
                Some((c.exit_code.unwrap_or(137), self.observed.ended_at(c)))
            }
            _ => past.and_then(|p| p.ended),
        }
    }

    fn attempt(&self, name: &str) -> u32 {
        let observed = self.observed.newest(name).map(|c| labels::attempt(&c.labels) + 1);
        let past = self.memory.past(name).map(|p| p.restarts + 1);
        observed.max(past).unwrap_or(0)
    }

    fn again(&self, container: &Container, code: i32) -> bool {
        self.pod.spec.as_ref().is_some_and(|spec| restart::again(spec, container, code))
    }

    /// Starts the container, or has it wait for its back-off.
    fn start_or_wait(&self, container: &Container, role: Role, plan: &mut Plan) {
        if let Some((_, ended)) = self.last_end(&container.name) {
            let key = backoff_key(container);
            if let Some(until) = self.backoff.until(&key, ended, self.now) {
                plan.wake_at = Some(plan.wake_at.map_or(until, |w| w.min(until)));
                plan.waiting.push(Wait {
                    container: container.name.clone(),
                    message: format!(
                        "back-off {} restarting failed container={} pod={}",
                        go_duration(self.backoff.pause(&key)),
                        container.name,
                        full_name(self.pod)
                    ),
                });
                return;
            }
        }
        plan.start.push(self.start(container, role));
    }

    fn start(&self, container: &Container, role: Role) -> Start {
        let name = container.name.clone();
        let ended = self.last_end(&name).map(|(_, at)| at);
        Start { role, attempt: self.attempt(&name), ended, container: name }
    }

    /// Why a running container must end, if it must.
    fn must_end(&self, container: &Container, status: &ContainerStatus) -> Option<Kill> {
        let kill = |message: String, grace| {
            Some(Kill { container: container.name.clone(), id: status.id.clone(), message, grace })
        };
        if status.labels.get(labels::HASH).is_some_and(|h| *h != labels::hash(container)) {
            return kill(format!("Container {} definition changed, will be restarted", container.name), None);
        }
        let failed = self.memory.probe_failure(&status.id)?;
        let probe = match failed {
            ProbeKind::Startup => container.startup_probe.as_ref(),
            _ => container.liveness_probe.as_ref(),
        };
        let grace = probe.and_then(|p| p.termination_grace_period_seconds);
        let (name, probe) = (&container.name, failed.name());
        let never = self.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("Never");
        let message = if is_sidecar(container) {
            format!("Init container {name} failed {probe} probe")
        } else {
            let then = if never { "" } else { ", will be restarted" };
            format!("Container {name} failed {probe} probe{then}")
        };
        kill(message, grace)
    }

    /// Decides for one ordinary container; whether it keeps the pod going.
    fn app_container(&self, container: &Container, plan: &mut Plan) -> bool {
        match self.active(&container.name) {
            Some(status) if status.state == ContainerState::Running => {
                plan.kill.extend(self.must_end(container, status));
                true
            }
            Some(status) if status.state == ContainerState::Created => {
                self.start_or_wait(container, Role::App, plan);
                true
            }
            _ => {
                if self.last_end(&container.name).is_some_and(|(code, _)| !self.again(container, code)) {
                    return false;
                }
                self.start_or_wait(container, Role::App, plan);
                true
            }
        }
    }

    fn init_containers(&self, init: &[Container], initialised: bool, plan: &mut Plan) -> InitOutcome {
        for container in init {
            let done = if is_sidecar(container) {
                self.sidecar(container, plan) || initialised
            } else if initialised {
                true
            } else {
                match self.init_container(container, plan) {
                    InitOutcome::Done => true,
                    other => return other,
                }
            };
            if !done {
                return InitOutcome::InProgress;
            }
        }
        InitOutcome::Done
    }

    fn init_container(&self, container: &Container, plan: &mut Plan) -> InitOutcome {
        let status = self.active(&container.name);
        match status.map(|s| (s.state, s.exit_code)) {
            Some((ContainerState::Running, _)) => return InitOutcome::InProgress,
            Some((ContainerState::Exited, Some(0))) => return InitOutcome::Done,
            _ => {}
        }
        match self.last_end(&container.name) {
            Some((code, _)) if code != 0 && !self.again(container, code) => return InitOutcome::Failed,
            Some((0, _)) => {
                // A new sandbox runs its init containers again, without back-off.
                plan.start.push(self.start(container, Role::Init));
            }
            _ => self.start_or_wait(container, Role::Init, plan),
        }
        InitOutcome::InProgress
    }

    /// Keeps a sidecar running; whether it has started, so that the next one may.
    fn sidecar(&self, container: &Container, plan: &mut Plan) -> bool {
        match self.active(&container.name) {
            Some(status) if status.state == ContainerState::Running => {
                if let Some(kill) = self.must_end(container, status) {
                    plan.kill.push(kill);
                    return false;
                }
                self.memory.started(container, &status.id)
            }
            _ => {
                self.start_or_wait(container, Role::Sidecar, plan);
                false
            }
        }
    }

    fn ephemeral_containers(&self, plan: &mut Plan) {
        let spec = self.pod.spec.as_ref();
        for container in spec.and_then(|s| s.ephemeral_containers.as_deref()).unwrap_or_default() {
            let known = self.observed.newest(&container.name).is_some()
                || self.memory.past(&container.name).is_some();
            if !known && self.observed.ready() {
                let container = container.name.clone();
                plan.start.push(Start { container, role: Role::Ephemeral, attempt: 0, ended: None });
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InitOutcome {
    /// All have done their part.
    Done,
    /// One is running or to be started.
    InProgress,
    /// One failed for good.
    Failed,
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
