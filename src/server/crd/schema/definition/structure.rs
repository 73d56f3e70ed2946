//! Structural: what a value is is said outside of junctors, and said everywhere.

use serde_json::{Map, Value, json};

use super::{complete, flag, given, properties, sub, subs, text};
use crate::api::{FieldError, Path};
use crate::server::cel::regexp::Regexp;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps a schema from being structural, ordered by text.
pub(super) fn check(schema: &Map<String, Value>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, &mut errors);
    complete::check(schema, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

fn invariants(schema: &Map<String, Value>, level: Level, path: &Path, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let items = sub(schema, "items");
    if kind == "array" && items.is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = items {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in properties(schema) {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    let additional = schema.get("additionalProperties").filter(|a| !a.is_null());
    if additional.is_some() && level == Level::Root {
        errors
            .push(FieldError::forbidden(&path.child("additionalProperties"), "must not be used at the root"));
    }
    if let Some(additional) = additional.and_then(Value::as_object) {
        invariants(additional, Level::Field, &path.child("additionalProperties"), errors);
    }
    extensions(schema, path, errors);
    let any_of = schema.get("anyOf") == Some(&int_or_string());
    let first_of_all =
        schema.pointer_of("allOf", 0).and_then(|first| first.get("anyOf")) == Some(&int_or_string());
    values(schema, any_of, first_of_all, level, path, errors);
    types(schema, kind, embedded, level, path, errors);
    if embedded && additional.is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
    }
    identity(schema, embedded, level, path, errors);
    if embedded
        && !flag(schema, "x-kubernetes-preserve-unknown-fields")
        && properties(schema).next().is_none()
    {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

trait PointerOf {
    fn pointer_of(&self, list: &str, index: usize) -> Option<&Value>;
}

impl PointerOf for Map<String, Value> {
    fn pointer_of(&self, list: &str, index: usize) -> Option<&Value> {
        self.get(list)?.get(index)
    }
}

fn int_or_string() -> Value {
    json!([{"type": "integer"}, {"type": "string"}])
}

fn extensions(schema: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, name) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(name), true, detail));
        }
    }
}

fn types(
    schema: &Map<String, Value>,
    kind: &str,
    embedded: bool,
    level: Level,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    let path = path.child("type");
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(&path, detail),
            kind => FieldError::invalid(&path, kind, detail),
        });
    } else if kind.is_empty()
        && !flag(schema, "x-kubernetes-int-or-string")
        && !flag(schema, "x-kubernetes-preserve-unknown-fields")
    {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&path, detail));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(&path, kind, "must be object at the root"));
    }
}

/// What is said of `apiVersion`, `kind` and `metadata`.
fn identity(
    schema: &Map<String, Value>,
    embedded: bool,
    level: Level,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    let whole = embedded || level == Level::Root;
    let path = path.child("properties");
    for name in ["kind", "apiVersion"] {
        let Some((_, property)) = properties(schema).find(|(n, _)| *n == name).filter(|_| whole) else {
            continue;
        };
        let kind = text(property, "type");
        if kind != "string" {
            errors.push(FieldError::invalid(&path.key(name).child("type"), kind, "must be string"));
        }
    }
    let Some((_, metadata)) = properties(schema).find(|(n, _)| *n == "metadata") else { return };
    let path = path.key("metadata");
    let kind = text(metadata, "type");
    if whole && kind != "object" {
        errors.push(FieldError::invalid(&path.child("type"), kind, "must be object"));
    }
    if level != Level::Root {
        return;
    }
    let only_names = properties(metadata).all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    let other = metadata
        .keys()
        .any(|key| !matches!(key.as_str(), "type" | "default" | "properties") && given(metadata, key));
    if !only_names || other {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn values(
    schema: &Map<String, Value>,
    skip_any_of: bool,
    skip_first_of_all: bool,
    level: Level,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    if !skip_any_of {
        for (index, clause) in subs(schema, "anyOf") {
            nested(clause, false, level, &path.child("anyOf").index(index), errors);
        }
    }
    for (index, clause) in subs(schema, "allOf") {
        let skip = skip_first_of_all && index == 0;
        nested(clause, skip, level, &path.child("allOf").index(index), errors);
    }
    for (index, clause) in subs(schema, "oneOf") {
        nested(clause, false, level, &path.child("oneOf").index(index), errors);
    }
    if let Some(not) = sub(schema, "not") {
        nested(not, false, level, &path.child("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty()
        && let Err(why) = Regexp::new(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, detail));
    }
}

/// What a schema in a junctor must not say.
fn nested(
    schema: &Map<String, Value>,
    skip_any_of: bool,
    level: Level,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    const FORBIDDEN: [(&str, &str); 12] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ];
    values(schema, skip_any_of, false, level, path, errors);
    if let Some(items) = sub(schema, "items") {
        nested(items, false, level, &path.child("items"), errors);
    }
    for (name, property) in properties(schema) {
        nested(property, false, Level::Field, &path.child("properties").key(name), errors);
    }
    for (name, detail) in FORBIDDEN {
        let object = schema.get(name).is_some_and(Value::is_object);
        if given(schema, name) || (name == "additionalProperties" && object) {
            errors.push(FieldError::forbidden(&path.child(name), detail));
        }
    }
    if given(schema, "x-kubernetes-validations") {
        errors.push(FieldError::forbidden(
            &path.child("x-kubernetes-validations"),
            "must be empty to be structural",
        ));
    }
    if properties(schema).any(|(name, _)| name == "metadata") {
        let path = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(&path, "must not be specified in a nested context"));
    }
}
