//! Startup, readiness and liveness probes: one task and one timer a probe.

mod check;
pub(crate) mod http;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::context::Context;
pub(crate) use check::{Outcome, Target, resolve_port};

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

/// Consecutive results of a probe against its thresholds.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    last: Option<bool>,
    length: i32,
}

impl Streak {
    /// Counts a result; the verdict once its threshold is reached.
    fn count(&mut self, success: bool, probe: &Probe) -> Option<bool> {
        self.length = if self.last == Some(success) { self.length.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let threshold =
            if success { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        (self.length >= threshold.max(1)).then_some(success)
    }
}

type States = Arc<Mutex<BTreeMap<String, ProbeState>>>;

/// The probes of one pod's containers.
pub(crate) struct Probes {
    context: Arc<Context>,
    wake: Arc<Notify>,
    states: States,
    tasks: BTreeMap<String, JoinSet<()>>,
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

    /// Probes exactly these running containers: `(container, id, its state before a restart of the agent)`.
    pub(crate) fn reconcile(
        &mut self,
        pod: &Pod,
        address: &str,
        running: &[(Container, String, Option<ProbeState>)],
    ) {
        let ids: Vec<&String> = running.iter().map(|(_, id, _)| id).collect();
        self.tasks.retain(|id, _| ids.contains(&id));
        self.states.lock().retain(|id, _| ids.contains(&id));
        for (container, id, known) in running {
            if !self.tasks.contains_key(id) {
                self.start(pod, address, container, id, known.clone().unwrap_or_default());
            }
        }
    }

    /// Ends all probes.
    pub(crate) fn stop(&mut self) {
        self.tasks.clear();
    }

    fn start(&mut self, pod: &Pod, address: &str, container: &Container, id: &str, known: ProbeState) {
        let started = known.started || container.startup_probe.is_none();
        self.states.lock().insert(id.to_owned(), ProbeState { started, ..known });
        let (started, _) = watch::channel(started);
        let started = Arc::new(started);
        let mut tasks = JoinSet::new();
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
                pod: pod.clone(),
                container: container.clone(),
                id: id.to_owned(),
                address: address.to_owned(),
                kind,
                probe: probe.clone(),
                started: Arc::clone(&started),
            };
            tasks.spawn(task.run());
        }
        self.tasks.insert(id.to_owned(), tasks);
    }
}

struct Task {
    context: Arc<Context>,
    wake: Arc<Notify>,
    states: States,
    pod: Pod,
    container: Container,
    id: String,
    address: String,
    kind: ProbeKind,
    probe: Probe,
    started: Arc<watch::Sender<bool>>,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
}

impl Task {
    async fn run(self) {
        if self.kind == ProbeKind::Startup {
            if *self.started.borrow() {
                return;
            }
        } else {
            let mut started = self.started.subscribe();
            if started.wait_for(|s| *s).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(seconds(self.probe.initial_delay_seconds, 0)).await;
        let period = seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut streak = Streak::default();
        loop {
            tick.tick().await;
            if self.once(&mut streak).await {
                return;
            }
        }
    }

    /// Probes once; whether this probe is done for good.
    async fn once(&self, streak: &mut Streak) -> bool {
        let target = Target {
            runtime: &self.context.runtime,
            container: &self.container,
            id: &self.id,
            address: &self.address,
            timeout: seconds(self.probe.timeout_seconds, 1).max(Duration::from_secs(1)),
        };
        let outcome = target.probe(&self.probe).await;
        if let Outcome::Failure(text) = &outcome {
            let message = format!("{} probe failed: {text}", self.kind.title());
            self.context.events.pod(&self.pod, Some(&self.container.name), "Warning", "Unhealthy", message);
        }
        let success = matches!(outcome, Outcome::Success);
        self.context.probe_counts.count(&self.pod, &self.container.name, self.kind.title(), success);
        let Some(verdict) = streak.count(success, &self.probe) else {
            return false;
        };
        let done = match (self.kind, verdict) {
            (ProbeKind::Startup, true) => {
                self.started.send_replace(true);
                true
            }
            (ProbeKind::Startup | ProbeKind::Liveness, false) => true,
            _ => false,
        };
        let mut states = self.states.lock();
        let state = states.entry(self.id.clone()).or_default();
        let before = state.clone();
        match (self.kind, verdict) {
            (ProbeKind::Startup, true) => state.started = true,
            (ProbeKind::Readiness, ready) => state.ready = ready,
            (ProbeKind::Liveness, true) => {}
            (kind, false) => state.failed = Some(kind),
        }
        if *state != before {
            self.wake.notify_one();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_what_follows_in_a_row() {
        let probe = Probe { failure_threshold: Some(3), success_threshold: Some(2), ..Probe::default() };
        let mut streak = Streak::default();
        let verdicts: Vec<Option<bool>> = [false, false, true, true, true, false, false, false]
            .into_iter()
            .map(|r| streak.count(r, &probe))
            .collect();
        assert_eq!(verdicts, [None, None, None, Some(true), Some(true), None, None, Some(false)]);
    }
}
