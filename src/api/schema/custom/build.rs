//! Makes the tree.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use crate::api::identity::GroupVersionKind;
use crate::api::schema::Schemas;
use crate::api::schema::tree::{
    ANYTHING, DefinitionNode, FieldNode, Kind, ListKind, ListNode, Node, NodeRef, ObjectNode, Text, Tree,
};

const OBJECT_META: &str = "ObjectMeta";
const REQUIRED: u8 = 1;

/// The tree of one kind. `root`: the schema is of whole objects.
pub(super) fn tree(kind: &GroupVersionKind, openapi: Option<&Value>, preserve: bool, root: bool) -> Tree {
    let mut builder = Builder::default();
    let anything = builder.scalar("any", Node::Any);
    debug_assert_eq!(anything, ANYTHING);
    let empty = Value::Object(serde_json::Map::new());
    let node = match openapi {
        Some(schema) => builder.value(schema, preserve, root),
        None => builder.value(&empty, true, root),
    };
    let name = definition_name(kind);
    let definitions = vec![DefinitionNode { name: builder.text(&name), node }];
    Tree {
        text: Cow::Owned(builder.text),
        nodes: builder.nodes,
        fields: builder.fields,
        definitions,
        kinds: vec![Kind { id: kind.clone(), node }],
        typed: false,
    }
}

/// The name of a custom kind's type in documents: the group's parts turned round, as in `com.example.v1.CronTab`.
fn definition_name(kind: &GroupVersionKind) -> String {
    let mut parts: Vec<&str> = kind.group.split('.').rev().collect();
    parts.extend([kind.version.as_ref(), kind.kind.as_ref()]);
    parts.join(".")
}

#[derive(Default)]
struct Builder {
    text: String,
    interned: HashMap<String, Text>,
    nodes: Vec<Node>,
    fields: Vec<FieldNode>,
    /// Scalars, of which one node each is enough.
    scalars: HashMap<&'static str, u32>,
    /// Nodes copied from the built-in tree.
    copied: HashMap<u32, u32>,
}

impl Builder {
    fn text(&mut self, text: &str) -> Text {
        if text.is_empty() {
            return (0, 0);
        }
        if let Some(known) = self.interned.get(text) {
            return *known;
        }
        let start = self.text.len() as u32;
        self.text.push_str(text);
        let span = (start, self.text.len() as u32);
        self.interned.insert(text.to_owned(), span);
        span
    }

    fn push(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    fn scalar(&mut self, name: &'static str, node: Node) -> u32 {
        if let Some(known) = self.scalars.get(name) {
            return *known;
        }
        let id = self.push(node);
        self.scalars.insert(name, id);
        id
    }

    /// The type of a schema. `open`: fields it does not know are kept. `root`: it is of whole objects.
    fn value(&mut self, schema: &Value, open: bool, root: bool) -> u32 {
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or_default();
        let preserve = open || flag("x-kubernetes-preserve-unknown-fields");
        if flag("x-kubernetes-int-or-string") {
            return self.scalar("int-or-string", Node::IntOrString);
        }
        let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default();
        let embedded = root || flag("x-kubernetes-embedded-resource");
        match text("type") {
            "array" => self.list(schema, preserve),
            "object" => self.object(schema, preserve, embedded),
            "string" => self.scalar("string", Node::String { bytes: false }),
            "integer" => self.scalar("integer", Node::Integer { bits: 64 }),
            "number" => self.scalar("number", Node::Number),
            "boolean" => self.scalar("boolean", Node::Bool),
            _ if embedded || schema.get("properties").is_some() => self.object(schema, preserve, embedded),
            _ => self.scalar("any", Node::Any),
        }
    }

    fn list(&mut self, schema: &Value, open: bool) -> u32 {
        let item = match schema.get("items") {
            // Below a list whose unknown fields are kept only what has a schema is looked at.
            Some(items @ Value::Object(_)) => self.value(items, open, false),
            _ => self.scalar("any", Node::Any),
        };
        let kind = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => ListKind::Set,
            Some("map") => ListKind::Map,
            _ => ListKind::Atomic,
        };
        let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
        let keys = keys.filter_map(Value::as_str).map(|key| self.text(key)).collect();
        self.push(Node::List(ListNode { item, kind, keys, merge: false, merge_key: (0, 0) }))
    }

    fn object(&mut self, schema: &Value, open: bool, embedded: bool) -> u32 {
        let atomic = schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
        let properties = schema.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty());
        if let (None, false, Some(additional)) = (properties, embedded, schema.get("additionalProperties")) {
            let value = match additional {
                Value::Object(_) => Some(self.value(additional, false, false)),
                // Values without a schema have no known fields.
                Value::Bool(_) => Some(self.closed()),
                _ => None,
            };
            if let Some(value) = value {
                return self.push(Node::Map { value, atomic });
            }
        }
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut fields: Vec<(String, FieldNode)> = Vec::new();
        for (name, property) in properties.into_iter().flatten() {
            if embedded && super::is_meta(name) {
                continue;
            }
            let node = self.value(property, false, false);
            let default = property.get("default").filter(|d| !d.is_null()).map(Value::to_string);
            let default = self.text(&default.unwrap_or_default());
            let flags = if required.contains(&name.as_str()) { REQUIRED } else { 0 };
            fields.push((name.clone(), FieldNode { name: self.text(name), node, flags, number: 0, default }));
        }
        if embedded {
            self.identity(&mut fields);
        }
        let open = open || schema.get("additionalProperties") == Some(&Value::Bool(true));
        self.finish(fields, ObjectNode { name: (0, 0), first: 0, count: 0, atomic, open, embedded })
    }

    /// The fields every whole object has.
    fn identity(&mut self, fields: &mut Vec<(String, FieldNode)>) {
        let text = self.scalar("string", Node::String { bytes: false });
        let builtin = Schemas::builtin().kinds().next().map(|s| s.tree().clone());
        let meta = builtin.as_ref().and_then(|tree| tree.named(OBJECT_META));
        let meta = meta.map(|meta| self.copy(meta));
        for (name, node) in [("apiVersion", Some(text)), ("kind", Some(text)), ("metadata", meta)] {
            if let Some(node) = node {
                let field = FieldNode { name: self.text(name), node, flags: 0, number: 0, default: (0, 0) };
                fields.push((name.to_owned(), field));
            }
        }
    }

    /// An object without any field.
    fn closed(&mut self) -> u32 {
        let closed =
            ObjectNode { name: (0, 0), first: 0, count: 0, atomic: false, open: false, embedded: false };
        self.scalar("closed", Node::Object(closed))
    }

    fn finish(&mut self, mut fields: Vec<(String, FieldNode)>, object: ObjectNode) -> u32 {
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        let first = self.fields.len() as u32;
        let count = fields.len() as u32;
        self.fields.extend(fields.into_iter().map(|(_, field)| field));
        self.push(Node::Object(ObjectNode { first, count, ..object }))
    }

    /// A type of the built-in tree.
    fn copy(&mut self, from: NodeRef<'_>) -> u32 {
        if let Some(known) = self.copied.get(&from.id()) {
            return *known;
        }
        let node = match from.node() {
            Node::Object(_) => {
                let mut fields = Vec::new();
                for field in from.fields() {
                    let node = self.copy(field.node());
                    let mut flags = if field.is_required() { REQUIRED } else { 0 };
                    flags |= if field.omits_empty() { 8 } else { 0 };
                    let name = self.text(field.name());
                    fields.push((
                        field.name().to_owned(),
                        FieldNode { name, node, flags, number: 0, default: (0, 0) },
                    ));
                }
                let name = self.text(from.definition());
                let atomic = from.is_atomic();
                let object = ObjectNode { name, first: 0, count: 0, atomic, open: false, embedded: false };
                let id = self.finish(fields, object);
                self.copied.insert(from.id(), id);
                return id;
            }
            Node::Map { atomic, .. } => {
                let value = from.child("").map(|value| self.copy(value)).unwrap_or_default();
                Node::Map { value, atomic: *atomic }
            }
            Node::List(_) => {
                let item = from.item().map(|item| self.copy(item)).unwrap_or_default();
                let keys = from.list_keys().map(|key| self.text(key)).collect();
                let merge_key = from.merge_key().map(|key| self.text(key)).unwrap_or_default();
                let kind = from.list_kind().unwrap_or(ListKind::Atomic);
                Node::List(ListNode { item, kind, keys, merge: from.merges(), merge_key })
            }
            scalar => scalar.clone(),
        };
        let id = self.push(node);
        self.copied.insert(from.id(), id);
        id
    }
}
