//! Capacity of the node and what of it pods may have: capacity less what is reserved and less what hard
//! eviction keeps free
//! (<https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/>).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Machine;
use crate::agent::disk::filesystem;
use crate::agent::eviction::amount;
use crate::agent::fields::Allocatable;
use crate::agent::qos::{HUGE_PAGES, binary, page_sizes};
use crate::agent::quantity::milli;
use crate::config::{Kubelet, NodeSettings};

type List = BTreeMap<String, Quantity>;

impl Machine {
    /// Capacity and what of it pods may have.
    pub(super) fn resources(&self, settings: &NodeSettings) -> [List; 2] {
        let storage = filesystem(&self.storage).map_or(0, |s| s.capacity);
        let figures = Figures {
            cpus: self.cpus,
            memory: unsigned(self.memory),
            storage,
            pods: settings.max_pods,
            huge_pages: huge_pages(),
        };
        [figures.capacity(), figures.allocatable(&settings.kubelet)]
    }

    /// What pods may have of CPU, memory and disk.
    pub(crate) fn allocatable(&self, kubelet: &Kubelet) -> Allocatable {
        let cpu = i64::try_from(self.cpus).unwrap_or(1).saturating_mul(1000) - reserved(kubelet, "cpu");
        let memory = self.memory
            - reserved(kubelet, "memory") / 1000
            - signed(kept_free(kubelet, "memory.available", unsigned(self.memory)))
            - signed(huge_pages().values().sum());
        let disk = filesystem(&self.storage).map_or(0, |s| s.capacity);
        let storage = signed(disk)
            - reserved(kubelet, "ephemeral-storage") / 1000
            - signed(kept_free(kubelet, "nodefs.available", disk));
        Allocatable { cpu_milli: cpu.max(0), memory: memory.max(0), storage: storage.max(0) }
    }
}

/// What the machine has.
struct Figures {
    cpus: usize,
    /// Bytes.
    memory: u64,
    /// Bytes.
    storage: u64,
    pods: u32,
    /// Bytes by page size in bytes.
    huge_pages: BTreeMap<u64, u64>,
}

impl Figures {
    fn capacity(&self) -> List {
        let mut list: List = [
            ("cpu", self.cpus.to_string()),
            ("memory", format!("{}Ki", self.memory / 1024)),
            ("ephemeral-storage", format!("{}Ki", self.storage / 1024)),
            ("pods", self.pods.to_string()),
        ]
        .map(|(k, v)| (k.to_owned(), Quantity(v)))
        .into();
        list.extend(self.huge_pages.iter().map(|(size, bytes)| huge_page_entry(*size, *bytes)));
        list
    }

    fn allocatable(&self, kubelet: &Kubelet) -> List {
        let left = |name: &str, capacity: u64, signal: &str| {
            let taken = reserved(kubelet, name) / 1000 + signed(kept_free(kubelet, signal, capacity));
            unsigned(signed(capacity).saturating_sub(taken))
        };
        let cpu = i64::try_from(self.cpus).unwrap_or(1) * 1000 - reserved(kubelet, "cpu");
        let cpu = crate::api::Quantity::from_millis(cpu.max(0)).to_string();
        let huge: u64 = self.huge_pages.values().sum();
        let memory = left("memory", self.memory, "memory.available").saturating_sub(huge);
        let storage = left("ephemeral-storage", self.storage, "nodefs.available");
        let mut list: List = [
            ("cpu", cpu),
            ("memory", format!("{}Ki", memory / 1024)),
            ("ephemeral-storage", storage.to_string()),
            ("pods", self.pods.to_string()),
        ]
        .map(|(k, v)| (k.to_owned(), Quantity(v)))
        .into();
        list.extend(self.huge_pages.iter().map(|(size, bytes)| huge_page_entry(*size, *bytes)));
        list
    }
}

fn huge_page_entry(size: u64, bytes: u64) -> (String, Quantity) {
    let amount = if bytes == 0 { "0".to_owned() } else { binary(bytes) };
    (format!("{HUGE_PAGES}{}", binary(size)), Quantity(amount))
}

/// What the system and kedge itself are to have, in thousandths.
pub(crate) fn reserved(kubelet: &Kubelet, name: &str) -> i64 {
    let of = |list: &BTreeMap<String, String>| list.get(name).and_then(|q| milli(q)).unwrap_or(0);
    i64::try_from(of(&kubelet.system_reserved) + of(&kubelet.kube_reserved)).unwrap_or(i64::MAX)
}

fn kept_free(kubelet: &Kubelet, signal: &str, capacity: u64) -> u64 {
    kubelet.eviction.hard.get(signal).map_or(0, |t| amount(*t, capacity))
}

/// Bytes of huge pages the machine has set aside, by page size.
fn huge_pages() -> BTreeMap<u64, u64> {
    let count = |size: u64| {
        let file = format!("/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages", size >> 10);
        std::fs::read_to_string(file).ok().and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    page_sizes().into_iter().map(|size| (size, size * count(size))).collect()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn texts(list: &List) -> Vec<String> {
        list.iter().map(|(name, q)| format!("{name}={}", q.0)).collect()
    }

    #[test]
    fn pods_get_what_is_neither_reserved_nor_kept_free() {
        let mut kubelet = Kubelet::new("/x".into(), 2 * GIB);
        let huge_pages = BTreeMap::from([(2 << 20, 64 << 20), (GIB, 0)]);
        let figures = Figures { cpus: 4, memory: 2 * GIB, storage: 100 * GIB, pods: 110, huge_pages };
        assert_eq!(
            texts(&figures.capacity()),
            [
                "cpu=4",
                "ephemeral-storage=104857600Ki",
                "hugepages-1Gi=0",
                "hugepages-2Mi=64Mi",
                "memory=2097152Ki",
                "pods=110"
            ]
        );
        assert_eq!(
            texts(&figures.allocatable(&kubelet)),
            [
                "cpu=4",
                "ephemeral-storage=102005473280",
                "hugepages-1Gi=0",
                "hugepages-2Mi=64Mi",
                "memory=1929216Ki",
                "pods=110"
            ],
            "100 MiB and 5 % are kept free, huge pages are no memory"
        );
        kubelet.set("system-reserved", "cpu=250m,memory=100Mi").expect("fits");
        kubelet.set("kube-reserved", "cpu=100m,memory=50Mi,ephemeral-storage=1Gi").expect("fits");
        assert_eq!(
            texts(&figures.allocatable(&kubelet)),
            [
                "cpu=3650m",
                "ephemeral-storage=100931731456",
                "hugepages-1Gi=0",
                "hugepages-2Mi=64Mi",
                "memory=1775616Ki",
                "pods=110"
            ]
        );
        kubelet.set("kube-reserved", "cpu=9,memory=50Gi").expect("fits");
        let none = figures.allocatable(&kubelet);
        assert_eq!((none["cpu"].0.as_str(), none["memory"].0.as_str()), ("0", "0Ki"));
    }
}
