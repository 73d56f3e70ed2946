//! Probes and lifecycle hooks: `validateProbe`, `validateHandler`.

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, text};

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

pub fn validate(probe: &Value, path: &Path, errors: &mut Errors) {
    if probe.is_null() {
        return;
    }
    handler(probe, path, errors);
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
pub fn handler(value: &Value, path: &Path, errors: &mut Errors) {
    let mut given = 0;
    for kind in HANDLERS.into_iter().filter(|kind| !value[*kind].is_null()) {
        given += 1;
        let at = path.child(kind);
        if given > 1 {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 handler type"));
            continue;
        }
        let action = &value[kind];
        match kind {
            "exec" => {
                errors.required(&at.child("command"), &action["command"]);
            }
            "httpGet" => http_get(action, &at, errors),
            "tcpSocket" | "grpc" => errors.port(&at.child("port"), &action["port"]),
            _ => {}
        }
    }
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut Errors) {
    errors.required(&path.child("path"), &action["path"]);
    errors.port(&path.child("port"), &action["port"]);
    errors.optionally_one_of(&path.child("scheme"), &action["scheme"], &["HTTP", "HTTPS"]);
    for (header, path) in indexed(&action["httpHeaders"], &path.child("httpHeaders")) {
        let (name, at) = (&header["name"], path.child("name"));
        let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if text(name).is_empty() || !text(name).bytes().all(ok) {
            let detail = "a valid HTTP header must consist of alphanumeric characters or '-' \
                          (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.push(FieldError::invalid(&at, name.clone(), detail));
        }
    }
    if let Some(host) = action["host"].as_str().filter(|h| !h.is_empty() && h.contains('/')) {
        errors.invalid_all(&path.child("host"), &host.into(), names::dns1123_subdomain(host));
    }
}
