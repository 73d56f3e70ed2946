//! Reading pods: names, containers, what their specification implies.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

/// `name_namespace(uid)`, as upstream's messages name a pod.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The pod's name.
pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace.
pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// The pod's uid.
pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// A container's id as statuses show it.
pub(crate) fn container_id(id: &str) -> String {
    format!("kedge://{id}")
}

/// The container of that name, init containers included.
pub(crate) fn find_container<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers).find(|c| c.name == name)
}

/// The addresses the API's status shows.
pub(crate) fn status_addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.as_ref();
    let many = status.and_then(|s| s.pod_ips.as_deref()).unwrap_or_default();
    let addresses: Vec<IpAddr> = many.iter().filter_map(|ip| ip.ip.parse().ok()).collect();
    if addresses.is_empty() {
        return status.and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok()).into_iter().collect();
    }
    addresses
}

/// The pod uses the host's network namespace.
pub(crate) fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
}

/// The pod's priority; 0 if it has none.
pub(crate) fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

/// A priority from which on a pod is critical (`system-cluster-critical` and `system-node-critical`).
const CRITICAL: i32 = 2_000_000_000;

/// Pods that are never evicted: static ones, their mirrors, those of a critical priority
/// (`IsCriticalPod`).
pub(crate) fn is_critical(pod: &Pod) -> bool {
    let annotation = |key: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(key));
    annotation("kubernetes.io/config.source").is_some_and(|s| s != "api")
        || annotation("kubernetes.io/config.mirror").is_some()
        || priority(pod) >= CRITICAL
}

/// The pod has ended for good, by its status in the API.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// An ephemeral container as an ordinary one.
pub(crate) fn ephemeral(container: &EphemeralContainer) -> Container {
    let c = container.clone();
    Container {
        name: c.name,
        image: c.image,
        image_pull_policy: c.image_pull_policy,
        command: c.command,
        args: c.args,
        working_dir: c.working_dir,
        env: c.env,
        env_from: c.env_from,
        volume_mounts: c.volume_mounts,
        security_context: c.security_context,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        tty: c.tty,
        termination_message_path: c.termination_message_path,
        termination_message_policy: c.termination_message_policy,
        ..Container::default()
    }
}

/// An init container that keeps running (`restartPolicy: Always`).
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// All containers: init, ordinary, ephemeral.
pub(crate) fn all_containers(spec: &PodSpec) -> Vec<Container> {
    let ephemeral_containers = spec.ephemeral_containers.iter().flatten().map(ephemeral);
    let init = spec.init_containers.iter().flatten().cloned();
    init.chain(spec.containers.iter().cloned()).chain(ephemeral_containers).collect()
}
