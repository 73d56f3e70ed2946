//! Checks a value against a type, in place, with the texts of upstream's strict decoder.
//!
//! What cannot be read is one error in the words of Go's JSON decoder and ends the check. Unknown fields are
//! dropped and reported as errors or warnings. Nulls are dropped as Go's decoder reads them: a null field is a
//! missing field, a null item is the empty value of its type.

use serde_json::Value;

use super::tree::{Node, NodeRef};
use super::{Checked, FieldValidation};
use crate::api::field::quote;
use crate::api::{Quantity, meta};

pub(super) fn check(root: NodeRef<'_>, object: &mut Value, validation: FieldValidation) -> Checked {
    let mut checker =
        Checker { typed: root.tree().typed, path: Vec::new(), owner: "", unknown: Vec::new(), bare: false };
    let result = checker.value(root, object);
    let unknown = checker.unknown;
    match (result, validation) {
        (Err(error), _) => Checked { errors: vec![error], warnings: Vec::new() },
        (Ok(()), FieldValidation::Ignore) => Checked::default(),
        (Ok(()), FieldValidation::Warn) => Checked { errors: Vec::new(), warnings: unknown },
        (Ok(()), FieldValidation::Strict) => Checked { errors: unknown, warnings: Vec::new() },
    }
}

/// Checks a part of an object that is typed as built-in kinds are, though the object is not; `owner` is the part's
/// Go type. Warnings are the paths of unknown fields.
pub(super) fn check_part<'t>(node: NodeRef<'t>, value: &mut Value, owner: &'t str) -> Checked {
    let mut checker = Checker { typed: true, path: Vec::new(), owner, unknown: Vec::new(), bare: true };
    match checker.value(node, value) {
        Err(error) => Checked { errors: vec![error], warnings: Vec::new() },
        Ok(()) => Checked { errors: Vec::new(), warnings: checker.unknown },
    }
}

/// Whether an error is about an unknown or duplicate field, and not about what cannot be read.
pub(crate) fn is_strict(error: &str) -> bool {
    error.starts_with("unknown field ") || error.starts_with("duplicate field ")
}

/// The error for a body that is no object.
pub(crate) fn wrong_root(root: NodeRef<'_>, value: &Value) -> String {
    format!("json: cannot unmarshal {} into Go value of type {}", what(value), go_type(root))
}

enum Step<'t> {
    Field(&'t str),
    Key(String),
    Index(usize),
}

struct Checker<'t> {
    typed: bool,
    path: Vec<Step<'t>>,
    /// The Go type that has the innermost field of the path.
    owner: &'t str,
    unknown: Vec<String>,
    /// Whether unknown fields are only named.
    bare: bool,
}

impl<'t> Checker<'t> {
    fn value(&mut self, node: NodeRef<'t>, value: &mut Value) -> Result<(), String> {
        match node.node() {
            Node::Any => Ok(()),
            Node::AnyObject => self.expect(value.is_object() || value.is_null(), node, value),
            Node::Object(_) => self.object(node, value),
            Node::Map { value: item, .. } => self.map(node, node.tree().node(*item), value),
            Node::List(_) => self.list(node, value),
            Node::String { bytes } => {
                self.expect(value.is_string(), node, value)?;
                if *bytes { base64(value) } else { Ok(()) }
            }
            Node::Bool => self.expect(value.is_boolean(), node, value),
            Node::Integer { bits } => self.integer(*bits, node, value),
            Node::Number => self.expect(value.is_number(), node, value),
            Node::IntOrString => match value {
                Value::String(_) => Ok(()),
                Value::Number(n) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
                other => {
                    Err(format!("json: cannot unmarshal {} into Go value of type int32", literal(other)))
                }
            },
            Node::Quantity => quantity(value, self.typed),
            Node::Time | Node::MicroTime => time(value),
        }
    }

    fn expect(&self, right: bool, node: NodeRef<'_>, value: &Value) -> Result<(), String> {
        if right { Ok(()) } else { Err(self.mismatch(&what(value), node)) }
    }

    fn mismatch(&self, what: &str, node: NodeRef<'_>) -> String {
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(*name),
                Step::Key(_) | Step::Index(_) => None,
            })
            .collect();
        let go_type = go_type(node);
        if fields.is_empty() {
            return format!("json: cannot unmarshal {what} into Go value of type {go_type}");
        }
        let owner = self.owner.rsplit('.').next().unwrap_or_default();
        format!(
            "json: cannot unmarshal {what} into Go struct field {owner}.{} of type {go_type}",
            fields.join(".")
        )
    }

    fn integer(&self, bits: u8, node: NodeRef<'_>, value: &mut Value) -> Result<(), String> {
        let Value::Number(number) = &*value else {
            return Err(self.mismatch(&what(value), node));
        };
        let whole = number.as_i64().or_else(|| whole_float(number.as_f64()?));
        match whole {
            Some(n) if bits == 64 || i32::try_from(n).is_ok() => {
                if !number.is_i64() && !number.is_u64() {
                    *value = n.into();
                }
                Ok(())
            }
            _ => Err(self.mismatch(&format!("number {number}"), node)),
        }
    }

    fn object(&mut self, node: NodeRef<'t>, value: &mut Value) -> Result<(), String> {
        let Value::Object(fields) = value else {
            return Err(self.mismatch(&what(value), node));
        };
        let outer = self.owner;
        let mut failed = None;
        fields.retain(|key, value| {
            if failed.is_some() {
                return true;
            }
            let Some(field) = node.field(key) else {
                self.report(key);
                return false;
            };
            if value.is_null() {
                return false;
            }
            self.owner = node.definition();
            self.path.push(Step::Field(field.name()));
            failed = self.value(field.node(), value).err();
            self.path.pop();
            field.is_required() || !(self.typed && is_empty(field.node(), value))
        });
        self.owner = outer;
        failed.map_or(Ok(()), Err)
    }

    fn map(&mut self, node: NodeRef<'t>, item: NodeRef<'t>, value: &mut Value) -> Result<(), String> {
        let Value::Object(entries) = value else {
            return Err(self.mismatch(&what(value), node));
        };
        for (key, value) in entries.iter_mut() {
            if value.is_null() {
                *value = zero(item);
            }
            // The key is only needed in paths of errors, below scalars there are none.
            let step = if matches!(item.node(), Node::String { .. }) { String::new() } else { key.clone() };
            self.path.push(Step::Key(step));
            let result = self.value(item, value);
            self.path.pop();
            result?;
        }
        Ok(())
    }

    fn list(&mut self, node: NodeRef<'t>, value: &mut Value) -> Result<(), String> {
        let (Value::Array(items), Some(item)) = (&mut *value, node.item()) else {
            return Err(self.mismatch(&what(value), node));
        };
        for (index, value) in items.iter_mut().enumerate() {
            if value.is_null() {
                *value = zero(item);
            }
            self.path.push(Step::Index(index));
            let result = self.value(item, value);
            self.path.pop();
            result?;
        }
        Ok(())
    }

    fn report(&mut self, key: &str) {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Key(key) => path.extend([".", key]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        self.unknown.push(if self.bare { path } else { format!("unknown field {}", quote(&path)) });
    }
}

/// Whether upstream's types would leave the value out: an optional list or map without items.
fn is_empty(node: NodeRef<'_>, value: &Value) -> bool {
    match (node.node(), value) {
        (Node::List(_), Value::Array(items)) => items.is_empty(),
        (Node::Map { .. }, Value::Object(entries)) => entries.is_empty(),
        _ => false,
    }
}

/// The value that Go has for a null item.
fn zero(node: NodeRef<'_>) -> Value {
    match node.node() {
        Node::String { .. } => Value::String(String::new()),
        Node::Bool => Value::Bool(false),
        Node::Integer { .. } | Node::Number | Node::IntOrString => 0.into(),
        Node::Quantity => Value::String("0".to_owned()),
        Node::Object(_) | Node::Map { .. } => Value::Object(serde_json::Map::new()),
        Node::List(_) => Value::Array(Vec::new()),
        Node::Any | Node::AnyObject | Node::Time | Node::MicroTime => Value::Null,
    }
}

fn whole_float(number: f64) -> Option<i64> {
    // Up to 2^53 every whole number is exact in a float.
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

fn base64(value: &Value) -> Result<(), String> {
    use base64::Engine as _;
    let text = value.as_str().unwrap_or_default();
    let engine = &base64::engine::general_purpose::STANDARD;
    let (Err(error), false) = (engine.decode(text), text.is_empty()) else {
        return Ok(());
    };
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
    };
    Err(format!("illegal base64 data at input byte {at}"))
}

fn quantity(value: &mut Value, canonical: bool) -> Result<(), String> {
    let text = match &*value {
        Value::String(s) => s.clone(),
        Value::Number(n) => n.to_string(),
        _ => return Err(crate::api::quantity::Error::Format.to_string()),
    };
    let quantity: Quantity = text.parse().map_err(|e: crate::api::quantity::Error| e.to_string())?;
    if canonical {
        let canonical = quantity.to_string();
        if value.as_str() != Some(&canonical) {
            *value = canonical.into();
        }
    }
    Ok(())
}

fn time(value: &Value) -> Result<(), String> {
    let Value::String(text) = value else {
        return Err(format!("json: cannot unmarshal {} into Go value of type string", what(value)));
    };
    if meta::parse_time(text).is_some() {
        return Ok(());
    }
    const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
    let (text, layout) = (quote(text), quote(LAYOUT));
    Err(format!("parsing time {text} as {layout}: cannot parse {text} as {}", quote("2006")))
}

fn what(value: &Value) -> String {
    let word = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    word.to_owned()
}

fn literal(value: &Value) -> String {
    match value {
        Value::Number(n) => format!("number {n}"),
        other => what(other),
    }
}

/// What Go calls a type, as in `v1.PodSpec` or `[]v1.Container`.
fn go_type(node: NodeRef<'_>) -> String {
    match node.node() {
        Node::Any | Node::AnyObject => "map[string]interface {}".to_owned(),
        Node::String { bytes: true } => "[]uint8".to_owned(),
        Node::String { bytes: false } | Node::Quantity | Node::Time | Node::MicroTime => "string".to_owned(),
        Node::Integer { bits } => format!("int{bits}"),
        Node::Number => "float64".to_owned(),
        Node::Bool => "bool".to_owned(),
        Node::IntOrString => "intstr.IntOrString".to_owned(),
        Node::Object(_) => {
            let mut parts = node.definition().rsplit('.');
            let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            format!("{version}.{name}")
        }
        Node::Map { value, .. } => format!("map[string]{}", go_type(node.tree().node(*value))),
        Node::List(_) => format!("[]{}", node.item().map(go_type).unwrap_or_default()),
    }
}
