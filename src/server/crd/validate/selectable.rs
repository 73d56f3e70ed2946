//! `selectableFields`: which fields of a custom kind field selectors may name.

use serde_json::Value;

use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, text};

const MOST: usize = 8;

pub(super) fn check(version: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("selectableFields");
    let fields = &version["selectableFields"];
    if is_empty(fields) {
        return;
    }
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut seen: Vec<&str> = Vec::new();
    for (field, at) in indexed(fields, &path) {
        let (at, given) = (at.child("jsonPath"), &field["jsonPath"]);
        if !errors.required(&at, given) {
            continue;
        }
        let found = match find(schema, text(given)) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(&at, given.clone(), format!("is an invalid path: {why}")));
                continue;
            }
        };
        if text(given).starts_with(".metadata") {
            errors.push(FieldError::invalid(&at, given.clone(), "must not point to fields in metadata"));
        }
        if !matches!(text(&found["type"]), "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.push(FieldError::invalid(&at, given.clone(), why));
        }
        if seen.contains(&text(given)) {
            errors.push(FieldError::duplicate(&at, given.clone()));
        } else {
            seen.push(text(given));
        }
    }
    if seen.len() > MOST {
        errors.push(FieldError::too_many(&path, seen.len(), MOST));
    }
}

/// The schema a path leads to.
fn find<'s>(schema: &'s Value, path: &str) -> Result<&'s Value, String> {
    let nowhere = || "does not refer to a valid field".to_owned();
    if path.contains(['[', ']']) {
        return Err("array notation is not allowed".to_owned());
    }
    let Some(rest) = path.strip_prefix('.') else {
        let first = path.split('.').next().unwrap_or_default();
        return Err(format!("expected [ or . but got: {first}"));
    };
    rest.split('.').try_fold(schema, |schema, name| match (&schema["properties"], name) {
        (_, "") => Err("unexpected end of JSON path".to_owned()),
        (Value::Object(known), name) => known.get(name).ok_or_else(nowhere),
        _ => Some(&schema["additionalProperties"]).filter(|inner| inner.is_object()).ok_or_else(nowhere),
    })
}
