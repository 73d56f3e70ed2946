//! What of a pod may change once it is made: `ValidatePodUpdate`.

use serde_json::{Value, json};

use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{items, same};
use crate::server::registry::strategy::defaults;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What is wrong with a change of a pod's spec.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    for list in ["containers", "initContainers"] {
        if items(&new[list]).len() != items(&old[list]).len() {
            return vec![FieldError::forbidden(
                &path.child(list),
                "pod updates may not add or remove containers",
            )];
        }
    }
    deadline(new, old, &path, &mut errors);
    tolerations(new, old, &path, &mut errors);
    gates(new, old, &path, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    let mut allowed = new.clone();
    for list in ["containers", "initContainers"] {
        for (index, was) in items(&old[list]).iter().enumerate() {
            allowed[list][index]["image"] = was["image"].clone();
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        defaults::keep(&mut allowed, old, field);
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if grace(old).is_some_and(|g| g < 0) && grace(new) == Some(1) {
        defaults::keep(&mut allowed, old, "terminationGracePeriodSeconds");
    }
    if !items(&old["schedulingGates"]).is_empty() {
        // What steers scheduling may be narrowed before it begins.
        for field in ["nodeSelector", "affinity"] {
            defaults::keep(&mut allowed, old, field);
        }
    }
    let mut changed = Vec::new();
    differences(&allowed, old, "spec", &mut changed);
    if !changed.is_empty() {
        let detail =
            format!("pod updates may not change fields other than {UPDATABLE}\n{}", changed.join("\n"));
        errors.push(FieldError::forbidden(&path, detail));
    }
    errors
}

fn deadline(new: &Value, old: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let path = path.child("activeDeadlineSeconds");
    match (new["activeDeadlineSeconds"].as_i64(), old["activeDeadlineSeconds"].as_i64()) {
        (Some(now), Some(was)) if now > was => {
            errors.push(FieldError::invalid(&path, now, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, Value::Null, detail));
        }
        _ => {}
    }
}

fn tolerations(new: &Value, old: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let without_seconds = |toleration: &Value| {
        let mut copy = toleration.clone();
        if let Some(map) = copy.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        copy
    };
    let kept: Vec<Value> = items(&new["tolerations"]).iter().map(without_seconds).collect();
    if !items(&old["tolerations"]).iter().all(|was| kept.contains(&without_seconds(was))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&path.child("tolerations"), detail));
    }
}

fn gates(new: &Value, old: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let was = items(&old["schedulingGates"]);
    for gate in items(&new["schedulingGates"]).iter().filter(|g| !was.contains(g)) {
        let detail = format!(
            "only deletion is allowed, but found new scheduling gate '{}'",
            gate["name"].as_str().unwrap_or_default()
        );
        errors.push(FieldError::forbidden(&path.child("schedulingGates"), detail));
    }
}

/// The fields that differ, one line each.
fn differences(new: &Value, old: &Value, path: &str, into: &mut Vec<String>) {
    if same(new, old) {
        return;
    }
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let get = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&get(a), &get(b), &format!("{path}.{key}"), into);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{i}]"), into);
            }
        }
        _ => into.push(format!("  {path}: {old} -> {new}")),
    }
}

/// An update of `ephemeralcontainers` changes nothing else.
pub fn keep_all_but_ephemeral_containers(new: &mut Value, old: &Value) {
    let containers = new["spec"].get("ephemeralContainers").cloned();
    let version = new["metadata"].get("resourceVersion").cloned();
    *new = old.clone();
    if let Some(containers) = containers {
        new["spec"]["ephemeralContainers"] = containers;
        new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(1) + 1);
    }
    if let Some(version) = version {
        new["metadata"]["resourceVersion"] = version;
    }
}

/// Containers that debug a pod are added, and stay as they are.
pub fn validate_ephemeral_containers(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("ephemeralContainers");
    let now = items(&new["ephemeralContainers"]);
    let mut errors = Vec::new();
    for was in items(&old["ephemeralContainers"]) {
        let name = was["name"].as_str().unwrap_or_default();
        match now.iter().position(|c| c["name"] == was["name"]) {
            None => {
                let detail = format!("existing ephemeral containers \"{name}\" may not be removed\n");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some(at) if now[at] != *was => {
                let detail = format!("existing ephemeral containers \"{name}\" may not be changed\n");
                errors.push(FieldError::forbidden(&path.index(at), detail));
            }
            Some(_) => {}
        }
    }
    errors
}

/// An update of `resize` changes resources only.
pub fn keep_all_but_resources(new: &mut Value, old: &Value) {
    let wanted = new["spec"].clone();
    let version = new["metadata"].get("resourceVersion").cloned();
    *new = old.clone();
    for list in ["containers", "initContainers"] {
        for container in new["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let found = items(&wanted[list]).iter().find(|c| c["name"] == container["name"]);
            if let Some(found) = found {
                defaults::keep(container, found, "resources");
                defaults::keep(container, found, "resizePolicy");
            }
        }
    }
    if new["spec"] != old["spec"] {
        new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(1) + 1);
    }
    if let Some(version) = version {
        new["metadata"]["resourceVersion"] = version;
    }
}
