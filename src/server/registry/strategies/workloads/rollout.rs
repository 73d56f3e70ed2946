//! How workloads replace their pods.

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, is_empty, text};

/// A count or a percentage.
pub fn count_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(percent) => errors.invalid_all(path, value, names::percent(percent)),
        Value::Number(_) => errors.not_negative(path, value),
        _ => {}
    }
}

/// A percentage of at most 100.
fn at_most_all(value: &Value, path: &Path, errors: &mut Errors) {
    let percent = value.as_str().and_then(|s| s.strip_suffix('%')).and_then(|n| n.parse::<u32>().ok());
    if percent.is_some_and(|p| p > 100) {
        errors.push(FieldError::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}

fn is_zero(value: &Value) -> bool {
    value.as_i64() == Some(0) || value.as_str() == Some("0%")
}

/// `ValidateDeploymentStrategy`, and the deadline.
pub fn deployment(spec: &Value, path: &Path, errors: &mut Errors) {
    let (strategy, at) = (&spec["strategy"], path.child("strategy"));
    let (rolling, rolling_at) = (&strategy["rollingUpdate"], at.child("rollingUpdate"));
    match text(&strategy["type"]) {
        "Recreate" if !rolling.is_null() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(&rolling_at, detail));
        }
        "Recreate" => {}
        "RollingUpdate" if rolling.is_null() => {
            errors.push(FieldError::required(&rolling_at, "this should be defaulted and never be nil"));
        }
        "RollingUpdate" => rolling_update(rolling, &rolling_at, errors),
        other => {
            errors.push(FieldError::not_supported(&at.child("type"), other, &["Recreate", "RollingUpdate"]))
        }
    }
    let (deadline, at) = (&spec["progressDeadlineSeconds"], path.child("progressDeadlineSeconds"));
    errors.not_negative(&at, deadline);
    let ready = spec["minReadySeconds"].as_i64().unwrap_or_default();
    if deadline.as_i64().is_some_and(|d| d <= ready) {
        errors.push(FieldError::invalid(&at, deadline.clone(), "must be greater than minReadySeconds"));
    }
}

fn rolling_update(rolling: &Value, path: &Path, errors: &mut Errors) {
    for field in ["maxUnavailable", "maxSurge"] {
        count_or_percent(&rolling[field], &path.child(field), errors);
    }
    let at = path.child("maxUnavailable");
    if is_zero(&rolling["maxUnavailable"]) && is_zero(&rolling["maxSurge"]) {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(&at, rolling["maxUnavailable"].clone(), detail));
    }
    at_most_all(&rolling["maxUnavailable"], &at, errors);
}

/// `ValidateDaemonSetUpdateStrategy`.
pub fn daemon_set(spec: &Value, path: &Path, errors: &mut Errors) {
    let (strategy, at) = (&spec["updateStrategy"], path.child("updateStrategy"));
    match text(&strategy["type"]) {
        "OnDelete" => {}
        "RollingUpdate" if strategy["rollingUpdate"].is_null() => {
            errors.push(FieldError::required(&at.child("rollingUpdate"), ""));
        }
        "RollingUpdate" => {
            let (rolling, at) = (&strategy["rollingUpdate"], at.child("rollingUpdate"));
            for field in ["maxUnavailable", "maxSurge"] {
                count_or_percent(&rolling[field], &at.child(field), errors);
                at_most_all(&rolling[field], &at.child(field), errors);
            }
            let surges = !is_empty(&rolling["maxSurge"]) && !is_zero(&rolling["maxSurge"]);
            let unavailable = &rolling["maxUnavailable"];
            if surges && !is_empty(unavailable) && !is_zero(unavailable) {
                let detail = "may not be set when maxUnavailable is non-zero";
                errors.push(FieldError::invalid(&at.child("maxSurge"), rolling["maxSurge"].clone(), detail));
            } else if !surges && is_zero(unavailable) {
                let detail = "cannot be 0 when maxUnavailable is 0";
                errors.push(FieldError::required(&at.child("maxUnavailable"), detail));
            }
        }
        _ => errors.one_of(&at.child("type"), &strategy["type"], &["OnDelete", "RollingUpdate"]),
    }
}
