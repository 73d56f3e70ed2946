//! Reads request bodies in Protocol Buffers, which typed Go clients send for built-in kinds.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>: four bytes of
//! magic, then `runtime.Unknown` around the object. Bodies become the same JSON that a JSON client
//! would have sent; from there on there is one path. Answers are always JSON: all these clients take it.
//! What the fields are called is in `fields.txt` (see [`table`]).

mod table;
mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::Status;
use crate::api::meta::{micro_time, time};
use table::{Field, Kind, Shape, Special};
use wire::{Reader, Wire};

/// The media type.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";
/// Objects may be nested so deep.
const DEPTH: u32 = 64;

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("the body does not begin as a Kubernetes object in Protocol Buffers")]
    Magic,
    #[error("the body is cut off or damaged")]
    Damaged,
    #[error("the object is nested too deeply")]
    Deep,
    #[error("{0} cannot be read in Protocol Buffers")]
    Unknown(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// Whether a content type is this one.
pub(super) fn is(content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim() == MEDIA_TYPE
}

/// Decodes a body to the object it holds.
///
/// # Errors
/// It is damaged, or of a kind without a table.
pub(super) fn decode(body: &[u8]) -> Result<Value, Error> {
    let unknown = body.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(unknown);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => (api_version, kind) = type_meta(meta)?,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind);
    let mut object = match message(&name, raw, DEPTH)? {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    object.insert("apiVersion".into(), json!(api_version));
    object.insert("kind".into(), json!(kind));
    object.entry("metadata").or_insert_with(|| json!({}));
    Ok(Value::Object(object))
}

fn type_meta(bytes: &[u8]) -> Result<(String, String), Error> {
    let (mut api_version, mut kind) = (String::new(), String::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(text)) => api_version = wire::text(text)?,
            (2, Wire::Bytes(text)) => kind = wire::text(text)?,
            _ => {}
        }
    }
    Ok((api_version, kind))
}

/// The table's name of a kind: `core/v1.Pod`, `rbac/v1.Role`.
fn message_name(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        return "meta/v1.DeleteOptions".to_owned();
    }
    match api_version.split_once('/') {
        None => format!("core/{api_version}.{kind}"),
        Some((group, version)) => {
            format!("{}/{version}.{kind}", group.split('.').next().unwrap_or(group))
        }
    }
}

/// The JSON of a message.
fn message(name: &str, bytes: &[u8], depth: u32) -> Result<Value, Error> {
    let mut map = Map::new();
    fill(name, bytes, depth, &mut map)?;
    Ok(Value::Object(map))
}

/// Puts the fields of a message into a map; those of embedded messages too.
fn fill(name: &str, bytes: &[u8], depth: u32, map: &mut Map<String, Value>) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::Deep)?;
    let fields = table::fields(name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        let Some(field) = fields.iter().find(|f| f.number == number) else { continue };
        match (&field.shape, &field.kind, wire) {
            (Shape::One, Kind::Message(inner), Wire::Bytes(bytes)) if field.name.is_empty() => {
                fill(inner, bytes, depth, map)?;
            }
            (Shape::One, kind, wire) => one(field, kind, wire, depth, map)?,
            (Shape::List, kind, wire) => list(field, kind, wire, depth, map)?,
            (Shape::Map, kind, Wire::Bytes(bytes)) => {
                let (key, value) = entry(kind, bytes, depth)?;
                if let Some(map) = map.entry(field.name).or_insert_with(|| json!({})).as_object_mut() {
                    map.insert(key, value);
                }
            }
            (Shape::Map, ..) => return Err(Error::Damaged),
        }
    }
    Ok(())
}

fn one(
    field: &Field,
    kind: &Kind,
    wire: Wire<'_>,
    depth: u32,
    map: &mut Map<String, Value>,
) -> Result<(), Error> {
    let value = value(kind, wire, depth)?;
    // Go writes fields that are no pointers even where they are empty; JSON leaves them out.
    if field.keep && !value.is_null() || !is_empty(&value) {
        map.insert(field.name.to_owned(), value);
    }
    Ok(())
}

fn list(
    field: &Field,
    kind: &Kind,
    wire: Wire<'_>,
    depth: u32,
    map: &mut Map<String, Value>,
) -> Result<(), Error> {
    let mut values = Vec::new();
    match (kind, wire) {
        // Numbers may be packed.
        (Kind::Int | Kind::Bool, Wire::Bytes(packed)) => {
            let mut reader = Reader::new(packed);
            while let Some(number) = reader.varint_or_end()? {
                values.push(value(kind, Wire::Varint(number), depth)?);
            }
        }
        (kind, wire) => values.push(value(kind, wire, depth)?),
    }
    if let Some(list) = map.entry(field.name).or_insert_with(|| json!([])).as_array_mut() {
        list.append(&mut values);
    }
    Ok(())
}

/// A map entry: key 1, value 2.
fn entry(kind: &Kind, bytes: &[u8], depth: u32) -> Result<(String, Value), Error> {
    let mut key = String::new();
    let mut found = match kind {
        Kind::Text | Kind::Bytes | Kind::Special(Special::Quantity) => json!(""),
        Kind::Special(Special::Values) => json!([]),
        _ => json!({}),
    };
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(text)) => key = wire::text(text)?,
            (2, wire) => found = value(kind, wire, depth)?,
            _ => {}
        }
    }
    Ok((key, found))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn value(kind: &Kind, wire: Wire<'_>, depth: u32) -> Result<Value, Error> {
    match (kind, wire) {
        (Kind::Text, Wire::Bytes(bytes)) => Ok(json!(wire::text(bytes)?)),
        (Kind::Bytes, Wire::Bytes(bytes)) => Ok(json!(STANDARD.encode(bytes))),
        (Kind::Bool, Wire::Varint(number)) => Ok(json!(number != 0)),
        (Kind::Int, Wire::Varint(number)) => Ok(json!(number.cast_signed())),
        (Kind::Double, Wire::Fixed64(bits)) => Ok(json!(f64::from_bits(bits))),
        (Kind::Message(name), Wire::Bytes(bytes)) => message(name, bytes, depth),
        (Kind::Special(special), Wire::Bytes(bytes)) => self::special(*special, bytes),
        _ => Err(Error::Damaged),
    }
}

/// Types that JSON writes in a form of their own.
fn special(kind: Special, bytes: &[u8]) -> Result<Value, Error> {
    let (mut numbers, mut texts) = ([0i64; 4], Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match wire {
            Wire::Varint(value) => {
                if let Some(slot) = numbers.get_mut(number as usize) {
                    *slot = value.cast_signed();
                }
            }
            Wire::Bytes(bytes) => texts.push(bytes),
            Wire::Fixed64(_) | Wire::Fixed32 => {}
        }
    }
    let text = || texts.first().map_or(Ok(String::new()), |t| wire::text(t));
    Ok(match kind {
        Special::Time | Special::MicroTime if bytes.is_empty() => Value::Null,
        Special::Time => json!(time(moment(numbers)?)),
        Special::MicroTime => json!(micro_time(moment(numbers)?)),
        Special::Duration => json!(duration(numbers[1])),
        Special::Quantity => json!(text()?),
        Special::IntOrString if numbers[1] == 0 => json!(numbers[2]),
        Special::IntOrString => json!(text()?),
        Special::Raw => match texts.first() {
            Some(raw) if !raw.is_empty() => serde_json::from_slice(raw).map_err(|_| Error::Damaged)?,
            _ => Value::Null,
        },
        Special::Values => {
            json!(texts.iter().map(|t| wire::text(t)).collect::<Result<Vec<_>, _>>()?)
        }
    })
}

fn moment(numbers: [i64; 4]) -> Result<Timestamp, Error> {
    let nanos = i32::try_from(numbers[2]).map_err(|_| Error::Damaged)?;
    Timestamp::new(numbers[1], nanos).map_err(|_| Error::Damaged)
}

/// Nanoseconds as Go's `time.Duration` writes whole seconds and parts of them.
fn duration(nanos: i64) -> String {
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if rest == 0 { format!("{seconds}s") } else { format!("{nanos}ns") }
}

#[cfg(test)]
mod tests;
