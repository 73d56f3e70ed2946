//! `pkg/apis/authorization/validation`.

use serde_json::{Value, json};

use super::given;
use crate::api::{FieldError, Path};

/// What is wrong with an access review; `other` if it names whom it is about, `local` if it is about one
/// namespace.
pub(super) fn access(review: &Value, other: bool, local: bool) -> Vec<FieldError> {
    let (spec, path) = (&review["spec"], Path::new("spec"));
    let mut errors = Vec::new();
    let (resource, paths) = (given(spec, "resourceAttributes"), given(spec, "nonResourceAttributes"));
    if let (Some(_), Some(paths)) = (resource, paths) {
        let message = "cannot be specified in combination with resourceAttributes";
        errors.push(FieldError::invalid(&path.child("nonResourceAttributes"), paths.clone(), message));
    }
    if resource.is_none() && paths.is_none() {
        let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid(&path.child("resourceAttributes"), Value::Null, message));
    }
    if let Some(resource) = resource {
        for selector in ["fieldSelector", "labelSelector"] {
            errors.extend(self::selector(
                resource,
                &path.child("resourceAttributes").child(selector),
                selector,
            ));
        }
    }
    if other && spec["user"].as_str().is_none_or(str::is_empty) && is_empty_list(&spec["groups"]) {
        let message = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), "", message));
    }
    errors.extend(metadata(&review["metadata"], local));
    if local {
        let namespace = resource.map(|r| r["namespace"].as_str().unwrap_or_default());
        if namespace.is_some_and(|n| n != review["metadata"]["namespace"].as_str().unwrap_or_default()) {
            let at = path.child("resourceAttributes").child("namespace");
            errors.push(FieldError::invalid(&at, namespace, "must match metadata.namespace"));
        }
        if let Some(paths) = paths {
            let message = "disallowed on this kind of request";
            errors.push(FieldError::invalid(&path.child("nonResourceAttributes"), paths.clone(), message));
        }
    }
    errors
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

/// A review is no object: it has no metadata of its own.
fn metadata(metadata: &Value, local: bool) -> Option<FieldError> {
    let ignored = |field: &str| field == "managedFields" || (local && field == "namespace");
    let nothing = |value: &Value| value.is_null() || *value == json!("") || *value == json!({});
    let own = metadata.as_object().is_some_and(|m| m.iter().any(|(k, v)| !ignored(k) && !nothing(v)));
    let message = if local { "must be empty except for namespace" } else { "must be empty" };
    own.then(|| FieldError::invalid(&Path::new("metadata"), metadata.clone(), message))
}

fn selector(resource: &Value, path: &Path, field: &str) -> Option<FieldError> {
    let selector = given(resource, field)?;
    let raw = selector["rawSelector"].as_str().filter(|s| !s.is_empty());
    match (raw, is_empty_list(&selector["requirements"])) {
        (Some(raw), false) => {
            let message = "may not specified at the same time as requirements";
            Some(FieldError::invalid(&path.child("rawSelector"), raw, message))
        }
        (None, true) => {
            let detail = format!("when {path} is specified, requirements or rawSelector is required");
            Some(FieldError::required(&path.child("requirements"), detail))
        }
        _ => None,
    }
}
