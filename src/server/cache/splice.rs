//! Changes the resource version in the bytes of a stored object, without decoding them.

use bytes::Bytes;

use crate::store::Revision;

const METADATA: &[u8] = b"\"metadata\":{\"resourceVersion\":\"";

/// The canonical JSON of an object with another resource version. Canonical means: written by
/// [`crate::api::object::serialize`], where the version is the first field of the metadata.
pub fn with_revision(object: &[u8], revision: Revision) -> Bytes {
    let Some(start) = version_at(object) else { return Bytes::copy_from_slice(object) };
    let end = start + object[start..].iter().position(|b| *b == b'"').unwrap_or(0);
    [&object[..start], revision.to_string().as_bytes(), &object[end..]].concat().into()
}

/// Where the resource version begins: the `metadata` of the outermost object, not of one within it.
fn version_at(object: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0u32, 0);
    while at < object.len() {
        match object[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' if depth == 1 && object[at..].starts_with(METADATA) => return Some(at + METADATA.len()),
            b'"' => at = end_of_text(object, at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The closing quote of the text whose opening quote is at `open`.
fn end_of_text(json: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < json.len() && json[at] != b'"' {
        at += if json[at] == b'\\' { 2 } else { 1 };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::object::serialize;
    use serde_json::{Value, json};

    #[test]
    fn only_the_objects_own_version_changes() {
        let object = json!({"apiVersion": "v1", "kind": "X",
            "data": {"metadata": {"resourceVersion": "1"}, "text": "\\\"metadata\":{\"resourceVersion\":\"2\""},
            "metadata": {"name": "a", "resourceVersion": ""}});
        let bytes = serialize(object.clone()).at(7);
        let changed: Value = serde_json::from_slice(&with_revision(&bytes, 12345)).unwrap();
        let mut wanted = object;
        wanted["metadata"]["resourceVersion"] = json!("12345");
        assert_eq!(changed, wanted);
    }

    #[test]
    fn what_has_no_version_stays() {
        assert_eq!(with_revision(b"{\"a\":1}", 3), "{\"a\":1}");
    }
}
