//! Whether values are what their schema says: types, bounds, patterns, formats, junctors; with the texts of
//! `kube-openapi/pkg/validation`.

mod scalars;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::correlate::Correlated;
use super::formats;
use super::structural::{Additional, Structural, Values};
use crate::api::field::quote;
use crate::api::{FieldError, Path};

/// What is wrong with a value. With `replaced` errors of what did not change are left out.
pub(super) fn check(
    base: &Path,
    schema: &Structural,
    value: &Value,
    replaced: Option<&Value>,
) -> Vec<FieldError> {
    let correlated = replaced.map(|old| Correlated { new: value, old, schema });
    Validator { base }.ratcheted(schema, value, "", correlated).errors
}

/// Errors, and how many checks succeeded: of several alternatives the one with the most is reported.
#[derive(Debug, Default)]
struct Outcome {
    errors: Vec<FieldError>,
    matches: u32,
}

impl Outcome {
    fn of(error: Option<FieldError>) -> Self {
        Self { errors: error.into_iter().collect(), matches: 0 }
    }

    fn merge(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.matches += other.matches;
    }

    fn add(&mut self, error: FieldError) {
        self.errors.push(error);
    }
}

struct Validator<'b> {
    base: &'b Path,
}

impl Validator<'_> {
    /// The path of a value: its name below the base.
    fn path(&self, name: &str) -> Path {
        match name.strip_prefix('.').unwrap_or(name) {
            "" => self.base.clone(),
            name => self.base.child(name),
        }
    }

    fn invalid(&self, name: &str, value: impl Into<Value>, said: &str) -> FieldError {
        FieldError::invalid(&self.path(name), value, format!("{name} in body {said}"))
    }

    fn type_invalid(&self, name: &str, wanted: &str, found: &str) -> FieldError {
        let detail = format!("{name} in body must be of type {wanted}: {}", quote(found));
        FieldError::type_invalid(&self.path(name), found, detail)
    }

    /// An error of no field of its own.
    fn general(&self, detail: String) -> FieldError {
        FieldError::invalid(self.base, "", detail)
    }

    /// A value that may take the place of an old one.
    fn ratcheted(
        &self,
        schema: &Structural,
        value: &Value,
        name: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let outcome = self.value(schema, value, name, correlated);
        if !outcome.errors.is_empty() && correlated.is_some_and(Correlated::is_equal) {
            return Outcome::default();
        }
        outcome
    }

    fn value(
        &self,
        schema: &Structural,
        value: &Value,
        name: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let none = Values::default();
        let values = schema.values.as_deref().unwrap_or(&none);
        let mut outcome = Outcome::default();
        if value.is_null() {
            outcome.merge(self.typed(schema, value, name));
            outcome.merge(self.enumeration(values, value, name));
            return outcome;
        }
        let mut apply = |part: Outcome| {
            outcome.merge(part);
            outcome.matches += 1;
        };
        if types(schema) != [""; 0] || !formats::effective(schema).is_empty() {
            apply(self.typed(schema, value, name));
        }
        apply(self.junctors(values, value, name, correlated));
        match value {
            Value::String(text) => {
                apply(self.text(values, text, name));
                if let Some(check) = formats::of_string(formats::effective(schema)) {
                    let format = formats::effective(schema);
                    apply(Outcome::of((!check(text)).then(|| self.type_invalid(name, format, text))));
                }
            }
            Value::Number(number) => apply(self.number(schema, values, number, name)),
            Value::Array(items) => apply(self.list(schema, values, items, name, correlated)),
            _ => {}
        }
        apply(self.enumeration(values, value, name));
        if let Value::Object(fields) = value {
            apply(self.object(schema, values, fields, name, correlated));
        }
        outcome.matches += 1;
        outcome
    }

    fn typed(&self, schema: &Structural, value: &Value, name: &str) -> Outcome {
        let passed = Outcome { matches: 1, ..Outcome::default() };
        let types = types(schema);
        let wrong = |wanted: &str, found: &str| Outcome::of(Some(self.type_invalid(name, wanted, found)));
        if value.is_null() {
            if !types.is_empty() && !schema.nullable {
                return wrong(&types.join(","), "null");
            }
            return passed;
        }
        let format = formats::effective(schema);
        let (found, found_format) = type_of(value);
        let whole = found == "number" && types.contains(&"integer") && scalars::is_whole(value);
        let widened = found == "integer" && types.contains(&"number");
        let fits = types.contains(&found) || whole || widened;
        let bounded = value.is_string() || value.is_array();
        if !bounded && !format.is_empty() && !fits && format != found_format {
            return wrong(format, found_format);
        }
        let numeric = types.contains(&"number") || types.contains(&"integer");
        if !numeric && !format.is_empty() && bounded {
            return passed;
        }
        if fits { passed } else { wrong(&types.join(","), found) }
    }

    fn enumeration(&self, values: &Values, value: &Value, name: &str) -> Outcome {
        if values.enumeration.is_empty() || values.enumeration.iter().any(|v| scalars::is_same(v, value)) {
            return Outcome::default();
        }
        let texts =
            values.enumeration.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        let texts: Vec<String> = texts.collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Outcome::of(Some(FieldError::not_supported(&self.path(name), value.clone(), &texts)))
    }

    fn list(
        &self,
        schema: &Structural,
        values: &Values,
        items: &[Value],
        name: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(of_items) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                let old = correlated.and_then(|c| c.index(index));
                outcome.merge(self.ratcheted(of_items, item, &format!("{name}[{index}]"), old));
            }
        }
        let size = items.len();
        if let Some(min) = values.min_items.filter(|min| (size as i64) < *min) {
            outcome.add(self.invalid(name, size, &format!("should have at least {min} items")));
        }
        if let Some(max) = values.max_items.filter(|max| size as i64 > *max) {
            outcome.add(FieldError::too_many(&self.path(name), size, max.max(0) as usize));
        }
        if values.unique_items && (1..size).any(|i| items[..i].contains(&items[i])) {
            outcome.add(self.invalid(name, "", "shouldn't contain duplicates"));
        }
        outcome.matches += 1;
        outcome
    }

    fn object(
        &self,
        schema: &Structural,
        values: &Values,
        fields: &Map<String, Value>,
        name: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let count = fields.len();
        if let Some(min) = values.min_properties.filter(|min| (count as i64) < *min) {
            outcome.add(self.invalid(name, count, &format!("should have at least {min} properties")));
        }
        if let Some(max) = values.max_properties.filter(|max| count as i64 > *max) {
            outcome.add(FieldError::too_many(&self.path(name), count, max.max(0) as usize));
        }
        for (key, value) in fields {
            // What both have but for the type of the object is compared; the type itself was converted.
            let type_meta = name.is_empty() && matches!(key.as_str(), "apiVersion" | "kind");
            let old = correlated.filter(|_| !type_meta).and_then(|c| c.key(key));
            match (schema.property(key), &schema.additional) {
                (Some(property), _) => {
                    let below = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                    outcome.merge(self.ratcheted(property, value, &below, old));
                }
                (None, Additional::Schema(additional)) => {
                    outcome.merge(self.ratcheted(additional, value, &format!("{name}.{key}"), old));
                }
                (None, Additional::Allowed(false)) => {
                    let detail = format!("{name}.{key} in body is a forbidden property");
                    outcome.add(FieldError::invalid(&self.path(name), key.as_str(), detail));
                }
                (None, _) => {}
            }
        }
        for required in values.required.iter().filter(|r| !fields.contains_key(&***r)) {
            outcome.add(FieldError::required(&self.path(&format!("{name}.{required}")), ""));
        }
        outcome
    }

    fn junctors(
        &self,
        values: &Values,
        value: &Value,
        name: &str,
        correlated: Option<Correlated<'_>>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let below = |schema: &Structural| self.value(schema, value, name, correlated);
        let name = quote(name);
        if !values.any_of.is_empty() {
            let (best, valid) = alternatives(values.any_of.iter().map(below), true);
            if valid == 0 {
                outcome.add(self.general(format!("{name} must validate at least one schema (anyOf)")));
            }
            outcome.merge(best);
        }
        if !values.one_of.is_empty() {
            let (best, valid) = alternatives(values.one_of.iter().map(below), false);
            let found = match valid {
                0 => "Found none valid".to_owned(),
                n => format!("Found {n} valid alternatives"),
            };
            if valid != 1 {
                let detail = format!("{name} must validate one and only one schema (oneOf). {found}");
                outcome.add(self.general(detail));
            }
            if valid <= 1 {
                outcome.merge(best);
            }
        }
        let mut valid = 0;
        for schema in &values.all_of {
            let result = below(schema);
            valid += usize::from(result.errors.is_empty());
            outcome.merge(result);
        }
        if valid != values.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            outcome.add(self.general(format!("{name} must validate all the schemas (allOf){none}")));
        }
        if values.not.as_ref().is_some_and(|not| below(not).errors.is_empty()) {
            outcome.add(self.general(format!("{name} must not validate the schema (not)")));
        }
        outcome.matches += 1;
        outcome
    }
}

/// The first success, or the failure that came nearest; and how many succeeded, of which `first` wants no more than
/// one.
fn alternatives(outcomes: impl Iterator<Item = Outcome>, first: bool) -> (Outcome, usize) {
    let (mut best, mut valid): (Option<Outcome>, usize) = (None, 0);
    for outcome in outcomes {
        if outcome.errors.is_empty() {
            valid += 1;
            if valid == 1 {
                best = Some(outcome);
            }
            if first {
                break;
            }
        } else if valid == 0 && best.as_ref().is_none_or(|b| outcome.matches > b.matches) {
            best = Some(outcome);
        }
    }
    (best.unwrap_or_default(), valid)
}

/// The types a schema allows.
fn types(schema: &Structural) -> &[&'static str] {
    match schema.kind.as_str() {
        _ if schema.int_or_string => &["integer", "string"],
        "object" => &["object"],
        "array" => &["array"],
        "string" => &["string"],
        "integer" => &["integer"],
        "number" => &["number"],
        "boolean" => &["boolean"],
        _ => &[],
    }
}

/// The type of a value, and its format as Go has it.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(n) if n.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}
