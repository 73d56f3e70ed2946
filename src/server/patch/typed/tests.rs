use serde_json::json;

use super::*;
use crate::api::{GroupVersionKind, Schema, Schemas};

fn pods() -> Schema {
    Schemas::builtin().get(&GroupVersionKind::new("", "v1", "Pod")).expect("built in")
}

fn fields(value: &Value) -> Value {
    fields_of(Some(pods().root()), value).below.to_value()
}

#[test]
fn fields_of_a_pod() {
    let pod = json!({"metadata": {"labels": {"app": "a"}, "annotations": {}, "finalizers": ["x"]}, "spec": {
        "containers": [{"name": "c", "image": "i", "args": ["1", "2"], "ports": [{"containerPort": 80}]}],
        "nodeSelector": {"a": "b"}, "securityContext": {}, "tolerations": [{"key": "t"}]}});
    assert_eq!(
        fields(&pod),
        json!({
            "f:metadata": {"f:labels": {"f:app": {}}, "f:annotations": {}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}},
                "f:nodeSelector": {}, "f:securityContext": {}, "f:tolerations": {},
            },
        })
    );
}

#[test]
fn differences() {
    let schema = pods();
    let old = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"nodeName": "n"}});
    let new = json!({"metadata": {"labels": {"a": "3", "c": "4"}, "annotations": {"k": "v"}}, "spec": {"nodeName": "n"}});
    let d = compare(Some(schema.root()), Some(&old), Some(&new));
    assert_eq!(d.modified.below.paths(), [".metadata.labels.a"]);
    assert_eq!(d.removed.below.paths(), [".metadata.labels.b"]);
    assert_eq!(
        d.added.below.paths(),
        [".metadata.annotations", ".metadata.annotations.k", ".metadata.labels.c"]
    );
    let same = compare(Some(schema.root()), Some(&old), Some(&old));
    assert!(same.modified.is_empty() && same.added.is_empty() && same.removed.is_empty());
}

#[test]
fn items_in_a_pod_are_compared_by_key() {
    let schema = pods();
    let old = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}});
    let new = json!({"spec": {"containers": [{"name": "b", "image": "1"}, {"name": "c", "image": "1"}]}});
    let d = compare(Some(schema.root()), Some(&old), Some(&new));
    assert!(d.modified.is_empty());
    assert_eq!(
        d.removed.below.paths(),
        [
            ".spec.containers[name=\"a\"]",
            ".spec.containers[name=\"a\"].image",
            ".spec.containers[name=\"a\"].name"
        ]
    );
    assert_eq!(d.added.below.paths().len(), 3);
}

#[test]
fn merged_items_keep_the_order_of_the_configuration() {
    let schema = pods();
    let list = |names: &[&str]| json!({"spec": {"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()}});
    let table: [(&[&str], &[&str], &[&str]); 6] = [
        (&["a", "b"], &["a", "b"], &["a", "b"]),
        (&["a", "b"], &["c"], &["a", "b", "c"]),
        (&["a", "b"], &["b", "a"], &["b", "a"]),
        (&["a", "s", "b"], &["a", "b"], &["a", "s", "b"]),
        (&["a", "s", "b"], &["b", "a"], &["s", "b", "a"]),
        (&[], &["x", "y"], &["x", "y"]),
    ];
    for (live, config, expected) in table {
        let merged =
            merge(Some(schema.root()), Some(&list(live)), Some(&list(config)), "").expect("no duplicates");
        assert_eq!(merged, Some(list(expected)), "{live:?} with {config:?}");
    }
    let error = merge(Some(schema.root()), None, Some(&list(&["a", "a"])), "").expect_err("duplicates");
    assert_eq!(error.to_string(), ".spec.containers: duplicate entries for key [name=\"a\"]");
}

#[test]
fn unknown_fields_of_custom_kinds_are_what_they_look_like() {
    let openapi = json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": {"type": "string"}}}}});
    let schema = Schema::custom(&GroupVersionKind::new("example.com", "v1", "Foo"), Some(&openapi), false);
    let object = json!({"spec": {"known": "k", "a": {"b": {"c": 1, "d": [1]}}, "e": "f"}});
    let fields = fields_of(Some(schema.root()), &object).below.to_value();
    assert_eq!(
        fields,
        json!({"f:spec": {"f:known": {}, "f:e": {}, "f:a": {".": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}}}})
    );
    let other = json!({"spec": {"a": {"b": {"x": true}}}});
    let merged = merge(Some(schema.root()), Some(&object), Some(&other), "").expect("merges");
    assert_eq!(
        merged,
        Some(json!({"spec": {"known": "k", "a": {"b": {"c": 1, "d": [1], "x": true}}, "e": "f"}}))
    );
    let scalar = json!({"spec": {"a": 5}});
    let merged = merge(Some(schema.root()), Some(&object), Some(&scalar), "").expect("merges");
    assert_eq!(merged, Some(json!({"spec": {"known": "k", "a": 5, "e": "f"}})));
}
