//! Errors of single fields, with the texts of `apimachinery/pkg/util/validation/field`.

use std::fmt;

use serde_json::Value;

/// The way to a field, as in `spec.containers[0].env[A]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field; an empty name is the object itself.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A named field below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self(name.to_owned());
        }
        Self(format!("{}.{name}", self.0))
    }

    /// The item of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The value at a key of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What is wrong with a field: the machine-readable part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// A referenced value does not exist.
    NotFound,
    /// Nothing was given where something must be.
    Required,
    /// A value that must be unique is given twice.
    Duplicate,
    /// Malformed, or out of bounds.
    Invalid,
    /// Not one of an enumeration.
    NotSupported,
    /// Well-formed, but not permitted here.
    Forbidden,
    /// Text that is too long.
    TooLong,
    /// A list with too many items.
    TooMany,
    /// A list with too few items.
    TooFew,
    /// Not the user's fault.
    Internal,
    /// Of another type than the schema's.
    TypeInvalid,
    /// Text that is too short.
    TooShort,
}

impl ErrorType {
    /// The `reason` of a Status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::TooShort => "FieldValueTooShort",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
            Self::TooShort => "Too short",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::TooShort | Self::Internal)
    }
}

/// One thing that is wrong with one field of an object.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: {}", self.body())]
pub struct FieldError {
    /// What kind of error.
    pub kind: ErrorType,
    /// The field's path.
    pub field: Path,
    /// The offending value, where it is worth showing.
    pub bad_value: Option<Value>,
    /// What would be right.
    pub detail: String,
}

impl FieldError {
    fn new(kind: ErrorType, field: &Path, bad_value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { kind, field: field.clone(), bad_value, detail: detail.into() }
    }

    /// Something must be given.
    pub fn required(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, field, None, detail)
    }

    /// The value is malformed or out of bounds.
    pub fn invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, field, Some(value.into()), detail)
    }

    /// The value is wrong in itself, and too large to show.
    pub fn invalid_omitted(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, field, None, detail)
    }

    /// The value is of the wrong type.
    pub fn type_invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, field, Some(value.into()), detail)
    }

    /// The value is none of `supported`, which is shown in the order given.
    pub fn not_supported(field: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(ErrorType::NotSupported, field, Some(value.into()), detail)
    }

    /// The value must be unique and is not.
    pub fn duplicate(field: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, field, Some(value.into()), "")
    }

    /// The value refers to something that does not exist.
    pub fn not_found(field: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, field, Some(value.into()), "")
    }

    /// The value is not permitted here.
    pub fn forbidden(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, field, None, detail)
    }

    /// The text is longer than `max` bytes.
    pub fn too_long(field: &Path, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new(ErrorType::TooLong, field, None, format!("may not be more than {max} {unit}"))
    }

    /// The list has `actual` items, more than `max`.
    pub fn too_many(field: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(ErrorType::TooMany, field, Some(actual.into()), format!("must have at most {max} {unit}"))
    }

    /// Something went wrong that is not the user's fault.
    pub fn internal(field: &Path, error: impl fmt::Display) -> Self {
        Self::new(ErrorType::Internal, field, None, error.to_string())
    }

    /// The text without the field's path, as in a Status cause.
    pub fn body(&self) -> String {
        let mut text = self.kind.title().to_owned();
        if let (true, Some(value)) = (self.kind.shows_value(), &self.bad_value) {
            text.push_str(": ");
            match value {
                Value::String(s) => text.push_str(&quote(s)),
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

/// A list of strings as Go's `%q` writes it: `["a" "b"]`.
pub fn quote_list<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

/// A string in double quotes, with escapes as Go's `%q` writes them.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (0x80..0xa0).contains(&(c as u32)) => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_print_as_upstream() {
        let p = Path::new("spec").child("containers").index(0).child("env").key("A");
        assert_eq!(p.to_string(), "spec.containers[0].env[A]");
        assert_eq!(Path::default().child("spec").to_string(), "spec");
        assert_eq!(Path::default().to_string(), "<nil>");
    }

    #[test]
    fn texts_are_upstreams() {
        let p = Path::new("a");
        let table = [
            (FieldError::required(&p, ""), "a: Required value"),
            (FieldError::required(&p, "name it"), "a: Required value: name it"),
            (FieldError::invalid(&p, "x\n", "no"), "a: Invalid value: \"x\\n\": no"),
            (FieldError::invalid(&p, 5, "no"), "a: Invalid value: 5: no"),
            (FieldError::invalid(&p, json!({"b": [1]}), "no"), "a: Invalid value: {\"b\":[1]}: no"),
            (FieldError::type_invalid(&p, true, "no"), "a: Invalid value: true: no"),
            (
                FieldError::not_supported(&p, "x", &["A", "B"]),
                "a: Unsupported value: \"x\": supported values: \"A\", \"B\"",
            ),
            (FieldError::duplicate(&p, "x"), "a: Duplicate value: \"x\""),
            (FieldError::not_found(&p, "x"), "a: Not found: \"x\""),
            (FieldError::forbidden(&p, "no"), "a: Forbidden: no"),
            (FieldError::too_long(&p, 63), "a: Too long: may not be more than 63 bytes"),
            (FieldError::too_long(&p, 1), "a: Too long: may not be more than 1 byte"),
            (FieldError::too_many(&p, 3, 2), "a: Too many: 3: must have at most 2 items"),
            (FieldError::internal(&p, "boom"), "a: Internal error: boom"),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }
}
