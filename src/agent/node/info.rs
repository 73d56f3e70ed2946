//! Facts about this machine: capacity, identities, addresses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeSystemInfo, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::agent::error::Error;
use crate::config::{NodeSettings, NodeTaint};

/// kubelet's default hard eviction threshold of memory; a twentieth on machines with little.
const MEMORY_THRESHOLD: i64 = 100 << 20;
/// The part of disk and inodes below which the node is under pressure: one twentieth, as in k3s.
const STORAGE_THRESHOLD: u64 = 20;

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
            swap: None,
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

    /// Capacity and what of it pods may have.
    pub(crate) fn resources(&self, max_pods: u32) -> [BTreeMap<String, Quantity>; 2] {
        let storage = storage(&self.storage).map_or(0, |s| s.total);
        let list = |memory: i64, storage: String| {
            [
                ("cpu", self.cpus.to_string()),
                ("memory", format!("{}Ki", memory / 1024)),
                ("ephemeral-storage", storage),
                ("pods", max_pods.to_string()),
            ]
            .map(|(k, v)| (k.to_owned(), Quantity(v)))
            .into()
        };
        let capacity = list(self.memory, format!("{}Ki", storage / 1024));
        let allocatable = list(self.memory, (storage - storage / STORAGE_THRESHOLD).to_string());
        [capacity, allocatable]
    }

    /// Memory that could be had now, below which the node is under pressure.
    pub(crate) fn memory_pressure(&self) -> bool {
        let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|m| kib(&m, "MemAvailable:"));
        available.is_some_and(|a| a < MEMORY_THRESHOLD.min(self.memory / 20))
    }

    /// Less than a twentieth of the disk, or of its inodes, is free.
    pub(crate) fn disk_pressure(&self) -> bool {
        storage(&self.storage).is_some_and(|s| {
            let inodes_short = s.inodes > 0 && s.inodes_free < s.inodes / STORAGE_THRESHOLD;
            s.free < s.total / STORAGE_THRESHOLD || inodes_short
        })
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

struct Storage {
    total: u64,
    free: u64,
    inodes: u64,
    inodes_free: u64,
}

fn storage(path: &Path) -> Option<Storage> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let size = stat.fragment_size();
    Some(Storage {
        total: stat.blocks() * size,
        free: stat.blocks_available() * size,
        inodes: stat.files(),
        inodes_free: stat.files_available(),
    })
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
        let [capacity, allocatable] = machine.resources(110);
        assert_eq!(capacity["pods"].0, "110");
        let bytes = |l: &BTreeMap<String, Quantity>| crate::agent::quantity::units(&l["ephemeral-storage"].0);
        let (all, some) = (bytes(&capacity).expect("a number"), bytes(&allocatable).expect("a number"));
        assert!(some < all && some > all / 2, "{some} of {all}");
        assert_eq!(capacity["memory"], allocatable["memory"]);
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
