//! What the rules of a definition can cost together.

use serde_json::{Map, Value};

use super::text;
use crate::api::{FieldError, Path};

/// What one rule may cost by its estimate.
pub(super) const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a version may cost by their estimates.
const TOTAL_LIMIT: u64 = 100_000_000;

/// The estimates of all rules.
#[derive(Debug, Default)]
pub(super) struct Total {
    sum: u64,
    /// The most expensive, in falling order.
    expensive: Vec<(Path, u64)>,
}

impl Total {
    pub(super) fn add(&mut self, path: &Path, cost: u64) {
        const SHOWN: usize = 4;
        self.sum = self.sum.saturating_add(cost);
        if cost < TOTAL_LIMIT / 100 {
            return;
        }
        self.expensive.push((path.clone(), cost));
        self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        self.expensive.truncate(SHOWN);
    }

    /// The errors if it is too much.
    pub(super) fn errors(&self, path: &Path) -> Vec<FieldError> {
        if self.sum <= TOTAL_LIMIT {
            return Vec::new();
        }
        let detail =
            "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        let mut errors: Vec<FieldError> =
            self.expensive.iter().map(|(path, _)| FieldError::forbidden(path, detail)).collect();
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(path, too_much(name, self.sum, TOTAL_LIMIT)));
        errors
    }
}

/// By how much a cost exceeds its limit.
pub(super) fn too_much(name: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        // Not "1.0x".
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// By how much the values below a schema may be more than its own: `None` if nothing bounds them.
pub(super) fn factor(schema: &Map<String, Value>) -> Option<u64> {
    let bound = |name: &str| {
        let bound = schema.get(name).and_then(Value::as_i64)?;
        Some(u64::try_from(bound).unwrap_or_default())
    };
    match text(schema, "type") {
        "object" if schema.get("additionalProperties").is_some_and(|a| !a.is_null()) => {
            bound("maxProperties")
        }
        "array" => bound("maxItems"),
        _ => Some(1),
    }
}
