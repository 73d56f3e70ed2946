//! The `x-kubernetes-*` extensions of one schema: whether they fit together.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{flag, properties, sub, text};
use crate::api::{FieldError, Path};

/// What does not fit.
pub(super) fn check(schema: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if schema.get(preserve) == Some(&Value::Bool(false)) {
        errors.push(FieldError::invalid(&path.child(preserve), false, "must be true or undefined"));
    }
    needs_type(schema, "x-kubernetes-map-type", "object", path, errors);
    supported(schema, "x-kubernetes-map-type", &["atomic", "granular"], path, errors);
    if !needs_type(schema, "x-kubernetes-list-type", "array", path, errors)
        && text(schema, "x-kubernetes-list-type") == "set"
    {
        set_items(schema, path, errors);
    }
    supported(schema, "x-kubernetes-list-type", &["atomic", "set", "map"], path, errors);
    let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    if keys(schema).next().is_some() {
        let path = path.child("x-kubernetes-list-type");
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => errors.push(FieldError::required(&path, detail)),
            Some("map") => {}
            Some(other) => errors.push(FieldError::invalid(&path, other, detail)),
        }
    }
    if list_type == Some("map") {
        list_map(schema, path, errors);
    }
    if let Some(kind @ ("set" | "map")) = list_type {
        list_items(schema, kind, path, errors);
    }
}

fn keys(schema: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
    keys.filter_map(Value::as_str)
}

/// Whether an extension is there without the type it is for, which is an error.
fn needs_type(
    schema: &Map<String, Value>,
    extension: &str,
    wanted: &str,
    path: &Path,
    errors: &mut Vec<FieldError>,
) -> bool {
    let kind = text(schema, "type");
    if !schema.contains_key(extension) || kind == wanted {
        return false;
    }
    let detail = format!("must be {wanted} if {extension} is specified");
    let path = path.child("type");
    errors.push(if kind.is_empty() {
        FieldError::required(&path, detail)
    } else {
        FieldError::invalid(&path, kind, detail)
    });
    true
}

fn supported(
    schema: &Map<String, Value>,
    extension: &str,
    known: &[&str],
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    if let Some(value) = schema.get(extension).and_then(Value::as_str)
        && !known.contains(&value)
    {
        errors.push(FieldError::not_supported(&path.child(extension), value, known));
    }
}

/// The items of a set are single values.
fn set_items(schema: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(items) = sub(schema, "items") else { return };
    let list_type = items.get("x-kubernetes-list-type").cloned().unwrap_or_default();
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let path = path.child("items");
    match text(items, "type") {
        "array" if !matches!(text(items, "x-kubernetes-list-type"), "" | "atomic") => {
            errors.push(FieldError::invalid(&path.child("x-kubernetes-list-type"), list_type, detail));
        }
        "object" if text(items, "x-kubernetes-map-type") != "atomic" => {
            errors.push(FieldError::invalid(&path.child("x-kubernetes-map-type"), list_type, detail));
        }
        _ => {}
    }
}

fn list_map(schema: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    if keys(schema).next().is_none() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&keys_path, detail));
    }
    let path = path.child("items");
    let items = match schema.get("items") {
        None | Some(Value::Null) => {
            errors.push(FieldError::required(&path, "must have a schema if x-kubernetes-list-type is map"));
            return;
        }
        Some(Value::Object(items)) => items,
        Some(other) => {
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(&path, other.clone(), detail));
            return;
        }
    };
    let kind = text(items, "type");
    if kind != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&path.child("type"), kind, detail));
        return;
    }
    let mut seen = HashSet::new();
    for key in keys(schema) {
        let all = schema.get("x-kubernetes-list-map-keys").cloned().unwrap_or_default();
        match properties(items).find(|(name, _)| *name == key) {
            Some((_, property)) if matches!(text(property, "type"), "array" | "object") => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let path = path.child("properties").key(key).child("type");
                errors.push(FieldError::invalid(&path, kind, detail));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_path, all.clone(), detail));
            }
        }
        if !seen.insert(key) {
            errors.push(FieldError::invalid(&keys_path, all, "must not contain duplicate entries"));
        }
    }
}

/// Items of sets and of lists with keys are no nulls, and have their keys.
fn list_items(schema: &Map<String, Value>, kind: &str, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(items) = sub(schema, "items") else { return };
    let path = path.child("items");
    if flag(items, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(FieldError::forbidden(&path.child("nullable"), detail));
    }
    if kind != "map" {
        return;
    }
    let required = items.get("required").and_then(Value::as_array);
    let is_required = |key: &str| required.is_some_and(|all| all.iter().any(|r| r == key));
    for key in keys(schema) {
        let Some((_, property)) = properties(items).find(|(name, _)| *name == key) else { continue };
        let path = path.child("properties").key(key);
        if !is_required(key) && property.get("default").is_none_or(Value::is_null) {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&path.child("default"), detail));
        }
        if flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&path.child("nullable"), detail));
        }
    }
}
