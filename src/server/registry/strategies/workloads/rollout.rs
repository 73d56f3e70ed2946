//! Counts and percentages, as roll-outs and budgets have them.

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::Errors;

/// A count or a percentage.
pub fn count_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(percent) => errors.invalid_all(path, value, names::percent(percent)),
        Value::Number(_) => errors.not_negative(path, value),
        _ => {}
    }
}

/// A percentage of at most 100.
pub fn at_most_all(value: &Value, path: &Path, errors: &mut Errors) {
    let percent = value.as_str().and_then(|s| s.strip_suffix('%')).and_then(|n| n.parse::<u64>().ok());
    if percent.is_some_and(|p| p > 100) {
        errors.push(FieldError::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}

/// None at all: nothing, zero or zero percent.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            text.strip_suffix('%').unwrap_or(text).parse::<u64>().is_ok_and(|n| n == 0) || text.is_empty()
        }
        other => other.as_i64().unwrap_or_default() == 0,
    }
}
