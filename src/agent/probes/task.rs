//! One probe of one container, again and again.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Outcome, ProbeKind, States, Target};
use crate::agent::context::Context;

/// A check that could not be made is tried so often before that is told.
const ATTEMPTS: u32 = 3;

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

/// A probe and all it needs.
pub(super) struct Task {
    pub context: Arc<Context>,
    pub wake: Arc<Notify>,
    pub states: States,
    pub pod: Arc<Pod>,
    pub container: Arc<Container>,
    pub id: String,
    pub address: String,
    pub kind: ProbeKind,
    pub probe: Probe,
    /// When the container was started.
    pub since: Timestamp,
    /// It ran before the agent did.
    pub adopted: bool,
    /// The startup probe has succeeded, or there is none.
    pub started: Arc<watch::Sender<bool>>,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
}

/// What is left of the initial delay of a container that was started at `since`; never more than all
/// of it, whatever the clock did meanwhile.
fn remaining_delay(delay: Duration, since: Timestamp, now: Timestamp) -> Duration {
    let spent = Duration::try_from(now.duration_since(since).max(SignedDuration::ZERO)).unwrap_or_default();
    delay.saturating_sub(spent)
}

impl Task {
    /// Probes until its verdict is final or the task is dropped.
    pub(super) async fn run(self) {
        let delay = seconds(self.probe.initial_delay_seconds, 0);
        let mut first = Instant::now() + remaining_delay(delay, self.since, Timestamp::now());
        let period = seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        if self.adopted {
            // All probes of all pods at once would be a burst after every restart of the agent.
            first = first.max(Instant::now() + period.mul_f64(rand::random::<f64>()));
        }
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
        let mut tick = tokio::time::interval_at(first, period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut streak = Streak::default();
        loop {
            tick.tick().await;
            if self.once(&mut streak).await {
                return;
            }
        }
    }

    async fn check(&self) -> Outcome {
        let target = Target {
            runtime: &self.context.runtime,
            container: &self.container,
            id: &self.id,
            address: &self.address,
            timeout: seconds(self.probe.timeout_seconds, 1).max(Duration::from_secs(1)),
        };
        let mut outcome = target.probe(&self.probe).await;
        for _ in 1..ATTEMPTS {
            if !matches!(outcome, Outcome::Unknown(_)) {
                break;
            }
            outcome = target.probe(&self.probe).await;
        }
        outcome
    }

    fn tell(&self, reason: &'static str, text: &str) {
        let message = format!("{} probe {text}", self.kind.title());
        self.context.events.pod(&self.pod, Some(&self.container.name), "Warning", reason, message);
    }

    /// Probes once; whether this probe is done for good.
    async fn once(&self, streak: &mut Streak) -> bool {
        let success = match self.check().await {
            Outcome::Success => true,
            Outcome::Warning(text) => {
                self.tell("ProbeWarning", &format!("warning: {text}"));
                true
            }
            Outcome::Failure(text) => {
                self.tell("Unhealthy", &format!("failed: {text}"));
                false
            }
            Outcome::Unknown(text) => {
                self.tell("Unhealthy", &format!("errored and resulted in unknown state: {text}"));
                return false;
            }
        };
        self.context.probe_counts.count(&self.pod, &self.container.name, self.kind.title(), success);
        let Some(verdict) = streak.count(success, &self.probe) else { return false };
        self.conclude(verdict)
    }

    fn conclude(&self, verdict: bool) -> bool {
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
        if (self.kind, verdict) == (ProbeKind::Startup, true) {
            self.started.send_replace(true);
        }
        self.kind == ProbeKind::Startup || (self.kind == ProbeKind::Liveness && !verdict)
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

    #[test]
    fn the_initial_delay_counts_from_the_containers_start() {
        let at = |s: i64| Timestamp::from_second(1_000_000 + s).expect("in range");
        let delay = Duration::from_secs(30);
        for (now, left) in [(0, 30), (10, 20), (30, 0), (99, 0), (-500, 30)] {
            assert_eq!(remaining_delay(delay, at(0), at(now)), Duration::from_secs(left), "{now}");
        }
    }
}
