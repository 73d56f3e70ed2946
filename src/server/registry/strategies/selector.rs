//! Label selectors of specs: `ValidateLabelSelector`.

use serde_json::Value;

use super::check::{Errors, entries, indexed, is_empty, items, text};
use crate::api::{FieldError, LabelSelector, Path, names};

/// What is wrong with a selector.
pub fn validate(selector: &Value, path: &Path, errors: &mut Errors) {
    errors.labels(&path.child("matchLabels"), &selector["matchLabels"]);
    for (term, path) in indexed(&selector["matchExpressions"], &path.child("matchExpressions")) {
        let values = path.child("values");
        match text(&term["operator"]) {
            "In" | "NotIn" if items(&term["values"]).is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(&values, detail));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !items(&term["values"]).is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&values, detail));
            }
            "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                &path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        errors.invalid_all(&path.child("key"), &term["key"], names::qualified_name(text(&term["key"])));
        for (value, path) in indexed(&term["values"], &values) {
            errors.invalid_all(&path, value, names::label_value(text(value)));
        }
    }
}

/// What is wrong with the selector of a workload, which must select something, and its own pods.
pub fn of_workload(spec: &Value, path: &Path, kind: &str, errors: &mut Errors) {
    let (selector, at) = (&spec["selector"], path.child("selector"));
    if selector.is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        validate(selector, &at, errors);
        if is_empty(&selector["matchLabels"]) && is_empty(&selector["matchExpressions"]) {
            let detail = format!("empty selector is invalid for {kind}");
            errors.push(FieldError::invalid(&at, selector.clone(), detail));
        }
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let own = |key: &str| entries(labels).find(|(k, _)| *k == key).map(|(_, v)| text(v));
    let matches = LabelSelector::from_value(selector).is_ok_and(|s| s.matches(own));
    if !is_empty(selector) && !matches {
        let shown = if labels.is_null() { serde_json::json!({}) } else { labels.clone() };
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            &path.child("template").child("metadata").child("labels"),
            shown,
            detail,
        ));
    }
}
