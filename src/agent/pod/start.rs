//! Making and starting one container.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, Pod, PodSpec};
use sha2::{Digest, Sha256};

use super::images::NotReady;
use super::labels;
use super::memory::Past;
use super::plan::{Start, backoff_key};
use super::worker::Worker;
use crate::agent::container::{Request, kernel_hostname};
use crate::agent::logs;
use crate::agent::spec::{all_containers, container_id, name, namespace, uid};
use crate::agent::steady;
use crate::agent::volumes::Mounted;
use crate::agent::volumes::stage::Stage;
use crate::runtime::spec::{ContainerState, Image};

/// Pause before a container that could not be made is tried again, as kubelet's.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// How a start went.
pub(super) enum Started {
    /// It runs.
    Running,
    /// Its image is on its way: containers after it wait.
    Waiting,
    /// It did not start; the reason is remembered.
    Failed,
}

/// A container's id: 64 hexadecimal digits, the same for the same attempt.
fn new_id(pod: &Pod, container: &str, sandbox: &str, attempt: u32) -> String {
    hex::encode(Sha256::digest(format!("{}/{sandbox}/{container}/{attempt}", uid(pod))))
}

impl Worker {
    /// Starts one container as planned.
    pub(super) async fn start(&mut self, pod: &Pod, start: &Start, volumes: &Mounted) -> Started {
        let spec = pod.spec.clone().unwrap_or_default();
        let Some(mut container) = all_containers(&spec).into_iter().find(|c| c.name == start.container)
        else {
            return Started::Failed;
        };
        if let Some(size) = self.size_before(&container.name).await {
            container.resources = Some(size);
        }
        let image = match self.pulls.ensure(pod, &container).await {
            Ok(image) => image,
            Err(NotReady::Pulling) => return Started::Waiting,
            Err(NotReady::Failed { reason, message, retry_at }) => {
                self.wait_because(&container.name, reason, message);
                self.retry_at(retry_at);
                return Started::Failed;
            }
        };
        match self.run_container(pod, &container, start, &image, volumes).await {
            Ok(()) => {
                self.memory.waiting.remove(&container.name);
                Started::Running
            }
            Err((reason, message)) => {
                // A failed hook has its own event, without what the hook said.
                if reason != "PostStartHookError" {
                    self.event(pod, &container.name, "Warning", "Failed", format!("Error: {message}"));
                }
                self.wait_because(&container.name, reason, message);
                self.retry_at(Some(steady::now() + RETRY));
                Started::Failed
            }
        }
    }

    async fn run_container(
        &mut self,
        pod: &Pod,
        container: &Container,
        start: &Start,
        image: &Image,
        volumes: &Mounted,
    ) -> Result<(), (&'static str, String)> {
        let sandbox =
            self.sandbox.clone().ok_or(("CreateContainerError", "the pod has no sandbox".to_owned()))?;
        let id = new_id(pod, &container.name, &sandbox, start.attempt);
        let spec = pod.spec.clone().unwrap_or_default();
        let hostname = kernel_hostname(pod, &spec, &self.context.settings.cluster_domain)
            .map_err(|e| ("CreateContainerConfigError", e))?;
        let request = Request {
            context: &self.context,
            pod,
            container,
            attempt: start.attempt,
            image,
            addresses: &self.addresses(pod),
            volumes,
            hostname: &hostname,
            labels: container_labels(pod, container, start, image),
            id: id.clone(),
        };
        let mut wanted = request.spec().await.map_err(|e| ("CreateContainerConfigError", e.to_string()))?;
        wanted.pid_of = self.target_of(&spec, container).await?;
        let rootfs = self.context.images.rootfs(&image.id).await;
        let rootfs = rootfs.map_err(|e| ("CreateContainerError", e.to_string()))?;
        let node = self.context.runtime.clone();
        self.remove_unstarted(&container.name).await;
        if let Some(ended) = start.ended {
            let key = backoff_key(container);
            self.backoff.next_after(&key, ended, steady::now());
            let pause = self.backoff.pause(&key).as_secs().to_string();
            wanted.labels.insert(labels::BACKOFF.into(), pause);
        }
        // Also of attempts whose containers are gone with their sandbox, or could not be started.
        logs::prune(&self.context.paths.pod_logs(pod).join(&container.name), start.attempt);
        let created = node.create_container(&sandbox, &wanted, &rootfs).await;
        // It has its mounts now, or will never have them.
        if let Err(error) = Stage::new(&self.context.paths, uid(pod), &container.name).clear().await {
            tracing::warn!(%error, "places of a container's sub-paths are left for later");
        }
        let made = match created {
            Ok(_) => Ok(()),
            // Elsewhere the process is made when the container is started.
            Err(error @ crate::runtime::Error::Start(_)) => Err(error),
            Err(error) => {
                let _ = node.remove_container(&id).await;
                return Err(("CreateContainerError", error.to_string()));
            }
        };
        self.event(pod, &container.name, "Normal", "Created", "Container created".into());
        let started = match made {
            Ok(()) => node.start_container(&id).await.map(drop),
            failed => failed,
        };
        if let Err(error) = started {
            let _ = node.remove_container(&id).await;
            self.start_failed(container, start, image, &id, error.to_string());
            return Err(("RunContainerError", error.to_string()));
        }
        self.event(pod, &container.name, "Normal", "Started", "Container started".into());
        self.memory.sizes.insert(id.clone(), container.resources.clone().unwrap_or_default());
        let log = self.context.paths.pod_logs(pod).join(&wanted.log_path);
        logs::link(name(pod), namespace(pod), &container.name, &id, &log);
        self.remove_old_attempts(&container.name).await;
        self.post_start(pod, container, &id).await
    }

    /// The container whose PID namespace an ephemeral container joins.
    async fn target_of(
        &self,
        spec: &PodSpec,
        container: &Container,
    ) -> Result<Option<String>, (&'static str, String)> {
        let debug = spec.ephemeral_containers.iter().flatten().find(|e| e.name == container.name);
        let Some(target) = debug.and_then(|e| e.target_container_name.as_deref()).filter(|t| !t.is_empty())
        else {
            return Ok(None);
        };
        let observed = self.observe_quietly().await;
        let running = observed.running().find(|(name, _)| *name == target).map(|(_, c)| c.id.clone());
        let missing = || ("CreateContainerConfigError", format!("unable to find target container {target}"));
        running.map(Some).ok_or_else(missing)
    }

    /// A program that could not be executed counts as a container that ended at once.
    fn start_failed(
        &mut self,
        container: &Container,
        start: &Start,
        image: &Image,
        id: &str,
        message: String,
    ) {
        let now = Timestamp::now();
        let state = ContainerStateTerminated {
            container_id: Some(container_id(id)),
            exit_code: 128,
            reason: Some("StartError".into()),
            message: Some(message),
            started_at: Some(Timestamp::UNIX_EPOCH.into()),
            finished_at: Some(now.into()),
            signal: None,
        };
        let past = Past {
            restarts: start.attempt,
            ended: Some((128, steady::past(now))),
            state: Some(state),
            image: shown_image(container, image),
            image_id: shown_image_id(image),
            container_id: Some(container_id(id)),
        };
        self.memory.history.insert(container.name.clone(), past);
    }

    /// Removes what an agent that was killed had made and not started: it would wait for ever.
    async fn remove_unstarted(&mut self, name: &str) {
        let observed = self.observe_quietly().await;
        let all = observed.containers.get(name).into_iter().flatten();
        for container in all.filter(|c| c.state == ContainerState::Created) {
            if let Err(error) = self.context.runtime.remove_container(&container.id).await {
                tracing::warn!(container = container.id, %error, "a container nobody started was not removed");
            }
        }
    }

    /// Keeps the newest ended attempt beside the running one, for `logs --previous`.
    async fn remove_old_attempts(&mut self, name: &str) {
        let observed = self.observe().await;
        for old in observed.containers.get(name).into_iter().flatten().skip(2) {
            if let Err(error) = self.context.runtime.remove_container(&old.id).await {
                tracing::warn!(container = old.id, %error, "an ended container was not removed");
            }
        }
    }
}

/// The image's name as statuses show it.
fn shown_image(container: &Container, image: &Image) -> String {
    image.tags.first().cloned().or_else(|| container.image.clone()).unwrap_or_default()
}

/// The image's digest as statuses show it, or its id if it came without one.
fn shown_image_id(image: &Image) -> String {
    image.digests.first().cloned().unwrap_or_else(|| image.id.clone())
}

fn container_labels(
    pod: &Pod,
    container: &Container,
    start: &Start,
    image: &Image,
) -> std::collections::BTreeMap<String, String> {
    let mut all = labels::of_pod(pod);
    for (key, value) in [
        (labels::CONTAINER_NAME, container.name.clone()),
        (labels::ATTEMPT, start.attempt.to_string()),
        (labels::HASH, labels::hash(container)),
        (labels::IMAGE, shown_image(container, image)),
        (labels::IMAGE_ID, shown_image_id(image)),
    ] {
        all.insert(key.to_owned(), value);
    }
    all
}
