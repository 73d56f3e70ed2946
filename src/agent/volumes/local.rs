//! Which volumes count as the pod's own ephemeral storage on the node's disk.

use k8s_openapi::api::core::v1::Volume;

/// Whether the volume's bytes count against the pod's `ephemeral-storage` ("Local ephemeral storage"):
/// those on the node's disk that live no longer than the pod. Volumes in memory count as memory, and
/// what outlives the pod is nobody's share.
pub(crate) fn is_local(volume: &Volume) -> bool {
    let on_disk = |medium: Option<&str>| medium.is_none_or(str::is_empty);
    volume.config_map.is_some() || volume.empty_dir.as_ref().is_some_and(|e| on_disk(e.medium.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn only_what_is_on_the_disk_and_goes_with_the_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "e", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}},
                {"name": "c", "configMap": {"name": "c"}}, {"name": "s", "secret": {"secretName": "s"}},
                {"name": "h", "hostPath": {"path": "/"}}, {"name": "p", "projected": {"sources": []}},
                {"name": "d", "downwardAPI": {}}]}}))
        .expect("a pod");
        let volumes = pod.spec.and_then(|s| s.volumes).expect("volumes");
        let found: Vec<&str> = volumes.iter().filter(|v| is_local(v)).map(|v| v.name.as_str()).collect();
        assert_eq!(found, ["e", "c"]);
    }
}
