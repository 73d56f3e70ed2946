//! Definitions: the types of a tree as JSON schemas with Kubernetes' extensions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Served, Style, Types, custom, object, operations};
use crate::api::schema::{Definition, Docs, Field, ListKind, Node, NodeRef, Schemas, Tree};

/// The definitions with these names and all they refer to, and the lists of the resources.
pub(super) fn definitions(
    style: Style,
    resources: &[Served],
    roots: &BTreeSet<String>,
) -> Map<String, Value> {
    let mut result = Map::new();
    // Resources share a few trees; common types come from the built-in one.
    let mut trees: Vec<&Arc<Tree>> =
        Schemas::builtin().kinds().next().map(|s| s.tree()).into_iter().collect();
    for resource in resources {
        match &resource.types {
            Types::Tree(schema) if !trees.iter().any(|t| Arc::ptr_eq(t, schema.tree())) => {
                trees.push(schema.tree());
            }
            Types::Tree(_) => {}
            Types::Custom(types) => {
                let name = operations::definition_of(resource, &resource.kind);
                result.insert(name, custom::definition(style, &resource.kind, (types.read)()));
            }
        }
    }
    for tree in trees {
        let writer = Writer::new(style, tree);
        let mut open: Vec<Definition<'_>> = tree.definitions().filter(|d| roots.contains(d.name())).collect();
        while let Some(definition) = open.pop() {
            if !result.contains_key(definition.name()) {
                let (schema, references) = writer.definition(definition);
                result.insert(definition.name().to_owned(), schema);
                open.extend(references.into_iter().filter_map(|name| writer.by_name.get(name).copied()));
            }
        }
    }
    for resource in resources.iter().filter(|r| r.verbs.iter().any(|v| v == "list")) {
        let name = operations::definition_of(resource, &resource.kind);
        result.insert(format!("{name}List"), list(style, resource, &name));
    }
    result.insert(operations::meta("Patch"), json!({"type": "object", "description": PATCH}));
    result
}

const PATCH: &str =
    "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.";

fn list(style: Style, resource: &Served, item: &str) -> Value {
    let kind = &resource.kind;
    let api_version = "The version of this representation, as in v1 or apps/v1.";
    json!({
        "type": "object",
        "description": format!("{}List is a list of {}.", kind.kind, resource.plural),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": api_version},
            "kind": {"type": "string", "description": "The kind of the list."},
            "metadata": refer(style, &operations::meta("ListMeta"), "Metadata of the list."),
            "items": {"type": "array", "description": format!("The {}.", resource.plural),
                "items": {"$ref": style.reference(item)}},
        },
        "x-kubernetes-group-version-kind": [
            {"group": kind.group, "version": kind.version, "kind": format!("{}List", kind.kind)}],
    })
}

/// A reference with a description beside it, which JSON references do not have in v3.
pub(super) fn refer(style: Style, name: &str, description: &str) -> Value {
    let reference = json!({"$ref": style.reference(name)});
    let mut schema = match style {
        Style::V2 => reference,
        Style::V3 if description.is_empty() => reference,
        Style::V3 => json!({"allOf": [reference]}),
    };
    if !description.is_empty() {
        schema["description"] = description.into();
    }
    schema
}

struct Writer<'t> {
    style: Style,
    tree: &'t Tree,
    docs: Option<Docs>,
    names: HashMap<u32, &'t str>,
    by_name: BTreeMap<&'t str, Definition<'t>>,
}

impl<'t> Writer<'t> {
    fn new(style: Style, tree: &'t Tree) -> Self {
        Self {
            style,
            tree,
            docs: tree.is_builtin().then(|| Docs::builtin(tree)),
            names: tree.definitions().map(|d| (d.node().id(), d.name())).collect(),
            by_name: tree.definitions().map(|d| (d.name(), d)).collect(),
        }
    }

    /// The schema of a definition, and the names it refers to.
    fn definition(&self, definition: Definition<'t>) -> (Value, BTreeSet<&'t str>) {
        let mut references = BTreeSet::new();
        let mut schema = self.inline(definition.node(), &mut references);
        let docs = self.docs.as_ref().map(|d| d.definition(definition)).unwrap_or_default();
        describe(&mut schema, docs);
        let node = definition.node().id();
        let kinds = self.tree.kinds().iter().filter(|k| k.node_id() == node && !k.id.version.is_empty());
        let kinds: Vec<Value> =
            kinds.map(|k| json!({"group": k.id.group, "version": k.id.version, "kind": k.id.kind})).collect();
        if !kinds.is_empty() {
            schema.insert("x-kubernetes-group-version-kind".into(), kinds.into());
        }
        (Value::Object(schema), references)
    }

    /// The schema of a value: a reference if its type has a name.
    fn value(&self, node: NodeRef<'t>, references: &mut BTreeSet<&'t str>) -> Value {
        match self.names.get(&node.id()) {
            Some(name) => {
                references.insert(name);
                refer(self.style, name, "")
            }
            None => Value::Object(self.inline(node, references)),
        }
    }

    fn inline(&self, node: NodeRef<'t>, references: &mut BTreeSet<&'t str>) -> Map<String, Value> {
        match node.node() {
            Node::Any => Map::new(),
            Node::AnyObject => object([("type", json!("object"))]),
            Node::Object(_) => self.object(node, references),
            Node::Map { .. } => {
                let value = node.child("").map(|value| self.value(value, references)).unwrap_or_default();
                let mut schema = object([("type", json!("object")), ("additionalProperties", value)]);
                if node.is_atomic() {
                    schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
                }
                schema
            }
            Node::List(_) => {
                let items = node.item().map(|item| self.value(item, references)).unwrap_or_default();
                let mut schema = object([("type", json!("array")), ("items", items)]);
                list_extensions(node, &mut schema);
                schema
            }
            Node::String { bytes: true } => object([("type", json!("string")), ("format", json!("byte"))]),
            Node::String { bytes: false } => object([("type", json!("string"))]),
            Node::Integer { bits } => {
                object([("type", json!("integer")), ("format", json!(format!("int{bits}")))])
            }
            Node::Number => object([("type", json!("number")), ("format", json!("double"))]),
            Node::Bool => object([("type", json!("boolean"))]),
            Node::Time | Node::MicroTime => {
                object([("type", json!("string")), ("format", json!("date-time"))])
            }
            Node::IntOrString if self.style == Style::V2 => {
                object([("type", json!("string")), ("format", json!("int-or-string"))])
            }
            Node::IntOrString => object([
                ("format", json!("int-or-string")),
                ("oneOf", json!([{"type": "integer"}, {"type": "string"}])),
            ]),
            Node::Quantity if self.style == Style::V2 => object([("type", json!("string"))]),
            Node::Quantity => object([("oneOf", json!([{"type": "string"}, {"type": "number"}]))]),
        }
    }

    fn object(&self, node: NodeRef<'t>, references: &mut BTreeSet<&'t str>) -> Map<String, Value> {
        let mut schema = object([("type", json!("object"))]);
        let mut properties = Map::new();
        for field in node.fields() {
            properties.insert(field.name().to_owned(), self.field(field, references));
        }
        // k8s-openapi requires metadata of every object, upstream's documents do not.
        let required =
            node.fields().filter(|f| f.is_required()).map(Field::name).filter(|name| *name != "metadata");
        let required: Vec<&str> = required.collect();
        if !required.is_empty() {
            schema.insert("required".into(), json!(required));
        }
        if !properties.is_empty() {
            schema.insert("properties".into(), properties.into());
        }
        if node.is_atomic() {
            schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
        schema
    }

    fn field(&self, field: Field<'t>, references: &mut BTreeSet<&'t str>) -> Value {
        let docs = self.docs.as_ref().map(|d| d.field(field)).unwrap_or_default();
        let mut schema = match self.names.get(&field.node().id()) {
            Some(name) => {
                references.insert(name);
                refer(self.style, name, docs)
            }
            None => {
                let mut schema = self.inline(field.node(), references);
                describe(&mut schema, docs);
                Value::Object(schema)
            }
        };
        if let Some(default) = field.default() {
            schema["default"] = default;
        }
        let mut strategy: Vec<&str> = Vec::new();
        if field.node().merges() {
            strategy.push("merge");
        }
        if field.retains_keys() {
            strategy.push("retainKeys");
        }
        if field.is_replaced() {
            strategy.push("replace");
        }
        if !strategy.is_empty() {
            schema["x-kubernetes-patch-strategy"] = strategy.join(",").into();
        }
        schema
    }
}

fn describe(schema: &mut Map<String, Value>, description: &str) {
    if !description.is_empty() {
        schema.insert("description".into(), description.into());
    }
}

fn list_extensions(node: NodeRef<'_>, schema: &mut Map<String, Value>) {
    let list_type = match node.list_kind() {
        Some(ListKind::Map) => "map",
        Some(ListKind::Set) => "set",
        Some(ListKind::Atomic) | None => "atomic",
    };
    schema.insert("x-kubernetes-list-type".into(), list_type.into());
    let keys: Vec<&str> = node.list_keys().collect();
    if !keys.is_empty() {
        schema.insert("x-kubernetes-list-map-keys".into(), json!(keys));
    }
    if let Some(key) = node.merge_key() {
        schema.insert("x-kubernetes-patch-merge-key".into(), key.into());
    }
}
