//! Quality of service classes, cgroup values and OOM scores, by kubelet's formulas.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::{milli_of, units_of};
use super::spec::is_sidecar;
use crate::runtime::spec::Resources;

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

    /// The cgroup of a pod of this class, below the node's.
    pub(crate) fn cgroup(self, uid: &str) -> String {
        match self {
            Self::Guaranteed => format!("pod{uid}"),
            Self::Burstable => format!("burstable/pod{uid}"),
            Self::BestEffort => format!("besteffort/pod{uid}"),
        }
    }
}

/// A pod's class.
pub(crate) fn class(spec: &PodSpec) -> Class {
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let set =
        |list: Option<&BTreeMap<String, Quantity>>| milli_of(list, "cpu") > 0 || milli_of(list, "memory") > 0;
    let resources = |c: &Container| c.resources.clone().unwrap_or_default();
    if !containers().any(|c| set(resources(c).requests.as_ref()) || set(resources(c).limits.as_ref())) {
        return Class::BestEffort;
    }
    let guaranteed = containers().all(|c| {
        let ResourceRequirements { limits, requests, .. } = resources(c);
        ["cpu", "memory"].iter().all(|name| {
            let limit = milli_of(limits.as_ref(), name);
            let request =
                requests.as_ref().and_then(|r| r.get(*name)).map(|_| milli_of(requests.as_ref(), name));
            limit > 0 && request.is_none_or(|r| r == limit)
        })
    });
    if guaranteed { Class::Guaranteed } else { Class::Burstable }
}

const PERIOD: i64 = 100_000;

/// CPU shares for milli-CPUs.
fn shares(milli: i64) -> u64 {
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
    let request = if cpu_request == 0 { cpu_limit } else { cpu_request };
    Resources {
        cpu_shares: Some(shares(request)),
        cpu_quota: quota(cpu_limit),
        cpu_period: Some(PERIOD.unsigned_abs()),
        memory_limit: (memory_limit > 0).then_some(memory_limit),
        pids_limit: None,
    }
}

/// A container's cgroup values.
pub(crate) fn container_resources(container: &Container) -> Resources {
    let resources = container.resources.clone().unwrap_or_default();
    limits_of(
        milli_of(resources.requests.as_ref(), "cpu"),
        milli_of(resources.limits.as_ref(), "cpu"),
        units_of(resources.limits.as_ref(), "memory"),
    )
}

/// The pod's cgroup values: sums over its containers (and the largest init container); a limit only if
/// every container has one.
pub(crate) fn pod_resources(spec: &PodSpec) -> Resources {
    let value = |c: &Container, limit: bool, name: &str| {
        let r = c.resources.as_ref();
        let list = r.and_then(|r| if limit { r.limits.as_ref() } else { r.requests.as_ref() });
        if name == "cpu" { milli_of(list, name) } else { units_of(list, name) }
    };
    let sum = |limit: bool, name: &str| {
        let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
        let apps: i64 = spec.containers.iter().chain(sidecars).map(|c| value(c, limit, name)).sum();
        let init = spec.init_containers.iter().flatten().map(|c| value(c, limit, name)).max().unwrap_or(0);
        let overhead = if name == "cpu" {
            milli_of(spec.overhead.as_ref(), name)
        } else {
            units_of(spec.overhead.as_ref(), name)
        };
        apps.max(init) + overhead
    };
    let all_limited = |name: &str| {
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).all(|c| value(c, true, name) > 0)
    };
    let cpu_limit = if all_limited("cpu") { sum(true, "cpu") } else { 0 };
    let memory_limit = if all_limited("memory") { sum(true, "memory") } else { 0 };
    limits_of(sum(false, "cpu"), cpu_limit, memory_limit)
}

/// `oom_score_adj` of a container on a machine with this many bytes of memory.
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
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let request = units_of(requests, "memory");
            let adjust = 1000 - request.saturating_mul(1000) / memory_capacity.max(1);
            // Above guaranteed pods, below best-effort ones.
            i32::try_from(adjust.clamp(3, 999)).unwrap_or(999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: &[(&str, &str, &str, &str)]) -> PodSpec {
        let list = |cpu: &str, memory: &str| {
            let mut list = BTreeMap::new();
            for (name, value) in [("cpu", cpu), ("memory", memory)] {
                if !value.is_empty() {
                    list.insert(name.to_owned(), Quantity(value.to_owned()));
                }
            }
            (!list.is_empty()).then_some(list)
        };
        let containers = resources.iter().map(|(rc, rm, lc, lm)| Container {
            name: "c".into(),
            resources: Some(ResourceRequirements {
                requests: list(rc, rm),
                limits: list(lc, lm),
                claims: None,
            }),
            ..Container::default()
        });
        PodSpec { containers: containers.collect(), ..PodSpec::default() }
    }

    #[test]
    fn classes() {
        for (resources, expected) in [
            (vec![("", "", "", "")], Class::BestEffort),
            (vec![("1", "1Gi", "1", "1Gi")], Class::Guaranteed),
            (vec![("", "", "1", "1Gi")], Class::Guaranteed),
            (vec![("1000m", "1Gi", "1", "1024Mi")], Class::Guaranteed),
            (vec![("500m", "1Gi", "1", "1Gi")], Class::Burstable),
            (vec![("1", "1Gi", "1", "1Gi"), ("", "", "", "")], Class::Burstable),
            (vec![("", "64Mi", "", "")], Class::Burstable),
        ] {
            assert_eq!(class(&pod(&resources)), expected, "{resources:?}");
        }
    }

    #[test]
    fn cgroup_values() {
        let spec = pod(&[("100m", "64Mi", "500m", "128Mi"), ("200m", "", "1", "")]);
        let first = container_resources(&spec.containers[0]);
        assert_eq!(
            (first.cpu_shares, first.cpu_quota, first.memory_limit),
            (Some(102), Some(50_000), Some(134_217_728))
        );
        let whole = pod_resources(&spec);
        assert_eq!((whole.cpu_shares, whole.cpu_quota, whole.memory_limit), (Some(307), Some(150_000), None));
        assert_eq!(container_resources(&pod(&[("", "", "", "")]).containers[0]).cpu_shares, Some(2));
        assert_eq!(quota(1), Some(1000));
    }

    #[test]
    fn oom_scores() {
        let gib = 1 << 30;
        let score = |r| {
            let spec = pod(&[r]);
            oom_score_adj(&spec, &spec.containers[0], 4 * gib)
        };
        assert_eq!(score(("", "", "", "")), 1000);
        assert_eq!(score(("1", "1Gi", "1", "1Gi")), -997);
        assert_eq!(score(("", "1Gi", "", "")), 750);
        assert_eq!(score(("", "1", "", "")), 999);
        assert_eq!(score(("", "64Gi", "", "")), 3);
    }
}
