//! Quality of service classes, cgroup values and OOM scores, by kubelet's formulas.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::{milli_of, units_of};
use super::spec::{is_sidecar, uid};
use crate::runtime::spec::Resources;

/// The group of all pods, below the installation's.
pub(crate) const PODS: &str = "kubepods";
/// Huge pages in resource lists, followed by their size.
pub(crate) const HUGE_PAGES: &str = "hugepages-";

/// A pod's quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Every container has limits for CPU and memory, and requests equal to them.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Class {
    /// As `status.qosClass` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The group of the pods of this class, below the installation's.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Self::Guaranteed => PODS,
            Self::Burstable => "kubepods/burstable",
            Self::BestEffort => "kubepods/besteffort",
        }
    }
}

/// A pod's class: what the API server decided, or by the same rule.
pub(crate) fn class_of(pod: &Pod) -> Class {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => Class::Guaranteed,
        Some("Burstable") => Class::Burstable,
        Some("BestEffort") => Class::BestEffort,
        _ => pod.spec.as_ref().map_or(Class::BestEffort, class),
    }
}

/// The group of a pod, below the installation's.
pub(crate) fn group_of(pod: &Pod) -> String {
    format!("{}/pod{}", class_of(pod).group(), uid(pod))
}

/// The class of a pod with this specification.
pub(crate) fn class(spec: &PodSpec) -> Class {
    if let Some(whole) = whole(spec) {
        return class_by(&[whole]);
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let none = ResourceRequirements::default();
    let all: Vec<_> = containers.map(|c| c.resources.as_ref().unwrap_or(&none)).collect();
    class_by(&all)
}

/// What is asked for the pod as a whole, if anything is (`spec.resources`).
fn whole(spec: &PodSpec) -> Option<&ResourceRequirements> {
    let given = |list: &Option<BTreeMap<String, Quantity>>| list.as_ref().is_some_and(|l| !l.is_empty());
    spec.resources.as_ref().filter(|r| given(&r.requests) || given(&r.limits))
}

fn class_by(all: &[&ResourceRequirements]) -> Class {
    let set =
        |list: Option<&BTreeMap<String, Quantity>>| milli_of(list, "cpu") > 0 || milli_of(list, "memory") > 0;
    if !all.iter().any(|r| set(r.requests.as_ref()) || set(r.limits.as_ref())) {
        return Class::BestEffort;
    }
    let guaranteed = all.iter().all(|r| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = milli_of(r.limits.as_ref(), name);
            let requests = r.requests.as_ref().filter(|r| r.contains_key(*name));
            limit > 0 && requests.is_none_or(|r| milli_of(Some(r), name) == limit)
        })
    });
    if guaranteed { Class::Guaranteed } else { Class::Burstable }
}

/// Which of a container's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// `requests`
    Requests,
    /// `limits`
    Limits,
}

impl Ask {
    fn of(self, resources: Option<&ResourceRequirements>) -> Option<&BTreeMap<String, Quantity>> {
        let resources = resources?;
        if self == Self::Requests { resources.requests.as_ref() } else { resources.limits.as_ref() }
    }
}

/// In thousandths for CPU, else in whole units.
fn amount(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    if name == "cpu" { milli_of(list, name) } else { units_of(list, name) }
}

/// What a pod asks for in sum of one resource: thousandths of a CPU, else whole units. Its containers
/// and sidecars run together; before them each init container runs beside the sidecars that come before
/// it. What is said of the pod as a whole goes before that. Overhead is added to what is asked for.
pub(crate) fn total(spec: &PodSpec, ask: Ask, name: &str) -> i64 {
    let of = |c: &Container| amount(ask.of(c.resources.as_ref()), name);
    let mut running: i64 = spec.containers.iter().map(of).sum();
    let (mut sidecars, mut peak) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if is_sidecar(container) {
            running += own;
            sidecars += own;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + own);
        }
    }
    let pod_level = matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES);
    let given = ask.of(spec.resources.as_ref()).filter(|l| pod_level && l.contains_key(name));
    let sum = given.map_or(running.max(peak), |list| amount(Some(list), name));
    let overhead = amount(spec.overhead.as_ref(), name);
    if ask == Ask::Limits && sum == 0 { 0 } else { sum + overhead }
}

const PERIOD: i64 = 100_000;

/// CPU shares for milli-CPUs.
pub(crate) fn shares(milli: i64) -> u64 {
    if milli == 0 {
        return 2;
    }
    u64::try_from(milli.saturating_mul(1024) / 1000).unwrap_or(2).clamp(2, 262_144)
}

/// CPU quota a period for milli-CPUs; at least 1 ms.
fn quota(milli: i64) -> Option<i64> {
    (milli > 0).then(|| (milli.saturating_mul(PERIOD) / 1000).max(1000))
}

fn limits_of(cpu_request: i64, cpu_limit: i64, memory_limit: i64) -> Resources {
    Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_quota: quota(cpu_limit),
        cpu_period: Some(PERIOD.unsigned_abs()),
        memory_limit: (memory_limit > 0).then_some(memory_limit),
        ..Resources::default()
    }
}

/// A container's cgroup values. A container without a limit of its own has that of the pod as a whole.
pub(crate) fn container_resources(spec: &PodSpec, container: &Container) -> Resources {
    let resources = container.resources.as_ref();
    let limits = Ask::Limits.of(resources);
    let limit = |name: &str| match amount(limits, name) {
        0 => amount(Ask::Limits.of(spec.resources.as_ref()), name),
        own => own,
    };
    let request = milli_of(Ask::Requests.of(resources), "cpu");
    let request = if request == 0 { milli_of(limits, "cpu") } else { request };
    Resources {
        // As kubelet: when memory runs out in version 2, the whole container ends, not a part of it.
        oom_group: true,
        hugepage_limits: huge_pages(|name| units_of(limits, name)),
        ..limits_of(request, limit("cpu"), limit("memory"))
    }
}

/// The pod's cgroup values: sums over its containers; a limit only if every container has one, or the
/// pod as a whole.
pub(crate) fn pod_resources(spec: &PodSpec, pids_limit: Option<i64>) -> Resources {
    let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let limited = |name: &str| {
        amount(Ask::Limits.of(spec.resources.as_ref()), name) > 0
            || all().all(|c| amount(Ask::Limits.of(c.resources.as_ref()), name) > 0)
    };
    let limit = |name: &str| if limited(name) { total(spec, Ask::Limits, name) } else { 0 };
    Resources {
        pids_limit,
        hugepage_limits: huge_pages(|name| total(spec, Ask::Limits, name)),
        ..limits_of(total(spec, Ask::Requests, "cpu"), limit("cpu"), limit("memory"))
    }
}

/// Limits of the page sizes this machine has: 0 where nothing is asked for.
fn huge_pages(limit: impl Fn(&str) -> i64) -> BTreeMap<String, u64> {
    let value = |bytes: u64| u64::try_from(limit(&format!("{HUGE_PAGES}{}", binary(bytes)))).unwrap_or(0);
    page_sizes().into_iter().map(|bytes| (kernel_name(bytes), value(bytes))).collect()
}

/// The sizes of huge pages on this machine, in bytes.
pub(crate) fn page_sizes() -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    let mut all: Vec<u64> =
        entries.flatten().filter_map(|e| size(e.file_name().to_str()?)).map(|kib| kib << 10).collect();
    all.sort_unstable();
    all
}

/// As resource names have it: `2Mi`.
pub(crate) fn binary(bytes: u64) -> String {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    crate::api::Quantity::from_units(bytes, crate::api::quantity::Format::BinarySi).to_string()
}

/// As the hugetlb controller's files have it: `2MB`.
fn kernel_name(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 => format!("{}GB", b >> 30),
        b if b >= 1 << 20 => format!("{}MB", b >> 20),
        b => format!("{}KB", b >> 10),
    }
}

/// `oom_score_adj` of a container on a machine with this many bytes of memory
/// (`pkg/kubelet/qos/policy.go`).
pub(crate) fn oom_score_adj(spec: &PodSpec, container: &Container, memory_capacity: i64) -> i32 {
    if spec.priority.is_some_and(|p| p >= 2_000_000_000)
        && spec.priority_class_name.as_deref() == Some("system-node-critical")
    {
        return -997;
    }
    match class(spec) {
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let request = |c: &Container| units_of(Ask::Requests.of(c.resources.as_ref()), "memory");
            let adjust = |bytes: i64| 1000 - bytes.saturating_mul(1000) / memory_capacity.max(1);
            let mut score = adjust(request(container) + remainder(spec));
            if is_sidecar(container) {
                // It serves the others: it shall not be killed before them.
                let least = spec.containers.iter().map(request).min().unwrap_or(0);
                score = score.min(adjust(least + remainder(spec)));
            }
            // Above guaranteed pods, below best-effort ones.
            i32::try_from(score.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// A container's part of the memory that the pod as a whole requests beyond what its containers do.
fn remainder(spec: &PodSpec) -> i64 {
    let whole = whole(spec).and_then(|r| r.requests.as_ref()).filter(|r| r.contains_key("memory"));
    let Some(whole) = whole else { return 0 };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let all: Vec<&Container> = spec.containers.iter().chain(sidecars).collect();
    let asked: i64 = all.iter().map(|c| units_of(Ask::Requests.of(c.resources.as_ref()), "memory")).sum();
    let rest = units_of(Some(whole), "memory").saturating_sub(asked).max(0);
    rest / i64::try_from(all.len().max(1)).unwrap_or(1)
}

#[cfg(test)]
#[path = "qos_tests.rs"]
mod tests;
