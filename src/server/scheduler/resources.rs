//! Amounts of resources as integers, and what a pod requests.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::server::controllers::kit::pod::{Container, Pod};
use crate::server::controllers::kit::quantity;

/// What a container without a CPU request counts as when nodes are scored, in thousandths.
const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container without a memory request counts as when nodes are scored, in bytes.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// An amount of every resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// CPU in thousandths.
    pub milli_cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Local ephemeral storage in bytes.
    pub ephemeral: i64,
    /// Everything else but pods, by name.
    pub extended: BTreeMap<Box<str>, i64>,
}

impl Amounts {
    /// Reads a resource list; `pods` is left out.
    pub fn parse(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut amounts = Self::default();
        for (name, Quantity(text)) in list.into_iter().flatten() {
            match name.as_str() {
                "cpu" => amounts.milli_cpu = quantity::milli(text),
                "memory" => amounts.memory = quantity::value(text),
                "ephemeral-storage" => amounts.ephemeral = quantity::value(text),
                "pods" => {}
                other => drop(amounts.extended.insert(other.into(), quantity::value(text))),
            }
        }
        amounts
    }

    /// Adds another amount `sign` times (1 or -1).
    pub fn add(&mut self, other: &Amounts, sign: i64) {
        self.milli_cpu = self.milli_cpu.saturating_add(sign * other.milli_cpu);
        self.memory = self.memory.saturating_add(sign * other.memory);
        self.ephemeral = self.ephemeral.saturating_add(sign * other.ephemeral);
        for (name, amount) in &other.extended {
            let sum = self.extended.entry(name.clone()).or_default();
            *sum = sum.saturating_add(sign * amount);
        }
    }

    /// Raises every amount to at least the other's.
    fn raise(&mut self, other: &Amounts) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral = self.ephemeral.max(other.ephemeral);
        for (name, amount) in &other.extended {
            let most = self.extended.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }

    /// Nothing at all is asked for.
    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral == 0
            && self.extended.values().all(|a| *a == 0)
    }
}

fn requests(container: &Container) -> Amounts {
    Amounts::parse(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
}

/// Like [`requests`], with the defaults that scoring assumes.
fn assumed(container: &Container) -> Amounts {
    let list = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let mut amounts = Amounts::parse(list);
    if list.is_none_or(|l| !l.contains_key("cpu")) {
        amounts.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if list.is_none_or(|l| !l.contains_key("memory")) {
        amounts.memory = DEFAULT_MEMORY;
    }
    amounts
}

/// Sums containers and sidecars, raised to what any init container needs while it runs, as in
/// KEP-753.
fn total(pod: &Pod, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut sum = Amounts::default();
    for container in &pod.spec.containers {
        sum.add(&of(container), 1);
    }
    let mut sidecars = Amounts::default();
    let mut init = Amounts::default();
    for container in &pod.spec.init_containers {
        let amount = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sum.add(&amount, 1);
            sidecars.add(&amount, 1);
            init.raise(&sidecars);
        } else {
            let mut peak = amount;
            peak.add(&sidecars, 1);
            init.raise(&peak);
        }
    }
    sum.raise(&init);
    sum
}

/// What a pod requests, and what it counts as when nodes are scored: CPU in thousandths and memory.
pub fn of_pod(pod: &Pod) -> (Amounts, (i64, i64)) {
    let overhead = Amounts::parse(pod.spec.overhead.as_ref());
    let level = pod.spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let mut exact = total(pod, requests);
    let mut scored = total(pod, assumed);
    if level.is_some() {
        let set = Amounts::parse(level);
        for sum in [&mut exact, &mut scored] {
            if set.milli_cpu > 0 {
                sum.milli_cpu = set.milli_cpu;
            }
            if set.memory > 0 {
                sum.memory = set.memory;
            }
        }
    }
    exact.add(&overhead, 1);
    scored.add(&overhead, 1);
    (exact, (scored.milli_cpu, scored.memory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    #[test]
    fn containers_add_up_and_init_containers_are_a_peak() {
        let (exact, scored) = of_pod(&pod(json!({
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "1", "example.com/gpu": "2"}}}],
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "2", "memory": "1Mi"}}}],
            "overhead": {"cpu": "10m"}
        })));
        assert_eq!(exact.milli_cpu, 2010);
        assert_eq!(exact.memory, 1 << 30);
        assert_eq!(exact.extended["example.com/gpu"], 2);
        assert_eq!(scored, (2010, (1 << 30) + DEFAULT_MEMORY));
    }

    #[test]
    fn a_sidecar_counts_beside_the_containers_and_the_later_init_containers() {
        let (exact, _) = of_pod(&pod(json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m"}}}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "200m"}}}]
        })));
        assert_eq!(exact.milli_cpu, 500);
    }

    #[test]
    fn pod_level_requests_win_over_the_sum() {
        let (exact, _) = of_pod(&pod(json!({
            "resources": {"requests": {"cpu": "2"}},
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}]
        })));
        assert_eq!((exact.milli_cpu, exact.memory), (2000, 1 << 20));
        let (none, scored) = of_pod(&pod(json!({"containers": [{"name": "a"}]})));
        assert!(none.is_zero());
        assert_eq!(scored, (DEFAULT_MILLI_CPU, DEFAULT_MEMORY));
    }
}
