//! What is allowed in a schema but does not do what its author may think.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{sub, text};
use crate::api::field::quote;
use crate::server::crd::schema::formats;

/// Warnings about the schemas of a definition's `spec` that those of `old_spec` did not earn.
pub(in crate::server::crd::schema) fn of(spec: &Value, old_spec: Option<&Value>) -> Vec<String> {
    let before = old_spec.map(all).unwrap_or_default();
    all(spec).into_iter().filter(|warning| !before.contains(warning)).collect()
}

fn all(spec: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let versions = spec.get("versions").and_then(Value::as_array).into_iter().flatten();
    for schema in versions.filter_map(|version| version.pointer("/schema/openAPIV3Schema")) {
        below(schema, &mut found);
    }
    found
}

fn below(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            here(fields, found);
            for (name, value) in fields {
                // What is said of values is data, not schema.
                if !matches!(name.as_str(), "default" | "example" | "enum") {
                    below(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| below(item, found)),
        _ => {}
    }
}

fn here(schema: &Map<String, Value>, found: &mut BTreeSet<String>) {
    let format = text(schema, "format");
    let known = match text(schema, "type") {
        "" | "string" => formats::of_string(format).is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    if !format.is_empty() && !known {
        found.insert(format!("unrecognized format {}", quote(format)));
    }
    let items = sub(schema, "items").map(|items| text(items, "type")).unwrap_or_default();
    if text(schema, "x-kubernetes-list-type") == "set" && matches!(items, "object" | "array") {
        found.insert(format!(
            "x-kubernetes-list-type: set for items of type {} is not supported by server-side apply or CEL validation rules",
            quote(items)
        ));
    }
}
