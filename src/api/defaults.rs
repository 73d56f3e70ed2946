//! Defaults of the built-in kinds, as upstream's `pkg/apis/*/v1/defaults.go` applies them.
//!
//! Like upstream's generated code this walks an object by its types, outermost first, and applies to each object
//! what is registered for its type: fixed values for fields that are missing, then a function for what depends on
//! other fields. Defaults that need the cluster (a Service's address) are the registry's.

mod cluster;
mod core;
mod pod;
mod workloads;

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::Quantity;
use super::schema::{Field, Node, NodeRef, Schema};

type Fields = Map<String, Value>;

/// The value of a field that is missing.
#[derive(Clone, Copy, Debug)]
enum Fixed {
    /// Text. An empty text counts as missing.
    Text(&'static str),
    /// Text of a field in which an empty text means something.
    OptionalText(&'static str),
    /// A number.
    Int(i64),
    /// A number of a field in which zero means missing.
    NonZero(i64),
    /// True or false.
    Bool(bool),
    /// An object, which its own type's defaults then fill.
    Object,
}

impl Fixed {
    fn counts_as_missing(self, value: &Value) -> bool {
        match self {
            Self::Text(_) => value.as_str() == Some(""),
            Self::NonZero(_) => value.as_i64() == Some(0),
            _ => value.is_null(),
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Text(text) | Self::OptionalText(text) => text.into(),
            Self::Int(n) | Self::NonZero(n) => n.into(),
            Self::Bool(b) => b.into(),
            Self::Object => Value::Object(Map::new()),
        }
    }
}

/// What is registered for a type, by the last three parts of its name.
struct Rule {
    of: &'static str,
    fixed: &'static [(&'static str, Fixed)],
    then: Option<fn(&mut Fields)>,
}

const fn fixed(of: &'static str, fixed: &'static [(&'static str, Fixed)]) -> Rule {
    Rule { of, fixed, then: None }
}

const fn with(of: &'static str, fixed: &'static [(&'static str, Fixed)], then: fn(&mut Fields)) -> Rule {
    Rule { of, fixed, then: Some(then) }
}

static RULES: LazyLock<HashMap<&'static str, &'static Rule>> = LazyLock::new(|| {
    let all = [core::RULES, pod::RULES, workloads::RULES, cluster::RULES];
    all.into_iter().flatten().map(|rule| (rule.of, rule)).collect()
});

impl Schema {
    /// Applies the defaults that upstream applies when it reads an object of this kind, and leaves out empty scalars
    /// that upstream's types do not tell apart from missing ones.
    ///
    /// That is done here and not when a body is decoded: to those who apply it an empty value is a value.
    pub fn default(&self, object: &mut Value) {
        apply(self.root(), object);
    }
}

/// Applies the defaults to an object of this type.
fn apply(root: NodeRef<'_>, object: &mut Value) {
    match (root.node(), object) {
        (Node::Object(_), Value::Object(fields)) => {
            fields.retain(|key, value| !is_empty(value) || !root.field(key).is_some_and(Field::omits_empty));
            if let Some(rule) = RULES.get(short(root.definition())) {
                rule.apply(fields);
            }
            for (key, value) in fields.iter_mut().filter(|(_, v)| v.is_object() || v.is_array()) {
                if let Some(child) = root.child(key) {
                    apply(child, value);
                }
            }
        }
        (Node::List(_), Value::Array(items)) => {
            if let Some(item) = root.item().filter(|item| matches!(item.node(), Node::Object(_))) {
                items.iter_mut().for_each(|value| apply(item, value));
            }
        }
        (Node::Map { .. }, Value::Object(entries)) if has_amounts(root) => {
            entries.values_mut().for_each(round_up);
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn has_amounts(map: NodeRef<'_>) -> bool {
    map.child("").is_some_and(|value| matches!(value.node(), Node::Quantity))
}

/// Amounts of resources have no parts smaller than thousandths.
fn round_up(amount: &mut Value) {
    // The canonical form of an amount with smaller parts ends with their suffix.
    let text = amount.as_str().filter(|text| text.ends_with(['u', 'n']) || text.contains("e-"));
    if let Some(quantity) = text.and_then(|text| text.parse::<Quantity>().ok()) {
        *amount = quantity.rounded_to_millis().to_string().into();
    }
}

impl Rule {
    fn apply(&self, fields: &mut Fields) {
        for (field, fixed) in self.fixed {
            if fields.get(*field).is_none_or(|v| fixed.counts_as_missing(v)) {
                fields.insert((*field).to_owned(), fixed.value());
            }
        }
        if let Some(then) = self.then {
            then(fields);
        }
    }
}

/// `core.v1.Pod` of `io.k8s.api.core.v1.Pod`.
fn short(definition: &str) -> &str {
    let start = definition.rmatch_indices('.').nth(2).map_or(0, |(at, _)| at + 1);
    &definition[start..]
}

fn text<'f>(fields: &'f Fields, name: &str) -> &'f str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn object<'f>(fields: &'f mut Fields, name: &str) -> Option<&'f mut Fields> {
    fields.get_mut(name).and_then(Value::as_object_mut)
}

fn is_empty_list(fields: &Fields, name: &str) -> bool {
    fields.get(name).and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// Copies the entries of one map into another, which is made if needed, where the other lacks them.
fn fill(fields: &mut Fields, from: &str, into: &str) {
    let Some(source) = fields.get(from).and_then(Value::as_object).filter(|m| !m.is_empty()).cloned() else {
        return;
    };
    let target = fields.entry(into).or_insert_with(|| Value::Object(Map::new()));
    if let Some(target) = target.as_object_mut() {
        for (key, value) in source {
            target.entry(key).or_insert(value);
        }
    }
}

/// Gives a map that is missing or empty these entries.
fn fill_empty(fields: &mut Fields, name: &str, entries: &Fields) {
    if fields.get(name).and_then(Value::as_object).is_none_or(Map::is_empty) {
        fields.insert(name.to_owned(), entries.clone().into());
    }
}

#[cfg(test)]
mod tests;
