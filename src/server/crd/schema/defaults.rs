//! Defaults: what a schema fills in where nothing, or a null that may not be, was given.

use serde_json::Value;

use super::structural::{Additional, Structural};

/// Fills in defaults below a value.
pub(super) fn apply(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                let missing = match fields.get(&**name) {
                    None => true,
                    Some(Value::Null) => !property.nullable,
                    Some(_) => false,
                };
                if missing {
                    fields.insert(name.to_string(), (**default).clone());
                }
            }
            for (key, value) in fields {
                if let Some(property) = schema.property(key) {
                    apply(value, property);
                } else if let Additional::Schema(additional) = &schema.additional {
                    replace_null(value, additional);
                    apply(value, additional);
                }
            }
        }
        Value::Array(items) => {
            let Some(of_items) = &schema.items else { return };
            for item in items {
                replace_null(item, of_items);
                apply(item, of_items);
            }
        }
        _ => {}
    }
}

fn replace_null(value: &mut Value, schema: &Structural) {
    if let (Value::Null, false, Some(default)) = (&*value, schema.nullable, &schema.default) {
        *value = (**default).clone();
    }
}

/// Drops nulls of fields that may not be null and have no default to take their place.
pub(super) fn prune_nulls(value: &mut Value, schema: Option<&Structural>) {
    match value {
        Value::Object(fields) => fields.retain(|key, value| {
            let child = schema.and_then(|s| s.child(key));
            let dropped = value.is_null() && child.is_some_and(|c| !c.nullable && c.default.is_none());
            if !dropped {
                prune_nulls(value, child);
            }
            !dropped
        }),
        Value::Array(items) => {
            let of_items = schema.and_then(|s| s.items.as_deref());
            items.iter_mut().for_each(|item| prune_nulls(item, of_items));
        }
        _ => {}
    }
}
