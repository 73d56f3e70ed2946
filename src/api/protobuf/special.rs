//! Messages of types that JSON writes in a form of their own.

use jiff::Timestamp;
use serde_json::{Number, Value};

use super::object::{Decoder, bytes, text, wrong};
use super::wire::{Fault, Malformed, Span, Tag, Wire};
use crate::api::meta;
use crate::api::schema::NodeRef;

fn unreadable(name: &str, what: &'static str, at: usize) -> Malformed {
    Malformed { fault: Fault::Value(name.to_owned(), what), at }
}

fn integer(tag: Tag<'_>, name: &str) -> Result<i64, Malformed> {
    match tag.wire {
        Wire::Varint(n) => Ok(n.cast_signed()),
        _ => Err(wrong(tag, name)),
    }
}

/// A number; JSON has neither infinities nor NaN.
pub(super) fn number(value: f64, tag: Tag<'_>, name: &str) -> Result<Value, Malformed> {
    Number::from_f64(value).map(Value::Number).ok_or_else(|| unreadable(name, "a number", tag.at))
}

/// `intstr.IntOrString`: type 1, number 2, text 3.
pub(super) fn int_or_string(mut message: Span<'_>, name: &str) -> Result<Value, Malformed> {
    let at = message.at();
    let (mut form, mut number, mut string) = (0, 0, String::new());
    while let Some(tag) = message.next()? {
        match tag.number {
            1 => form = integer(tag, name)?,
            2 => number = integer(tag, name)? as i32,
            3 => string = text(tag, name)?,
            _ => {}
        }
    }
    match form {
        0 => Ok(number.into()),
        1 => Ok(string.into()),
        _ => Err(unreadable(name, "an IntOrString", at)),
    }
}

/// `resource.Quantity`: text 1.
pub(super) fn quantity(mut message: Span<'_>, name: &str) -> Result<Value, Malformed> {
    let mut amount = "0".to_owned();
    while let Some(tag) = message.next()? {
        if tag.number == 1 {
            amount = text(tag, name)?;
        }
    }
    Ok(amount.into())
}

/// `meta/v1.Time` and `MicroTime`: seconds 1, nanoseconds 2. An empty message is no time.
pub(super) fn time(mut message: Span<'_>, name: &str, micro: bool) -> Result<Value, Malformed> {
    let at = message.at();
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    while let Some(tag) = message.next()? {
        match tag.number {
            1 => seconds = integer(tag, name)?,
            2 => nanos = integer(tag, name)? as i32,
            _ => {}
        }
    }
    // Upstream ignores the parts of a second of a Time: JSON would not have them.
    let moment = Timestamp::new(seconds, if micro { nanos } else { 0 });
    let moment = moment.map_err(|_| unreadable(name, "a time", at))?;
    Ok(if micro { meta::micro_time(moment) } else { meta::time(moment) }.into())
}

/// `runtime.RawExtension`, `meta/v1.FieldsV1`, `apiextensions/v1.JSON`: JSON in field 1.
pub(super) fn json(mut message: Span<'_>, name: &str, depth: u32) -> Result<Value, Malformed> {
    let mut value = Value::Null;
    while let Some(tag) = message.next()? {
        if tag.number == 1 {
            let raw = bytes(tag, name)?;
            if raw.is_empty() {
                continue;
            }
            value = serde_json::from_slice(raw.bytes()).map_err(|_| unreadable(name, "JSON", raw.at()))?;
            if !fits(&value, depth) {
                return Err(Malformed { fault: Fault::Depth, at: raw.at() });
            }
        }
    }
    Ok(value)
}

/// Whether a value is nested no deeper.
fn fits(value: &Value, depth: u32) -> bool {
    let inner = |value: &Value| depth > 0 && fits(value, depth - 1);
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(inner),
        Value::Object(fields) => depth > 0 && fields.values().all(inner),
        _ => true,
    }
}

/// Types of `apiextensions/v1` that are one thing or another.
pub(super) fn any(
    decoder: &mut Decoder,
    node: NodeRef<'_>,
    mut message: Span<'_>,
    name: &str,
    depth: u32,
) -> Result<Value, Malformed> {
    let definition = node.tree().definitions().find(|d| d.node().id() == node.id());
    let kind = definition.and_then(|d| d.name().rsplit('.').next()).unwrap_or_default();
    if kind == "CustomResourceSubresourceStatus" {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let Some(props) = node.tree().named("JSONSchemaProps").filter(|_| kind.starts_with("JSONSchemaPropsOr"))
    else {
        return json(message, name, depth);
    };
    let (mut allows, mut schema, mut list) = (false, Value::Null, Vec::new());
    while let Some(tag) = message.next()? {
        match (kind, tag.number) {
            ("JSONSchemaPropsOrBool", 1) => allows = integer(tag, name)? != 0,
            ("JSONSchemaPropsOrBool", 2) | (_, 1) => schema = decoder.value(props, tag, name, depth)?,
            ("JSONSchemaPropsOrArray", 2) => list.push(decoder.value(props, tag, name, depth)?),
            ("JSONSchemaPropsOrStringArray", 2) => list.push(text(tag, name)?.into()),
            _ => {}
        }
    }
    Ok(match kind {
        "JSONSchemaPropsOrBool" if schema.is_null() => allows.into(),
        _ if !list.is_empty() => list.into(),
        _ => schema,
    })
}
