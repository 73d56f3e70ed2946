//! Eviction of pods: when the node runs out of memory, disk, inodes or processes, and when a pod
//! exceeds its limits of ephemeral storage
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>).
//!
//! Every ten seconds two small files and the file systems' figures are read; a shortage of memory is
//! looked at as soon as the kernel feels it. Pods' files are only counted where a pod has a limit of
//! them, or to tell who fills a full disk.

mod admit;
mod limits;
mod rank;
mod signals;
mod state;
mod threshold;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::error::Error;
use super::labels;
use super::orders::{self, Pressure};
use super::spec::{full_name, is_critical, is_terminal, uid};
use super::{disk, image_gc, qos};
use crate::runtime::Stall;
use rank::{Candidate, Parts, Used};
use signals::Sources;
use state::{Decision, State};
use threshold::{Condition, Observations, Signal, Threshold};

pub(crate) use admit::refused;
pub(crate) use threshold::amount;

/// Between two looks, as kubelet's.
const INTERVAL: Duration = Duration::from_secs(10);
/// So long pods are waited for that are to give something back, before the next one is chosen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Seconds for a pod that has to go at once.
const AT_ONCE: i64 = 1;

/// Watches over the node's resources; see [`Manager::run`].
pub(crate) struct Manager {
    context: Arc<Context>,
    thresholds: Vec<Threshold>,
    sources: Sources,
    pressure: watch::Sender<Pressure>,
}

impl Manager {
    /// The node's; its conditions are told through `pressure`.
    pub(crate) fn new(context: Arc<Context>, pressure: watch::Sender<Pressure>) -> Self {
        let thresholds = threshold::configured(&context.settings.kubelet.eviction);
        Self { thresholds, sources: Sources::of(&context), context, pressure }
    }

    /// Looks and acts until cancelled.
    pub(crate) async fn run(&self, token: CancellationToken) -> Result<(), Error> {
        let mut stall = Stall::open();
        let mut state = State::default();
        let mut pods = self.context.pods.changed();
        let mut told = None;
        loop {
            pods.mark_unchanged();
            let evicted = self.pass(&mut state, &mut told).await;
            if !evicted.is_empty() {
                self.wait_for(&evicted, &token).await;
                continue;
            }
            // Without thresholds and limits there is nothing to look at.
            let idle = self.thresholds.is_empty() && self.limited().next().is_none();
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                () = tokio::time::sleep(INTERVAL), if !idle => {}
                () = stall.felt(), if !idle => {}
                changed = pods.changed(), if idle => if changed.is_err() { return Ok(()) },
            }
        }
    }

    fn transition(&self) -> Duration {
        self.context.settings.kubelet.eviction.pressure_transition_period
    }

    async fn wait_for(&self, evicted: &[String], token: &CancellationToken) {
        let all = join_all(evicted.iter().map(|uid| self.context.evictions.ended(uid)));
        tokio::select! {
            () = token.cancelled() => {}
            late = tokio::time::timeout(PATIENCE, all) => if late.is_err() {
                tracing::warn!("evicted pods take long to end");
            }
        }
    }

    /// Looks once and acts on it; the uids of the pods that were evicted.
    async fn pass(&self, state: &mut State, told: &mut Option<Pressure>) -> Vec<String> {
        let observations = self.sources.read(&self.context, &self.thresholds);
        let now = Instant::now();
        let decision = state.observe(&self.thresholds, &observations, self.transition(), now);
        self.tell(decision.pressure, told);
        let over = self.enforce_limits().await;
        if !over.is_empty() || decision.due.is_empty() {
            return over;
        }
        self.relieve(&decision, &observations).await.into_iter().collect()
    }

    /// The node's conditions: to its status and, where they changed, in events.
    fn tell(&self, now: Pressure, told: &mut Option<Pressure>) {
        type Has = fn(&Pressure) -> bool;
        let before = told.replace(now);
        self.pressure.send_if_modified(|p| std::mem::replace(p, now) != now);
        let all: [(Has, _, _); 3] = [
            (|p| p.memory, "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
            (|p| p.disk, "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
            (|p| p.pids, "NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ];
        for (has, yes, no) in all {
            if before.as_ref().map(has) != Some(has(&now)) {
                let reason = if has(&now) { yes } else { no };
                let name = &self.context.settings.node_name;
                self.context.node_event("Normal", reason, format!("Node {name} status is now: {reason}"));
            }
        }
    }

    /// Pods that run, also those that were deleted and take their time, and are not being evicted.
    fn active(&self) -> impl Iterator<Item = Arc<Pod>> {
        let has_ended = |pod: &Pod| is_terminal(pod) || self.context.evictions.of(uid(pod)).is_some();
        self.context.pods.all().into_iter().filter(move |pod| !has_ended(pod))
    }

    fn limited(&self) -> impl Iterator<Item = Arc<Pod>> {
        self.active().filter(|pod| limits::has_limits(pod))
    }

    /// Evicts the pods that exceed their limits of storage.
    async fn enforce_limits(&self) -> Vec<String> {
        let mut evicted = Vec::new();
        for pod in self.limited() {
            let used = disk::usage(&self.context, &pod).await;
            if let Some(message) = limits::exceeded(&pod, &used)
                && self.evict(&pod, message, AT_ONCE, false)
            {
                evicted.push(uid(&pod).to_owned());
            }
        }
        evicted
    }

    /// Gives back what the node itself can do without, else evicts one pod.
    async fn relieve(&self, decision: &Decision, observations: &Observations) -> Option<String> {
        let threshold = decision.due.first()?;
        if self.context.evictions.under_way(PATIENCE) {
            // Begun before the agent was restarted.
            return None;
        }
        let (signal, resource) = (threshold.signal, threshold.signal.resource());
        tracing::warn!(resource, "eviction threshold met");
        self.context.node_event(
            "Warning",
            "EvictionThresholdMet",
            format!("Attempting to reclaim {resource}"),
        );
        if signal.condition() == Condition::Disk && self.reclaim(signal).await {
            return None;
        }
        let dedicated = self.sources.dedicated_images();
        let mut candidates = self.candidates(signal).await;
        rank::order(&mut candidates, signal, Parts::of(signal, dedicated));
        let grace = self.grace(threshold);
        for candidate in &candidates {
            let message = rank::message(candidate, signal, &decision.due, observations);
            if self.evict(&candidate.pod, message, grace, true) {
                return Some(uid(&candidate.pod).to_owned());
            }
        }
        tracing::warn!(resource, "no pod of this node can be evicted");
        None
    }

    /// Seconds for a pod: none to speak of for a hard threshold, else what is configured at most.
    fn grace(&self, threshold: &Threshold) -> i64 {
        let most = self.context.settings.kubelet.eviction.max_pod_grace_period.as_secs();
        if threshold.is_hard() { AT_ONCE } else { i64::try_from(most).unwrap_or(i64::MAX).max(AT_ONCE) }
    }

    /// Removes what no pod needs; whether that was enough.
    async fn reclaim(&self, signal: Signal) -> bool {
        let files_only = self.sources.dedicated_images();
        if files_only && matches!(signal, Signal::NodeFs | Signal::NodeFsInodes) {
            return false;
        }
        if tokio::time::timeout(PATIENCE, self.context.evictions.reclaim()).await.is_err() {
            tracing::warn!("some pods take long to remove their containers that ended");
        }
        match image_gc::free(&self.context, u64::MAX).await {
            Ok(bytes) => tracing::info!(bytes, "unused images were removed"),
            Err(error) => {
                tracing::warn!(%error, "unused images could not be removed");
                self.context.node_event("Warning", "FreeDiskSpaceFailed", error.to_string());
            }
        }
        let seen = self.sources.read(&self.context, &self.thresholds);
        !self.thresholds.iter().any(|t| t.is_met(&seen, true))
    }

    async fn candidates(&self, signal: Signal) -> Vec<Candidate> {
        let mut all = Vec::new();
        let sandboxes = self.context.runtime.sandboxes().await;
        for pod in self.active().filter(|pod| !is_critical(pod)) {
            let own =
                sandboxes.iter().filter(|s| s.labels.get(labels::POD_UID).is_some_and(|u| u == uid(&pod)));
            let mut containers = BTreeMap::new();
            for container in own.flat_map(|s| &s.containers).filter(|c| c.pid.is_some()) {
                let name = container.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default();
                if let Ok(stats) = self.context.runtime.stats(&container.id).await {
                    containers.insert(name, stats.memory_working_set);
                }
            }
            if containers.is_empty() {
                // It gives nothing back.
                continue;
            }
            let group = self.context.runtime.group_stats(&qos::group_of(&pod)).unwrap_or_default();
            let disk = match signal.condition() {
                Condition::Disk => disk::usage(&self.context, &pod).await,
                _ => disk::PodDisk::default(),
            };
            let used = Used { memory: group.memory_working_set, containers, pids: group.pids, disk };
            all.push(Candidate { pod, used: Some(used) });
        }
        all
    }

    /// Has a pod evicted; `false` for one that must not be, or is already.
    fn evict(&self, pod: &Pod, message: String, grace: i64, disruption: bool) -> bool {
        if is_critical(pod) {
            tracing::warn!(pod = %full_name(pod), "a critical pod is not evicted");
            return false;
        }
        let disruption = disruption.then(|| message.clone());
        let eviction =
            orders::Eviction { reason: orders::REASON.into(), message: message.clone(), grace, disruption };
        if !self.context.evictions.give(uid(pod), eviction) {
            return false;
        }
        tracing::warn!(pod = %full_name(pod), message, "a pod is evicted");
        self.context.events.pod(pod, None, "Warning", orders::REASON, message);
        true
    }
}
