//! Conditions of `meta/v1`: `ValidateConditions` of apimachinery.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{Errors, indexed, is_empty, text};
use crate::api::{FieldError, Path, names};

const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 << 10;
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of \
    alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or \
    'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is \
    '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// What is wrong with a list of conditions.
pub fn validate(list: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (condition, path) in indexed(list, path) {
        let (kind, at) = (&condition["type"], path.child("type"));
        if !seen.insert(text(kind)) {
            errors.push(FieldError::duplicate(&at, kind.clone()));
        }
        errors.invalid_all(&at, kind, names::qualified_name(text(kind)));
        let statuses = ["False", "True", "Unknown"];
        if !statuses.contains(&text(&condition["status"])) {
            let status = text(&condition["status"]);
            errors.push(FieldError::not_supported(&path.child("status"), status, &statuses));
        }
        errors.not_negative(&path.child("observedGeneration"), &condition["observedGeneration"]);
        if is_empty(&condition["lastTransitionTime"]) {
            errors.push(FieldError::required(&path.child("lastTransitionTime"), ""));
        }
        let (reason, at) = (text(&condition["reason"]), path.child("reason"));
        if reason.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            if !is_reason(reason) {
                errors.push(FieldError::invalid(&at, reason, REASON));
            }
            if reason.len() > MAX_REASON {
                errors.push(FieldError::too_long(&at, MAX_REASON));
            }
        }
        if text(&condition["message"]).len() > MAX_MESSAGE {
            errors.push(FieldError::too_long(&path.child("message"), MAX_MESSAGE));
        }
    }
}

fn is_reason(reason: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = reason.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().copied().is_some_and(word)
        && bytes.iter().all(|b| word(*b) || matches!(b, b',' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_whole() {
        let errors_of = |list: Value| {
            let mut errors = Errors::default();
            validate(&list, &Path::new("status").child("conditions"), &mut errors);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let good = json!({"type": "Ready", "status": "True", "reason": "AllGood", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""});
        assert_eq!(errors_of(json!([good])), [] as [&str; 0]);
        assert_eq!(errors_of(json!([good, good])), ["status.conditions[1].type: Duplicate value: \"Ready\""]);
        assert_eq!(
            errors_of(json!([{"type": "Ready", "status": "yes", "reason": ""}])),
            [
                "status.conditions[0].status: Unsupported value: \"yes\": supported values: \"False\", \"True\", \"Unknown\"",
                "status.conditions[0].lastTransitionTime: Required value",
                "status.conditions[0].reason: Required value",
            ]
        );
    }
}
