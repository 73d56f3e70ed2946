//! Lists whose items must differ: `x-kubernetes-list-type` `set` and `map`.

use serde_json::{Map, Value};

use super::structural::Structural;
use crate::api::{FieldError, Path};

/// Items that are there twice, below a value.
pub(super) fn check(path: &Path, schema: &Structural, value: &Value, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let Some(additional) = schema.additional() {
                    check(&path.key(key), additional, value, errors);
                }
                if let Some(property) = schema.property(key) {
                    check(&path.child(key), property, value, errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type() {
                "set" => {
                    for index in second_appearances(items) {
                        errors.push(FieldError::duplicate(&path.index(index), items[index].clone()));
                    }
                }
                "map" => keyed(path, schema, items, errors),
                _ => {}
            }
            if let Some(of_items) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check(&path.index(index), of_items, item, errors);
                }
            }
        }
        _ => {}
    }
}

fn keyed(path: &Path, schema: &Structural, items: &[Value], errors: &mut Vec<FieldError>) {
    let mut keys = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let empty = Map::new();
        let fields = match item {
            Value::Object(fields) => fields,
            Value::Null => &empty,
            other => {
                let detail = "must be an object for an array of list-type map";
                errors.push(FieldError::invalid(&path.index(index), other.clone(), detail));
                return;
            }
        };
        let named = schema.list_map_keys().iter().filter_map(|k| {
            let value = fields.get(&**k)?;
            Some((k.to_string(), value.clone()))
        });
        keys.push(Value::Object(named.collect()));
    }
    for index in second_appearances(&keys) {
        errors.push(FieldError::duplicate(&path.index(index), keys[index].clone()));
    }
}

/// Where values appear for the second time.
fn second_appearances(values: &[Value]) -> Vec<usize> {
    let mut seen = std::collections::HashMap::with_capacity(values.len());
    let mut result = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let count = seen.entry(value.to_string()).or_insert(0u32);
        *count += 1;
        if *count == 2 {
            result.push(index);
        }
    }
    result
}
