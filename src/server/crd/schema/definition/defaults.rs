//! Defaults: pruned, valid, and right by the rules.

use serde_json::Value;

use crate::api::{FieldError, GroupVersionKind, Path, Schema};
use crate::server::crd::schema::rules::{self, Rules};
use crate::server::crd::schema::structural::Structural;
use crate::server::crd::schema::{metadata, values};

/// What is wrong with the defaults of a whole schema.
pub(super) fn check(openapi: &Value, schema: &Structural, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    below(openapi, schema, true, false, path, &mut errors);
    errors
}

fn below(
    openapi: &Value,
    schema: &Structural,
    whole: bool,
    inside_meta: bool,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    let inside_meta = inside_meta && !schema.embedded;
    if let Some(default) = &schema.default {
        value(openapi, schema, default, inside_meta, &path.child("default"), errors);
    }
    // Defaults of additionalProperties are forbidden elsewhere.
    if let Some(items) = &schema.items {
        below(&openapi["items"], items, items.embedded, inside_meta, &path.child("items"), errors);
    }
    for (name, property) in &schema.properties {
        let meta = whole && matches!(&**name, "metadata" | "apiVersion" | "kind");
        let path = path.child("properties").key(name);
        let openapi = &openapi["properties"][&**name];
        below(openapi, property, property.embedded, inside_meta || meta, &path, errors);
    }
}

fn value(
    openapi: &Value,
    schema: &Structural,
    default: &Value,
    inside_meta: bool,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    if !inside_meta {
        let kind = GroupVersionKind::new("validation", "v1", "Validation");
        let mut pruned = default.clone();
        let checked =
            Schema::custom_part(&kind, openapi).check(&mut pruned, crate::api::FieldValidation::Ignore);
        if let Some(why) = checked.errors.first() {
            errors.push(FieldError::invalid(path, default.clone(), why.as_str()));
            return;
        }
        if pruned != *default {
            errors.push(FieldError::invalid(path, default.clone(), "must not have unknown fields"));
        }
        let mut found = Vec::new();
        metadata::check(path, schema, default, false, &mut found);
        if !found.is_empty() {
            errors.extend(found);
            return;
        }
    }
    let found = values::check(path, schema, default, None);
    if !found.is_empty() {
        errors.extend(found);
        return;
    }
    if let Some(compiled) = Rules::compile(schema, schema.embedded) {
        // As an update of itself and as a value that is new.
        let mut found = rules::check(&compiled, schema, path, default, Some(default));
        found.retain(|e| !errors.contains(e));
        if found.is_empty() {
            found = rules::check(&compiled, schema, path, default, None);
        }
        errors.extend(found);
    }
}
