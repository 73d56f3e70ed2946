//! Labels by which sandboxes and containers are known again after a restart of the agent.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use sha2::{Digest, Sha256};

use crate::runtime::Runtime;
use crate::runtime::spec::SandboxStatus;

/// The pod's uid.
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
/// The pod's name.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The container's name.
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// How often the container was started before, or which sandbox of the pod it is.
pub(crate) const ATTEMPT: &str = "kedge.io/attempt";
/// Digest of what cannot change without a restart.
pub(crate) const HASH: &str = "kedge.io/container-hash";
/// The image's name as the status shows it.
pub(crate) const IMAGE: &str = "kedge.io/image";
/// The image's id as the status shows it.
pub(crate) const IMAGE_ID: &str = "kedge.io/image-id";
/// Seconds of the back-off that was counted when the container was started.
pub(crate) const BACKOFF: &str = "kedge.io/backoff";
/// Seconds an orphan gets to end.
pub(crate) const GRACE: &str = "kedge.io/termination-grace-period";

/// The sandboxes of a pod. Its uid is what their ids begin with.
pub(crate) async fn sandboxes_of(runtime: &Runtime, uid: &str) -> Vec<SandboxStatus> {
    let all = runtime.sandboxes_with(uid).await;
    all.into_iter().filter(|s| s.labels.get(POD_UID).is_some_and(|u| u == uid)).collect()
}

/// The labels that everything of a pod carries.
pub(crate) fn of_pod(pod: &Pod) -> BTreeMap<String, String> {
    let meta = &pod.metadata;
    let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    [
        (POD_UID, meta.uid.clone().unwrap_or_default()),
        (POD_NAME, meta.name.clone().unwrap_or_default()),
        (POD_NAMESPACE, meta.namespace.clone().unwrap_or_default()),
        (GRACE, grace.to_string()),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into()
}

/// The attempt of a sandbox or container; 0 if its label is not there.
pub(crate) fn attempt(labels: &BTreeMap<String, String>) -> u32 {
    labels.get(ATTEMPT).and_then(|a| a.parse().ok()).unwrap_or(0)
}

/// Digest of a container's name and image: what, changed in the pod, restarts the container.
pub(crate) fn hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    hex::encode(&Sha256::digest(format!("{}\0{image}", container.name))[..8])
}
