//! Startup, readiness and liveness probes: one task and one timer a probe.

mod check;
mod grpc;
pub(crate) mod http;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::context::Context;
pub(crate) use check::{Outcome, Target};
use task::Task;

/// A kind of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProbeKind {
    /// Until it succeeds, the others wait.
    Startup,
    /// Whether the container takes traffic.
    Readiness,
    /// Whether the container is to be restarted.
    Liveness,
}

impl ProbeKind {
    /// As events name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }

    /// As events begin.
    fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What the probes of one container have found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProbeState {
    /// The startup probe succeeded.
    pub started: bool,
    /// The readiness probe's last verdict.
    pub ready: bool,
    /// The probe for whose failure the container is to be restarted.
    pub failed: Option<ProbeKind>,
}

/// A running container that is to be probed.
pub(crate) struct Probed {
    /// Its specification.
    pub container: Container,
    /// Its id.
    pub id: String,
    /// When it was started.
    pub since: Timestamp,
    /// What the API's status says of it, if it knows it: it ran before the agent did.
    pub known: Option<ProbeState>,
}

type States = Arc<Mutex<BTreeMap<String, ProbeState>>>;

/// The probes of one pod's containers.
pub(crate) struct Probes {
    context: Arc<Context>,
    wake: Arc<Notify>,
    states: States,
    tasks: BTreeMap<String, BTreeMap<ProbeKind, JoinSet<()>>>,
}

impl Probes {
    /// No probe runs; `wake` is notified when a verdict changes.
    pub(crate) fn new(context: Arc<Context>, wake: Arc<Notify>) -> Self {
        Self { context, wake, states: States::default(), tasks: BTreeMap::new() }
    }

    /// What was found, by container id.
    pub(crate) fn states(&self) -> BTreeMap<String, ProbeState> {
        self.states.lock().clone()
    }

    /// Probes exactly these containers.
    pub(crate) fn reconcile(&mut self, pod: &Pod, address: &str, running: Vec<Probed>) {
        self.tasks.retain(|id, _| running.iter().any(|r| r.id == *id));
        self.states.lock().retain(|id, _| running.iter().any(|r| r.id == *id));
        let fresh: Vec<Probed> = running.into_iter().filter(|r| !self.tasks.contains_key(&r.id)).collect();
        if fresh.is_empty() {
            return;
        }
        let pod = Arc::new(pod.clone());
        for probed in fresh {
            self.start(&pod, address, probed);
        }
    }

    /// The pod is being ended: readiness is still asked for, nothing is restarted any more.
    pub(crate) fn only_readiness(&mut self) {
        for tasks in self.tasks.values_mut() {
            tasks.retain(|kind, _| *kind == ProbeKind::Readiness);
        }
    }

    /// Ends all probes.
    pub(crate) fn stop(&mut self) {
        self.tasks.clear();
    }

    fn start(&mut self, pod: &Arc<Pod>, address: &str, probed: Probed) {
        let Probed { container, id, since, known } = probed;
        let adopted = known.is_some();
        let known = known.unwrap_or_default();
        let started = known.started || container.startup_probe.is_none();
        self.states.lock().insert(id.clone(), ProbeState { started, ..known });
        let (started, _) = watch::channel(started);
        let started = Arc::new(started);
        let container = Arc::new(container);
        let mut tasks = BTreeMap::new();
        for (kind, probe) in [
            (ProbeKind::Startup, &container.startup_probe),
            (ProbeKind::Readiness, &container.readiness_probe),
            (ProbeKind::Liveness, &container.liveness_probe),
        ] {
            let Some(probe) = probe else { continue };
            let task = Task {
                context: Arc::clone(&self.context),
                wake: Arc::clone(&self.wake),
                states: Arc::clone(&self.states),
                pod: Arc::clone(pod),
                container: Arc::clone(&container),
                id: id.clone(),
                address: address.to_owned(),
                kind,
                probe: probe.clone(),
                since,
                adopted,
                started: Arc::clone(&started),
            };
            tasks.entry(kind).or_insert_with(JoinSet::new).spawn(task.run());
        }
        self.tasks.insert(id, tasks);
    }
}
