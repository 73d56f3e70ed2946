//! Messages of objects, field by field, as their schema says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::special;
use super::wire::{Fault, Malformed, Span, Tag, Wire};
use crate::api::schema::{Field, Node, NodeRef};

/// Objects, lists and maps may lie so deeply in each other. What is stored is read as JSON again, which may have 128.
const DEPTH: u32 = 120;
/// A body may have so many values: each costs memory, and two bytes are enough to write one.
const VALUES: u32 = 1 << 19;

/// The object of a type that a message holds.
pub(super) fn decode(node: NodeRef<'_>, message: Span<'_>) -> Result<Map<String, Value>, Malformed> {
    let mut object = Map::new();
    Decoder { left: VALUES }.fill(node, 0, message, DEPTH, &mut object)?;
    Ok(object)
}

/// The error of a field whose value has another form than its type.
pub(super) fn wrong(tag: Tag<'_>, name: &str) -> Malformed {
    Malformed { fault: Fault::WireType(tag.wire.number(), name.to_owned()), at: tag.at }
}

/// A field that is text.
pub(super) fn text(tag: Tag<'_>, name: &str) -> Result<String, Malformed> {
    let span = bytes(tag, name)?;
    let text = std::str::from_utf8(span.bytes());
    text.map(str::to_owned).map_err(|_| Malformed { fault: Fault::Utf8(name.to_owned()), at: span.at() })
}

/// A field that is text, bytes or a message.
pub(super) fn bytes<'b>(tag: Tag<'b>, name: &str) -> Result<Span<'b>, Malformed> {
    match tag.wire {
        Wire::Bytes(span) => Ok(span),
        _ => Err(wrong(tag, name)),
    }
}

pub(super) struct Decoder {
    /// How many values may follow.
    left: u32,
}

impl Decoder {
    fn count(&mut self, at: usize) -> Result<(), Malformed> {
        self.left = self.left.checked_sub(1).ok_or(Malformed { fault: Fault::Size, at })?;
        Ok(())
    }

    fn deeper(depth: u32, at: usize) -> Result<u32, Malformed> {
        depth.checked_sub(1).ok_or(Malformed { fault: Fault::Depth, at })
    }

    /// Puts the fields of a message into an object. `outer` is the path of the message, if it is one of those whose
    /// fields JSON has in the object around it; see [`Field::number`].
    fn fill(
        &mut self,
        node: NodeRef<'_>,
        outer: u32,
        mut message: Span<'_>,
        depth: u32,
        object: &mut Map<String, Value>,
    ) -> Result<(), Malformed> {
        let depth = Self::deeper(depth, message.at())?;
        while let Some(tag) = message.next()? {
            // Fields that the schema does not know are skipped, so that newer clients can be read.
            if tag.number > 0xff || outer > 0xff_ffff {
                continue;
            }
            let path = outer << 8 | tag.number;
            if let Some(field) = node.fields().find(|f| f.number() == path) {
                self.count(tag.at)?;
                self.field(field, tag, depth, object)?;
            } else if node.fields().any(|f| f.number() >> 8 == path || f.number() >> 16 == path) {
                let inner = bytes(tag, node.definition())?;
                self.fill(node, path, inner, depth, object)?;
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: Field<'_>,
        tag: Tag<'_>,
        depth: u32,
        object: &mut Map<String, Value>,
    ) -> Result<(), Malformed> {
        let (name, node) = (field.name(), field.node());
        match node.node() {
            Node::List(_) => {
                let depth = Self::deeper(depth, tag.at)?;
                let slot = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let (Value::Array(items), Some(item)) = (slot, node.item()) {
                    self.items(item, tag, name, depth, items)?;
                }
            }
            Node::Map { .. } => {
                let depth = Self::deeper(depth, tag.at)?;
                let slot = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if let (Value::Object(entries), Some(value)) = (slot, node.child("")) {
                    self.entry(value, tag, name, depth, entries)?;
                }
            }
            Node::Object(_) => {
                // A message that comes twice is one message in parts.
                let slot = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(inner) = slot else { return Ok(()) };
                self.fill(node, 0, bytes(tag, name)?, depth, inner)?;
                if inner.is_empty() && field.omits_empty() {
                    object.remove(name);
                }
            }
            _ => {
                let value = self.value(node, tag, name, depth)?;
                if value.is_null() || field.omits_empty() && is_empty(&value) {
                    object.remove(name);
                } else {
                    object.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    /// One item of a list, or several numbers in one field.
    fn items(
        &mut self,
        item: NodeRef<'_>,
        tag: Tag<'_>,
        name: &str,
        depth: u32,
        items: &mut Vec<Value>,
    ) -> Result<(), Malformed> {
        let (Node::Integer { .. } | Node::Bool, Wire::Bytes(mut packed)) = (item.node(), tag.wire) else {
            items.push(self.value(item, tag, name, depth)?);
            return Ok(());
        };
        while !packed.is_empty() {
            let at = packed.at();
            self.count(at)?;
            let wire = Wire::Varint(packed.varint()?);
            items.push(self.value(item, Tag { wire, at, ..tag }, name, depth)?);
        }
        Ok(())
    }

    /// An entry of a map: a message of key and value.
    fn entry(
        &mut self,
        node: NodeRef<'_>,
        tag: Tag<'_>,
        name: &str,
        depth: u32,
        entries: &mut Map<String, Value>,
    ) -> Result<(), Malformed> {
        let mut message = bytes(tag, name)?;
        let empty = Tag { number: 2, wire: Wire::Bytes(message.empty()), at: tag.at };
        let (mut key, mut value) = (String::new(), None);
        while let Some(tag) = message.next()? {
            match tag.number {
                1 => key = text(tag, name)?,
                2 => value = Some(self.value(node, tag, name, depth)?),
                _ => {}
            }
        }
        let value = match (value, node.node()) {
            (Some(value), _) => value,
            (None, Node::Integer { .. }) => 0.into(),
            (None, Node::Bool) => false.into(),
            (None, _) => self.value(node, empty, name, depth)?,
        };
        entries.insert(key, value);
        Ok(())
    }

    /// A value that stands in a field of its own.
    pub(super) fn value(
        &mut self,
        node: NodeRef<'_>,
        tag: Tag<'_>,
        name: &str,
        depth: u32,
    ) -> Result<Value, Malformed> {
        match (node.node(), tag.wire) {
            (Node::String { bytes: false }, _) => text(tag, name).map(Value::from),
            (Node::String { bytes: true }, Wire::Bytes(span)) => Ok(STANDARD.encode(span.bytes()).into()),
            (Node::Integer { bits: 64 }, Wire::Varint(n)) => Ok(n.cast_signed().into()),
            // As Go's decoder, the upper half is not looked at.
            (Node::Integer { .. }, Wire::Varint(n)) => Ok((n as u32).cast_signed().into()),
            (Node::Bool, Wire::Varint(n)) => Ok((n != 0).into()),
            (Node::Number, Wire::Fixed64(bits)) => special::number(f64::from_bits(bits), tag, name),
            (Node::Number, Wire::Fixed32(bits)) => special::number(f32::from_bits(bits).into(), tag, name),
            (Node::Object(_), Wire::Bytes(message)) => {
                let mut object = Map::new();
                self.fill(node, 0, message, depth, &mut object)?;
                Ok(Value::Object(object))
            }
            (Node::List(_), Wire::Bytes(message)) => self.wrapped(node, message, name, depth),
            (Node::IntOrString, Wire::Bytes(message)) => special::int_or_string(message, name),
            (Node::Quantity, Wire::Bytes(message)) => special::quantity(message, name),
            (Node::Time, Wire::Bytes(message)) => special::time(message, name, false),
            (Node::MicroTime, Wire::Bytes(message)) => special::time(message, name, true),
            (Node::AnyObject, Wire::Bytes(message)) => special::json(message, name, depth),
            (Node::Any, Wire::Bytes(message)) => special::any(self, node, message, name, depth),
            _ => Err(wrong(tag, name)),
        }
    }

    /// A list where only a message can stand: `ExtraValue` and its like have their items in field 1.
    fn wrapped(
        &mut self,
        node: NodeRef<'_>,
        mut message: Span<'_>,
        name: &str,
        depth: u32,
    ) -> Result<Value, Malformed> {
        let depth = Self::deeper(depth, message.at())?;
        let mut items = Vec::new();
        while let Some(tag) = message.next()? {
            if let (1, Some(item)) = (tag.number, node.item()) {
                self.count(tag.at)?;
                self.items(item, tag, name, depth, &mut items)?;
            }
        }
        Ok(Value::Array(items))
    }
}

/// Whether Go would leave the value out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}
