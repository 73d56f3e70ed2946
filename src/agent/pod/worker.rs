//! The worker of one pod: looks at what is wanted and what is, acts, reports, waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::images::Pulls;
use super::memory::{Memory, Verdict};
use super::observed::{Observed, finished, timestamp};
use super::plan;
use super::resize::Unsized;
use super::writing::Writing;
use super::{labels, words};
use crate::agent::backoff::Backoff;
use crate::agent::context::Context;
use crate::agent::mirrors::is_static;
use crate::agent::probes::{ProbeState, Probed, Probes};
use crate::agent::spec::{all_containers, find_container, full_name, host_network, is_terminal, uid};
use crate::agent::steady;
use crate::agent::volumes::Volumes;
use crate::runtime::spec::{ContainerState, SandboxStatus};

/// A round may take so much longer than the agent.
const LAST_ROUND: Duration = Duration::from_secs(1);
/// A failed step is tried again after this long.
pub(super) const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// What the API says of the pod.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// It is there.
    Pod(Arc<Pod>),
    /// It is not there any more; this is its last state.
    Gone(Arc<Pod>),
}

/// One pod's worker.
pub(crate) struct Worker {
    pub(super) context: Arc<Context>,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) wake: Arc<Notify>,
    /// Id of the pod's sandbox.
    pub(super) sandbox: Option<String>,
    pub(super) memory: Memory,
    pub(super) backoff: Backoff,
    pub(super) pulls: Pulls,
    pub(super) probes: Probes,
    pub(super) volumes: Volumes,
    /// Last words by container id.
    messages: BTreeMap<String, String>,
    /// The newest state of the pod that the API is known to have.
    pub(super) known: Option<Box<Pod>>,
    /// The write of its status that is under way.
    pub(super) writing: Writing,
    /// When the pod became active.
    began: Option<Timestamp>,
    /// When containers ended, by id.
    ends: BTreeMap<String, Timestamp>,
    /// Nothing of the pod will run again, and its sandbox is given up.
    pub(super) finished: bool,
    adopted: bool,
    wake_at: Option<Timestamp>,
    /// Containers whose preStop hook was run: it is not run again when the grace period is shortened.
    pub(super) stopping: Arc<Mutex<BTreeSet<String>>>,
    /// The last event about volumes or sandbox, so that each is told once.
    pub(super) last_failure: String,
}

impl Worker {
    /// A worker for the pod in `wanted`; `wake` is notified when the runtime tells of its sandbox.
    /// `rejected` tells why the node does not take it.
    pub(crate) fn new(
        context: Arc<Context>,
        wanted: watch::Receiver<Wanted>,
        wake: Arc<Notify>,
        sandboxes: &[SandboxStatus],
        rejected: Option<Verdict>,
    ) -> Self {
        let newest = sandboxes.iter().max_by_key(|s| (labels::attempt(&s.labels), s.created_at));
        Self {
            pulls: Pulls::new(Arc::clone(&context), Arc::clone(&wake)),
            probes: Probes::new(Arc::clone(&context), Arc::clone(&wake)),
            volumes: Volumes::new(Arc::clone(&context), Arc::clone(&wake)),
            sandbox: newest.map(|s| s.id.clone()),
            memory: Memory { rejected: rejected.is_some(), failed: rejected, ..Memory::default() },
            backoff: Backoff::default(),
            messages: BTreeMap::new(),
            known: None,
            writing: Writing::default(),
            began: None,
            ends: BTreeMap::new(),
            finished: false,
            adopted: false,
            wake_at: None,
            stopping: Arc::default(),
            last_failure: String::new(),
            context,
            wanted,
            wake,
        }
    }

    /// Works until the pod is gone, which is `true`, or the agent stops; containers keep running then.
    pub(crate) async fn run(mut self, token: CancellationToken) -> bool {
        let mut network = self.context.network.clone();
        let mut others = self.context.pods.changed();
        loop {
            self.wake_at = None;
            others.mark_unchanged();
            // A round's state is large, and most of a worker's life is between rounds.
            let ended = tokio::select! {
                ended = Box::pin(self.sync()) => ended,
                // Neither a hook nor a long grace holds the agent up; what was begun is found again.
                () = stopping(&token) => return false,
            };
            if ended {
                return true;
            }
            let waits_for_room = self.memory.undersized.as_ref().is_some_and(Unsized::is_deferred);
            let waits_for_network = self.sandbox.is_none() && network.borrow_and_update().is_none();
            loop {
                let pause = self.wake_at.map(|at| at.duration_since(steady::now()));
                let pause = pause.map(|p| Duration::try_from(p).unwrap_or(Duration::ZERO));
                tokio::select! {
                    () = token.cancelled() => return false,
                    changed = self.wanted.changed() => if changed.is_err() { return false },
                    () = self.wake.notified() => {}
                    written = self.writing.done() => if !self.written(written) { continue },
                    _ = network.changed(), if waits_for_network => {}
                    _ = others.changed(), if waits_for_room => {}
                    () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                }
                break;
            }
        }
    }

    /// Looks again at that time at the latest.
    pub(super) fn retry_at(&mut self, at: Option<Timestamp>) {
        self.wake_at = [self.wake_at, at].into_iter().flatten().min();
    }

    pub(super) fn event(
        &self,
        pod: &Pod,
        container: &str,
        type_: &'static str,
        reason: &'static str,
        text: String,
    ) {
        self.context.events.pod(pod, Some(container), type_, reason, text);
    }

    pub(super) fn wait_because(&mut self, container: &str, reason: &str, message: String) {
        self.memory.waiting.insert(container.to_owned(), (reason.to_owned(), message));
    }

    /// The pod's addresses: its own or the node's.
    pub(super) fn addresses(&self, pod: &Pod) -> Vec<std::net::IpAddr> {
        if host_network(pod) { self.context.node_addresses().to_vec() } else { self.memory.addresses.clone() }
    }

    /// Where probes and hooks reach the pod.
    pub(super) fn probe_address(&self, pod: &Pod) -> String {
        self.addresses(pod).first().map(ToString::to_string).unwrap_or_default()
    }

    /// What the runtime knows now.
    pub(super) async fn observe_quietly(&self) -> Observed {
        match &self.sandbox {
            Some(id) => Observed::new(self.context.runtime.sandbox(id).await),
            None => Observed::default(),
        }
    }

    /// What the runtime knows now, with the last words of containers that ended.
    pub(super) async fn observe(&mut self) -> Observed {
        let mut observed = self.observe_quietly().await;
        let pod = self.pod();
        let spec = pod.spec.clone().unwrap_or_default();
        let mut seen = BTreeMap::new();
        let share = words::share(&spec);
        for (name, attempts) in &observed.containers {
            for ended in attempts.iter().filter(|c| c.state == ContainerState::Exited) {
                let said = self.messages.remove(&ended.id).unwrap_or_else(|| {
                    let attempt = labels::attempt(&ended.labels);
                    let file = self.context.paths.termination_log(uid(&pod), name, attempt);
                    let (container, code) = (find_container(&spec, name), ended.exit_code.unwrap_or(0));
                    let mut said = words::of(container, &file, &ended.log_path, code);
                    words::cut(&mut said, share);
                    said
                });
                seen.insert(ended.id.clone(), said);
            }
        }
        self.messages = seen;
        self.ends.retain(|id, _| self.messages.contains_key(id));
        for ended in observed.containers.values().flatten().filter(|c| self.messages.contains_key(&c.id)) {
            self.ends.entry(ended.id.clone()).or_insert_with(|| steady::past(finished(ended)));
        }
        observed.ends.clone_from(&self.ends);
        observed.messages.clone_from(&self.messages);
        observed
    }

    pub(super) fn pod(&self) -> Arc<Pod> {
        match &*self.wanted.borrow() {
            Wanted::Pod(pod) | Wanted::Gone(pod) => Arc::clone(pod),
        }
    }

    /// The newest of what the watch shows and what our own writes returned.
    pub(super) fn newest(&self, pod: &Arc<Pod>) -> Pod {
        if is_static(pod) {
            return self.context.statics.joined(pod);
        }
        match &self.known {
            Some(known) if version(known) > version(pod) => Pod::clone(known),
            _ => Pod::clone(pod),
        }
    }

    /// What our own writes returned is kept only while the watch lags behind it.
    fn forget_what_the_watch_shows(&mut self, wanted: &Wanted) {
        let (Wanted::Pod(pod) | Wanted::Gone(pod)) = wanted;
        self.known.take_if(|known| version(known) <= version(pod));
    }

    /// One round; whether the pod is gone from this node.
    async fn sync(&mut self) -> bool {
        let wanted = self.wanted.borrow_and_update().clone();
        self.forget_what_the_watch_shows(&wanted);
        let (pod, gone) = match &wanted {
            Wanted::Pod(pod) => (self.newest(pod), false),
            Wanted::Gone(pod) => (self.newest(pod), true),
        };
        if !self.adopted {
            self.adopted = true;
            let observed = self.observe().await;
            self.memory.adopt(&pod, &observed, Timestamp::now());
            self.remember_backoff(&pod, &observed);
        }
        if gone || pod.metadata.deletion_timestamp.is_some() {
            return match self.terminate(&pod, !gone).await {
                Ok(true) => true,
                Ok(false) => {
                    self.wake.notify_one();
                    false
                }
                Err(error) => {
                    tracing::warn!(pod = %full_name(&pod), %error, "the pod could not be ended yet");
                    self.retry_at(Some(steady::now() + RETRY));
                    false
                }
            };
        }
        self.keep(&pod).await;
        false
    }

    /// Back-offs that were counted before the agent started go on.
    fn remember_backoff(&mut self, pod: &Pod, observed: &Observed) {
        let spec = pod.spec.clone().unwrap_or_default();
        for container in all_containers(&spec) {
            let Some(newest) = observed.newest(&container.name) else { continue };
            let Some(seconds) = newest.labels.get(labels::BACKOFF).and_then(|s| s.parse().ok()) else {
                continue;
            };
            let counted = steady::past(timestamp(newest.created_at));
            self.backoff.restore(&plan::backoff_key(&container), SignedDuration::from_secs(seconds), counted);
        }
    }

    /// When the pod will have been active for as long as it may.
    fn deadline(&mut self, pod: &Pod) -> Option<Timestamp> {
        let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
        let start = pod.status.as_ref()?.start_time.as_ref()?.0;
        let began = *self.began.get_or_insert_with(|| steady::past(start));
        began.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Brings a pod that is to be there closer to its specification.
    async fn keep(&mut self, pod: &Pod) {
        let observed = self.observe().await;
        let now = steady::now();
        let deadline = self.deadline(pod);
        if self.memory.failed.is_none() && !is_terminal(pod) && deadline.is_some_and(|d| d <= now) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.context.events.pod(pod, None, "Normal", "DeadlineExceeded", message.into());
            self.memory.failed = Some(Verdict { reason: "DeadlineExceeded".into(), message: message.into() });
        }
        self.evict(pod);
        self.memory.probes = self.probes.states();
        let inputs =
            plan::Inputs { pod, observed: &observed, memory: &self.memory, backoff: &self.backoff, now };
        let mut plan = inputs.plan();
        if is_terminal(pod) || self.memory.failed.is_some() || self.finished || plan.finish {
            self.finish(pod).await;
        } else {
            // Init:0/1, PodInitializing and ContainerCreating are to be seen before the work takes its time.
            let made = |c: &Container| observed.containers.contains_key(&c.name);
            if pod.spec.as_ref().is_some_and(|spec| !spec.containers.iter().any(made)) {
                self.report_soon(pod, &observed, false);
            }
            plan.kill.extend(self.resize(pod, &observed).await);
            self.perform(pod, &observed, plan).await;
            self.retry_at(deadline);
        }
        let observed = self.observe().await;
        if !self.finished {
            self.probe(pod, &observed);
            self.memory.probes = self.probes.states();
        }
        self.report_soon(pod, &observed, self.finished);
        if let Some(_until_done) = self.context.evictions.to_reclaim(uid(pod)) {
            self.give_back(pod, observed).await;
        }
    }

    /// Takes note of it if the node has the pod evicted.
    pub(super) fn evict(&mut self, pod: &Pod) {
        let Some(eviction) = self.context.evictions.of(uid(pod)) else { return };
        if self.memory.failed.is_none() && !is_terminal(pod) {
            self.memory.disrupted = eviction.disruption;
            self.memory.failed = Some(Verdict { reason: eviction.reason, message: eviction.message });
        }
    }

    /// Ends what still runs and gives up the sandbox, once.
    async fn finish(&mut self, pod: &Pod) {
        if self.finished {
            // Its eviction may have been ordered since.
            return self.context.evictions.done(uid(pod));
        }
        self.probes.stop();
        if !self.kill_all(pod, self.grace(pod)).await {
            return;
        }
        match self.give_up_sandbox(pod).await {
            Ok(()) => {
                self.finished = true;
                self.volumes.release();
                self.context.evictions.done(uid(pod));
            }
            Err(error) => {
                tracing::warn!(pod = %full_name(pod), %error, "the pod could not be cleaned up yet");
                self.retry_at(Some(steady::now() + RETRY));
            }
        }
    }

    /// Probes what runs.
    fn probe(&mut self, pod: &Pod, observed: &Observed) {
        let spec = pod.spec.clone().unwrap_or_default();
        let containers: Vec<Container> = all_containers(&spec);
        let running = observed.running().filter_map(|(name, status)| {
            let container = containers.iter().find(|c| c.name == name)?.clone();
            let since = timestamp(status.started_at.unwrap_or(status.created_at));
            Some(Probed {
                container,
                id: status.id.clone(),
                since,
                known: known_probe_state(pod, &status.id),
            })
        });
        let address = self.probe_address(pod);
        self.probes.reconcile(pod, &address, running.collect());
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Answers when the agent has been stopping for a moment, in which most rounds come to their end.
async fn stopping(token: &CancellationToken) {
    token.cancelled().await;
    tokio::time::sleep(LAST_ROUND).await;
}

/// What the API's status says of a container's probes: after a restart of the agent a ready container
/// stays ready until its probe says otherwise.
fn known_probe_state(pod: &Pod, id: &str) -> Option<ProbeState> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let id = crate::agent::spec::container_id(id);
    let container = all.into_iter().find(|c| c.container_id.as_deref() == Some(&id))?;
    Some(ProbeState { started: container.started == Some(true), ready: container.ready, failed: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Each pod has one, nearly always between rounds.
    #[test]
    fn a_worker_that_waits_is_small() {
        let bytes = size(|worker: Worker| worker.run(CancellationToken::new()));
        assert!(bytes < 3 * size_of::<Worker>(), "{bytes} bytes");
    }
}
