//! LimitRanger: requests and limits of pods, containers and claims are filled in and kept within a
//! namespace's LimitRanges: <https://kubernetes.io/docs/concepts/policy/limit-range/>.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Attributes, Operation, Plugin};
use crate::api::quota::{Amounts, amounts, requests_of};
use crate::api::{Meta, MetaMut, Quantity, Status};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plugin.
pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !concerns_pods(attributes) {
            return Ok(());
        }
        let ranges = ranges(attributes);
        if let Some(pod) = attributes.object.as_deref_mut() {
            ranges.iter().for_each(|range| fill_in(pod, range));
        }
        Ok(())
    }

    fn validate(&self, attributes: &Attributes<'_>, _: &mut Vec<String>) -> Result<(), Status> {
        let claim = attributes.is("persistentvolumeclaims")
            && matches!(attributes.operation, Operation::Create | Operation::Update)
            && !is_going(attributes);
        let Some(object) = attributes.object.as_deref() else { return Ok(()) };
        if !claim && !concerns_pods(attributes) {
            return Ok(());
        }
        let old = attributes.old.unwrap_or(&Value::Null);
        for range in ranges(attributes) {
            let mut errors = Vec::new();
            for limit in range["spec"]["limits"].as_array().into_iter().flatten() {
                match limit["type"].as_str() {
                    Some("Container") if !claim => of_containers(limit, object, old, &mut errors),
                    Some("Pod") if !claim => {
                        Asked::by_pod(object).check(limit, "Pod", &Asked::by_pod(old), &mut errors);
                    }
                    Some("PersistentVolumeClaim") if claim => of_claim(limit, object, old, &mut errors),
                    _ => {}
                }
            }
            match errors.as_slice() {
                [] => {}
                [one] => return Err(attributes.forbidden(one)),
                many => return Err(attributes.forbidden(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

/// A pod is made, or its resources are changed in place.
fn concerns_pods(attributes: &Attributes<'_>) -> bool {
    if attributes.resource.stored_name() != "pods" || is_going(attributes) {
        return false;
    }
    match attributes.subresource {
        None => attributes.operation == Operation::Create,
        Some(sub) => sub == "resize" && attributes.operation == Operation::Update,
    }
}

fn is_going(attributes: &Attributes<'_>) -> bool {
    attributes.old.is_some_and(|old| Meta::of(old).deletion_timestamp().is_some())
}

/// The limit ranges of the namespace.
fn ranges(attributes: &Attributes<'_>) -> Vec<Value> {
    attributes.reader.list("limitranges", attributes.namespace).iter().map(|range| range.value()).collect()
}

fn of_containers(limit: &Value, pod: &Value, old: &Value, errors: &mut Vec<String>) {
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let same = |other: &&Value| other["name"] == container["name"];
            let before = old["spec"][list].as_array().into_iter().flatten().find(same);
            let before = Asked::by_container(before.unwrap_or(&Value::Null));
            Asked::by_container(container).check(limit, "Container", &before, errors);
        }
    }
}

/// A claim only asks; its limits mean nothing.
fn of_claim(limit: &Value, claim: &Value, old: &Value, errors: &mut Vec<String>) {
    const KIND: &str = "PersistentVolumeClaim";
    let asked = |claim: &Value| amounts(&claim["spec"]["resources"]["requests"]);
    let asked = Asked { requests: asked(claim), limits: Amounts::new(), before: asked(old) };
    let changed =
        |name: &&String| asked.requests.get(*name).is_none_or(|now| asked.before.get(*name) != Some(now));
    for (name, min) in amounts(&limit["min"]).iter().filter(|(name, _)| changed(name)) {
        errors.extend(asked.below(KIND, name, *min));
    }
    for (name, max) in amounts(&limit["max"]).iter().filter(|(name, _)| changed(name)) {
        errors.extend(match asked.requests.get(name) {
            None => Some(format!("maximum {name} usage per {KIND} is {max}.  No request is specified")),
            Some(request) if request > max => {
                Some(format!("maximum {name} usage per {KIND} is {max}, but request is {request}"))
            }
            Some(_) => None,
        });
    }
}

/// What something asks for.
struct Asked {
    requests: Amounts,
    limits: Amounts,
    /// What a claim asked for before.
    before: Amounts,
}

impl Asked {
    fn by_container(container: &Value) -> Self {
        let of = |field: &str| amounts(&container["resources"][field]);
        Self { requests: of("requests"), limits: of("limits"), before: Amounts::new() }
    }

    /// Of the whole pod, as its spec says it, without overhead.
    fn by_pod(pod: &Value) -> Self {
        let mut spec = pod["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("overhead");
        }
        let bare = json!({"spec": spec});
        let of = |field: &str| requests_of(&bare, field);
        Self { requests: of("requests"), limits: of("limits"), before: Amounts::new() }
    }

    /// Checks what differs from before.
    fn check(&self, limit: &Value, kind: &str, before: &Self, errors: &mut Vec<String>) {
        let changed = |name: &&String| {
            let same = |now: &Amounts, old: &Amounts| now.get(*name) == old.get(*name);
            let untouched = before.requests.contains_key(*name) || before.limits.contains_key(*name);
            !(untouched && same(&self.requests, &before.requests) && same(&self.limits, &before.limits))
        };
        for (name, min) in amounts(&limit["min"]).iter().filter(|(name, _)| changed(name)) {
            errors.extend(self.below(kind, name, *min));
        }
        for (name, max) in amounts(&limit["max"]).iter().filter(|(name, _)| changed(name)) {
            errors.extend(self.above(kind, name, *max));
        }
        for (name, ratio) in amounts(&limit["maxLimitRequestRatio"]).iter().filter(|(name, _)| changed(name))
        {
            errors.extend(self.too_far_apart(kind, name, *ratio));
        }
    }

    fn below(&self, kind: &str, name: &str, min: Quantity) -> Option<String> {
        let text = format!("minimum {name} usage per {kind} is {min}");
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{text}.  No request is specified")),
            (Some(request), _) if *request < min => Some(format!("{text}, but request is {request}")),
            (_, Some(limit)) if *limit < min => Some(format!("{text}, but limit is {limit}")),
            _ => None,
        }
    }

    fn above(&self, kind: &str, name: &str, max: Quantity) -> Option<String> {
        let text = format!("maximum {name} usage per {kind} is {max}");
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{text}.  No limit is specified")),
            (_, Some(limit)) if *limit > max => Some(format!("{text}, but limit is {limit}")),
            (Some(request), _) if *request > max => Some(format!("{text}, but request is {request}")),
            _ => None,
        }
    }

    fn too_far_apart(&self, kind: &str, name: &str, ratio: Quantity) -> Option<String> {
        let text = format!("{name} max limit to request ratio per {kind} is {ratio}");
        let given = |from: &Amounts| from.get(name).copied().filter(|a| !a.is_zero());
        let Some(request) = given(&self.requests) else {
            return Some(format!("{text}, but no request is specified or request is 0"));
        };
        let Some(limit) = given(&self.limits) else {
            return Some(format!("{text}, but no limit is specified or limit is 0"));
        };
        let provided = limit.to_millis() as f64 / request.to_millis() as f64;
        let most = ratio.to_millis() as f64 / 1000.0;
        (provided > most).then(|| format!("{text}, but provided ratio is {provided:.6}"))
    }
}

/// Gives containers the default limits and requests of a range, and says so in an annotation.
fn fill_in(pod: &mut Value, range: &Value) {
    let (mut default_requests, mut default_limits) = (Map::new(), Map::new());
    let limits = range["spec"]["limits"].as_array().into_iter().flatten();
    for limit in limits.filter(|l| l["type"] == "Container") {
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

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;

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

    fn changed(kind: &str, limit: Value, old: Value, new: Value) -> Result<Value, String> {
        let fake = Fake::default();
        fake.put(
            "limitranges",
            json!({"metadata": {"name": "l", "namespace": "a"}, "spec": {"limits": [limit]}}),
        );
        let plural = if kind == "Pod" { "pods" } else { "persistentvolumeclaims" };
        let subresource = (kind == "Pod").then_some("resize");
        let request = Request {
            operation: Operation::Update,
            subresource,
            old: Some(old),
            resource: crate::server::registry::Resource::new("", "v1", "Kind", plural),
            ..Request::create("Kind", plural)
        };
        request.admit(&LimitRanger, &fake, new).map_err(|status| status.message)
    }

    #[test]
    fn claims_are_kept_within_bounds() {
        let claim = |size: &str| {
            json!({"metadata": {"name": "c", "namespace": "a"},
            "spec": {"resources": {"requests": {"storage": size}}}})
        };
        let limit =
            json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}});
        assert!(changed("PersistentVolumeClaim", limit.clone(), claim("1Gi"), claim("2Gi")).is_ok());
        assert_eq!(
            changed("PersistentVolumeClaim", limit.clone(), claim("1Gi"), claim("3Gi")).unwrap_err(),
            "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, \
             but request is 3Gi"
        );
        // What was too large already may stay.
        assert!(changed("PersistentVolumeClaim", limit, claim("3Gi"), claim("3Gi")).is_ok());
    }

    #[test]
    fn a_resize_is_checked_where_it_changes_something() {
        let pod = |cpu: &str, memory: &str| {
            let amounts = json!({"cpu": cpu, "memory": memory});
            json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": [
                {"name": "c", "resources": {"requests": amounts, "limits": amounts}}]}})
        };
        let limit = json!({"type": "Container", "max": {"cpu": "1", "memory": "1Gi"}});
        assert!(changed("Pod", limit.clone(), pod("500m", "2Gi"), pod("1", "2Gi")).is_ok());
        assert_eq!(
            changed("Pod", limit, pod("500m", "2Gi"), pod("2", "2Gi")).unwrap_err(),
            "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
        );
    }

    #[test]
    fn a_pod_counts_its_init_containers_and_sidecars() {
        let limit = json!({"type": "Pod", "max": {"cpu": "2"}, "maxLimitRequestRatio": {"memory": "2"}});
        let fake = Fake::default();
        fake.put(
            "limitranges",
            json!({"metadata": {"name": "l", "namespace": "a"}, "spec": {"limits": [limit]}}),
        );
        let amounts = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "1Gi"}, "limits": {"cpu": cpu, "memory": "1Gi"}});
        let pod = |init: Value| {
            json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"initContainers": [init],
            "containers": [{"name": "c", "resources": amounts("1")}]}})
        };
        let admit =
            |pod| Request::create("Pod", "pods").admit(&LimitRanger, &fake, pod).map_err(|s| s.message);
        assert!(admit(pod(json!({"name": "i", "resources": amounts("2")}))).is_ok());
        let sidecar = pod(json!({"name": "i", "restartPolicy": "Always", "resources": amounts("1500m")}));
        assert_eq!(
            admit(sidecar).unwrap_err(),
            "pods \"p\" is forbidden: maximum cpu usage per Pod is 2, but limit is 2500m"
        );
        let none = pod(json!({"name": "i"}));
        let mut silent = none;
        silent["spec"]["containers"][0]["resources"] =
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}});
        assert_eq!(
            admit(silent).unwrap_err(),
            "pods \"p\" is forbidden: memory max limit to request ratio per Pod is 2, but no request is specified or \
             request is 0"
        );
    }
}
