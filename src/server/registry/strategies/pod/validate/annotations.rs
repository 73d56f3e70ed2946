//! Annotations that mean something to pods: `ValidatePodSpecificAnnotations`, and that they agree with fields.

use serde_json::Value;

use super::containers;
use super::scheduling;
use super::volume::descending;
use crate::api::field::quote;
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, entries, is_empty, text};

/// Set on pods that a node made from its own files.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Of a pod's seccomp profile, before there was a field.
pub const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// Of a container's seccomp profile, before there was a field.
pub const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Of a container's AppArmor profile, before there was a field.
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What is wrong with annotations of a pod or template.
pub fn specific(annotations: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let given = |key: &str| annotations.get(key).map(text);
    if let Some(value) = given(MIRROR)
        && is_empty(&spec["nodeName"])
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), value, detail));
    }
    if let Some(value) = given(TOLERATIONS).filter(|v| !v.is_empty()) {
        match serde_json::from_str::<Value>(value) {
            Ok(list) => scheduling::tolerations(&list, &path.child(TOLERATIONS), errors),
            Err(why) => errors.push(FieldError::invalid(path, TOLERATIONS, why.to_string())),
        }
    }
    if let Some(value) = given(DELETION_COST)
        && !is_cost(value)
    {
        errors.push(FieldError::invalid(&path.key(DELETION_COST), value, "must be a 32bit integer"));
    }
    for (key, value) in entries(annotations) {
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp(text(value), &path.child(key), errors);
        }
        if let Some(container) = key.strip_prefix(APP_ARMOR) {
            let at = path.key(key);
            let known = containers(spec, path).any(|(c, _)| c["name"] == container);
            if !known {
                errors.push(FieldError::invalid(&at, container, "container not found"));
            }
            if !matches!(text(value), "" | "runtime/default" | "unconfined")
                && !text(value).starts_with("localhost/")
            {
                let detail = format!("invalid AppArmor profile name: {}", quote(text(value)));
                errors.push(FieldError::invalid(&at, value.clone(), detail));
            }
        }
    }
}

/// A 32-bit number as upstream reads it: no plus sign, no leading zeros.
fn is_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text.parse::<i32>().is_ok() && !text.starts_with('+') && (text == "0" || !digits.starts_with('0'))
}

fn seccomp(profile: &str, path: &Path, errors: &mut Errors) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => descending(&file.into(), path, errors),
        None => errors.push(FieldError::invalid(path, profile, "must be a valid seccomp profile")),
    }
}

/// Annotations that cannot be changed: `ValidatePodSpecificAnnotationUpdates`.
pub fn changes(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let guarded = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        key => key.starts_with(APP_ARMOR).then_some("AppArmor annotations"),
    };
    for (key, value) in entries(old).filter(|(key, value)| new.get(*key) != Some(*value)) {
        let _ = value;
        if let Some(what) = guarded(key) {
            errors.push(FieldError::forbidden(&path.key(key), format!("may not remove or update {what}")));
        }
    }
    for (key, _) in entries(new).filter(|(key, _)| old.get(*key).is_none()) {
        if let Some(what) = guarded(key) {
            errors.push(FieldError::forbidden(&path.key(key), format!("may not add {what}")));
        }
    }
}

/// Profiles said twice, in annotation and field, are the same.
pub fn profiles_match(annotations: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let pod = &spec["securityContext"];
    if let Some(annotation) = annotations.get(SECCOMP_POD) {
        let at = path.child("securityContext").child("seccompProfile");
        same_profile(text(annotation), &pod["seccompProfile"], "seccomp", &at, errors);
    }
    for (profile, prefix, what) in
        [("seccompProfile", SECCOMP_CONTAINER, "seccomp"), ("appArmorProfile", APP_ARMOR, "apparmor")]
    {
        for (container, at) in containers(spec, path) {
            let key = format!("{prefix}{}", text(&container["name"]));
            let Some(annotation) = annotations.get(key.as_str()) else { continue };
            let own = &container["securityContext"][profile];
            let inherited = own.is_null() && what == "apparmor";
            let at = at.child("securityContext").child(profile);
            let field = if inherited { &pod[profile] } else { own };
            if what == "apparmor" && spec["os"]["name"] == "windows" {
                continue;
            }
            same_profile(text(annotation), field, what, &at, errors);
        }
    }
}

fn same_profile(annotation: &str, field: &Value, what: &str, path: &Path, errors: &mut Errors) {
    let local = annotation.strip_prefix("localhost/");
    let same_type = match text(&field["type"]) {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => {
            annotation == "runtime/default" || (what == "seccomp" && annotation == "docker/default")
        }
        "Localhost" => local.is_some(),
        _ => return,
    };
    if !same_type {
        let detail = format!("{what} type in annotation and field must match");
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    } else if field["type"] == "Localhost" && field["localhostProfile"].as_str() != local {
        let detail = format!("{what} profile in annotation and field must match");
        errors.push(FieldError::forbidden(&path.child("localhostProfile"), detail));
    }
}
