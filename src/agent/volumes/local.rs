//! Which volumes count as the pod's own ephemeral storage on the node's disk.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::agent::paths::Paths;
use crate::agent::spec::uid;

/// Names and directories of the volumes whose bytes count against a pod's `ephemeral-storage`
/// ("Local ephemeral storage"): those on the node's disk that live no longer than the pod. Volumes in
/// memory count as memory, and what outlives the pod is nobody's share. A directory may not exist yet.
pub(crate) fn local_volumes(paths: &Paths, pod: &Pod) -> Vec<(String, PathBuf)> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(|v| Some((v.name.clone(), paths.volume(uid(pod), plugin(v)?, &v.name)))).collect()
}

/// Whether the volume's bytes count against the pod's `ephemeral-storage`.
pub(crate) fn is_local(volume: &Volume) -> bool {
    plugin(volume).is_some()
}

/// The plugin that keeps the volume on the disk, if it is such a volume.
fn plugin(volume: &Volume) -> Option<&'static str> {
    let on_disk = |medium: Option<&str>| medium.is_none_or(str::is_empty);
    if volume.empty_dir.as_ref().is_some_and(|e| on_disk(e.medium.as_deref())) {
        return Some("empty-dir");
    }
    volume.config_map.as_ref().map(|_| "configmap")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

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
        let found = local_volumes(&Paths::new(Path::new("/d")), &pod);
        let expected = [
            ("e", "/d/agent/pods/u/volumes/kubernetes.io~empty-dir/e"),
            ("c", "/d/agent/pods/u/volumes/kubernetes.io~configmap/c"),
        ];
        assert_eq!(found, expected.map(|(n, p)| (n.to_owned(), PathBuf::from(p))));
    }
}
