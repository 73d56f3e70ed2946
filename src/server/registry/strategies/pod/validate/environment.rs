//! Environment variables: `validateEnv`, `ValidateEnvFrom`.

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, text};

const SOURCES: [&str; 4] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"];
/// Fields of a pod that a variable may show, sorted.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub fn validate(container: &Value, path: &Path, errors: &mut Errors) {
    for (variable, path) in indexed(&container["env"], &path.child("env")) {
        errors.named(&path.child("name"), &variable["name"], names::env_var_name);
        if !variable["valueFrom"].is_null() {
            source(variable, &path.child("valueFrom"), errors);
        }
    }
    for (from, path) in indexed(&container["envFrom"], &path.child("envFrom")) {
        errors.optionally_named(&path.child("prefix"), &from["prefix"], names::env_var_name);
        let given: Vec<&str> =
            ["configMapRef", "secretRef"].into_iter().filter(|s| !from[*s].is_null()).collect();
        match given.as_slice() {
            [] => {
                let detail = "must specify one of: `configMapRef` or `secretRef`";
                errors.push(FieldError::invalid(&path, "", detail));
            }
            [one] => {
                errors.required(&path.child(one).child("name"), &from[*one]["name"]);
            }
            _ => errors.push(FieldError::invalid(
                &path,
                "",
                "may not have more than one field specified at a time",
            )),
        }
    }
}

fn source(variable: &Value, path: &Path, errors: &mut Errors) {
    let from = &variable["valueFrom"];
    let given: Vec<&str> = SOURCES.into_iter().filter(|s| !from[*s].is_null()).collect();
    for one in &given {
        let (value, at) = (&from[*one], path.child(one));
        match *one {
            "fieldRef" => field(value, &at, &FIELDS, errors),
            "resourceFieldRef" => resource(value, &at, errors),
            _ => {
                errors.required(&at.child("name"), &value["name"]);
                errors.named(&at.child("key"), &value["key"], names::config_map_key);
            }
        }
    }
    match given.len() {
        0 => {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            if from["fileKeyRef"].is_null() {
                errors.push(FieldError::invalid(path, "", detail));
            }
        }
        _ if !is_empty(&variable["value"]) => {
            errors.push(FieldError::invalid(path, "", "may not be specified when `value` is not empty"));
        }
        1 => {}
        _ => {
            errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time"))
        }
    }
}

/// A reference to a field of the pod, one of `known` or a label or annotation.
pub fn field(reference: &Value, path: &Path, known: &[&str], errors: &mut Errors) {
    if !errors.required(&path.child("apiVersion"), &reference["apiVersion"]) {
        return;
    }
    let at = path.child("fieldPath");
    if !errors.required(&at, &reference["fieldPath"]) {
        return;
    }
    let wanted = text(&reference["fieldPath"]);
    let subscript =
        |of: &str| wanted.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']").map(str::to_owned);
    if let Some(key) = subscript("metadata.labels").or_else(|| subscript("metadata.annotations")) {
        errors.invalid_all(&path.child("fieldPath"), &key.as_str().into(), names::qualified_name(&key));
    } else if !known.contains(&wanted) {
        errors.push(FieldError::not_supported(&at, wanted, known));
    }
}

/// A reference to a request or limit of a container.
pub fn resource(reference: &Value, path: &Path, errors: &mut Errors) {
    let wanted = text(&reference["resource"]);
    let at = path.child("resource");
    if errors.required(&at, &reference["resource"])
        && !RESOURCES.contains(&wanted)
        && !wanted.starts_with("limits.hugepages-")
        && !wanted.starts_with("requests.hugepages-")
    {
        errors.push(FieldError::not_supported(&at, wanted, &RESOURCES));
    }
}
