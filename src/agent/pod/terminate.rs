//! Ending containers and pods: hooks, signals, grace, clean-up, and the final word to the API.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::hooks;
use super::worker::{Wanted, Worker};
use crate::agent::error::Error;
use crate::agent::spec::{all_containers, is_sidecar, name, namespace, uid};
use crate::agent::volumes;

/// kubelet gives every container at least this long.
const MINIMUM_GRACE: i64 = 2;

/// Seconds a pod gets to end: what its deletion said, else its specification.
pub(super) fn grace_seconds(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    pod.metadata.deletion_grace_period_seconds.or(spec).unwrap_or(30)
}

fn seconds(value: i64) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}

impl Worker {
    /// Ends one container: event, preStop, stop signal, and SIGKILL after its grace.
    pub(super) async fn kill_container(
        &self,
        pod: &Pod,
        name: &str,
        id: &str,
        message: String,
        grace: Option<i64>,
    ) {
        let first = self.stopping.lock().insert(id.to_owned());
        if first {
            self.event(pod, name, "Normal", "Killing", message);
        }
        let spec = pod.spec.clone().unwrap_or_default();
        let container = all_containers(&spec).into_iter().find(|c| c.name == name).unwrap_or_default();
        let grace = grace.unwrap_or_else(|| grace_seconds(pod));
        let began = tokio::time::Instant::now();
        let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
        if let Some(hook) = hook.filter(|_| first && grace > 0) {
            let address = self.probe_address(pod);
            let run = hooks::run(&self.context.runtime, &container, id, &address, hook);
            match tokio::time::timeout(seconds(grace), run).await {
                Ok(Err(error)) => self.event(pod, name, "Warning", "FailedPreStopHook", error),
                Err(_) => {
                    tracing::warn!(pod = %pod.metadata.name.as_deref().unwrap_or_default(), name, "preStop hook took too long")
                }
                Ok(Ok(())) => {}
            }
        }
        let left = seconds(grace).saturating_sub(began.elapsed());
        let left = if grace > 0 { left.max(seconds(MINIMUM_GRACE)) } else { left };
        if let Err(error) = self.context.runtime.stop_container(id, left, None).await {
            tracing::warn!(container = id, %error, "a container was not stopped");
        }
    }

    /// Ends all containers: ordinary ones together, then sidecars, the last one first.
    pub(super) async fn kill_all(&self, pod: &Pod, grace: i64) {
        let observed = self.observe_quietly().await;
        let spec = pod.spec.clone().unwrap_or_default();
        let sidecars: Vec<&Container> =
            spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)).collect();
        let running: Vec<(String, String)> =
            observed.running().map(|(name, c)| (name.to_owned(), c.id.clone())).collect();
        let began = tokio::time::Instant::now();
        let is_sidecar = |name: &str| sidecars.iter().any(|c| c.name == name);
        let first = running.iter().filter(|(name, _)| !is_sidecar(name)).map(|(name, id)| {
            self.kill_container(pod, name, id, format!("Stopping container {name}"), Some(grace))
        });
        join_all(first).await;
        for sidecar in sidecars.iter().rev() {
            if let Some((name, id)) = running.iter().find(|(name, _)| *name == sidecar.name) {
                let spent = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
                let left = grace.saturating_sub(spent).max(0);
                self.kill_container(pod, name, id, format!("Stopping container {name}"), Some(left)).await;
            }
        }
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
        volumes::tear_down(&directory.join("volumes"))?;
        volumes::tear_down(&directory.join("volume-subpaths"))
    }

    /// Ends the pod for good. `in_api`: it is still there, marked for deletion, and is deleted at the end.
    /// Returns early, to be called again, when its grace period was shortened meanwhile.
    pub(super) async fn terminate(&mut self, pod: &Pod, in_api: bool) -> Result<bool, Error> {
        self.memory.terminating = true;
        self.probes.stop();
        let grace = grace_seconds(pod);
        {
            let mut wanted = self.wanted.clone();
            let kill = self.kill_all(pod, grace);
            let mut kill = std::pin::pin!(kill);
            loop {
                tokio::select! {
                    () = &mut kill => break,
                    changed = wanted.changed() => {
                        let Ok(()) = changed else { (&mut kill).await; break };
                        let shorter = match &*wanted.borrow_and_update() {
                            Wanted::Pod(newer) => grace_seconds(newer) < grace,
                            Wanted::Gone(_) => in_api,
                        };
                        if shorter {
                            return Ok(false);
                        }
                    }
                }
            }
        }
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
        volumes::tear_down(&self.context.paths.pod(uid(pod)))?;
        let logs = self.context.paths.pod_logs(pod);
        crate::agent::logs::remove_pod(&logs).map_err(Error::io("remove", &logs))
    }
}
