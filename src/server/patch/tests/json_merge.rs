use proptest::prelude::*;

use super::*;
use crate::server::patch::{json, merge};

#[test]
fn json_patches() {
    let current = json!({"a": {"b": [1, 2]}, "x/y": "z"});
    let table = [
        (json!([{"op": "add", "path": "/a/b/-", "value": 3}]), json!({"a": {"b": [1, 2, 3]}, "x/y": "z"})),
        (json!([{"op": "remove", "path": "/a/b/0"}]), json!({"a": {"b": [2]}, "x/y": "z"})),
        (json!([{"op": "replace", "path": "/x~1y", "value": 1}]), json!({"a": {"b": [1, 2]}, "x/y": 1})),
        (
            json!([{"op": "test", "path": "/a/b/1", "value": 2}, {"op": "remove", "path": "/a"}]),
            json!({"x/y": "z"}),
        ),
        (json!([{"op": "move", "from": "/a/b", "path": "/c"}]), json!({"a": {}, "c": [1, 2], "x/y": "z"})),
        (
            json!([{"op": "copy", "from": "/a/b/0", "path": "/c"}]),
            json!({"a": {"b": [1, 2]}, "c": 1, "x/y": "z"}),
        ),
    ];
    for (patch, expected) in table {
        let result = json(&current, patch.to_string().as_bytes()).unwrap_or_else(|e| panic!("{patch}: {e}"));
        assert_eq!(result, expected);
    }
}

#[test]
fn json_patches_that_fail() {
    let current = json!({"a": 1});
    let table: [(&[u8], u16, &str); 5] = [
        (b"{", 400, "error decoding patch"),
        (br#"{"op":"add"}"#, 400, "error decoding patch"),
        (br#"[{"op":"jump","path":"/a"}]"#, 400, "error decoding patch"),
        (br#"[{"op":"replace","path":"/b","value":1}]"#, 422, "doc is missing path: \"/b\": missing value"),
        (br#"[{"op":"test","path":"/a","value":2}]"#, 422, "testing value /a failed: test failed"),
    ];
    for (patch, code, text) in table {
        let error = json(&current, patch).expect_err(text);
        assert_eq!(error.code, code, "{}", error.message);
        assert!(error.message.contains(text), "{}", error.message);
    }
}

#[test]
fn merge_patches() {
    let current = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
    let patch = json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [3]});
    assert_eq!(merge(&current, &patch), json!({"a": {"c": 2, "d": {"f": 1}}, "l": [3]}));
}

proptest! {
    #[test]
    fn disjoint_merge_patches_commute(a in fields("a[a-c]"), b in fields("b[a-c]"), base in fields("[ab][a-c]")) {
        prop_assert_eq!(merge(&merge(&base, &a), &b), merge(&merge(&base, &b), &a));
    }

    #[test]
    fn a_merge_patch_twice_is_a_merge_patch_once(patch in fields("[a-c]"), base in fields("[a-c]")) {
        let once = merge(&base, &patch);
        prop_assert_eq!(merge(&once, &patch), once);
    }
}

/// Objects two levels deep whose keys match a pattern.
fn fields(keys: &'static str) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), any::<u8>().prop_map(Value::from)];
    let inner = prop::collection::btree_map("[a-c]", leaf.clone(), 0..3)
        .prop_map(|m| Value::Object(m.into_iter().collect()));
    prop::collection::btree_map(keys, prop_oneof![leaf, inner], 0..4)
        .prop_map(|m| Value::Object(m.into_iter().collect()))
}
