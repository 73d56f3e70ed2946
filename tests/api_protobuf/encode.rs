//! Writes objects as messages, driven by the same types as the decoder and written apart from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge::api::Schema;
use kedge::api::schema::{Node, NodeRef};
use serde_json::Value;

/// A request body.
pub fn body(schema: &Schema, object: &Value) -> Vec<u8> {
    envelope(&schema.kind().api_version(), &schema.kind().kind, &message(schema.root(), object))
}

/// A request body around a message.
pub fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, api_version), bytes(2, kind)].concat();
    [b"k8s\0".to_vec(), bytes(1, meta), bytes(2, message), bytes(3, ""), bytes(4, "")].concat()
}

/// The last part of the name of a type.
pub fn name(node: NodeRef<'_>) -> &str {
    let definition = node.tree().definitions().find(|d| d.node().id() == node.id());
    definition.and_then(|d| d.name().rsplit('.').next()).unwrap_or_default()
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn bytes(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn int(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value.cast_unsigned())].concat()
}

fn message(node: NodeRef<'_>, object: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        let field = node.field(key).unwrap_or_else(|| panic!("{key} is no field of {node:?}"));
        if field.number() != 0 {
            out.extend(at_path(field.number(), |number| content(number, field.node(), value)));
        }
    }
    out
}

/// A field within the messages around it, which come in as many parts as they have fields.
fn at_path(path: u32, inner: impl FnOnce(u64) -> Vec<u8>) -> Vec<u8> {
    let mut out = inner(u64::from(path & 0xff));
    let mut outer = path >> 8;
    while outer != 0 {
        if !out.is_empty() {
            out = bytes(u64::from(outer & 0xff), out);
        }
        outer >>= 8;
    }
    out
}

fn content(number: u64, node: NodeRef<'_>, value: &Value) -> Vec<u8> {
    match (node.node(), value) {
        (Node::List(_), Value::Array(items)) => {
            let item = node.item().expect("a list has items");
            items.iter().flat_map(|v| content(number, item, v)).collect()
        }
        (Node::Map { .. }, Value::Object(entries)) => {
            let item = node.child("").expect("a map has values");
            entries.iter().flat_map(|(k, v)| bytes(number, [bytes(1, k), entry(item, v)].concat())).collect()
        }
        (_, value) => scalar(number, node, value),
    }
}

/// The value of a map's entry: a list needs a message of its own.
fn entry(node: NodeRef<'_>, value: &Value) -> Vec<u8> {
    match node.node() {
        Node::List(_) => bytes(2, content(1, node, value)),
        _ => content(2, node, value),
    }
}

fn scalar(number: u64, node: NodeRef<'_>, value: &Value) -> Vec<u8> {
    let text = || value.as_str().expect("text");
    match node.node() {
        Node::String { bytes: false } => bytes(number, text()),
        Node::String { bytes: true } => bytes(number, STANDARD.decode(text()).expect("base64")),
        Node::Integer { .. } => int(number, value.as_i64().expect("a whole number")),
        Node::Bool => int(number, value.as_bool().expect("true or false").into()),
        Node::Number => {
            let number = varint(number << 3 | 1);
            [number, value.as_f64().expect("a number").to_le_bytes().to_vec()].concat()
        }
        Node::IntOrString => bytes(
            number,
            match value.as_i64() {
                Some(n) => [int(1, 0), int(2, n), bytes(3, "")].concat(),
                None => [int(1, 1), int(2, 0), bytes(3, text())].concat(),
            },
        ),
        Node::Quantity => bytes(number, bytes(1, text())),
        Node::Time | Node::MicroTime => {
            let at: jiff::Timestamp = text().parse().expect("a time");
            let nanos = at.as_nanosecond().rem_euclid(1_000_000_000) as i64;
            let seconds = at.as_nanosecond().div_euclid(1_000_000_000) as i64;
            bytes(number, [int(1, seconds), int(2, nanos)].concat())
        }
        Node::AnyObject => bytes(number, bytes(1, value.to_string())),
        Node::Any => bytes(number, any(node, value)),
        _ => bytes(number, message(node, value)),
    }
}

fn any(node: NodeRef<'_>, value: &Value) -> Vec<u8> {
    let props = |value: &Value| message(node.tree().named("JSONSchemaProps").expect("built in"), value);
    match (name(node), value) {
        ("CustomResourceSubresourceStatus", _) => Vec::new(),
        ("JSONSchemaPropsOrBool", Value::Bool(allows)) => int(1, (*allows).into()),
        ("JSONSchemaPropsOrBool", value) => [int(1, 1), bytes(2, props(value))].concat(),
        ("JSONSchemaPropsOrArray", Value::Array(items)) => {
            items.iter().flat_map(|v| bytes(2, props(v))).collect()
        }
        ("JSONSchemaPropsOrStringArray", Value::Array(items)) => {
            items.iter().flat_map(|v| bytes(2, v.as_str().expect("text"))).collect()
        }
        ("JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray", value) => bytes(1, props(value)),
        (_, value) => bytes(1, value.to_string()),
    }
}
