//! The spec of a job: `validateJobSpec`.

use serde_json::Value;

use super::policy;
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, text};
use crate::server::registry::strategies::pod;

const COUNTS: [&str; 7] = [
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];
/// An indexed job keeps book of each index, which bounds it.
const MAX_INDEXED: i64 = 100_000;
const MAX_FOR_MANY: i64 = 10_000;

/// All that is wrong with a job's spec but its selector.
pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    COUNTS.iter().for_each(|field| errors.not_negative(&path.child(field), &spec[*field]));
    if !spec["maxFailedIndexes"].is_null() && spec["backoffLimitPerIndex"].is_null() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), detail));
    }
    let (manager, at) = (&spec["managedBy"], path.child("managedBy"));
    if !manager.is_null() {
        errors.invalid_all(&at, manager, names::domain_prefixed_path(text(manager)));
        if text(manager).len() > names::LABEL_MAX {
            errors.push(FieldError::too_long(&at, names::LABEL_MAX));
        }
    }
    let (mode, at) = (&spec["completionMode"], path.child("completionMode"));
    if !mode.is_null() && !matches!(text(mode), "NonIndexed" | "Indexed") {
        errors.push(FieldError::not_supported(&at, mode.clone(), &["NonIndexed", "Indexed"]));
    }
    match text(mode) {
        "Indexed" => indexed(spec, path, errors),
        "" | "NonIndexed" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if !spec[field].is_null() {
                    let detail = "requires indexed completion mode";
                    errors.push(FieldError::invalid(&path.child(field), spec[field].clone(), detail));
                }
            }
        }
        _ => {}
    }
    policy::validate(spec, path, errors);
    replacement(spec, &path.child("podReplacementPolicy"), errors);
    let at = path.child("template");
    errors.0.extend(pod::validate::template(&spec["template"], &at));
    restart_policy(spec, &at.child("spec").child("restartPolicy"), errors);
}

fn indexed(spec: &Value, path: &Path, errors: &mut Errors) {
    let number = |field: &str| spec[field].as_i64();
    let mut refuse = |field: &str, detail: String| {
        errors.push(FieldError::invalid(&path.child(field), spec[field].clone(), detail));
    };
    let failed = number("maxFailedIndexes");
    let completions = number("completions");
    if number("parallelism").is_some_and(|n| n > MAX_INDEXED) {
        let detail = format!("must be less than or equal to {MAX_INDEXED} when completion mode is Indexed");
        refuse("parallelism", detail);
    }
    if completions.zip(failed).is_some_and(|(all, failed)| failed > all) {
        refuse("maxFailedIndexes", "must be less than or equal to completions".to_owned());
    }
    if failed.is_some_and(|n| n > MAX_INDEXED) {
        refuse("maxFailedIndexes", format!("must be less than or equal to {MAX_INDEXED}"));
    }
    let many = completions.is_some_and(|n| n > MAX_INDEXED) && !spec["backoffLimitPerIndex"].is_null();
    for field in ["parallelism", "maxFailedIndexes"] {
        if many && number(field).is_some_and(|n| n > MAX_FOR_MANY) {
            let detail = format!(
                "must be less than or equal to {MAX_FOR_MANY} when completions are above {MAX_INDEXED} and used \
                 with backoff limit per index"
            );
            refuse(field, detail);
        }
    }
    if completions.is_none() {
        let detail = "when completion mode is Indexed";
        errors.push(FieldError::required(&path.child("completions"), detail));
    }
    if many && failed.is_none() {
        let detail = format!("must be specified when completions is above {MAX_INDEXED}");
        errors.push(FieldError::required(&path.child("maxFailedIndexes"), detail));
    }
}

fn replacement(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = &spec["podReplacementPolicy"];
    let supported: &[&str] =
        if spec["podFailurePolicy"].is_null() { &["Failed", "TerminatingOrFailed"] } else { &["Failed"] };
    if !policy.is_null() && !supported.contains(&text(policy)) {
        errors.push(FieldError::not_supported(path, policy.clone(), supported));
    }
}

fn restart_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = text(&spec["template"]["spec"]["restartPolicy"]);
    match policy {
        // The default of pods is no choice of the user's.
        "" | "Always" => {
            errors.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if !spec["podFailurePolicy"].is_null() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(path, policy, detail));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(FieldError::not_supported(path, other, &["OnFailure", "Never"])),
    }
}

/// What is wrong with a template of jobs: `ValidateJobTemplateSpec`.
pub fn of_template(template: &Value, path: &Path, errors: &mut Errors) {
    let (spec, at) = (&template["spec"], path.child("spec"));
    validate(spec, &at, errors);
    if !spec["selector"].is_null() {
        let detail = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&at.child("selector"), spec["selector"].clone(), detail));
    }
    if spec["manualSelector"] == true {
        errors.push(FieldError::not_supported(&at.child("manualSelector"), true, &["nil", "false"]));
    }
}
