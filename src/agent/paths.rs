//! Where the agent keeps its files.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use super::spec::{name, namespace, uid};

/// Directories of the agent. Layout and names below a pod's directory are kubelet's.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pods: PathBuf,
    logs: PathBuf,
    seccomp: PathBuf,
    image_access: PathBuf,
}

impl Paths {
    /// The directories of the installation at `data_dir`.
    pub(crate) fn new(data_dir: &Path) -> Self {
        let agent = data_dir.join("agent");
        Self {
            pods: agent.join("pods"),
            logs: PathBuf::from("/var/log/pods"),
            seccomp: agent.join("seccomp"),
            image_access: agent.join("image-access.json"),
        }
    }

    /// All pods' directories.
    pub(crate) fn pods(&self) -> &Path {
        &self.pods
    }

    /// Localhost seccomp profiles.
    pub(crate) fn seccomp(&self) -> &Path {
        &self.seccomp
    }

    /// Who may use which image.
    pub(crate) fn image_access(&self) -> &Path {
        &self.image_access
    }

    /// One pod's directory.
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    /// The pod's `/etc/hosts`.
    pub(crate) fn hosts(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// The pod's `/etc/resolv.conf`.
    pub(crate) fn resolv_conf(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("resolv.conf")
    }

    /// A volume of the pod.
    pub(crate) fn volume(&self, uid: &str, plugin: &str, volume: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(volume)
    }

    /// Bind mounts of sub-paths of the pod's volumes.
    pub(crate) fn subpaths(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volume-subpaths")
    }

    /// Where a container writes its termination message.
    pub(crate) fn termination_log(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("containers").join(container).join(attempt.to_string())
    }

    /// The pod's log directory, in the place log collectors look.
    pub(crate) fn pod_logs(&self, pod: &Pod) -> PathBuf {
        self.logs.join(format!("{}_{}_{}", namespace(pod), name(pod), uid(pod)))
    }

    /// A container's log, relative to the pod's log directory.
    pub(crate) fn container_log(container: &str, attempt: u32) -> PathBuf {
        Path::new(container).join(format!("{attempt}.log"))
    }
}
