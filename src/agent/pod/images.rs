//! A container's image: present, pulled, or why not. Reasons, messages and events are those of kubelet's
//! image manager.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::keyring::Keyring;
use crate::agent::backoff::Backoff;
use crate::agent::context::Context;
use crate::agent::images::{Credential, PullError, Pulled};
use crate::agent::objects::Fetched;
use crate::agent::spec::namespace;
use crate::agent::steady;
use crate::api::go_duration;
use crate::runtime::spec::Image;

/// A pull that failed is shown as such for this long before its back-off is.
const SHOW_FAILURE: SignedDuration = SignedDuration::from_secs(3);
/// An image that may only be imported is looked for this often, beside when images change.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// Why a container waits for its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotReady {
    /// It is being pulled.
    Pulling,
    /// The waiting state's reason and message, and when to try again.
    Failed { reason: &'static str, message: String, retry_at: Option<Timestamp> },
}

type Done = Arc<Mutex<HashMap<String, (Pulled, Instant)>>>;

/// The pulls of one pod.
pub(super) struct Pulls {
    context: Arc<Context>,
    wake: Arc<Notify>,
    backoff: Backoff,
    /// By image name: the reason and message of the last failure.
    failures: HashMap<String, String>,
    running: HashMap<String, Instant>,
    done: Done,
    tasks: JoinSet<()>,
    /// Wakes the pod when images change, while it waits for one.
    watching: JoinSet<()>,
}

/// One container that needs its image, and what is told of that.
struct Asking<'a> {
    context: &'a Context,
    pod: &'a Pod,
    container: &'a str,
}

impl Asking<'_> {
    fn event(&self, type_: &'static str, reason: &'static str, message: String) {
        self.context.events.pod(self.pod, Some(self.container), type_, reason, message);
    }

    /// The container does not start: says so, and when to try again.
    fn failed(&self, reason: &'static str, message: String, after: Option<SignedDuration>) -> NotReady {
        self.event("Warning", "Failed", format!("Error: {reason}"));
        NotReady::Failed { reason, message, retry_at: after.map(|a| steady::now() + a) }
    }

    fn invalid_name(&self, name: &str, error: &str) -> NotReady {
        let error = format!("couldn't parse image name \"{name}\": {error}");
        let message = format!("Failed to apply default image tag \"{name}\": {error}");
        self.event("Warning", "InspectFailed", message.clone());
        self.failed("InvalidImageName", message, None)
    }
}

impl Pulls {
    /// No pull runs; `wake` is notified when one ends.
    pub(super) fn new(context: Arc<Context>, wake: Arc<Notify>) -> Self {
        Self {
            context,
            wake,
            backoff: Backoff::default(),
            failures: HashMap::new(),
            running: HashMap::new(),
            done: Done::default(),
            tasks: JoinSet::new(),
            watching: JoinSet::new(),
        }
    }

    /// The container's image, by its pull policy. A pull is started in the background.
    pub(super) async fn ensure(&mut self, pod: &Pod, container: &Container) -> Result<Image, NotReady> {
        let result = self.look(pod, container).await;
        match &result {
            Ok(image) => {
                self.context.images.mark_used(std::slice::from_ref(&image.id));
                self.watching.abort_all();
            }
            Err(NotReady::Failed { .. }) if container.image_pull_policy.as_deref() != Some("Always") => {
                self.watch(container.image.clone().unwrap_or_default());
            }
            Err(_) => {}
        }
        result
    }

    async fn look(&mut self, pod: &Pod, container: &Container) -> Result<Image, NotReady> {
        let name = container.image.as_deref().unwrap_or_default();
        let context = Arc::clone(&self.context);
        let asking = Asking { context: &context, pod, container: &container.name };
        let done = self.done.lock().remove(name);
        if let Some((result, began)) = done {
            self.running.remove(name);
            return self.pulled(&asking, name, result, began);
        }
        if self.running.contains_key(name) {
            return Err(NotReady::Pulling);
        }
        let present = self.context.images.resolve(name).await;
        let present = present.map_err(|error| asking.invalid_name(name, &error.to_string()))?;
        let policy = container.image_pull_policy.as_deref().unwrap_or_else(|| default_policy(name));
        let usable = match present {
            Some(image) if policy != "Always" && self.may_use(pod, name, &image).await => Some(image),
            _ => None,
        };
        match (policy, usable) {
            // One that the pod has no credentials for is not there either, as far as it is told.
            ("Never", None) => {
                let message = format!("Container image \"{name}\" is not present with pull policy of Never");
                asking.event("Warning", "ErrImageNeverPull", message.clone());
                return Err(asking.failed("ErrImageNeverPull", message, Some(LOOK_AGAIN)));
            }
            (_, Some(image)) => {
                let message = format!(
                    "Container image \"{name}\" already present on machine and can be accessed by the pod"
                );
                asking.event("Normal", "Pulled", message);
                return Ok(image);
            }
            _ => {}
        }
        if let Some(until) = self.backoff.until_since_update(name, steady::now()) {
            let mut message = format!("Back-off pulling image \"{name}\"");
            asking.event("Normal", "BackOff", message.clone());
            if let Some(failure) = self.failures.get(name) {
                message = format!("{message}: {failure}");
            }
            let NotReady::Failed { reason, message, .. } = asking.failed("ImagePullBackOff", message, None)
            else {
                return Err(NotReady::Pulling);
            };
            return Err(NotReady::Failed { reason, message, retry_at: Some(until) });
        }
        asking.event("Normal", "Pulling", format!("Pulling image \"{name}\""));
        let credentials = self.credentials(pod, name).await;
        self.start(name.to_owned(), credentials);
        Err(NotReady::Pulling)
    }

    /// Whether the pod may use an image that is on this node.
    async fn may_use(&self, pod: &Pod, name: &str, image: &Image) -> bool {
        let access = self.context.puller.access();
        access.is_open(name, &image.id)
            || access.opens(name, &image.id, &self.credentials(pod, name).await).await
    }

    fn start(&mut self, name: String, credentials: Vec<Credential>) {
        let began = Instant::now();
        self.running.insert(name.clone(), began);
        let puller = Arc::clone(&self.context.puller);
        let (done, wake) = (Arc::clone(&self.done), Arc::clone(&self.wake));
        self.tasks.spawn(async move {
            let result = puller.pull(name.clone(), credentials).await;
            done.lock().insert(name, (result, began));
            wake.notify_one();
        });
        // Finished tasks are not kept.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Has the pod look again when its image comes from elsewhere: an import, or another pod's pull.
    fn watch(&mut self, name: String) {
        while self.watching.try_join_next().is_some() {}
        if !self.watching.is_empty() {
            return;
        }
        let (context, wake) = (Arc::clone(&self.context), Arc::clone(&self.wake));
        let mut changes = context.images.changes();
        self.watching.spawn(async move {
            while changes.changed().await.is_ok() {
                if let Ok(Some(_)) = context.images.resolve(&name).await {
                    return wake.notify_one();
                }
            }
        });
    }

    fn pulled(
        &mut self,
        asking: &Asking<'_>,
        name: &str,
        result: Pulled,
        began: Instant,
    ) -> Result<Image, NotReady> {
        let (reason, message) = match result {
            Ok((image, took)) => {
                let (took, whole, size) = (go_duration(took), go_duration(began.elapsed()), image.size);
                let message = format!(
                    "Successfully pulled image \"{name}\" in {took} ({whole} including waiting). Image size: {size} bytes."
                );
                asking.event("Normal", "Pulled", message);
                self.backoff.reset(name);
                self.failures.remove(name);
                return Ok(image);
            }
            Err(PullError::InvalidName(error)) => return Err(asking.invalid_name(name, &error)),
            Err(PullError::Unavailable(error)) => {
                let message =
                    format!("image pull failed for {name} because the registry is unavailable: {error}");
                asking.event("Warning", "Failed", format!("Failed to pull image \"{name}\": {error}"));
                ("RegistryUnavailable", message)
            }
            Err(PullError::Failed(error)) => {
                asking.event("Warning", "Failed", format!("Failed to pull image \"{name}\": {error}"));
                ("ErrImagePull", error)
            }
        };
        self.backoff.next(name, steady::now());
        self.failures.insert(name.to_owned(), format!("{reason}: {message}"));
        Err(asking.failed(reason, message, Some(SHOW_FAILURE)))
    }

    /// Credentials from the pod's pull secrets that fit the image's registry.
    async fn credentials(&self, pod: &Pod, image: &str) -> Vec<Credential> {
        let (mut keyring, mut missing) = (Keyring::default(), Vec::new());
        let references = pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten());
        for reference in references.filter(|r| !r.name.is_empty()) {
            match self.context.objects.secret(namespace(pod), &reference.name).get().await {
                Fetched::Present(secret) => keyring.add(&secret),
                _ => missing.push(reference.name.as_str()),
            }
        }
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.context.events.pod(pod, None, "Warning", "FailedToRetrieveImagePullSecret", message);
        }
        repository(image).map(|repository| keyring.lookup(&repository)).unwrap_or_default()
    }
}

/// The policy of containers that name none: the API sets it, but statically made pods may lack it.
fn default_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or_default();
    if image.contains('@') || (last.contains(':') && !last.ends_with(":latest")) {
        "IfNotPresent"
    } else {
        "Always"
    }
}

/// An image's full name without tag and digest.
fn repository(image: &str) -> Option<String> {
    let reference: oci_spec::distribution::Reference = image.parse().ok()?;
    Some(format!("{}/{}", reference.registry(), reference.repository()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_policies() {
        for (image, expected, policy) in [
            ("nginx", "docker.io/library/nginx", "Always"),
            ("nginx:1", "docker.io/library/nginx", "IfNotPresent"),
            ("a/b:latest", "docker.io/a/b", "Always"),
            ("localhost:5000/x", "localhost:5000/x", "Always"),
            (
                concat!(
                    "ghcr.io/a/b@sha256:",
                    "0000000000000000000000000000000000000000000000000000000000000000"
                ),
                "ghcr.io/a/b",
                "IfNotPresent",
            ),
        ] {
            assert_eq!(repository(image).as_deref(), Some(expected), "{image}");
            assert_eq!(default_policy(image), policy, "{image}");
        }
    }
}
