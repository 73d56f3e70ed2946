//! Facts about this machine: capacity, identities, addresses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeSwapStatus, NodeSystemInfo, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::agent::error::Error;
use crate::config::{NodeSettings, NodeTaint};

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Logical processors.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: i64,
    /// The directory whose file system is the node's ephemeral storage.
    pub storage: PathBuf,
    /// Identities and versions.
    pub info: NodeSystemInfo,
}

impl Machine {
    /// Asks the machine.
    pub(crate) fn read(data_dir: &Path) -> Result<Self, Error> {
        let cpus =
            std::thread::available_parallelism().map_err(Error::io("count the processors of", "/proc"))?;
        let meminfo = read("/proc/meminfo")?;
        let memory =
            kib(&meminfo, "MemTotal:").ok_or_else(|| Error::Other("/proc/meminfo has no MemTotal".into()))?;
        let uname = nix::sys::utsname::uname().map_err(|e| Error::Other(format!("uname: {e}")))?;
        let version = env!("CARGO_PKG_VERSION");
        let info = NodeSystemInfo {
            architecture: architecture(std::env::consts::ARCH).into(),
            boot_id: optional("/proc/sys/kernel/random/boot_id"),
            container_runtime_version: format!("kedge://{version}"),
            kernel_version: uname.release().to_string_lossy().into_owned(),
            kube_proxy_version: String::new(),
            kubelet_version: "v1.36.0+kedge".into(),
            machine_id: optional("/etc/machine-id"),
            operating_system: "linux".into(),
            os_image: os_image(&optional("/etc/os-release")),
            swap: kib(&meminfo, "SwapTotal:")
                .filter(|bytes| *bytes > 0)
                .map(|bytes| NodeSwapStatus { capacity: Some(bytes) }),
            system_uuid: Some(optional("/sys/class/dmi/id/product_uuid"))
                .filter(|u| !u.is_empty())
                .unwrap_or_else(|| optional("/etc/machine-id")),
        };
        Ok(Self { cpus: cpus.get(), memory, storage: data_dir.to_path_buf(), info })
    }

    /// The Node object to register.
    pub(crate) fn node(&self, settings: &NodeSettings) -> Node {
        let arch = &self.info.architecture;
        let mut labels: BTreeMap<String, String> = [
            ("kubernetes.io/hostname", settings.node_name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", arch),
            ("node.kubernetes.io/instance-type", "kedge"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        labels.extend(settings.node_labels.iter().cloned());
        Node {
            metadata: ObjectMeta {
                name: Some(settings.node_name.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec { taints: taints(settings), ..NodeSpec::default() }),
            status: None,
        }
    }
}

fn taints(settings: &NodeSettings) -> Option<Vec<Taint>> {
    let taint = |t: &NodeTaint| Taint {
        key: t.key.clone(),
        value: Some(t.value.clone()).filter(|v| !v.is_empty()),
        effect: t.effect.clone(),
        time_added: None,
    };
    let all: Vec<Taint> = settings.node_taints.iter().map(taint).collect();
    (!all.is_empty()).then_some(all)
}

fn read(path: &str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}

fn optional(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kib(meminfo: &str, field: &str) -> Option<i64> {
    let line = meminfo.lines().find(|l| l.starts_with(field))?;
    let kib: i64 = line[field.len()..].trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn os_image(os_release: &str) -> String {
    let line = os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".to_owned(), |l| l.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_machine() {
        let machine = Machine::read(Path::new("/")).expect("a machine");
        assert!(machine.memory > 0 && machine.cpus > 0);
        assert!(!machine.info.kernel_version.is_empty() && !machine.info.boot_id.is_empty());
    }

    #[test]
    fn parses_meminfo_and_os_release() {
        assert_eq!(kib("MemTotal:       2048 kB\nMemFree: 1 kB", "MemTotal:"), Some(2 << 20));
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\""),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_image(""), "Linux");
        assert_eq!(architecture("x86_64"), "amd64");
    }
}
