//! Small checks that many kinds share, with upstream's texts.

use serde_json::Value;

use crate::api::{FieldError, Path, Quantity, names};

/// `must be greater than or equal to 0`
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// What is said of a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// The text, or an empty one.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list, or none.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The items of a list, each with its path.
pub fn indexed<'a>(value: &'a Value, path: &Path) -> impl Iterator<Item = (&'a Value, Path)> + use<'a> {
    let path = path.clone();
    items(value).iter().enumerate().map(move |(i, item)| (item, path.index(i)))
}

/// The entries of a map, or none.
pub fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}

/// Nothing, an empty text, list or map.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}

/// Equal, where nothing and empty are the same.
pub fn same(a: &Value, b: &Value) -> bool {
    a == b || (is_empty(a) && is_empty(b))
}

/// Errors of one object, gathered.
#[derive(Debug, Default)]
pub struct Errors(pub Vec<FieldError>);

impl Errors {
    /// Adds an error.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// The value is malformed, for each of these reasons.
    pub fn invalid_all(&mut self, path: &Path, value: &Value, reasons: impl IntoIterator<Item = String>) {
        self.0.extend(reasons.into_iter().map(|why| FieldError::invalid(path, value.clone(), why)));
    }

    /// A text must be given.
    pub fn required(&mut self, path: &Path, value: &Value) -> bool {
        let given = !is_empty(value);
        if !given {
            self.push(FieldError::required(path, ""));
        }
        given
    }

    /// A text must be given and keep a rule.
    pub fn named(&mut self, path: &Path, value: &Value, rule: fn(&str) -> Vec<String>) {
        if self.required(path, value) {
            self.invalid_all(path, value, rule(text(value)));
        }
    }

    /// A text that is given keeps a rule.
    pub fn optionally_named(&mut self, path: &Path, value: &Value, rule: fn(&str) -> Vec<String>) {
        if !is_empty(value) {
            self.invalid_all(path, value, rule(text(value)));
        }
    }

    /// A text must be given and be one of these.
    pub fn one_of(&mut self, path: &Path, value: &Value, supported: &[&str]) {
        if self.required(path, value) {
            self.optionally_one_of(path, value, supported);
        }
    }

    /// A text that is given is one of these.
    pub fn optionally_one_of(&mut self, path: &Path, value: &Value, supported: &[&str]) {
        if !is_empty(value) && !supported.contains(&text(value)) {
            self.push(FieldError::not_supported(path, value.clone(), supported));
        }
    }

    /// A number that is given is not negative.
    pub fn not_negative(&mut self, path: &Path, value: &Value) {
        if value.as_i64().is_some_and(|n| n < 0) {
            self.push(FieldError::invalid(path, value.clone(), NOT_NEGATIVE));
        }
    }

    /// A number that is given lies within these bounds.
    pub fn within(&mut self, path: &Path, value: &Value, low: i64, high: i64) {
        if value.as_i64().is_some_and(|n| !(low..=high).contains(&n)) {
            self.push(FieldError::invalid(path, value.clone(), names::range_error(low, high)));
        }
    }

    /// A number or name of a port.
    pub fn port(&mut self, path: &Path, value: &Value) {
        match value {
            Value::Number(n) => {
                let n = n.as_i64().unwrap_or_default();
                self.invalid_all(path, value, names::port_number(n));
            }
            Value::String(name) => self.invalid_all(path, value, names::port_name(name)),
            _ => self.invalid_all(path, &Value::from(0), names::port_number(0)),
        }
    }

    /// A quantity that is given is not negative.
    pub fn quantity(&mut self, path: &Path, value: &Value) -> Option<Quantity> {
        let quantity = match value {
            Value::String(text) => text.parse::<Quantity>().ok()?,
            other => other.to_string().parse().ok()?,
        };
        if quantity.is_negative() {
            self.push(FieldError::invalid(path, quantity.to_string(), NOT_NEGATIVE));
        }
        Some(quantity)
    }

    /// The value is what it was.
    pub fn immutable(&mut self, path: &Path, new: &Value, old: &Value) {
        if !same(new, old) {
            self.push(FieldError::invalid(path, new.clone(), IMMUTABLE));
        }
    }

    /// Labels, as in a selector.
    pub fn labels(&mut self, path: &Path, value: &Value) {
        for (key, value) in entries(value) {
            self.invalid_all(path, &key.into(), names::qualified_name(key));
            self.invalid_all(path, value, names::label_value(text(value)));
        }
    }
}
