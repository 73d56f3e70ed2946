//! The quality of service class:
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>.

use serde_json::Value;

use crate::api::Quantity;
use crate::api::pod_requests::quantity;
use crate::server::registry::strategies::check::{entries, is_empty, items};

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`, from the requests and limits of a pod's spec.
pub fn class(spec: &Value) -> &'static str {
    let whole = &spec["resources"];
    if !is_empty(&whole["requests"]) || !is_empty(&whole["limits"]) {
        return class_of([whole]);
    }
    let containers = items(&spec["containers"]).iter().chain(items(&spec["initContainers"]));
    class_of(containers.map(|c| &c["resources"]))
}

fn class_of<'v>(all: impl IntoIterator<Item = &'v Value>) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        let amount = |field: &str, name: &str| -> Option<Quantity> {
            resources[field].get(name).and_then(quantity).filter(|q| !q.is_zero())
        };
        let asks = |field: &str| {
            entries(&resources[field])
                .any(|(name, _)| COMPUTE.contains(&name) && amount(field, name).is_some())
        };
        any |= asks("requests") || asks("limits");
        guaranteed &= COMPUTE.iter().all(|name| {
            let (request, limit) = (amount("requests", name), amount("limits", name));
            limit.is_some() && (request.is_none() || request == limit)
        });
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_class_follows_requests_and_limits_of_all_containers() {
        let full = json!({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1Gi"}}});
        let part = json!({"resources": {"requests": {"cpu": "1"}}});
        let other = json!({"resources": {"requests": {"ephemeral-storage": "1Gi"}}});
        for (containers, class_) in [
            (json!([full]), "Guaranteed"),
            (json!([full, part]), "Burstable"),
            (json!([part]), "Burstable"),
            (json!([{}]), "BestEffort"),
            (json!([other]), "BestEffort"),
            (json!([{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]), "Guaranteed"),
        ] {
            assert_eq!(class(&json!({"containers": containers})), class_, "{containers}");
        }
        assert_eq!(class(&json!({"containers": [full], "initContainers": [{}]})), "Burstable");
        let whole = json!({"resources": full["resources"], "containers": [{}, part]});
        assert_eq!(class(&whole), "Guaranteed");
    }
}
