//! A pod's conditions, with upstream's reasons and messages (`pkg/kubelet/status/generate.go`).

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};

use super::phase::has_run;
use super::resize::{IN_PROGRESS, PENDING};
use super::restart;
use super::status::Inputs;
use crate::agent::spec::is_sidecar;

impl Inputs<'_> {
    /// The agent's conditions, with the API's others kept; transition times move with the status only.
    pub(super) fn conditions(
        &self,
        spec: &PodSpec,
        init: &[ContainerStatus],
        containers: &[ContainerStatus],
        phase: &str,
        old: &PodStatus,
    ) -> Vec<PodCondition> {
        let known = old.conditions.as_deref().unwrap_or_default();
        let initialized = initialized(spec, init, containers, phase);
        let containers_ready = containers_ready(spec, init, containers, phase);
        let ready = ready(spec, known, &containers_ready);
        let start = Verdict::of(self.observed.ready());
        let scheduled = Verdict::of(true);
        let mut own = vec![
            ("PodReadyToStartContainers", start),
            ("Initialized", initialized),
            ("Ready", ready),
            ("ContainersReady", containers_ready),
            ("PodScheduled", scheduled),
        ];
        if restart::may_restart_all(spec) {
            own.push(("AllContainersRestarting", restarting(phase, self.memory.restarting_all)));
        }
        if let Some(verdict) = self.disruption() {
            own.push(("DisruptionTarget", verdict));
        }
        if let Some(undersized) = &self.memory.undersized {
            let message = Some(undersized.message.clone());
            own.push((undersized.condition, Verdict { ok: true, reason: Some(undersized.reason), message }));
        }
        let mut all: Vec<PodCondition> = own.into_iter().map(|(t, v)| self.condition(t, v, known)).collect();
        let made: Vec<String> = all.iter().map(|c| c.type_.clone()).collect();
        let others = known.iter().filter(|c| !TRANSIENT.contains(&c.type_.as_str()));
        all.extend(others.filter(|c| !made.contains(&c.type_)).cloned());
        all
    }

    /// The node ended the pod for its own sake.
    fn disruption(&self) -> Option<Verdict> {
        let message = self.memory.disrupted.clone().filter(|_| self.memory.failed.is_some())?;
        Some(Verdict { ok: true, reason: Some("TerminationByKubelet"), message: Some(message) })
    }

    fn condition(&self, type_: &str, verdict: Verdict, known: &[PodCondition]) -> PodCondition {
        let status = if verdict.ok { "True" } else { "False" };
        let old = known.iter().find(|c| c.type_ == type_);
        let since = old.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        PodCondition {
            type_: type_.into(),
            status: status.into(),
            reason: verdict.reason.map(Into::into),
            message: verdict.message,
            last_probe_time: None,
            last_transition_time: Some(since.unwrap_or_else(|| self.now.into())),
            observed_generation: self.pod.metadata.generation,
        }
    }
}

/// Of the agent's condition types those that are there only while they hold.
pub(crate) const TRANSIENT: [&str; 2] = [PENDING, IN_PROGRESS];

/// The condition types that the agent writes.
pub(crate) const OWN: [&str; 9] = [
    PENDING,
    IN_PROGRESS,
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "AllContainersRestarting",
    "DisruptionTarget",
];

#[derive(Clone, Debug, Default)]
struct Verdict {
    ok: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn of(ok: bool) -> Self {
        Self { ok, ..Self::default() }
    }

    fn no(reason: &'static str) -> Self {
        Self { reason: Some(reason), ..Self::default() }
    }
}

fn initialized(
    spec: &PodSpec,
    init: &[ContainerStatus],
    containers: &[ContainerStatus],
    phase: &str,
) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { ok: true, reason: Some("PodCompleted"), message: None };
    }
    if containers.iter().any(has_run) {
        return Verdict::of(true);
    }
    let missing: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| {
            let status = init.iter().find(|s| s.name == c.name);
            !status.is_some_and(|s| if is_sidecar(c) { s.started == Some(true) } else { s.ready })
        })
        .map(|c| c.name.as_str())
        .collect();
    if missing.is_empty() {
        return Verdict::of(true);
    }
    let message = Some(format!("containers with incomplete status: [{}]", missing.join(" ")));
    Verdict { message, ..Verdict::no("ContainersNotInitialized") }
}

fn containers_ready(
    spec: &PodSpec,
    init: &[ContainerStatus],
    containers: &[ContainerStatus],
    phase: &str,
) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted"),
        "Failed" => return Verdict::no("PodFailed"),
        _ => {}
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let unready: Vec<&str> = sidecars
        .map(|c| (c, init))
        .chain(spec.containers.iter().map(|c| (c, containers)))
        .filter(|(c, all)| !all.iter().any(|s| s.name == c.name && s.ready))
        .map(|(c, _)| c.name.as_str())
        .collect();
    if unready.is_empty() {
        return Verdict::of(true);
    }
    let message = Some(format!("containers with unready status: [{}]", unready.join(" ")));
    Verdict { message, ..Verdict::no("ContainersNotReady") }
}

fn ready(spec: &PodSpec, known: &[PodCondition], containers_ready: &Verdict) -> Verdict {
    if !containers_ready.ok {
        return containers_ready.clone();
    }
    let gates = spec.readiness_gates.iter().flatten();
    let missing: Vec<String> = gates
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match known.iter().find(|c| c.type_ == *name) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate \"{name}\" does not exist."))
                }
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if missing.is_empty() {
        return Verdict::of(true);
    }
    Verdict { message: Some(missing.join(", ")), ..Verdict::no("ReadinessGatesNotReady") }
}

fn restarting(phase: &str, now: bool) -> Verdict {
    match phase {
        "Succeeded" => Verdict::no("PodCompleted"),
        "Failed" => Verdict::no("PodFailed"),
        _ if now => {
            let message = Some("container exited with restart policy rule".to_owned());
            Verdict { ok: true, reason: Some("RestartAllContainersStarted"), message }
        }
        _ => Verdict::of(false),
    }
}
