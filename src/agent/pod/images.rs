//! A container's image: present, pulled, or why not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::agent::backoff::Backoff;
use crate::agent::context::Context;
use crate::agent::images::PullError;
use crate::agent::objects::Fetched;
use crate::agent::spec::namespace;
use crate::runtime::spec::{Image, RegistryAuth};

/// Why a container waits for its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotReady {
    /// It is being pulled.
    Pulling,
    /// The waiting state's reason and message, and when to try again.
    Failed { reason: &'static str, message: String, retry_at: Option<Timestamp> },
}

type Done = Arc<Mutex<HashMap<String, (Result<Image, PullError>, Instant)>>>;

/// The pulls of one pod.
pub(super) struct Pulls {
    context: Arc<Context>,
    wake: Arc<Notify>,
    backoff: Backoff,
    /// By image name: why it could not be pulled last.
    failures: HashMap<String, String>,
    running: HashMap<String, Instant>,
    done: Done,
    tasks: JoinSet<()>,
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
        }
    }

    /// The container's image, by its pull policy. A pull is started in the background.
    pub(super) async fn ensure(&mut self, pod: &Pod, container: &Container) -> Result<Image, NotReady> {
        let name = container.image.as_deref().unwrap_or_default();
        let event = |type_, reason, message: String| {
            self.context.events.pod(pod, Some(&container.name), type_, reason, message);
        };
        let done = self.done.lock().remove(name);
        if let Some((result, began)) = done {
            self.running.remove(name);
            return self.pulled(pod, container, result, began);
        }
        if self.running.contains_key(name) {
            return Err(NotReady::Pulling);
        }
        let present = match self.context.images.resolve(name).await {
            Ok(present) => present,
            Err(error) => {
                let message = format!("Failed to apply default image tag \"{name}\": {error}");
                event("Warning", "InspectFailed", message.clone());
                return Err(failed("InvalidImageName", message, None));
            }
        };
        let policy = container.image_pull_policy.as_deref().unwrap_or_else(|| default_policy(name));
        match (policy, present) {
            ("Never", None) => {
                let message = format!("Container image \"{name}\" is not present with pull policy of Never");
                event("Warning", "ErrImageNeverPull", message.clone());
                return Err(failed("ErrImageNeverPull", message, Some(SignedDuration::from_secs(60))));
            }
            ("Never" | "IfNotPresent", Some(image)) => {
                let message = format!(
                    "Container image \"{name}\" already present on machine and can be accessed by the pod"
                );
                event("Normal", "Pulled", message);
                return Ok(image);
            }
            _ => {}
        }
        let now = Timestamp::now();
        if let Some(until) = self.backoff.until_since_update(name, now) {
            let error = self.failures.get(name).map(String::as_str).unwrap_or_default();
            event("Normal", "BackOff", format!("Back-off pulling image \"{name}\""));
            event("Warning", "Failed", "Error: ImagePullBackOff".into());
            let message = format!("Back-off pulling image \"{name}\": ErrImagePull: {error}");
            return Err(NotReady::Failed { reason: "ImagePullBackOff", message, retry_at: Some(until) });
        }
        event("Normal", "Pulling", format!("Pulling image \"{name}\""));
        let auths = self.auths(pod, name).await;
        self.start(name.to_owned(), auths);
        Err(NotReady::Pulling)
    }

    fn start(&mut self, name: String, auths: Vec<RegistryAuth>) {
        let began = Instant::now();
        self.running.insert(name.clone(), began);
        let (context, done, wake) =
            (Arc::clone(&self.context), Arc::clone(&self.done), Arc::clone(&self.wake));
        self.tasks.spawn(async move {
            let result = context.images.pull(&name, &auths).await;
            context.images_changed.notify_one();
            done.lock().insert(name, (result, began));
            wake.notify_one();
        });
        // Finished tasks are not kept.
        while self.tasks.try_join_next().is_some() {}
    }

    fn pulled(
        &mut self,
        pod: &Pod,
        container: &Container,
        result: Result<Image, PullError>,
        began: Instant,
    ) -> Result<Image, NotReady> {
        let name = container.image.as_deref().unwrap_or_default();
        let event = |type_, reason, message: String| {
            self.context.events.pod(pod, Some(&container.name), type_, reason, message);
        };
        match result {
            Ok(image) => {
                let took = go_duration(began.elapsed());
                let size = image.size;
                let message = format!(
                    "Successfully pulled image \"{name}\" in {took} ({took} including waiting). Image size: {size} bytes."
                );
                event("Normal", "Pulled", message);
                self.backoff.reset(name);
                Ok(image)
            }
            Err(PullError::InvalidName(error)) => {
                let message = format!("Failed to apply default image tag \"{name}\": {error}");
                event("Warning", "InspectFailed", message.clone());
                Err(failed("InvalidImageName", message, None))
            }
            Err(PullError::Failed(error)) => {
                event("Warning", "Failed", format!("Failed to pull image \"{name}\": {error}"));
                event("Warning", "Failed", "Error: ErrImagePull".into());
                self.backoff.next(name, Timestamp::now());
                self.failures.insert(name.to_owned(), error.clone());
                // Looked at again soon, to show the back-off.
                Err(failed("ErrImagePull", error, Some(SignedDuration::from_secs(3))))
            }
        }
    }

    /// Credentials from the pod's pull secrets that fit the image's registry.
    async fn auths(&self, pod: &Pod, image: &str) -> Vec<RegistryAuth> {
        let mut auths = Vec::new();
        let mut missing = Vec::new();
        for reference in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
            match self.context.objects.secret(namespace(pod), &reference.name).get().await {
                Fetched::Present(secret) => auths.extend(secret_auths(&secret, image)),
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
        auths
    }
}

fn failed(reason: &'static str, message: String, after: Option<SignedDuration>) -> NotReady {
    NotReady::Failed { reason, message, retry_at: after.map(|a| Timestamp::now() + a) }
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

/// A duration as Go prints it, in milliseconds or seconds.
fn go_duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{}ms", duration.as_millis()) } else { format!("{seconds:.3}s") }
}

/// The registry an image comes from.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Credentials of a pull secret for the image's registry: `kubernetes.io/dockerconfigjson` or `dockercfg`.
fn secret_auths(secret: &Secret, image: &str) -> Vec<RegistryAuth> {
    let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|v| v.0.as_slice());
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let auths = match data(".dockerconfigjson") {
        Some(bytes) => parse(bytes).map(|v| v["auths"].clone()),
        None => data(".dockercfg").and_then(parse),
    };
    let Some(Value::Object(auths)) = auths else { return Vec::new() };
    let wanted = registry(image);
    let mut matching: Vec<(&String, &Value)> =
        auths.iter().filter(|(k, _)| matches_registry(k, wanted, image)).collect();
    // The most specific first.
    matching.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
    matching.into_iter().filter_map(|(_, entry)| credentials(entry)).collect()
}

fn matches_registry(key: &str, registry: &str, image: &str) -> bool {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_end_matches('/');
    let docker = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    if docker.contains(&registry) {
        return docker.contains(&host);
    }
    let same = host == registry
        || host
            .strip_prefix("*.")
            .is_some_and(|suffix| registry.split_once('.').is_some_and(|(_, rest)| rest == suffix));
    let generic = path.is_empty() || matches!(path, "v1" | "v2");
    same && (generic || image.split_once('/').is_some_and(|(_, rest)| rest.starts_with(path)))
}

fn credentials(entry: &Value) -> Option<RegistryAuth> {
    if let (Some(username), Some(password)) = (entry["username"].as_str(), entry["password"].as_str()) {
        return Some(RegistryAuth { username: username.into(), password: password.into() });
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(entry["auth"].as_str()?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(RegistryAuth { username: username.into(), password: password.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn registries_and_policies() {
        for (image, expected, policy) in [
            ("nginx", "docker.io", "Always"),
            ("nginx:1", "docker.io", "IfNotPresent"),
            ("a/b:latest", "docker.io", "Always"),
            ("localhost:5000/x", "localhost:5000", "Always"),
            ("ghcr.io/a/b@sha256:0", "ghcr.io", "IfNotPresent"),
        ] {
            assert_eq!(registry(image), expected, "{image}");
            assert_eq!(default_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn pull_secrets_fit_by_registry_and_path() {
        let auth = base64::engine::general_purpose::STANDARD.encode("u:p:q");
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"username": "d", "password": "x"},
            "r.example:5000": {"auth": auth},
            "r.example:5000/team": {"username": "t", "password": "x"},
            "*.wild.example": {"username": "w", "password": "x"}}})
        .to_string();
        let mut secret = Secret::default();
        let data = [(".dockerconfigjson".to_owned(), k8s_openapi::ByteString(config.into_bytes()))];
        secret.data = Some(data.into());
        let users =
            |image: &str| secret_auths(&secret, image).into_iter().map(|a| a.username).collect::<Vec<_>>();
        assert_eq!(users("nginx"), ["d"]);
        assert_eq!(users("r.example:5000/x"), ["u"]);
        assert_eq!(users("r.example:5000/team/x"), ["t", "u"]);
        assert_eq!(users("a.wild.example/x"), ["w"]);
        assert!(users("other.example/x").is_empty());
        assert_eq!(secret_auths(&secret, "r.example:5000/x")[0].password, "p:q");
    }

    #[test]
    fn durations() {
        assert_eq!(go_duration(std::time::Duration::from_millis(850)), "850ms");
        assert_eq!(go_duration(std::time::Duration::from_millis(1234)), "1.234s");
    }
}
