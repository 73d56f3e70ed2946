//! What a pod costs: `pkg/quota/v1/evaluator/core/pods.go`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Amounts, ONE, Scope, add, amounts};
use crate::api::meta::parse_time;
use crate::api::names;
use crate::api::{Meta, Quantity};

const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";
const LIMITS: &str = "limits.";
/// What every container must state once it is limited.
const STATED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Whether pods are charged for a resource, beside their count.
pub fn tracks(name: &str) -> bool {
    let bare = name.strip_prefix(REQUESTS).or_else(|| name.strip_prefix(LIMITS)).unwrap_or(name);
    let huge = name.strip_prefix(REQUESTS).unwrap_or(name).starts_with(HUGE_PAGES);
    name == "pods" || COMPUTE.contains(&bare) || huge || (!is_native(name) && name.starts_with(REQUESTS))
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    let quota_name = format!("{REQUESTS}{name}");
    !is_native(name) && !name.starts_with(REQUESTS) && names::qualified_name(&quota_name).is_empty()
}

/// The cost. A pod that ended, or should have long been gone, is only counted.
pub fn usage(pod: &Value, now: Timestamp) -> Amounts {
    if stops_counting(pod).is_some_and(|at| at < now) {
        return Amounts::new();
    }
    charged(&requests_of(pod, "requests"), &requests_of(pod, "limits"))
}

/// When a pod is charged for no longer: at the beginning of time if it ended; `None` while nothing ends it.
pub fn stops_counting(pod: &Value) -> Option<Timestamp> {
    if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        return Some(Timestamp::MIN);
    }
    let meta = Meta::of(pod);
    let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds()?);
    parse_time(meta.deletion_timestamp()?)?.checked_add(grace).ok()
}

/// Requests and limits under the names that quotas have for them.
fn charged(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut result = Amounts::from([("pods".to_owned(), ONE())]);
    for (name, amount) in requests {
        let plain = COMPUTE.contains(&name.as_str()) || name.starts_with(HUGE_PAGES);
        if plain {
            result.insert(name.clone(), *amount);
        }
        if plain || is_extended(name) {
            result.insert(format!("{REQUESTS}{name}"), *amount);
        }
    }
    let limits = limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str()));
    result.extend(limits.map(|(name, amount)| (format!("{LIMITS}{name}"), *amount)));
    result
}

/// What a pod asks for in sum, of `requests` or `limits`: its containers and sidecars, or its init
/// containers if one of them needs more; what is given for the pod as a whole goes before that; overhead.
pub fn requests_of(pod: &Value, field: &str) -> Amounts {
    let spec = &pod["spec"];
    let status = |list: &str, name: &Value| {
        let all = pod["status"][list].as_array().into_iter().flatten();
        all.into_iter().find(|s| s["name"] == *name).cloned().unwrap_or_default()
    };
    let of = |container: &Value, list: &str| {
        let mut asked = amounts(&container["resources"][field]);
        // A pod that is being resized holds the old amount until the new one is in force.
        let status = status(list, &container["name"]);
        if !status["resources"].is_null() {
            raise(&mut asked, &amounts(&status["resources"][field]));
            if field == "requests" {
                raise(&mut asked, &amounts(&status["allocatedResources"]));
            }
        }
        asked
    };
    let mut sum = Amounts::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        add(&mut sum, &of(container, "containerStatuses"));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec["initContainers"].as_array().into_iter().flatten() {
        let mut asked = of(container, "initContainerStatuses");
        if container["restartPolicy"] == "Always" {
            add(&mut sum, &asked);
            add(&mut sidecars, &asked);
            asked.clone_from(&sidecars);
        } else {
            add(&mut asked, &sidecars);
        }
        raise(&mut peak, &asked);
    }
    raise(&mut sum, &peak);
    let whole = amounts(&spec["resources"][field]).into_iter();
    sum.extend(
        whole.filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory") || name.starts_with(HUGE_PAGES)),
    );
    let mut overhead = amounts(&spec["overhead"]);
    overhead.retain(|name, _| field == "requests" || sum.contains_key(name));
    add(&mut sum, &overhead);
    sum
}

/// Makes each amount at least what it is in the other.
fn raise(amounts: &mut Amounts, floor: &Amounts) {
    for (name, least) in floor {
        let entry = amounts.entry(name.clone()).or_insert(*least);
        *entry = (*entry).max(*least);
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

/// Whether a pod is in a scope.
pub fn in_scope(scope: &Scope, pod: &Value) -> bool {
    let spec = &pod["spec"];
    match scope.name.as_str() {
        "Terminating" => spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0),
        "NotTerminating" => spec["activeDeadlineSeconds"].as_i64().is_none_or(|s| s < 0),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = spec["priorityClassName"].as_str().filter(|c| !c.is_empty());
            scope.selects(class.as_slice())
        }
        "CrossNamespacePodAffinity" => looks_across_namespaces(pod),
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    if let Some(class) = pod["status"]["qosClass"].as_str().filter(|c| !c.is_empty()) {
        return class == "BestEffort";
    }
    let asks = |resources: &Value| {
        ["requests", "limits"].iter().any(|field| {
            let given = amounts(&resources[field]);
            ["cpu", "memory"].iter().any(|name| given.get(*name).is_some_and(|a| *a > Quantity::ZERO))
        })
    };
    !asks(&pod["spec"]["resources"]) && !containers(pod).any(|c| asks(&c["resources"]))
}

fn looks_across_namespaces(pod: &Value) -> bool {
    let across = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|n| !n.is_empty()) || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &pod["spec"]["affinity"][kind];
        let list = |field: &str| affinity[field].as_array().map_or(&[][..], Vec::as_slice);
        list("requiredDuringSchedulingIgnoredDuringExecution").iter().any(across)
            || list("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|t| across(&t["podAffinityTerm"]))
    })
}

/// `cpu for: a,b; memory for: a`: the containers that do not state what is limited.
pub fn unspecified(limited: &BTreeSet<&str>, pod: &Value) -> Option<String> {
    // A pod that states its resources as a whole has stated them for its containers.
    let whole = &pod["spec"]["resources"];
    if ["requests", "limits"].iter().any(|field| whole[field].as_object().is_some_and(|m| !m.is_empty())) {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in containers(pod) {
        let resources = &container["resources"];
        let stated = charged(&amounts(&resources["requests"]), &amounts(&resources["limits"]));
        for name in STATED.iter().filter(|name| limited.contains(**name) && !stated.contains_key(**name)) {
            missing.entry(name).or_default().insert(container["name"].as_str().unwrap_or_default());
        }
    }
    let parts = missing.into_iter().map(|(resource, containers)| {
        let containers: Vec<&str> = containers.into_iter().collect();
        format!("{resource} for: {}", containers.join(","))
    });
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::super::{Evaluator, list};
    use super::*;
    use serde_json::json;

    fn container(name: &str, requests: Value, limits: Value) -> Value {
        json!({"name": name, "resources": {"requests": requests, "limits": limits}})
    }

    fn cost(pod: &Value) -> Value {
        list(&Evaluator::Pods.usage(pod, Timestamp::now()))
    }

    #[test]
    fn requests_and_limits_are_summed_under_all_their_names() {
        let pod = json!({"spec": {"containers": [
            container("a", json!({"cpu": "100m", "memory": "1Gi", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"}),
                json!({"cpu": "1", "example.com/gpu": "2"})),
            container("b", json!({"cpu": "200m", "ephemeral-storage": "1Gi"}), json!({})),
        ]}});
        assert_eq!(
            cost(&pod),
            json!({"count/pods": "1", "pods": "1", "cpu": "300m", "requests.cpu": "300m", "limits.cpu": "1",
                "memory": "1Gi", "requests.memory": "1Gi", "requests.example.com/gpu": "2", "hugepages-2Mi": "4Mi",
                "requests.hugepages-2Mi": "4Mi", "ephemeral-storage": "1Gi", "requests.ephemeral-storage": "1Gi"})
        );
    }

    #[test]
    fn init_containers_sidecars_and_overhead() {
        let cpu = |name: &str, cpu: &str| container(name, json!({"cpu": cpu}), json!({}));
        let sidecar = |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        for (init, main, extra, expected) in [
            (json!([cpu("i", "3"), cpu("j", "2")]), "1", json!({}), "3"),
            (json!([cpu("i", "1")]), "2", json!({}), "2"),
            (json!([sidecar("1"), cpu("i", "3")]), "1", json!({}), "4"),
            (json!([cpu("i", "3"), sidecar("1")]), "1", json!({}), "3"),
            (json!([]), "1", json!({"overhead": {"cpu": "500m"}}), "1500m"),
            (json!([]), "1", json!({"resources": {"requests": {"cpu": "5"}}}), "5"),
        ] {
            let mut pod = json!({"spec": {"initContainers": init, "containers": [cpu("c", main)]}});
            for (key, value) in extra.as_object().unwrap() {
                pod["spec"][key] = value.clone();
            }
            assert_eq!(requests_of(&pod, "requests")["cpu"].to_string(), expected, "{pod}");
        }
    }

    #[test]
    fn a_pod_being_resized_holds_the_larger_amount() {
        let pod = json!({"spec": {"containers": [container("c", json!({"cpu": "1"}), json!({}))]},
            "status": {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}});
        assert_eq!(requests_of(&pod, "requests")["cpu"].to_string(), "2");
    }

    #[test]
    fn ended_and_lost_pods_are_only_counted() {
        let only = json!({"count/pods": "1"});
        assert_eq!(cost(&json!({"status": {"phase": "Failed"}})), only);
        let deleted =
            |time: &str| json!({"metadata": {"deletionTimestamp": time, "deletionGracePeriodSeconds": 30}});
        assert_eq!(cost(&deleted("2020-01-01T00:00:00Z")), only);
        assert_eq!(cost(&deleted("2999-01-01T00:00:00Z")), json!({"count/pods": "1", "pods": "1"}));
        assert_eq!(stops_counting(&deleted("2020-01-01T00:00:00Z")), "2020-01-01T00:00:30Z".parse().ok());
    }

    #[test]
    fn scopes_of_pods() {
        let plain = json!({"spec": {"containers": [{"name": "c"}]}});
        let asking = json!({"spec": {"containers": [container("c", json!({"cpu": "1"}), json!({}))],
            "activeDeadlineSeconds": 5, "priorityClassName": "high", "affinity": {"podAntiAffinity":
            {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaceSelector": {}}}]}}}});
        let scope = |name: &str| Scope { name: name.into(), operator: "Exists".into(), values: vec![] };
        for (name, plainly, askingly) in [
            ("BestEffort", true, false),
            ("NotBestEffort", false, true),
            ("Terminating", false, true),
            ("NotTerminating", true, false),
            ("PriorityClass", false, true),
            ("CrossNamespacePodAffinity", false, true),
            ("VolumeAttributesClass", false, false),
        ] {
            let scope = scope(name);
            assert_eq!((in_scope(&scope, &plain), in_scope(&scope, &asking)), (plainly, askingly), "{name}");
        }
        let named =
            Scope { name: "PriorityClass".into(), operator: "NotIn".into(), values: vec!["high".into()] };
        assert!(in_scope(&named, &plain) && !in_scope(&named, &asking));
    }

    #[test]
    fn what_is_limited_must_be_stated() {
        let limited = BTreeSet::from(["requests.cpu", "memory", "pods", "requests.ephemeral-storage"]);
        let pod =
            json!({"spec": {"containers": [container("b", json!({"cpu": "1"}), json!({})), {"name": "a"}]}});
        assert_eq!(unspecified(&limited, &pod).as_deref(), Some("memory for: a,b; requests.cpu for: a"));
        let whole = json!({"spec": {"resources": {"requests": {"cpu": "1"}}, "containers": [{"name": "a"}]}});
        assert_eq!(unspecified(&limited, &whole), None);
    }
}
