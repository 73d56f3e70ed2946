//! Whether the schemas of a CustomResourceDefinition may be used: structure, defaults, lists, rules and their cost.
//! The checks and texts are those of `apiextensions/validation` and `apiserver/schema`.

mod complete;
mod cost;
mod defaults;
mod extensions;
mod rules;
mod standard;
mod structure;
pub(super) mod warnings;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::structural::Structural;
use crate::api::{FieldError, Path};

/// What is wrong with the schemas of a definition's `spec`.
pub(super) fn check(spec: &Value, old_spec: Option<&Value>) -> Vec<FieldError> {
    let versions = spec.get("versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let Some(first) = versions.first() else { return Vec::new() };
    let path = Path::new("spec");
    let has_status = |version: &Value| version.pointer("/subresources/status").is_some_and(|s| !s.is_null());
    let unchanged = |version: &Value| {
        let name = version.get("name");
        let old = old_spec.and_then(|old| old.get("versions")).and_then(Value::as_array);
        old.into_iter()
            .flatten()
            .any(|old| old.get("name") == name && old.get("schema") == version.get("schema"))
    };
    // Where all versions have one schema, upstream takes it for that of the whole definition.
    if versions.iter().all(|v| v.get("schema") == first.get("schema")) {
        let path = path.child("validation");
        return version(first, versions.iter().any(has_status), versions.iter().all(unchanged), &path);
    }
    let mut errors = Vec::new();
    for (index, of) in versions.iter().enumerate() {
        let path = path.child("versions").index(index).child("schema");
        errors.extend(version(of, has_status(of), unchanged(of), &path));
    }
    errors
}

/// The schema of a version. `unchanged`: it was accepted before, so no rule is refused for its cost.
fn version(version: &Value, has_status: bool, unchanged: bool, path: &Path) -> Vec<FieldError> {
    let Some(schema) = version.pointer("/schema/openAPIV3Schema").and_then(Value::as_object) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let at = path.child("openAPIV3Schema");
    if has_status {
        status(schema, path, &mut errors);
    }
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden(
            &path.child("openAPIV3Schema.nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let value = Value::Object(schema.clone());
    let structural = Structural::parse(&value);
    let (mut unreadable, mut rules_wanted) = (None, false);
    match &structural {
        Err(why) => unreadable = Some(FieldError::invalid(&at, "", why.as_str())),
        Ok(structural) => {
            let mut found = structure::check(schema, &at);
            if found.is_empty() {
                found = defaults::check(&value, structural, &at);
            }
            rules_wanted = found.is_empty();
            errors.extend(found);
        }
    }
    let root = structural.as_ref().ok().filter(|_| rules_wanted);
    let mut walk = standard::Walk::new(unchanged);
    let found = walk.root(schema, root, &at);
    errors.extend(found.schema);
    errors.extend(found.rules);
    if errors.is_empty() {
        errors.extend(unreadable);
    }
    if rules_wanted {
        errors.extend(walk.total.errors(&at));
    }
    errors
}

/// With a status subresource the schema of the status is taken out of the whole; so nothing may stand at the root
/// that would be lost.
fn status(schema: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    const ALLOWED: [&str; 23] = [
        "description",
        "type",
        "format",
        "title",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "multipleOf",
        "required",
        "items",
        "properties",
        "externalDocs",
        "example",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
        "nullable",
    ];
    const NAMES: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
                         MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties \
                         ExternalDocs Example XPreserveUnknownFields XValidations]";
    let kind = text(schema, "type");
    if !kind.is_empty() && kind != "object" {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(&path.child("openAPIV3Schema.type"), kind, detail));
        return;
    }
    let given = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    if schema.iter().any(|(name, value)| given(value) && !ALLOWED.contains(&name.as_str())) {
        let detail = format!(
            "only {NAMES} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.push(FieldError::invalid(&path.child("openAPIV3Schema"), schema.clone(), detail));
    }
}

fn text<'v>(schema: &'v Map<String, Value>, name: &str) -> &'v str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// A schema below a schema.
fn sub<'v>(schema: &'v Map<String, Value>, name: &str) -> Option<&'v Map<String, Value>> {
    schema.get(name).and_then(Value::as_object)
}

/// The schemas of a list.
fn subs<'v>(
    schema: &'v Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = (usize, &'v Map<String, Value>)> {
    let all = schema.get(name).and_then(Value::as_array).into_iter().flatten();
    all.enumerate().filter_map(|(index, schema)| Some((index, schema.as_object()?)))
}

/// The schemas of named properties.
fn properties(schema: &Map<String, Value>) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    let all = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, schema)| Some((name, schema.as_object()?)))
}

/// Whether something is said: an empty list, map or text, `false` and null are not.
fn given(schema: &Map<String, Value>, name: &str) -> bool {
    match schema.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(s)) => !s.is_empty(),
        Some(Value::Array(a)) => !a.is_empty(),
        Some(Value::Object(o)) => !o.is_empty(),
        Some(_) => true,
    }
}
