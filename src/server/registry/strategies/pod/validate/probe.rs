//! Probes and lifecycle hooks: `validateProbe`, `validateHandler`.

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, items, text};

const PROBE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

/// The probes and hooks of a container that has `grace` seconds to end.
pub fn of_container(container: &Value, grace: Option<i64>, path: &Path, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        let value = &container["lifecycle"][hook];
        if !value.is_null() {
            handler(value, &HOOK_HANDLERS, grace, &path.child("lifecycle").child(hook), errors);
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let (probe, at) = (&container[field], path.child(field));
        if probe.is_null() {
            continue;
        }
        validate(probe, &at, errors);
        let (threshold, seconds) = (&probe["successThreshold"], &probe["terminationGracePeriodSeconds"]);
        if field == "readinessProbe" {
            if !seconds.is_null() {
                let at = at.child("terminationGracePeriodSeconds");
                let detail = "must not be set for readinessProbes";
                errors.push(FieldError::invalid(&at, seconds.clone(), detail));
            }
        } else if threshold.as_i64().unwrap_or_default() != 1 {
            let value = threshold.as_i64().unwrap_or_default();
            errors.push(FieldError::invalid(&at.child("successThreshold"), value, "must be 1"));
        }
    }
}

fn validate(probe: &Value, path: &Path, errors: &mut Errors) {
    handler(probe, &PROBE_HANDLERS, None, path, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        errors.not_negative(&path.child(field), &probe[field]);
    }
    let grace = &probe["terminationGracePeriodSeconds"];
    if grace.as_i64().is_some_and(|g| g <= 0) {
        let at = path.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(&at, grace.clone(), "must be greater than 0"));
    }
}

/// Exactly one way to act.
fn handler(value: &Value, kinds: &[&str], grace: Option<i64>, path: &Path, errors: &mut Errors) {
    let mut given = 0;
    for kind in kinds.iter().filter(|kind| !value[**kind].is_null()) {
        given += 1;
        let (action, at) = (&value[*kind], path.child(kind));
        match *kind {
            _ if given > 1 => {
                errors.push(FieldError::forbidden(&at, "may not specify more than 1 handler type"));
            }
            "exec" => {
                errors.required(&at.child("command"), &action["command"]);
            }
            "httpGet" => http_get(action, &at, errors),
            "sleep" => sleep(action, grace, &at, errors),
            _ => errors.port(&at.child("port"), &action["port"]),
        }
    }
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut Errors) {
    errors.required(&path.child("path"), &action["path"]);
    errors.port(&path.child("port"), &action["port"]);
    let schemes = ["HTTP", "HTTPS"];
    if !schemes.contains(&text(&action["scheme"])) {
        errors.push(FieldError::not_supported(&path.child("scheme"), text(&action["scheme"]), &schemes));
    }
    for header in items(&action["httpHeaders"]) {
        let name = text(&header["name"]);
        errors.invalid_all(&path.child("httpHeaders"), &name.into(), names::http_header_name(name));
    }
}

fn sleep(action: &Value, grace: Option<i64>, path: &Path, errors: &mut Errors) {
    let seconds = action["seconds"].as_i64().unwrap_or_default();
    if let Some(grace) = grace
        && (seconds < 0 || seconds > grace)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(path, seconds, detail));
    }
}
