//! Pods that come while the node is short of something.

use k8s_openapi::api::core::v1::{Pod, Taint};

use crate::agent::orders::Pressure;
use crate::agent::qos::{Class, class_of};
use crate::agent::spec::is_critical;
use crate::api::scheduling::tolerations;

/// Why the node does not take a pod now, as the message of reason [`super::REASON`]; `None` if it does.
/// Short of memory it refuses pods that ask for nothing, short of anything else all but critical ones.
pub(crate) fn refused(pod: &Pod, pressure: Pressure) -> Option<String> {
    let conditions = [
        (pressure.memory, "MemoryPressure"),
        (pressure.disk, "DiskPressure"),
        (pressure.pids, "PIDPressure"),
    ];
    let conditions: Vec<&str> = conditions.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
    if conditions.is_empty() || is_critical(pod) {
        return None;
    }
    if conditions == ["MemoryPressure"] && (class_of(pod) != Class::BestEffort || tolerates(pod)) {
        return None;
    }
    Some(format!("The node had condition: [{}]. ", conditions.join(" ")))
}

/// It tolerates the taint of a node that is short of memory.
fn tolerates(pod: &Pod) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/memory-pressure".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let mut tolerations = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
    tolerations.any(|t| tolerations::tolerates(t, &taint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(spec: Value, pressure: Pressure) -> Option<String> {
        let mut spec = spec;
        if spec["containers"].is_null() {
            spec["containers"] = json!([]);
        }
        refused(&serde_json::from_value(json!({"spec": spec})).expect("a pod"), pressure)
    }

    #[test]
    fn who_is_taken_under_pressure() {
        let memory = Pressure { memory: true, ..Pressure::default() };
        let disk = Pressure { disk: true, ..Pressure::default() };
        let both = Pressure { memory: true, disk: true, pids: false };
        let burstable = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
        let critical = json!({"priority": 2_000_000_000});
        let tolerant =
            |key: &str| json!({"tolerations": [{"key": key, "operator": "Exists", "effect": "NoSchedule"}]});
        for (spec, pressure, expected) in [
            (json!({}), Pressure::default(), None),
            (json!({}), memory, Some("The node had condition: [MemoryPressure]. ")),
            (json!({}), both, Some("The node had condition: [MemoryPressure DiskPressure]. ")),
            (burstable.clone(), memory, None),
            (burstable, disk, Some("The node had condition: [DiskPressure]. ")),
            (critical, both, None),
            (tolerant("node.kubernetes.io/memory-pressure"), memory, None),
            (
                tolerant("node.kubernetes.io/disk-pressure"),
                memory,
                Some("The node had condition: [MemoryPressure]. "),
            ),
            (
                tolerant("node.kubernetes.io/disk-pressure"),
                disk,
                Some("The node had condition: [DiskPressure]. "),
            ),
        ] {
            assert_eq!(told(spec.clone(), pressure).as_deref(), expected, "{spec} {pressure:?}");
        }
    }
}
