use serde_json::json;

use super::*;

fn schema() -> Schema {
    let openapi = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "a": {"type": "string"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"known": {"type": "object", "properties": {"x": {"type": "string"}}}}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "anything": {"type": "object", "additionalProperties": true},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true},
            "quantity": {"x-kubernetes-int-or-string": true},
        }},
        "status": {"type": "object"},
    }});
    Schema::custom(&GroupVersionKind::new("example.com", "v1", "Foo"), Some(&openapi), false)
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let mut object = json!({
        "apiVersion": "example.com/v1", "kind": "Foo",
        "metadata": {"name": "a", "bad": 1, "labels": {"a": "b"}, "creationTimestamp": null},
        "spec": {"a": "x", "b": 1, "labels": {"k": "v"}, "free": {"u": {"v": 1}, "known": {"x": "1", "y": 2}},
            "anything": {"n": 1, "o": {"p": 1}},
            "list": [{"name": "a", "other": 1}],
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "nope": 1}, "spec": {"x": 1}}},
        "status": {"z": 1}, "extra": null,
    });
    let checked = schema().check(&mut object, FieldValidation::Strict);
    let unknown = [
        "extra",
        "metadata.bad",
        "spec.anything.o.p",
        "spec.b",
        "spec.free.known.y",
        "spec.list[0].other",
        "spec.pod.metadata.nope",
        "status.z",
    ];
    assert_eq!(checked.errors, unknown.map(|path| format!("unknown field \"{path}\"")));
    assert_eq!(
        object,
        json!({
            "apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a", "labels": {"a": "b"}},
            "spec": {"a": "x", "labels": {"k": "v"}, "free": {"u": {"v": 1}, "known": {"x": "1"}},
                "anything": {"n": 1, "o": {}}, "list": [{"name": "a"}],
                "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": 1}}},
            "status": {},
        })
    );
    let before = object.clone();
    assert_eq!(schema().check(&mut object, FieldValidation::Warn), Checked::default());
    assert_eq!(object, before);
}

#[test]
fn only_metadata_is_typed() {
    let mut object = json!({"spec": {"a": 1, "list": {"x": 1}, "quantity": true}, "metadata": {}});
    assert_eq!(schema().check(&mut object, FieldValidation::Strict).errors, [""; 0]);
    let mut object = json!({"metadata": {"labels": {"a": 1}}});
    assert_eq!(
        schema().check(&mut object, FieldValidation::Ignore).errors,
        ["json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"]
    );
    let mut object = json!({"spec": {"pod": {"kind": 1}}});
    assert_eq!(
        schema().check(&mut object, FieldValidation::Ignore).errors,
        ["spec.pod.kind: Invalid value: 1: must be a string"]
    );
}

#[test]
fn lists_and_maps_have_their_kinds() {
    let schema = schema();
    let spec = schema.root().field("spec").expect("spec").node();
    let list = spec.field("list").expect("list").node();
    assert_eq!(list.list_kind(), Some(crate::api::schema::ListKind::Map));
    assert_eq!(list.list_keys().collect::<Vec<_>>(), ["name"]);
    assert!(schema.root().field("metadata").expect("metadata").node().field("labels").is_some());
    assert_eq!(schema.tree().definitions().next().expect("one").name(), "com.example.v1.Foo");
}

#[test]
fn without_a_schema_everything_is_kept() {
    let kind = GroupVersionKind::new("example.com", "v1", "Foo");
    for schema in
        [Schema::custom(&kind, None, false), Schema::custom(&kind, Some(&json!({"type": "object"})), true)]
    {
        let mut object = json!({"metadata": {"name": "a"}, "spec": {"a": {"b": 1}}, "x": 1});
        let before = object.clone();
        assert_eq!(schema.check(&mut object, FieldValidation::Strict), Checked::default());
        assert_eq!(object, before);
    }
}
