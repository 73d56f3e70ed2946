//! What of a job may change: `ValidateJobSpecUpdate`.

use serde_json::Value;

use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, same};
use crate::server::registry::strategy::defaults;

/// What is wrong with a change of the spec.
pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, was, path) = (&new["spec"], &old["spec"], Path::new("spec"));
    completions(spec, was, &path.child("completions"), errors);
    errors.immutable(&path.child("selector"), &spec["selector"], &was["selector"]);
    template(new, old, &path.child("template"), errors);
    let fixed = ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];
    for field in fixed {
        errors.immutable(&path.child(field), &spec[field], &was[field]);
    }
}

/// An indexed job grows and shrinks with its parallelism.
fn completions(spec: &Value, was: &Value, path: &Path, errors: &mut Errors) {
    let (now, before) = (&spec["completions"], &was["completions"]);
    if spec["completionMode"] != "Indexed" {
        errors.immutable(path, now, before);
    } else if now != before && !now.is_null() && *now != spec["parallelism"] {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(path, now.clone(), detail));
    }
}

fn template(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let (now, was) = (&new["spec"]["template"], &old["spec"]["template"]);
    let mut allowed = now.clone();
    if old["spec"]["suspend"] == true && old["status"]["startTime"].is_null() {
        // Before a suspended job begins, what steers scheduling may change.
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            defaults::keep(&mut allowed["spec"], &was["spec"], field);
        }
        for field in ["labels", "annotations"] {
            defaults::keep(&mut allowed["metadata"], &was["metadata"], field);
        }
        node_affinity(&mut allowed["spec"], &was["spec"]);
    }
    if allowed != *was && !same(&allowed, was) {
        let detail = crate::server::registry::strategies::check::IMMUTABLE;
        errors.push(FieldError::invalid(path, now.clone(), detail));
    }
}

fn node_affinity(allowed: &mut Value, was: &Value) {
    let before = was["affinity"]["nodeAffinity"].clone();
    let others =
        |spec: &Value| ["podAffinity", "podAntiAffinity"].iter().any(|f| !spec["affinity"][*f].is_null());
    if was["affinity"].is_null() && !others(allowed) {
        defaults::keep(allowed, was, "affinity");
    } else if !before.is_null() {
        allowed["affinity"]["nodeAffinity"] = before;
    } else if let Some(affinity) = allowed["affinity"].as_object_mut() {
        affinity.remove("nodeAffinity");
    }
}
