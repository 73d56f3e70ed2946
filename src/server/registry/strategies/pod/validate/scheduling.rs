//! What steers scheduling besides affinity: tolerations, spreading, gates.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, entries, indexed, is_empty, items, text};
use crate::server::registry::strategies::selector;

/// Effects of taints.
pub const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const NOT_POSITIVE: &str = "must be greater than zero";

/// `ValidateTolerations`
pub fn tolerations(list: &Value, path: &Path, errors: &mut Errors) {
    for (toleration, path) in indexed(list, path) {
        let (key, value) = (&toleration["key"], &toleration["value"]);
        let (operator, effect) = (text(&toleration["operator"]), text(&toleration["effect"]));
        errors.optionally_named(&path.child("key"), key, names::qualified_name);
        let at = path.child("operator");
        if is_empty(key) && operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&at, operator, detail));
        }
        if !toleration["tolerationSeconds"].is_null() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&path.child("effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => {
                let reasons = names::label_value(text(value));
                if !reasons.is_empty() {
                    errors.push(FieldError::invalid(&at, value.clone(), reasons.join(";")));
                }
            }
            "Exists" if !is_empty(value) => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&at, value.clone(), detail));
            }
            "Exists" => {}
            other => errors.push(FieldError::not_supported(&at, other, &["Equal", "Exists"])),
        }
        errors.optionally_one_of(&path.child("effect"), &toleration["effect"], &EFFECTS);
    }
}

/// `validateReadinessGates`
pub fn readiness_gates(spec: &Value, path: &Path, errors: &mut Errors) {
    for (gate, path) in indexed(&spec["readinessGates"], path) {
        let condition = text(&gate["conditionType"]);
        let reasons = names::qualified_name(condition);
        errors.invalid_all(&path.child("conditionType"), &condition.into(), reasons);
    }
}

/// `validateSchedulingGates`
pub fn scheduling_gates(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (gate, path) in indexed(&spec["schedulingGates"], path) {
        let name = text(&gate["name"]);
        errors.invalid_all(&path, &name.into(), names::qualified_name(name));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

/// `validateTopologySpreadConstraints`
pub fn spread(spec: &Value, path: &Path, errors: &mut Errors) {
    let all = items(&spec["topologySpreadConstraints"]);
    for (index, item) in all.iter().enumerate() {
        let at = path.index(index);
        let (key, action) = (&item["topologyKey"], text(&item["whenUnsatisfiable"]));
        let skew = item["maxSkew"].as_i64().unwrap_or_default();
        if skew <= 0 {
            errors.push(FieldError::invalid(&at.child("maxSkew"), skew, NOT_POSITIVE));
        }
        if is_empty(key) {
            errors.push(FieldError::required(&at.child("topologyKey"), "can not be empty"));
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.push(FieldError::not_supported(&at.child("whenUnsatisfiable"), action, &actions));
        }
        let again = |other: &Value| other["topologyKey"] == *key && other["whenUnsatisfiable"] == action;
        if all[index + 1..].iter().any(again) {
            let pair = format!("{{{}, {action}}}", text(key));
            errors.push(FieldError::duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        min_domains(item, action, &at.child("minDomains"), errors);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"].into_iter().filter(|f| !item[*f].is_null()) {
            if !matches!(text(&item[field]), "Honor" | "Ignore") {
                let value = item[field].clone();
                errors.push(FieldError::not_supported(&at.child(field), value, &["Honor", "Ignore"]));
            }
        }
        label_keys(item, &at.child("matchLabelKeys"), errors);
        selector::validate(&item["labelSelector"], &at.child("labelSelector"), errors);
    }
}

fn min_domains(item: &Value, action: &str, path: &Path, errors: &mut Errors) {
    let Some(minimum) = item["minDomains"].as_i64() else { return };
    if minimum <= 0 {
        errors.push(FieldError::invalid(path, minimum, NOT_POSITIVE));
    }
    if action != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.push(FieldError::invalid(path, minimum, detail));
    }
}

/// Keys of the pod's labels that are added to the selector when the pod is made: what they came to is no
/// repetition.
fn label_keys(item: &Value, path: &Path, errors: &mut Errors) {
    let (keys, wanted) = (&item["matchLabelKeys"], &item["labelSelector"]);
    if items(keys).is_empty() {
        return;
    }
    if wanted.is_null() {
        let detail = "must not be specified when labelSelector is not set";
        errors.push(FieldError::forbidden(path, detail));
    }
    let mut given: Vec<&str> = entries(&wanted["matchLabels"]).map(|(key, _)| key).collect();
    given.extend(items(&wanted["matchExpressions"]).iter().map(|e| text(&e["key"])));
    for (key, path) in indexed(keys, path) {
        errors.invalid_all(&path, key, names::qualified_name(text(key)));
        if given.iter().filter(|k| **k == text(key)).count() > 1 {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path, key.clone(), detail));
        }
    }
}
