//! Environment variables: `ValidateEnv`, `ValidateEnvFrom`, and references to fields of the pod.

use serde_json::Value;

use super::Scope;
use super::volume::non_reserved;
use crate::api::{FieldError, Path, Quantity, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, text};

const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
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
/// Fields of a pod that have a name in the downward API, but no place there.
const KNOWN: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTE_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// `env` and `envFrom` of a container.
pub fn validate(container: &Value, scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    for (variable, path) in indexed(&container["env"], &path.child("env")) {
        errors.named(&path.child("name"), &variable["name"], names::env_var_name);
        if !variable["valueFrom"].is_null() {
            source(variable, scope, &path.child("valueFrom"), errors);
        }
    }
    let list = path.child("envFrom");
    for (from, path) in indexed(&container["envFrom"], &list) {
        errors.optionally_named(&path.child("prefix"), &from["prefix"], names::env_var_name);
        let mut given = 0;
        for one in ["configMapRef", "secretRef"].into_iter().filter(|s| !from[*s].is_null()) {
            given += 1;
            errors.named(&path.child(one).child("name"), &from[one]["name"], names::dns1123_subdomain);
        }
        let detail = match given {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(&list, "", detail));
    }
}

fn source(variable: &Value, scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let from = &variable["valueFrom"];
    let mut given = 0;
    for one in SOURCES.into_iter().filter(|s| !from[*s].is_null()) {
        given += 1;
        let (value, at) = (&from[one], path.child(one));
        match one {
            "fieldRef" => field(value, &at, &FIELDS, errors),
            "resourceFieldRef" => resource(value, &at, false, errors),
            "fileKeyRef" => file_key(value, scope, &at, errors),
            _ => {
                errors.invalid_all(
                    &at.child("name"),
                    &text(&value["name"]).into(),
                    names::dns1123_subdomain(text(&value["name"])),
                );
                errors.named(&at.child("key"), &value["key"], names::config_map_key);
            }
        }
    }
    let detail = match given {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if !is_empty(&variable["value"]) => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path, "", detail));
}

/// A variable in a file that an earlier container left in an empty directory.
fn file_key(reference: &Value, scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    errors.named(&path.child("key"), &reference["key"], names::env_var_name);
    let (volume, at) = (&reference["volumeName"], path.child("volumeName"));
    if errors.required(&at, volume) {
        match scope.volumes.get(text(volume)) {
            None => errors.push(FieldError::not_found(&at, volume.clone())),
            Some(found) if found["emptyDir"].is_null() => {
                let detail = "referenced volume must be of type emptyDir";
                errors.push(FieldError::invalid(&at, volume.clone(), detail));
            }
            Some(_) => {}
        }
    }
    errors.required(&path.child("path"), &reference["path"]);
    non_reserved(&reference["path"], &path.child("path"), errors);
}

/// A reference to a field of the pod, one of `known` or a label or annotation.
pub fn field(reference: &Value, path: &Path, known: &[&str], errors: &mut Errors) {
    let (version, at) = (text(&reference["apiVersion"]), path.child("fieldPath"));
    if !errors.required(&path.child("apiVersion"), &reference["apiVersion"])
        || !errors.required(&at, &reference["fieldPath"])
    {
        return;
    }
    let wanted = text(&reference["fieldPath"]);
    let refuse = |why: String| FieldError::invalid(&at, wanted, format!("error converting fieldPath: {why}"));
    if version != "v1" {
        return errors.push(refuse(format!("unsupported pod version: {version}")));
    }
    match subscripted(wanted) {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.invalid_all(path, &key.as_str().into(), names::qualified_name(&key));
        }
        Some(("metadata.labels", key)) => errors.invalid_all(path, &key.into(), names::qualified_name(key)),
        None if known.contains(&wanted) => {}
        None if FIELDS.contains(&wanted) || KNOWN.contains(&wanted) => {
            errors.push(FieldError::not_supported(&at, wanted, known));
        }
        _ => errors.push(refuse(format!("field label not supported: {wanted}"))),
    }
}

/// `metadata.labels['key']` taken apart.
fn subscripted(field: &str) -> Option<(&str, &str)> {
    field.strip_suffix("']")?.split_once("['")
}

/// A reference to a request or limit of a container, which a file of a volume must name.
pub fn resource(reference: &Value, path: &Path, of_volume: bool, errors: &mut Errors) {
    let (wanted, at) = (text(&reference["resource"]), path.child("resource"));
    let huge = wanted.starts_with("limits.hugepages-") || wanted.starts_with("requests.hugepages-");
    if of_volume && is_empty(&reference["containerName"]) {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    } else if errors.required(&at, &reference["resource"]) && !RESOURCES.contains(&wanted) && !huge {
        errors.push(FieldError::not_supported(&at, wanted, &RESOURCES));
    }
    divisor(wanted, &reference["divisor"], &path.child("divisor"), errors);
}

fn divisor(resource: &str, divisor: &Value, path: &Path, errors: &mut Errors) {
    let Ok(divisor) = text(divisor).parse::<Quantity>() else { return };
    if divisor.is_zero() {
        return;
    }
    let what = match resource.split_once('.') {
        Some((_, "cpu")) => {
            if !["1m", "1"].contains(&divisor.to_string().as_str()) {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.push(FieldError::invalid(path, resource, detail));
            }
            return;
        }
        Some((_, "memory")) => "memory",
        Some((_, "ephemeral-storage")) => "local ephemeral storage",
        Some((_, other)) if other.starts_with("hugepages-") => "hugepages",
        _ => return,
    };
    if !BYTE_DIVISORS.contains(&divisor.to_string().as_str()) {
        let detail = format!(
            "only divisor's values {} are supported with the {what} resource",
            BYTE_DIVISORS.join(", ")
        );
        errors.push(FieldError::invalid(path, resource, detail));
    }
}
