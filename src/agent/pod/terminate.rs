//! Ending containers and pods: hooks, signals, grace, clean-up, and the final word to the API.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::hooks::{Hook, deleted};
use super::plan::Kill;
use super::worker::{Wanted, Worker};
use crate::agent::context::Context;
use crate::agent::error::Error;
use crate::agent::spec::{find_container, full_name, is_sidecar, name, namespace, uid};
use crate::agent::volumes;

/// kubelet gives every container at least this long.
const MINIMUM_GRACE: Duration = Duration::from_secs(2);

/// Seconds a pod gets to end: what its deletion said, else its specification.
pub(super) fn grace_seconds(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    pod.metadata.deletion_grace_period_seconds.or(spec).unwrap_or(30)
}

/// Grace periods may be longer than moments can be told: a century is for ever.
fn seconds(value: i64) -> Duration {
    const CENTURY: u64 = 100 * 366 * 24 * 60 * 60;
    Duration::from_secs(u64::try_from(value).unwrap_or(0).min(CENTURY))
}

/// Ends containers, apart from the worker: it can report meanwhile.
#[derive(Clone)]
pub(super) struct Killer {
    context: Arc<Context>,
    pod: Arc<Pod>,
    address: String,
    stopping: Arc<Mutex<BTreeSet<String>>>,
}

/// A container's place in the order of a pod's end.
struct Turn {
    /// Told when this one has ended.
    ended: watch::Sender<bool>,
    /// Those that end before it gets its signal.
    before: Vec<watch::Receiver<bool>>,
}

impl Turn {
    async fn wait(&mut self) {
        for ended in &mut self.before {
            // Dropped means ended as well.
            let _ = ended.wait_for(|e| *e).await;
        }
    }
}

impl Killer {
    /// Ends one container: event, preStop, stop signal, and SIGKILL after its grace (`None`: the pod's).
    pub(super) async fn container(&self, name: &str, id: &str, message: String, grace: Option<i64>) {
        self.kill(name, id, message, grace, None).await;
    }

    async fn kill(&self, name: &str, id: &str, message: String, grace: Option<i64>, turn: Option<&mut Turn>) {
        let pod = &*self.pod;
        let first = self.stopping.lock().insert(id.to_owned());
        if first {
            self.context.events.pod(pod, Some(name), "Normal", "Killing", message);
        }
        let grace = seconds(grace.unwrap_or_else(|| grace_seconds(pod)));
        let end = Instant::now() + grace;
        if first && !grace.is_zero() {
            self.pre_stop(name, id, end).await;
        }
        if let Some(turn) = turn {
            // Whose time is over is ended out of turn.
            let _ = tokio::time::timeout_at(end, turn.wait()).await;
        }
        let left = end.saturating_duration_since(Instant::now()).max(MINIMUM_GRACE);
        if let Err(error) = self.context.runtime.stop_container(id, left, None).await {
            tracing::warn!(container = id, %error, "a container was not stopped");
        }
    }

    async fn pre_stop(&self, name: &str, id: &str, end: Instant) {
        let spec = self.pod.spec.as_ref();
        let Some(container) = spec.and_then(|s| find_container(s, name)) else { return };
        let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else { return };
        let hook =
            Hook { context: &self.context, pod: &self.pod, container, id, address: &self.address, handler };
        match tokio::time::timeout_at(end, hook.run()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(pod = %full_name(&self.pod), container = name, error, "the preStop hook failed");
                let text = "PreStopHook failed".to_owned();
                self.context.events.pod(&self.pod, Some(name), "Warning", "FailedPreStopHook", text);
            }
            Err(_) => {
                tracing::warn!(pod = %full_name(&self.pod), container = name, "the preStop hook took too long");
            }
        }
    }

    /// Ends all these containers, `(name, id)`. All are told and run their hooks at once; sidecars get their
    /// signal when the ordinary containers and the sidecars after them have ended.
    pub(super) async fn all(&self, running: Vec<(String, String)>, grace: i64) {
        let sidecars: Vec<&str> = self
            .pod
            .spec
            .iter()
            .flat_map(|s| s.init_containers.iter().flatten())
            .filter(|c| is_sidecar(c))
            .map(|c| c.name.as_str())
            .collect();
        let rank = |name: &str| sidecars.iter().rev().position(|s| *s == name).map_or(0, |p| p + 1);
        let channels: Vec<_> = running.iter().map(|_| watch::channel(false)).collect();
        let turns: Vec<Turn> = running
            .iter()
            .zip(&channels)
            .map(|((name, _), (ended, _))| {
                let earlier = running.iter().zip(&channels).filter(|((n, _), _)| rank(n) < rank(name));
                Turn { ended: ended.clone(), before: earlier.map(|(_, (_, e))| e.clone()).collect() }
            })
            .collect();
        let kills = running.iter().zip(turns).map(|((name, id), mut turn)| async move {
            let message = format!("Stopping container {name}");
            self.kill(name, id, message, Some(grace), Some(&mut turn)).await;
            turn.ended.send_replace(true);
        });
        join_all(kills).await;
    }
}

impl Worker {
    /// Ends containers of this pod as it is now.
    pub(super) fn killer(&self, pod: &Pod) -> Killer {
        Killer {
            context: Arc::clone(&self.context),
            pod: Arc::new(pod.clone()),
            address: self.probe_address(pod),
            stopping: Arc::clone(&self.stopping),
        }
    }

    /// Ends containers that are to be started anew and tells of the others meanwhile; left off when the whole
    /// pod is to end.
    pub(super) async fn kill_planned(&mut self, pod: &Pod, kills: &[Kill]) {
        let (killer, wake, mut wanted) = (self.killer(pod), Arc::clone(&self.wake), self.wanted.clone());
        let all = kills.iter().map(|k| killer.container(&k.container, &k.id, k.message.clone(), k.grace));
        let mut all = std::pin::pin!(join_all(all));
        let mut deleted = std::pin::pin!(deleted(&mut wanted));
        loop {
            tokio::select! {
                _ = &mut all => return,
                () = &mut deleted => return,
                () = wake.notified() => self.tell(pod).await,
                written = self.writing.done() => if self.written(written) { self.tell(pod).await },
            }
        }
    }

    /// Tells how the pod is now. Nobody's time to end depends on when the API takes it.
    async fn tell(&mut self, pod: &Pod) {
        let observed = self.observe().await;
        self.memory.probes = self.probes.states();
        self.report_soon(pod, &observed, false);
    }

    /// Ends all containers: ordinary ones together, then sidecars, the last one first. `false`: left off,
    /// because the pod was deleted meanwhile, whose end may have to be faster.
    pub(super) async fn kill_all(&self, pod: &Pod, grace: i64) -> bool {
        let (running, killer, mut wanted) = (self.running().await, self.killer(pod), self.wanted.clone());
        tokio::select! {
            () = killer.all(running, grace) => true,
            () = deleted(&mut wanted) => false,
        }
    }

    /// Seconds the pod gets to end: its own, or fewer if the node evicts it.
    pub(super) fn grace(&self, pod: &Pod) -> i64 {
        let own = grace_seconds(pod);
        self.context.evictions.of(uid(pod)).map_or(own, |eviction| eviction.grace.min(own))
    }

    /// Name and id of each running container.
    async fn running(&self) -> Vec<(String, String)> {
        let observed = self.observe_quietly().await;
        observed.running().map(|(name, c)| (name.to_owned(), c.id.clone())).collect()
    }

    /// Gives up the sandbox, its network and mounts; statuses and logs stay.
    pub(super) async fn give_up_sandbox(&self, pod: &Pod) -> Result<(), Error> {
        if let Some(id) = &self.sandbox {
            let network = self.context.network.borrow().clone();
            if let Some(network) = network {
                network.detach(id).await.map_err(|e| Error::Other(e.to_string()))?;
            }
            self.context.runtime.stop_sandbox(id).await?;
        }
        let directory = self.context.paths.pod(uid(pod));
        volumes::tear_down(&directory.join("volumes")).await?;
        volumes::tear_down(&directory.join("volume-subpaths")).await
    }

    /// Ends the pod for good. `in_api`: it is still there, marked for deletion, and is deleted at the end.
    /// Returns early, to be called again, when its grace period was shortened meanwhile.
    pub(super) async fn terminate(&mut self, pod: &Pod, in_api: bool) -> Result<bool, Error> {
        self.memory.terminating = true;
        self.evict(pod);
        self.probes.only_readiness();
        if !self.kill_and_report(pod, in_api).await {
            return Ok(false);
        }
        self.probes.stop();
        self.give_up_sandbox(pod).await?;
        if in_api {
            let observed = self.observe().await;
            self.report(pod, &observed, true).await;
            // Should the deletion fail, the next attempt tells the same.
            self.memory.absorb(&observed, Timestamp::now());
        }
        self.remove_everything(pod).await?;
        if in_api {
            self.delete(pod).await?;
        }
        Ok(true)
    }

    /// Ends all containers and tells of each and of readiness meanwhile; `false` when the grace period was
    /// shortened, and all has to be done again, faster.
    async fn kill_and_report(&mut self, pod: &Pod, in_api: bool) -> bool {
        let grace = self.grace(pod);
        let (mut wanted, wake) = (self.wanted.clone(), Arc::clone(&self.wake));
        let (killer, running) = (self.killer(pod), self.running().await);
        let kill = killer.all(running, grace);
        let mut kill = std::pin::pin!(kill);
        loop {
            tokio::select! {
                () = &mut kill => return true,
                () = wake.notified(), if in_api => {
                    if self.grace(pod) < grace {
                        return false;
                    }
                    self.tell(pod).await;
                }
                written = self.writing.done() => if self.written(written) { self.tell(pod).await },
                changed = wanted.changed() => {
                    let Ok(()) = changed else {
                        (&mut kill).await;
                        return true;
                    };
                    let shorter = match &*wanted.borrow_and_update() {
                        Wanted::Pod(newer) => grace_seconds(newer) < grace,
                        Wanted::Gone(_) => in_api,
                    };
                    if shorter {
                        return false;
                    }
                }
            }
        }
    }

    /// The pod is gone from this node: tells the API so.
    async fn delete(&self, pod: &Pod) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace(pod));
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match api.delete(name(pod), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn remove_everything(&mut self, pod: &Pod) -> Result<(), Error> {
        if let Some(id) = self.sandbox.take() {
            self.context.runtime.remove_sandbox(&id).await?;
        }
        volumes::tear_down(&self.context.paths.pod(uid(pod))).await?;
        let logs = self.context.paths.pod_logs(pod);
        crate::agent::logs::remove_pod(&logs).map_err(Error::io("remove", &logs))
    }
}
