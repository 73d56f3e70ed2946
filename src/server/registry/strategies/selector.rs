//! Label selectors of specs: `ValidateLabelSelector`.

use serde_json::Value;

use super::check::{Errors, indexed, items, text};
use crate::api::{FieldError, Path, names};

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
