//! What rules see of a schema: declarations for CEL, with bounds for estimates of cost. The figures are those of
//! `apiserver/pkg/cel/common/schemas.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::structural::{Structural, Type};
use crate::server::cel::{Decl, Field, ListKind, MOST_REQUEST_BYTES, Shape, escape};

/// How long `metadata.name` is at most.
const NAME_MAX_LENGTH: u64 = 253;
const TIME_SIZE: u64 = 32;
const DATE_SIZE: u64 = 12;

/// The declaration of a schema; `None` if rules do not see it. `root`: it is of whole objects.
pub(super) fn declare(schema: &Structural, root: bool, name: &str) -> Option<Arc<Decl>> {
    let mut decl = shape(schema, root, name)?;
    decl.nullable = schema.nullable;
    Some(Arc::new(decl))
}

fn shape(schema: &Structural, root: bool, name: &str) -> Option<Decl> {
    let values = schema.values.as_deref();
    if schema.int_or_string {
        let max = values.and_then(|v| v.max_length).map_or(MOST_REQUEST_BYTES - 2, characters);
        return Some(Decl { max_elements: max, ..Decl::scalar(Shape::IntOrString, 1) });
    }
    match schema.kind {
        Type::Object => object(schema, root, name),
        _ if root => object(schema, root, name),
        Type::Array => {
            let items = schema.items.as_deref()?;
            let items = declare(items, items.embedded, &format!("{name}.@idx"))?;
            let bound = values.and_then(|v| v.max_items);
            let max = bound.map_or((MOST_REQUEST_BYTES - 2) / (items.min_size + 1), not_negative);
            let kind = match schema.list_type() {
                "set" => ListKind::Set,
                "map" => ListKind::Map(schema.list_map_keys().to_vec()),
                _ => ListKind::Atomic,
            };
            let shape = Shape::List { items, kind };
            Some(Decl { shape, max_elements: max, min_size: 2, nullable: false })
        }
        Type::String => Some(string(schema)),
        Type::Boolean => Some(Decl::scalar(Shape::Bool, 4)),
        Type::Number => Some(Decl::scalar(Shape::Double, 1)),
        Type::Integer => Some(Decl::scalar(Shape::Int, 1)),
        Type::None => None,
    }
}

/// Whether a schema declares itself all that rules see of whole objects.
fn declares_identity(schema: &Structural) -> bool {
    let is_text = |of: Option<&Structural>| of.is_some_and(|s| s.kind == Type::String);
    let metadata = schema.property("metadata").filter(|m| m.kind == Type::Object);
    is_text(schema.property("kind"))
        && is_text(schema.property("apiVersion"))
        && metadata.is_some_and(|m| is_text(m.property("name")) && is_text(m.property("generateName")))
}

fn object(schema: &Structural, root: bool, name: &str) -> Option<Decl> {
    let root = root && !declares_identity(schema);
    if let (Some(additional), false) = (schema.additional(), root) {
        let values = declare(additional, additional.embedded, &format!("{name}.@elem"))?;
        let bound = schema.values.as_deref().and_then(|v| v.max_properties);
        let max = bound.map_or((MOST_REQUEST_BYTES - 2) / (values.min_size + 6), not_negative);
        return Some(Decl { shape: Shape::Map(values), max_elements: max, min_size: 2, nullable: false });
    }
    let required = schema.values.as_deref().map(|v| v.required.as_slice()).unwrap_or_default();
    let mut fields = BTreeMap::new();
    let mut min_size = 2;
    for (property, of) in &schema.properties {
        if root && matches!(&**property, "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let Some(decl) = declare(of, of.embedded, &format!("{name}.{property}")) else { continue };
        if required.contains(property) && of.default.is_none() {
            min_size += property.len() as u64 + decl.min_size + 4;
        }
        if let Some(escaped) = escape(property) {
            fields.insert(escaped.into(), Field { property: property.clone(), decl });
        }
    }
    if root {
        for (property, decl) in identity(schema) {
            if required.iter().any(|r| &**r == property) {
                min_size += property.len() as u64 + decl.min_size + 4;
            }
            fields.insert(property.into(), Field { property: property.into(), decl: Arc::new(decl) });
        }
    }
    Some(Decl::scalar(Shape::Object { name: name.into(), fields }, min_size))
}

/// What rules see of every whole object.
fn identity(schema: &Structural) -> [(&'static str, Decl); 3] {
    let text = || Decl { max_elements: MOST_REQUEST_BYTES - 2, ..Decl::scalar(Shape::String, 2) };
    let metadata = schema.property("metadata");
    let named = |property: &str, most: u64| {
        let values = metadata.and_then(|m| m.property(property)).and_then(|p| p.values.as_deref());
        let shorter = values.and_then(|v| v.max_length).map_or(most, |max| not_negative(max).min(most));
        Decl { max_elements: shorter * 4, ..Decl::scalar(Shape::String, 2) }
    };
    let fields = [
        ("name", named("name", NAME_MAX_LENGTH)),
        ("generateName", named("generateName", NAME_MAX_LENGTH - 1)),
    ];
    [("apiVersion", text()), ("kind", text()), ("metadata", Decl::object("metadata", fields))]
}

fn string(schema: &Structural) -> Decl {
    let values = schema.values.as_deref();
    let (shape, min_size, fixed) = match schema.format() {
        "byte" => {
            let max = values.and_then(|v| v.max_length).map_or(MOST_REQUEST_BYTES - 2, not_negative);
            (Shape::Bytes, 2, Some(max))
        }
        "duration" => (Shape::Duration, 3, Some(TIME_SIZE)),
        "date" => (Shape::Date, DATE_SIZE, Some(DATE_SIZE)),
        "date-time" => (Shape::DateTime, 21, Some(TIME_SIZE)),
        _ => (Shape::String, 2, None),
    };
    let max = fixed.unwrap_or_else(|| match values {
        Some(values) if values.max_length.is_some() => values.max_length.map_or(0, characters),
        Some(values) if !values.enumeration.is_empty() => {
            let lengths = values.enumeration.iter().filter_map(|v| v.as_str()).map(|s| s.len() as u64);
            lengths.max().unwrap_or_default()
        }
        _ => MOST_REQUEST_BYTES - 2,
    });
    Decl { max_elements: max, ..Decl::scalar(shape, min_size) }
}

fn not_negative(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

/// A character takes up to four bytes.
fn characters(n: i64) -> u64 {
    not_negative(n).saturating_mul(4)
}

/// The declaration of a part of what is declared.
pub(super) enum Part<'p> {
    /// A field of an object, or a value of a map.
    Field(&'p str),
    /// A value of a map.
    Value,
    /// An item of a list.
    Item,
}

/// Goes one step down.
pub(super) fn part(decl: &Arc<Decl>, part: &Part<'_>) -> Option<Arc<Decl>> {
    match (&decl.shape, part) {
        (Shape::List { items, .. }, Part::Item) => Some(Arc::clone(items)),
        (Shape::Map(values), Part::Value) => Some(Arc::clone(values)),
        (Shape::Object { .. }, Part::Field(name)) => decl.field(&escape(name)?).map(|f| Arc::clone(&f.decl)),
        _ => None,
    }
}
