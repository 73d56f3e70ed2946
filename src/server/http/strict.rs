//! What server-side apply says of configurations that say a thing twice.

use crate::api::field::quote;
use crate::api::{FieldValidation, Status};

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
        "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
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
            status.message.starts_with("error strict decoding patch: error converting YAML to JSON"),
            "{status}"
        );
        assert!(
            check_duplicates(body.as_bytes(), &["spec.foo".to_owned()], FieldValidation::Ignore)
                .unwrap()
                .is_empty()
        );
    }
}
