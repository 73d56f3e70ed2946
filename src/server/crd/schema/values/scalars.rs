//! Bounds of numbers and strings.

use serde_json::{Number, Value};

use super::{Outcome, Validator};
use crate::api::FieldError;
use crate::server::cel::numbers::go_float;
use crate::server::crd::schema::formats;
use crate::server::crd::schema::structural::{Structural, Type, Values};

/// Whether a number has no fraction.
pub(super) fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_991.0)
}

/// Whether two values are the same; numbers by what they are worth.
pub(super) fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}

impl Validator<'_> {
    pub(super) fn text(&self, values: &Values, text: &str, name: &str) -> Outcome {
        Outcome::of(self.wrong_text(values, text, name))
    }

    fn wrong_text(&self, values: &Values, text: &str, name: &str) -> Option<FieldError> {
        // Counting characters is only needed where bytes do not settle it.
        let length = text.chars().count() as i64;
        if let Some(max) = values.max_length.filter(|max| length > *max) {
            return Some(FieldError::too_long(&self.path(name), max.max(0) as usize));
        }
        if let Some(min) = values.min_length.filter(|min| length < *min) {
            return Some(self.invalid(name, text, &format!("should be at least {min} chars long")));
        }
        let pattern = values.pattern.as_ref()?;
        match pattern.is_match(text) {
            Ok(true) => None,
            Ok(false) => Some(self.invalid(name, text, &format!("should match '{}'", pattern.as_str()))),
            Err(why) => {
                let said = format!("should match '{}, but pattern is invalid: {why}'", pattern.as_str());
                Some(self.invalid(name, text, &said))
            }
        }
    }

    pub(super) fn number(
        &self,
        schema: &Structural,
        values: &Values,
        number: &Number,
        name: &str,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let format = formats::effective(schema);
        let within = |n: f64| match (schema.kind, format) {
            (Type::Integer, "int32") => n >= f64::from(i32::MIN) && n <= f64::from(i32::MAX),
            (Type::Integer, _) => n >= i64::MIN as f64 && n < 9_223_372_036_854_775_808.0,
            (Type::Number, "float") => n.abs() <= f64::from(f32::MAX),
            _ => true,
        };
        let value = number.as_f64().unwrap_or_default();
        if !schema.int_or_string && !within(value) {
            let kind = schema.kind.as_str();
            let format = match format {
                "" => "(default format)".to_owned(),
                format => format!("with format {format}"),
            };
            outcome.add(self.general(format!("Checked value must be of type {kind} {format} in {name}")));
        }
        let shown = || Value::Number(number.clone());
        if let Some(factor) = values.multiple_of
            && let Some(error) = self.multiple(number, factor, name)
        {
            outcome.add(error);
        }
        let compare = |bound: f64| match number.as_i64() {
            Some(n) => n.cmp(&(bound as i64)),
            None => value.total_cmp(&bound),
        };
        let bound_text = |bound: f64| match number.as_i64() {
            Some(_) => (bound as i64).to_string(),
            None => go_float(bound),
        };
        if let Some(min) = values.minimum
            && (compare(min).is_lt() || (values.exclusive_minimum && compare(min).is_eq()))
        {
            let word = if values.exclusive_minimum { "greater than" } else { "greater than or equal to" };
            outcome.add(self.invalid(name, shown(), &format!("should be {word} {}", bound_text(min))));
        }
        if let Some(max) = values.maximum
            && (compare(max).is_gt() || (values.exclusive_maximum && compare(max).is_eq()))
        {
            let word = if values.exclusive_maximum { "less than" } else { "less than or equal to" };
            outcome.add(self.invalid(name, shown(), &format!("should be {word} {}", bound_text(max))));
        }
        outcome.matches += 1;
        outcome
    }

    fn multiple(&self, number: &Number, factor: f64, name: &str) -> Option<FieldError> {
        let (right, text, positive) = match number.as_i64() {
            Some(n) => {
                let whole = factor as i64;
                (whole > 0 && n % whole == 0, whole.to_string(), whole > 0)
            }
            None => {
                let n = number.as_f64().unwrap_or_default();
                let times = if factor < 1.0 { 1.0 / factor * n } else { n / factor };
                (times.fract() == 0.0, go_float(factor), factor > 0.0)
            }
        };
        if !positive {
            let detail = format!("factor MultipleOf declared for {name} must be positive: {text}");
            return Some(FieldError::invalid(&self.path(name), factor, detail));
        }
        let shown = Value::Number(number.clone());
        (!right).then(|| self.invalid(name, shown, &format!("should be a multiple of {text}")))
    }
}
