//! Every long-lived task of the process is spawned here.
//!
//! A task says what it is called, in which [`Stage`] it stops, and what its failure means
//! ([`OnFailure`]). The supervisor restarts what may be restarted with exponential back-off, reports
//! health for `/readyz`, and stops everything in order: listeners first, so that no new work comes
//! in, then controllers, then the agent, and the store last, so that all they still write is kept.

mod clock;
mod start;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use clock::ClockWatch;

/// Any error a task may end with.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// The first pause before a failed task is started again.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// The longest pause between two starts of a failing task.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A task that ran this long before it failed starts again with the first pause.
const BACKOFF_RESET: Duration = Duration::from_secs(60);

/// When a task is stopped: stages stop in this order, each fully before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Accepts work from outside: API and node API listeners.
    Listener,
    /// Scheduler, controllers, add-ons.
    Controller,
    /// Node agent, network, DNS.
    Agent,
    /// The store's commit thread and what it needs.
    Store,
}

const STAGES: [Stage; 4] = [Stage::Listener, Stage::Controller, Stage::Agent, Stage::Store];

/// What the failure of a task means. A task that ends with `Ok` is finished, whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The process cannot go on: [`Supervisor::failed`] resolves.
    StopProcess,
    /// The task is started again with back-off from 250 ms to 30 s.
    Restart,
}

/// The state of one task, as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It failed and waits to be started again.
    BackingOff {
        /// Why it failed last.
        error: String,
        /// How often it was started again.
        restarts: u32,
    },
    /// It ended without an error, or was stopped.
    Ended,
    /// It failed, and the process is to stop.
    Failed(String),
}

impl State {
    /// How bad it is, compared with others.
    fn gravity(&self) -> u8 {
        match self {
            Self::Running | Self::Ended => 0,
            Self::BackingOff { .. } => 1,
            Self::Failed(_) => 2,
        }
    }
}

/// A task failed whose failure the process does not survive.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{task}: {error}")]
pub struct Failure {
    /// The task's name.
    pub task: String,
    /// What it ended with.
    pub error: String,
}

struct Stop {
    token: CancellationToken,
    /// Tasks by name.
    handles: Mutex<Vec<(String, JoinHandle<()>)>>,
}

struct Inner {
    stops: BTreeMap<Stage, Stop>,
    /// By name and the number of the task: one that ends must not take away what is known of its successor.
    states: Mutex<BTreeMap<(String, u64), State>>,
    spawned: AtomicU64,
    failure: watch::Sender<Option<Failure>>,
    steps: start::Steps,
}

/// Spawns, watches and stops tasks. Clones share one set of tasks.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("tasks", &self.health()).finish()
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// A supervisor without tasks.
    pub fn new() -> Self {
        let stops = STAGES
            .into_iter()
            .map(|s| (s, Stop { token: CancellationToken::new(), handles: Mutex::default() }))
            .collect();
        Self(Arc::new(Inner {
            stops,
            states: Mutex::default(),
            spawned: AtomicU64::new(0),
            failure: watch::Sender::new(None),
            steps: start::Steps::new(),
        }))
    }

    /// Runs what starts the process. Steps of it ([`Supervisor::step`]) that take long are told of in the log.
    pub async fn start<T>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, TaskError>
    where
        T: Send + 'static,
    {
        self.step("beginning");
        let steps = self.0.steps.clone();
        let say = |step: &str, since: Duration| {
            tracing::warn!(seconds = since.as_secs(), "starting takes long; now: {step}");
        };
        let (telling, started) = (tokio::spawn(async move { steps.tell(say).await }), tokio::spawn(work));
        let result = started.await;
        self.0.steps.set(None);
        telling.await?;
        Ok(result?)
    }

    /// Names what the start of the process does next.
    pub fn step(&self, what: impl Into<Cow<'static, str>>) {
        self.0.steps.set(Some(what.into()));
    }

    /// Spawns a task. `task` is called once, and again after each failure if it may restart; the
    /// token it is given is cancelled when its stage stops, upon which it must end soon. What stands
    /// behind `: ` in the name tells one of many alike from the others, in the log; their health is shown
    /// as one, since `/readyz` is open to everyone.
    pub fn spawn<F, Fut>(
        &self,
        name: impl Into<Cow<'static, str>>,
        stage: Stage,
        on_failure: OnFailure,
        mut task: F,
    ) where
        F: FnMut(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let name = name.into().into_owned();
        let stop = &self.0.stops[&stage];
        let token = stop.token.child_token();
        let inner = Arc::clone(&self.0);
        let named = name.clone();
        let id = inner.spawned.fetch_add(1, Ordering::Relaxed);
        inner.set(&name, id, State::Running);
        let handle = tokio::spawn(async move {
            let mut backoff = FIRST_BACKOFF;
            let mut restarts = 0;
            loop {
                let started = tokio::time::Instant::now();
                // A task of its own, so that a panic in it is a failure like another.
                let result = match tokio::spawn(task(token.clone())).await {
                    Ok(result) => result.map_err(|e| e.to_string()),
                    Err(join) => Err(join.to_string()),
                };
                let error = match result {
                    Ok(()) => break inner.set(&name, id, State::Ended),
                    Err(_) if token.is_cancelled() => break inner.set(&name, id, State::Ended),
                    Err(error) => error,
                };
                if on_failure == OnFailure::StopProcess {
                    inner.set(&name, id, State::Failed(error.clone()));
                    inner.failure.send_replace(Some(Failure { task: name, error }));
                    break;
                }
                if started.elapsed() >= BACKOFF_RESET {
                    backoff = FIRST_BACKOFF;
                }
                restarts += 1;
                tracing::error!(task = %name, %error, restarts, "task failed; starting it again in {backoff:?}");
                inner.set(&name, id, State::BackingOff { error, restarts });
                tokio::select! {
                    () = token.cancelled() => break inner.set(&name, id, State::Ended),
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = (backoff * 2).min(MAX_BACKOFF);
                inner.set(&name, id, State::Running);
            }
        });
        let mut handles = stop.handles.lock();
        handles.retain(|(_, handle)| !handle.is_finished());
        handles.push((named, handle));
    }

    /// Every task's name and state, by name; of many alike, the worst state.
    pub fn health(&self) -> Vec<(String, State)> {
        let mut groups: BTreeMap<String, State> = BTreeMap::new();
        for ((name, _), state) in self.0.states.lock().iter() {
            let group = name.split_once(": ").map_or(name.as_str(), |(group, _)| group);
            match groups.get_mut(group) {
                Some(known) if known.gravity() < state.gravity() => *known = state.clone(),
                Some(_) => {}
                None => drop(groups.insert(group.to_owned(), state.clone())),
            }
        }
        groups.into_iter().collect()
    }

    /// The token that is cancelled when `stage` stops.
    pub fn token(&self, stage: Stage) -> CancellationToken {
        self.0.stops[&stage].token.clone()
    }

    /// Resolves when a task failed whose failure stops the process.
    pub async fn failed(&self) -> Failure {
        let mut failure = self.0.failure.subscribe();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops all tasks, stage by stage. Each stage has `per_stage` to end by itself; what has not
    /// ended by then is aborted and named in the result.
    pub async fn shutdown(&self, per_stage: Duration) -> Vec<String> {
        let mut late = Vec::new();
        for stage in STAGES {
            let stop = &self.0.stops[&stage];
            stop.token.cancel();
            let handles = std::mem::take(&mut *stop.handles.lock());
            let deadline = tokio::time::Instant::now() + per_stage;
            for (name, mut handle) in handles {
                if tokio::time::timeout_at(deadline, &mut handle).await.is_err() {
                    handle.abort();
                    late.push(name);
                }
            }
        }
        late
    }
}

impl Inner {
    fn set(&self, name: &str, id: u64, state: State) {
        let key = (name.to_owned(), id);
        let mut states = self.states.lock();
        if state == State::Ended {
            states.remove(&key);
        } else {
            states.insert(key, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[tokio::test(start_paused = true)]
    async fn a_failing_task_is_started_again_and_shows_in_health() {
        let supervisor = Supervisor::new();
        let starts = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&starts);
        supervisor.spawn("flaky", Stage::Controller, OnFailure::Restart, move |token| {
            let n = counter.fetch_add(1, Ordering::SeqCst);
            async move {
                if n < 2 {
                    return Err(format!("failure {n}").into());
                }
                token.cancelled().await;
                Ok(())
            }
        });
        while starts.load(Ordering::SeqCst) < 3 {
            tokio::time::advance(Duration::from_millis(50)).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(supervisor.health(), [("flaky".to_owned(), State::Running)]);
        assert!(supervisor.shutdown(Duration::from_secs(1)).await.is_empty());
        assert!(supervisor.health().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn many_alike_are_shown_as_one_in_their_worst_state() {
        let supervisor = Supervisor::new();
        let wait = |token: CancellationToken| async move {
            token.cancelled().await;
            Ok(())
        };
        supervisor.spawn("pod workers: a/b 1", Stage::Agent, OnFailure::Restart, wait);
        supervisor.spawn("pod workers: secret/name 2", Stage::Agent, OnFailure::Restart, |_| async {
            Err("no".into())
        });
        supervisor.spawn("pod workers: z/z 3", Stage::Agent, OnFailure::Restart, wait);
        tokio::time::sleep(Duration::from_millis(10)).await;
        let failing = State::BackingOff { error: "no".into(), restarts: 1 };
        assert_eq!(supervisor.health(), [("pod workers".to_owned(), failing)]);
        supervisor.shutdown(Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn a_successor_of_the_same_name_stays_known() {
        let supervisor = Supervisor::new();
        let first = CancellationToken::new();
        let ended = first.clone();
        supervisor.spawn("watch", Stage::Agent, OnFailure::Restart, move |_| {
            let ended = ended.clone();
            async move {
                ended.cancelled().await;
                Ok(())
            }
        });
        supervisor.spawn("watch", Stage::Agent, OnFailure::Restart, |token| async move {
            token.cancelled().await;
            Ok(())
        });
        first.cancel();
        while supervisor.0.states.lock().len() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(supervisor.health(), [("watch".to_owned(), State::Running)]);
        assert!(supervisor.shutdown(Duration::from_secs(1)).await.is_empty());
    }

    #[tokio::test]
    async fn a_vital_task_that_panics_stops_the_process() {
        let supervisor = Supervisor::new();
        supervisor.spawn("vital", Stage::Store, OnFailure::StopProcess, |_| async { panic!("boom") });
        let failure = supervisor.failed().await;
        assert_eq!(failure.task, "vital");
        assert!(failure.error.contains("panic"), "{failure}");
    }

    #[tokio::test]
    async fn stages_stop_in_order() {
        let supervisor = Supervisor::new();
        let order = Arc::new(Mutex::new(Vec::new()));
        for stage in [Stage::Store, Stage::Listener, Stage::Agent, Stage::Controller] {
            let order = Arc::clone(&order);
            supervisor.spawn(format!("{stage:?}"), stage, OnFailure::Restart, move |token| {
                let order = Arc::clone(&order);
                async move {
                    token.cancelled().await;
                    order.lock().push(stage);
                    Ok(())
                }
            });
        }
        assert!(supervisor.shutdown(Duration::from_secs(5)).await.is_empty());
        assert_eq!(*order.lock(), STAGES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ignores_its_token_is_aborted_and_named() {
        let supervisor = Supervisor::new();
        supervisor.spawn("deaf", Stage::Agent, OnFailure::Restart, |_| async {
            std::future::pending::<()>().await;
            Ok(())
        });
        assert_eq!(supervisor.shutdown(Duration::from_secs(1)).await, ["deaf"]);
    }
}
