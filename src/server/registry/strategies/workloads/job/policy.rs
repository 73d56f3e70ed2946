//! When a job counts as failed or done: `validatePodFailurePolicy`, `validateSuccessPolicy`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::indexes;
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_CONDITIONS: usize = 20;
const MAX_INDEXES: usize = 64 << 10;

/// Both policies of a job's spec.
pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    if !spec["podFailurePolicy"].is_null() {
        failure(spec, &path.child("podFailurePolicy").child("rules"), errors);
    }
    let (success, at) = (&spec["successPolicy"], path.child("successPolicy"));
    if success.is_null() {
        return;
    }
    if spec["completionMode"] == "Indexed" {
        successes(spec, &at.child("rules"), errors);
    } else {
        errors.push(FieldError::invalid(&at, success.clone(), "requires indexed completion mode"));
    }
}

/// `valid values: ["A" "B"]`
fn choices(supported: &[&str]) -> String {
    let quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn one_of(value: &Value, supported: &[&str], path: &Path, errors: &mut Errors) {
    if is_empty(value) {
        errors.push(FieldError::required(path, choices(supported)));
    } else if !supported.contains(&text(value)) {
        errors.push(FieldError::not_supported(path, value.clone(), supported));
    }
}

fn failure(spec: &Value, path: &Path, errors: &mut Errors) {
    let rules = &spec["podFailurePolicy"]["rules"];
    if items(rules).len() > MAX_RULES {
        errors.push(FieldError::too_many(path, items(rules).len(), MAX_RULES));
    }
    let pod = &spec["template"]["spec"];
    let lists = ["containers", "initContainers"].into_iter().flat_map(|list| items(&pod[list]));
    let containers: BTreeSet<&str> = lists.map(|c| text(&c["name"])).collect();
    for (rule, path) in indexed(rules, path) {
        let (action, at) = (&rule["action"], path.child("action"));
        if action == "FailIndex" {
            if spec["backoffLimitPerIndex"].is_null() {
                let detail = "requires the backoffLimitPerIndex to be set";
                errors.push(FieldError::invalid(&at, action.clone(), detail));
            }
        } else {
            one_of(action, &["Count", "FailIndex", "FailJob", "Ignore"], &at, errors);
        }
        let (codes, conditions) = (&rule["onExitCodes"], &rule["onPodConditions"]);
        if !codes.is_null() {
            exit_codes(codes, &containers, &path.child("onExitCodes"), errors);
        }
        pod_conditions(conditions, &path.child("onPodConditions"), errors);
        let detail = match (codes.is_null(), items(conditions).is_empty()) {
            (false, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (true, true) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError::invalid_omitted(&path, detail));
    }
}

fn pod_conditions(patterns: &Value, path: &Path, errors: &mut Errors) {
    if items(patterns).len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(path, items(patterns).len(), MAX_CONDITIONS));
    }
    for (pattern, path) in indexed(patterns, path) {
        let kind = text(&pattern["type"]);
        errors.invalid_all(&path.child("type"), &kind.into(), names::qualified_name(kind));
        one_of(&pattern["status"], &["False", "True", "Unknown"], &path.child("status"), errors);
    }
}

fn exit_codes(codes: &Value, containers: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    one_of(&codes["operator"], &["In", "NotIn"], &path.child("operator"), errors);
    let container = &codes["containerName"];
    if !container.is_null() && !containers.contains(text(container)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), container.clone(), detail));
    }
    let (values, at) = (items(&codes["values"]), path.child("values"));
    if values.is_empty() {
        let shown = codes["values"].clone();
        errors.push(FieldError::invalid(&at, shown, "at least one value is required"));
    } else if values.len() > MAX_EXIT_CODES {
        errors.push(FieldError::too_many(&at, values.len(), MAX_EXIT_CODES));
    }
    let mut seen = BTreeSet::new();
    for (value, path) in indexed(&codes["values"], &at) {
        let code = value.as_i64().unwrap_or_default();
        if code == 0 && codes["operator"] == "In" {
            errors.push(FieldError::invalid(&path, 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(code) {
            errors.push(FieldError::duplicate(&path, code));
        }
    }
    if !values.is_sorted_by_key(|v| v.as_i64()) {
        errors.push(FieldError::invalid(&at, codes["values"].clone(), "must be ordered"));
    }
}

fn successes(spec: &Value, path: &Path, errors: &mut Errors) {
    let rules = &spec["successPolicy"]["rules"];
    if items(rules).is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(path, detail));
    }
    if items(rules).len() > MAX_RULES {
        errors.push(FieldError::too_many(path, items(rules).len(), MAX_RULES));
    }
    let completions = spec["completions"].as_i64().unwrap_or_default();
    indexed(rules, path).for_each(|(rule, path)| success(rule, completions, &path, errors));
}

fn success(rule: &Value, completions: i64, path: &Path, errors: &mut Errors) {
    let (count, set) = (&rule["succeededCount"], &rule["succeededIndexes"]);
    if count.is_null() && set.is_null() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let mut total = 0;
    if !set.is_null() {
        let at = path.child("succeededIndexes");
        if text(set).len() > MAX_INDEXES {
            errors.push(FieldError::too_long(&at, MAX_INDEXES));
        }
        match indexes::parse(text(set), completions) {
            Ok(ranges) => total = indexes::total(&ranges),
            Err(why) => {
                let detail = format!("error parsing succeededIndexes: {why}");
                errors.push(FieldError::invalid(&at, set.clone(), detail));
            }
        }
    }
    let at = path.child("succeededCount");
    errors.not_negative(&at, count);
    let Some(wanted) = count.as_i64() else { return };
    let mut bound = |most: i64, what: &str| {
        if wanted > most {
            let detail = format!("must be less than or equal to {most} ({what})");
            errors.push(FieldError::invalid(&at, wanted, detail));
        }
    };
    bound(completions, "the number of specified completions");
    if !set.is_null() {
        bound(total, "the number of indexes in the specified succeededIndexes field");
    }
}
