//! Objects embedded in objects: `x-kubernetes-embedded-resource`.

use serde_json::{Map, Value};

use super::structural::Structural;
use crate::api::{FieldError, Path, names};

/// What is wrong with who embedded objects say they are. `root`: the value itself is one.
pub(super) fn check(
    path: &Path,
    schema: &Structural,
    value: &Value,
    root: bool,
    errors: &mut Vec<FieldError>,
) {
    match value {
        Value::Object(fields) => {
            if schema.embedded || root {
                identity(path, fields, errors);
            }
            for (key, value) in fields {
                if let Some(property) = schema.property(key) {
                    check(&path.child(key), property, value, false, errors);
                } else if let Some(additional) = schema.additional() {
                    check(&path.key(key), additional, value, false, errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(of_items) = &schema.items else { return };
            for (index, item) in items.iter().enumerate() {
                check(&path.index(index), of_items, item, false, errors);
            }
        }
        _ => {}
    }
}

fn identity(path: &Path, fields: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let path = path.child(name);
        match fields.get(name) {
            None => errors.push(FieldError::required(&path, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&path, "", "must not be empty"));
            }
            Some(Value::String(text)) if name == "apiVersion" => {
                if text.matches('/').count() > 1 {
                    let detail = format!("unexpected GroupVersion string: {text}");
                    errors.push(FieldError::invalid(&path, text.as_str(), detail));
                }
            }
            Some(Value::String(text)) => {
                let wrong = names::dns1035_label(&text.to_lowercase());
                if !wrong.is_empty() {
                    let detail =
                        format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.push(FieldError::invalid(&path, text.as_str(), detail));
                }
            }
            Some(other) => errors.push(FieldError::invalid(&path, other.clone(), "must be a string")),
        }
    }
    if let Some(metadata) = fields.get("metadata") {
        object_meta(&path.child("metadata"), metadata, errors);
    }
}

/// Names, labels and annotations of an embedded object.
fn object_meta(path: &Path, metadata: &Value, errors: &mut Vec<FieldError>) {
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    for name in ["name", "generateName"] {
        for why in text(name).map(names::path_segment).into_iter().flatten() {
            errors.push(FieldError::invalid(&path.child(name), metadata[name].clone(), why));
        }
    }
    for why in text("namespace").map(names::dns1123_label).into_iter().flatten() {
        errors.push(FieldError::invalid(&path.child("namespace"), metadata["namespace"].clone(), why));
    }
    let entries = |name: &str| metadata.get(name).and_then(Value::as_object).into_iter().flatten();
    for (key, value) in entries("labels") {
        let path = path.child("labels");
        errors.extend(
            names::qualified_name(key).into_iter().map(|why| FieldError::invalid(&path, key.as_str(), why)),
        );
        let wrong = value.as_str().map(names::label_value).unwrap_or_default();
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&path, value.clone(), why)));
    }
    for (key, _) in entries("annotations") {
        let wrong = names::qualified_name(&key.to_lowercase());
        let path = path.child("annotations");
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&path, key.as_str(), why)));
    }
}
