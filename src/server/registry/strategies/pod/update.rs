//! What of a pod may change once it is made: `ValidatePodUpdate`.

use serde_json::{Value, json};

use super::validate;
pub use super::validate::MIRROR;
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, entries, indexed, items, same, text};
use crate::server::registry::strategy::defaults;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// What is wrong with a change of a pod.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(validate::pod(new));
    annotations(new, old, &mut errors);
    let (spec, before, path) = (&new["spec"], &old["spec"], Path::new("spec"));
    for list in ["containers", "initContainers"] {
        if items(&spec[list]).len() != items(&before[list]).len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&path.child(list), detail));
            return errors.0;
        }
    }
    if !deadline(spec, before, &path, &mut errors) {
        return errors.0;
    }
    tolerations(spec, before, &path, &mut errors);
    gates(spec, before, &path, &mut errors);
    let mut allowed = with_updatable_of(spec, before);
    if !items(&before["schedulingGates"]).is_empty() {
        // What steers scheduling may be narrowed before it begins.
        narrowed(&mut allowed, before, &path, &mut errors);
    }
    let mut changed = Vec::new();
    differences(&allowed, before, "spec", &mut changed);
    if !changed.is_empty() {
        let detail =
            format!("pod updates may not change fields other than {UPDATABLE}\n{}", changed.join("\n"));
        errors.push(FieldError::forbidden(&path, detail));
    }
    errors.0
}

fn annotations(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("metadata").child("annotations");
    let (now, was) = (&new["metadata"]["annotations"], &old["metadata"]["annotations"]);
    validate::annotation_changes(now, was, &at, errors);
}

/// The new spec with the old one's values of what may change.
fn with_updatable_of(spec: &Value, before: &Value) -> Value {
    let mut allowed = spec.clone();
    for list in ["containers", "initContainers"] {
        for (index, was) in items(&before[list]).iter().enumerate() {
            defaults::keep(&mut allowed[list][index], was, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        defaults::keep(&mut allowed, before, field);
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if grace(before).is_some_and(|g| g < 0) && grace(spec) == Some(1) {
        defaults::keep(&mut allowed, before, "terminationGracePeriodSeconds");
    }
    allowed
}

/// Answers whether the rest is worth a look.
fn deadline(new: &Value, old: &Value, path: &Path, errors: &mut Errors) -> bool {
    let path = path.child("activeDeadlineSeconds");
    match (new["activeDeadlineSeconds"].as_i64(), old["activeDeadlineSeconds"].as_i64()) {
        (Some(now), Some(was)) if now > was => {
            let detail = "must be less than or equal to previous value";
            errors.push(FieldError::invalid(&path, now, detail));
            return false;
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, Value::Null, detail));
        }
        _ => {}
    }
    true
}

fn tolerations(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
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

fn gates(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let was = items(&old["schedulingGates"]);
    for (gate, path) in indexed(&new["schedulingGates"], &path.child("schedulingGates")) {
        if !was.iter().any(|w| w["name"] == gate["name"]) {
            let name = text(&gate["name"]);
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(&path.child("name"), detail));
        }
    }
}

/// Node selector and node affinity of a gated pod gain requirements and lose none.
fn narrowed(allowed: &mut Value, before: &Value, path: &Path, errors: &mut Errors) {
    let selector = &allowed["nodeSelector"];
    if entries(&before["nodeSelector"]).any(|(key, value)| selector.get(key) != Some(value)) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(&path.child("nodeSelector"), selector.clone(), detail));
    }
    defaults::keep(allowed, before, "nodeSelector");
    let terms = |spec: &Value| spec["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"].clone();
    let (now, was) = (terms(allowed), terms(before));
    let at = path.child("affinity").child("nodeAffinity").child(REQUIRED).child("nodeSelectorTerms");
    if !items(&was).is_empty() && items(&was).len() != items(&now).len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&at, now, detail));
    } else {
        for ((now, at), was) in indexed(&now, &at).zip(items(&was)) {
            if !only_adds(now, was) {
                let detail = "only additions are allowed (no mutations or deletions)";
                errors.push(FieldError::invalid(&at, now.clone(), detail));
            }
        }
    }
    let affinity = before["affinity"]["nodeAffinity"].clone();
    match (affinity.is_null(), allowed["affinity"].is_null()) {
        (true, true) => {}
        (true, false) => {
            if let Some(map) = allowed["affinity"].as_object_mut() {
                map.remove("nodeAffinity");
            }
        }
        (false, _) => allowed["affinity"]["nodeAffinity"] = affinity,
    }
}

fn only_adds(new: &Value, old: &Value) -> bool {
    let fields = ["matchExpressions", "matchFields"];
    if fields.iter().all(|f| items(&old[f]).is_empty()) {
        return fields.iter().all(|f| items(&new[f]).is_empty());
    }
    fields.iter().all(|f| items(&new[f]).starts_with(items(&old[f])))
}

/// The fields that differ, one line each.
fn differences(new: &Value, old: &Value, path: &str, into: &mut Vec<String>) {
    if same(new, old) {
        return;
    }
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
            keys.sort();
            for key in keys {
                differences(&new[key.as_str()], &old[key.as_str()], &format!("{path}.{key}"), into);
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

/// The generation counts changes of the spec.
pub fn raise_generation(new: &mut Value, old: &Value) {
    if new["spec"] != old["spec"] {
        new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
    }
}

/// An update of `ephemeralcontainers` changes nothing else.
pub fn keep_all_but_ephemeral_containers(new: &mut Value, old: &Value) {
    let wanted = new["spec"].clone();
    defaults::keep_metadata(new, old);
    defaults::keep(new, old, "spec");
    defaults::keep(new, old, "status");
    defaults::keep(&mut new["spec"], &wanted, "ephemeralContainers");
    raise_generation(new, old);
}

/// Containers that debug a pod are added, and stay as they are.
pub fn validate_ephemeral_containers(new: &Value, old: &Value) -> Vec<FieldError> {
    if old["metadata"]["annotations"].get(MIRROR).is_some() {
        let detail = "static pods do not support ephemeral containers";
        return vec![FieldError::forbidden(&Path::default(), detail)];
    }
    let mut errors = Errors(validate::pod(new));
    annotations(new, old, &mut errors);
    let path = Path::new("spec").child("ephemeralContainers");
    let now = items(&new["spec"]["ephemeralContainers"]);
    for was in items(&old["spec"]["ephemeralContainers"]) {
        let name = text(&was["name"]);
        match now.iter().find(|c| c["name"] == was["name"]) {
            None => {
                let detail = format!("existing ephemeral containers \"{name}\" may not be removed\n");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some(found) => {
                let mut changed = Vec::new();
                differences(found, was, name, &mut changed);
                if !changed.is_empty() {
                    let changed = changed.join("\n");
                    let detail =
                        format!("existing ephemeral containers \"{name}\" may not be changed\n{changed}");
                    errors.push(FieldError::forbidden(&path, detail));
                }
            }
        }
    }
    errors.0
}
