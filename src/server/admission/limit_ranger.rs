//! LimitRanger: requests and limits of pods, containers and claims are filled in and kept within a
//! namespace's LimitRanges: <https://kubernetes.io/docs/concepts/policy/limit-range/>.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Attributes, Operation, Plugin};
use crate::api::{MetaMut, Quantity, Status};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plugin.
pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.operation != Operation::Create || !attributes.is("pods") {
            return Ok(());
        }
        let limits = limits(attributes);
        if let Some(pod) = attributes.object.as_deref_mut().filter(|_| !limits.is_empty()) {
            fill_in(pod, &limits);
        }
        Ok(())
    }

    fn validate(&self, attributes: &Attributes<'_>, _: &mut Vec<String>) -> Result<(), Status> {
        let claim = attributes.is("persistentvolumeclaims");
        let created = attributes.operation == Operation::Create;
        if !(created && (claim || attributes.is("pods"))
            || claim && attributes.operation == Operation::Update)
        {
            return Ok(());
        }
        let Some(object) = attributes.object.as_deref() else { return Ok(()) };
        let mut errors = Vec::new();
        for limit in limits(attributes) {
            match limit["type"].as_str() {
                Some("Container") if !claim => {
                    for container in containers(object) {
                        let resources = &container["resources"];
                        check(
                            &limit,
                            "Container",
                            &amounts(&resources["requests"]),
                            &amounts(&resources["limits"]),
                            &mut errors,
                        );
                    }
                }
                Some("Pod") if !claim => {
                    check(&limit, "Pod", &sum(object, "requests"), &sum(object, "limits"), &mut errors);
                }
                Some("PersistentVolumeClaim") if claim => {
                    let requests = amounts(&object["spec"]["resources"]["requests"]);
                    check(&limit, "PersistentVolumeClaim", &requests, &Amounts::new(), &mut errors);
                }
                _ => {}
            }
        }
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(attributes.forbidden(one)),
            many => Err(attributes.forbidden(format!("[{}]", many.join(", ")))),
        }
    }
}

type Amounts = BTreeMap<String, Quantity>;

/// All limits of the namespace.
fn limits(attributes: &Attributes<'_>) -> Vec<Value> {
    let ranges = attributes.reader.list("limitranges", attributes.namespace);
    ranges
        .iter()
        .flat_map(|range| range.value()["spec"]["limits"].as_array().cloned().unwrap_or_default())
        .collect()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

fn amounts(list: &Value) -> Amounts {
    let parse = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.parse().ok()?));
    list.as_object().into_iter().flatten().filter_map(parse).collect()
}

/// What a pod asks for: the sum of its containers, or more if one init container alone asks for more.
fn sum(pod: &Value, field: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
        for (name, amount) in amounts(&container["resources"][field]) {
            let entry = total.entry(name).or_insert(Quantity::ZERO);
            *entry = if entry.is_zero() { amount } else { entry.plus(amount) };
        }
    }
    for container in pod["spec"]["initContainers"].as_array().into_iter().flatten() {
        for (name, amount) in amounts(&container["resources"][field]) {
            let entry = total.entry(name).or_insert(amount);
            *entry = (*entry).max(amount);
        }
    }
    total
}

/// Gives containers the default limits and requests, and says so in an annotation.
fn fill_in(pod: &mut Value, limits: &[Value]) {
    let (mut default_requests, mut default_limits) = (Map::new(), Map::new());
    for limit in limits.iter().filter(|l| l["type"] == "Container") {
        for (from, into) in [("defaultRequest", &mut default_requests), ("default", &mut default_limits)] {
            let given = limit[from].as_object().into_iter().flatten();
            into.extend(given.map(|(k, v)| (k.clone(), v.clone())));
        }
    }
    let mut told = Vec::new();
    for (list, kind) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, defaults, word) in
                [("requests", &default_requests, "request"), ("limits", &default_limits, "limit")]
            {
                let added = merge(container, field, defaults);
                if !added.is_empty() {
                    told.push(format!("{} {word} for {kind} {name}", added.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        MetaMut::of(pod).set_annotation(ANNOTATION, &text);
    }
}

/// Adds what is missing, and answers its names in order.
fn merge(container: &mut Value, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let missing: BTreeSet<&String> =
        defaults.keys().filter(|name| container["resources"][field].get(name.as_str()).is_none()).collect();
    for name in &missing {
        container["resources"][field][name.as_str()] = defaults[name.as_str()].clone();
    }
    missing.into_iter().cloned().collect()
}

fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (name, min) in amounts(&limit["min"]) {
        match (requests.get(&name), limits.get(&name)) {
            (None, None) | (None, Some(_)) => {
                errors.push(format!("minimum {name} usage per {kind} is {min}.  No request is specified"));
            }
            (Some(request), _) if *request < min => {
                errors.push(format!("minimum {name} usage per {kind} is {min}, but request is {request}"));
            }
            (_, Some(limit)) if *limit < min => {
                errors.push(format!("minimum {name} usage per {kind} is {min}, but limit is {limit}"));
            }
            _ => {}
        }
    }
    for (name, max) in amounts(&limit["max"]) {
        let claim = kind == "PersistentVolumeClaim";
        match (requests.get(&name), limits.get(&name)) {
            (Some(request), _) if *request > max && (claim || !limits.contains_key(&name)) => {
                errors.push(format!("maximum {name} usage per {kind} is {max}, but request is {request}"));
            }
            (_, None) if !claim => {
                errors.push(format!("maximum {name} usage per {kind} is {max}.  No limit is specified"))
            }
            (_, Some(limit)) if *limit > max => {
                errors.push(format!("maximum {name} usage per {kind} is {max}, but limit is {limit}"));
            }
            _ => {}
        }
    }
    for (name, ratio) in amounts(&limit["maxLimitRequestRatio"]) {
        let (Some(request), Some(limit)) = (requests.get(&name), limits.get(&name)) else {
            errors.push(format!("{name} max limit to request ratio per {kind} is {ratio}, but no request or limit is specified"));
            continue;
        };
        let observed = limit.to_millis() as f64 / request.to_millis().max(1) as f64;
        if observed > ratio.to_millis() as f64 / 1000.0 {
            errors.push(format!(
                "{name} max limit to request ratio per {kind} is {ratio}, but provided ratio is {observed:.6}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;
    use serde_json::json;

    fn admit(limit: Value, resources: Value) -> Result<Value, String> {
        let fake = Fake::default();
        fake.put(
            "limitranges",
            json!({"metadata": {"name": "l", "namespace": "a"}, "spec": {"limits": [limit]}}),
        );
        let pod = json!({"metadata": {"name": "p", "namespace": "a"},
            "spec": {"containers": [{"name": "c", "resources": resources}]}});
        Request::create("Pod", "pods").admit(&LimitRanger, &fake, pod).map_err(|status| status.message)
    }

    #[test]
    fn defaults_fill_in_what_is_missing() {
        let limit = json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m", "memory": "1Gi"}});
        let pod = admit(limit, json!({"requests": {"cpu": "100m"}})).unwrap();
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: memory request for container c; cpu limit for container c"
        );
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let limit = json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"memory": "1Gi"}});
        assert_eq!(
            admit(limit.clone(), json!({"requests": {"cpu": "50m"}, "limits": {"memory": "2Gi"}}))
                .unwrap_err(),
            "pods \"p\" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, \
             maximum memory usage per Container is 1Gi, but limit is 2Gi]"
        );
        assert!(admit(limit.clone(), json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}})).is_ok());
        let none = admit(limit, json!({})).unwrap_err();
        assert!(none.contains("minimum cpu usage per Container is 100m.  No request is specified"), "{none}");
        let pod = json!({"type": "Pod", "max": {"cpu": "2"}});
        assert!(
            admit(pod, json!({"limits": {"cpu": "3"}}))
                .unwrap_err()
                .contains("maximum cpu usage per Pod is 2, but limit is 3")
        );
        let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
        let over = admit(ratio, json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}})).unwrap_err();
        assert!(over.contains("provided ratio is 3.000000"), "{over}");
    }
}
