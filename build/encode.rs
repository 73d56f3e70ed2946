//! Writes definitions in the form that `src/api/schema/load.rs` reads.
//!
//! Numbers are LEB128. The text (all names, once each) comes first; then nodes, fields, definitions, kinds.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;

use serde_json::{Map, Value};

use crate::facts::{self, ListFacts};
use crate::kinds::Kind;
use crate::merge::Merges;
use crate::numbers::{Number, Numbers};

/// The two files.
pub struct Encoded {
    pub schema: Vec<u8>,
    pub docs: Vec<u8>,
}

struct Field {
    name: u64,
    node: u64,
    flags: u64,
    number: u64,
    default: u64,
    doc: u64,
}

#[derive(Default)]
struct Encoder {
    texts: BTreeMap<String, u64>,
    text_order: Vec<String>,
    nodes: Vec<Vec<u8>>,
    node_ids: BTreeMap<Vec<u8>, u64>,
    fields: Vec<Field>,
    docs: BTreeMap<String, u64>,
    doc_order: Vec<String>,
    /// Definition name to its node, which is reserved before it is written.
    definitions: BTreeMap<String, u64>,
}

/// Encodes all.
pub fn encode(
    kinds: &[Kind],
    definitions: &Map<String, Value>,
    merges: &Merges,
    numbers: &Numbers<'_>,
) -> Result<Encoded, Box<dyn Error>> {
    let mut encoder = Encoder::default();
    encoder.text("");
    encoder.doc("");
    for name in definitions.keys() {
        let node = encoder.nodes.len() as u64;
        encoder.nodes.push(Vec::new());
        encoder.definitions.insert(name.clone(), node);
    }
    let mut definition_docs = Vec::new();
    for (name, schema) in definitions {
        let node = encoder.definition(name, schema, definitions, merges, numbers)?;
        let at = encoder.definitions[name] as usize;
        encoder.nodes[at] = node;
        definition_docs.push(encoder.doc(schema["description"].as_str().unwrap_or_default()));
    }
    let mut tail = Vec::new();
    number(&mut tail, definitions.len() as u64);
    for name in definitions.keys() {
        number(&mut tail, encoder.text(name));
        number(&mut tail, encoder.definitions[name]);
    }
    number(&mut tail, kinds.len() as u64);
    for kind in kinds {
        for text in [&kind.group, &kind.version, &kind.kind] {
            number(&mut tail, encoder.text(text));
        }
        number(&mut tail, *encoder.definitions.get(&kind.definition).ok_or("a kind has no definition")?);
    }
    Ok(encoder.finish(&tail, &definition_docs))
}

impl Encoder {
    fn text(&mut self, text: &str) -> u64 {
        intern(&mut self.texts, &mut self.text_order, text)
    }

    fn doc(&mut self, text: &str) -> u64 {
        intern(&mut self.docs, &mut self.doc_order, text)
    }

    fn shared(&mut self, node: Vec<u8>) -> u64 {
        if let Some(id) = self.node_ids.get(&node) {
            return *id;
        }
        let id = self.nodes.len() as u64;
        self.node_ids.insert(node.clone(), id);
        self.nodes.push(node);
        id
    }

    fn definition(
        &mut self,
        name: &str,
        schema: &Value,
        all: &Map<String, Value>,
        merges: &Merges,
        numbers: &Numbers<'_>,
    ) -> Result<Vec<u8>, Box<dyn Error>> {
        let tag = match name.rsplit('.').next().unwrap_or_default() {
            "IntOrString" => Some(5),
            "Quantity" => Some(6),
            "Time" => Some(7),
            "MicroTime" => Some(8),
            "FieldsV1" | "RawExtension" => Some(12),
            "JSON"
            | "JSONSchemaPropsOrArray"
            | "JSONSchemaPropsOrBool"
            | "JSONSchemaPropsOrStringArray"
            | "CustomResourceSubresourceStatus" => Some(0),
            _ => None,
        };
        if let Some(tag) = tag {
            return Ok(vec![tag]);
        }
        let Some(properties) = schema["properties"].as_object() else {
            return self.node(name, "", schema, all, merges);
        };
        let short = name.rsplit('.').next().unwrap_or_default();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let numbers = numbers.of(name)?;
        let mut fields = Vec::new();
        for (field, property) in properties {
            let number = match numbers.get(field.as_str()) {
                Some(number) => *number,
                None if matches!(field.as_str(), "apiVersion" | "kind") => Number::NONE,
                None => {
                    return Err(format!("build/numbers.txt has no number for {name}.{field}: add it").into());
                }
            };
            let node = self.node(name, field, property, all, merges)?;
            // A reference is the definition's own node.
            let node = match reference(property) {
                Some(target) => self.definitions[target],
                None => self.shared(node),
            };
            let flags = u64::from(required.contains(&field.as_str()))
                | u64::from(facts::retains_keys(short, field)) << 1
                | u64::from(facts::is_replaced(short, field)) << 2
                | u64::from(number.omits_empty) << 3;
            let doc = self.doc(property["description"].as_str().unwrap_or_default());
            let default = self.text(facts::default(short, field).unwrap_or_default());
            fields.push(Field { name: self.text(field), node, flags, number: number.path, default, doc });
        }
        fields.sort_by_key(|f| self.text_order[f.name as usize].clone());
        let mut node = vec![9];
        number(&mut node, self.text(name));
        number(&mut node, self.fields.len() as u64);
        number(&mut node, fields.len() as u64);
        node.push(u8::from(facts::is_atomic(name)));
        self.fields.extend(fields);
        Ok(node)
    }

    fn node(
        &mut self,
        definition: &str,
        field: &str,
        schema: &Value,
        all: &Map<String, Value>,
        merges: &Merges,
    ) -> Result<Vec<u8>, Box<dyn Error>> {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return Ok(vec![0]);
        }
        let merge = merges.get(definition);
        let node = match schema["type"].as_str() {
            Some("string") => vec![1, u8::from(schema["format"] == "byte")],
            Some("integer") => vec![2, if schema["format"] == "int64" { 64 } else { 32 }],
            Some("number") => vec![3],
            Some("boolean") => vec![4],
            Some("array") => {
                let item = self.child(definition, &schema["items"], all, merges)?;
                let facts = merge.and_then(|m| m.lists.get(field)).cloned().unwrap_or_default();
                self.list(definition, field, item, facts, &schema["items"], all)
            }
            Some("object") if schema["additionalProperties"].is_object() => {
                let value = self.child(definition, &schema["additionalProperties"], all, merges)?;
                let atomic = merge.is_some_and(|m| m.atomic_maps.iter().any(|f| f == field));
                let mut node = vec![10];
                number(&mut node, value);
                node.push(u8::from(atomic));
                node
            }
            Some("object") => vec![12],
            None => vec![0],
            Some(other) => {
                return Err(format!("{definition}.{field} has the unknown type {other}").into());
            }
        };
        Ok(node)
    }

    fn child(
        &mut self,
        definition: &str,
        schema: &Value,
        all: &Map<String, Value>,
        merges: &Merges,
    ) -> Result<u64, Box<dyn Error>> {
        if let Some(target) = reference(schema) {
            return self
                .definitions
                .get(target)
                .copied()
                .ok_or_else(|| format!("{target} is not defined").into());
        }
        let node = self.node(definition, "", schema, all, merges)?;
        Ok(self.shared(node))
    }

    fn list(
        &mut self,
        definition: &str,
        field: &str,
        item: u64,
        mut facts: ListFacts,
        items: &Value,
        all: &Map<String, Value>,
    ) -> Vec<u8> {
        let short = definition.rsplit('.').next().unwrap_or_default();
        // Keys are Rust's names yet: find the JSON name among the properties of the item.
        let properties = reference(items).and_then(|r| all[r]["properties"].as_object());
        for key in &mut facts.keys {
            let plain = key.replace('_', "");
            let found = properties.into_iter().flatten().find(|(name, _)| name.to_lowercase() == plain);
            if let Some((name, _)) = found {
                key.clone_from(name);
            }
        }
        let facts = facts::correct(short, field, facts);
        let mut node = vec![11];
        number(&mut node, item);
        node.push(match facts.list_type {
            "set" => 1,
            "map" => 2,
            _ => 0,
        });
        number(&mut node, facts.keys.len() as u64);
        for key in &facts.keys {
            number(&mut node, self.text(key));
        }
        node.push(u8::from(facts.merge));
        number(&mut node, self.text(facts.merge_key.as_deref().unwrap_or_default()));
        node
    }

    fn finish(&self, tail: &[u8], definition_docs: &[u64]) -> Encoded {
        let mut schema = Vec::new();
        number(&mut schema, self.text_order.len() as u64);
        for text in &self.text_order {
            number(&mut schema, text.len() as u64);
        }
        schema.extend(self.text_order.concat().bytes());
        number(&mut schema, self.nodes.len() as u64);
        schema.extend(self.nodes.concat());
        number(&mut schema, self.fields.len() as u64);
        for field in &self.fields {
            for n in [field.name, field.node, field.flags, field.number, field.default] {
                number(&mut schema, n);
            }
        }
        schema.extend(tail);
        let mut docs = Vec::new();
        number(&mut docs, self.doc_order.len() as u64);
        for text in &self.doc_order {
            number(&mut docs, text.len() as u64);
        }
        for doc in definition_docs.iter().copied().chain(self.fields.iter().map(|f| f.doc)) {
            number(&mut docs, doc);
        }
        docs.extend(self.doc_order.concat().bytes());
        Encoded { schema, docs }
    }
}

fn intern(ids: &mut BTreeMap<String, u64>, order: &mut Vec<String>, text: &str) -> u64 {
    if let Some(id) = ids.get(text) {
        return *id;
    }
    let id = order.len() as u64;
    ids.insert(text.to_owned(), id);
    order.push(text.to_owned());
    id
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8 & 0x7f) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Compresses.
pub fn deflate(bytes: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}
