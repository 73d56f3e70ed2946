//! What server-side apply says of configurations that the schema does not know, or that say a thing twice.
//!
//! Apply is stricter than other writes: whatever `fieldValidation` says, an unknown field fails it.

use serde_json::Value;

use crate::api::field::quote;
use crate::api::{FieldValidation, Meta, Schema, Status};

/// Refuses a configuration with fields that the schema does not have, in the words of structured-merge-diff.
///
/// # Errors
/// 400.
pub(super) fn check_declared(schema: &Schema, config: &Value) -> Result<(), Status> {
    let found = schema.check(&mut config.clone(), FieldValidation::Strict).errors;
    let undeclared =
        found.iter().filter_map(|error| error.strip_prefix("unknown field \"")?.strip_suffix('"'));
    let lines: Vec<String> =
        undeclared.map(|path| format!(".{path}: field not declared in schema")).collect();
    let why = match lines.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let meta = Meta::of(config);
    let name = [meta.namespace(), meta.name()].join("/");
    Err(Status::bad_request(format!(
        "failed to create typed patch object ({}; {}): {why}",
        name.trim_start_matches('/'),
        schema.kind()
    )))
}

/// What is said of keys that are given twice: a line each, for warnings, and for Strict all of them as an error.
///
/// # Errors
/// 400.
pub(super) fn check_duplicates(
    body: &[u8],
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    if duplicates.is_empty() || validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(body);
    let found: Vec<String> = duplicates
        .iter()
        .map(|path| {
            let key = path.rsplit('.').next().unwrap_or_default();
            format!("line {}: key {} already set in map", line_of(&text, key), quote(key))
        })
        .collect();
    if validation == FieldValidation::Warn {
        return Ok(found);
    }
    Err(Status::bad_request(format!(
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
        found.join("\n  ")
    )))
}

/// The line on which a key is given for the second time among those it stands with.
fn line_of(text: &str, wanted: &str) -> usize {
    // Indentation of the open blocks, and the wanted key's presence in each.
    let mut blocks: Vec<(usize, bool)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        let mut indent = line.len() - rest.len();
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        while let Some(item) = rest.strip_prefix("- ") {
            // A new item: what stood in the one before is over.
            blocks.retain(|(at, _)| *at <= indent);
            indent += rest.len() - item.trim_start().len();
            rest = item.trim_start();
        }
        blocks.retain(|(at, _)| *at <= indent);
        if blocks.last().is_none_or(|(at, _)| *at < indent) {
            blocks.push((indent, false));
        }
        let key = rest.split(':').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        if let Some((_, given)) = blocks.last_mut().filter(|_| key == wanted)
            && std::mem::replace(given, true)
        {
            return index + 1;
        }
    }
    // No block of YAML, then: in JSON or a flow, the line of the second mention.
    let quoted = quote(wanted);
    let second = text.match_indices(&quoted).nth(1).map_or(0, |(at, _)| at);
    text[..second].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GroupVersionKind, Schemas};
    use serde_json::json;

    #[test]
    fn undeclared_fields_are_named_by_path() {
        let schema = Schemas::builtin().get(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap();
        let config = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec});
        assert!(check_declared(&schema, &config(json!({"replicas": 1}))).is_ok());
        let status = check_declared(&schema, &config(json!({"foo": 1}))).unwrap_err();
        assert_eq!(
            status.message,
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
        );
        let status = check_declared(&schema, &config(json!({"foo": 1, "bar": 2}))).unwrap_err();
        assert!(status.message.contains("errors:\n  .spec.bar: field"), "{status}");
    }

    #[test]
    fn duplicates_are_named_by_line() {
        let body = "\nspec:\n  unknown: uk1\n  foo: foo1\n  foo: foo2\n  list:\n  - foo: 1\n    bar: 2\n  - foo: 1\n    foo: 3\n";
        let found = |body: &str, path: &str| {
            check_duplicates(body.as_bytes(), &[path.to_owned()], FieldValidation::Warn).unwrap().remove(0)
        };
        assert_eq!(found(body, "spec.foo"), "line 5: key \"foo\" already set in map");
        assert_eq!(found("a:\n- b: 1\n- b: 2\n  b: 3\n", "a[1].b"), "line 4: key \"b\" already set in map");
        assert_eq!(found("{\"a\": 1,\n\"a\": 2}", "a"), "line 2: key \"a\" already set in map");
        assert_eq!(found("{\"a\": 1, \"a\": 2}", "a"), "line 1: key \"a\" already set in map");
        let status =
            check_duplicates(body.as_bytes(), &["spec.foo".to_owned()], FieldValidation::Strict).unwrap_err();
        assert!(
            status.message.starts_with("error strict decoding YAML: error converting YAML to JSON"),
            "{status}"
        );
        assert!(
            check_duplicates(body.as_bytes(), &["spec.foo".to_owned()], FieldValidation::Ignore)
                .unwrap()
                .is_empty()
        );
    }
}
