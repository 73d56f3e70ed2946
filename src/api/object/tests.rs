use serde_json::json;

use super::*;

fn stored(value: Value, revision: u64, fields: &[SelectableField]) -> Object {
    Object::from_stored(serialize(value).at(revision), revision, fields).expect("an object")
}

#[test]
fn the_revision_goes_where_serialize_says() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "resourceVersion": "3",
        "annotations": {"x": "\"resourceVersion\":\""}}});
    let object = stored(pod, 42, &[]);
    assert_eq!(object.value()["metadata"]["resourceVersion"], "42");
    assert_eq!(object.value()["metadata"]["annotations"]["x"], "\"resourceVersion\":\"");
    assert_eq!((object.name(), object.revision()), ("a", 42));
    let bare = serialize(json!({"kind": "X"}));
    assert_eq!(&bare.at(1)[..], br#"{"kind":"X","metadata":{"resourceVersion":"1"}}"#);
}

#[test]
fn metadata_is_read_without_decoding() {
    let object = stored(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n", "uid": "u",
            "labels": {"app": "web", "odd": "q\"uote"}, "finalizers": ["f"], "deletionTimestamp": "2024-01-01T00:00:00Z",
            "ownerReferences": [{"uid": "o1", "name": "x"}, {"uid": "o2", "name": "y"}]},
            "spec": {"name": "not this", "labels": {"b": "c"}}}),
        1,
        &[],
    );
    assert_eq!((object.name(), object.namespace(), object.uid()), ("a", "n", "u"));
    assert_eq!(object.labels().collect::<Vec<_>>(), [("app", "web"), ("odd", "q\"uote")]);
    assert_eq!((object.label("app"), object.label("b")), (Some("web"), None));
    assert_eq!(object.owner_uids().collect::<Vec<_>>(), ["o1", "o2"]);
    assert_eq!(object.deletion_timestamp(), Some("2024-01-01T00:00:00Z"));
    assert!(object.has_finalizers());
    let plain = stored(json!({"metadata": {"name": "b", "finalizers": []}}), 2, &[]);
    assert!(!plain.has_finalizers() && plain.deletion_timestamp().is_none());
}

#[test]
fn selectable_fields_have_defaults_and_second_places() {
    let fields = [
        SelectableField::new("spec.nodeName"),
        SelectableField::new("spec.unschedulable").or("false"),
        SelectableField::new("status.successful").at("status.succeeded").or("0"),
        SelectableField::new("source").at("source.component").or_at("reportingComponent"),
    ];
    let value = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1", "unschedulable": true},
        "status": {"succeeded": 3}, "source": {"component": ""}, "reportingComponent": "kubelet"});
    let object = stored(value.clone(), 1, &fields);
    for (i, expected) in ["n1", "true", "3", "kubelet"].into_iter().enumerate() {
        assert_eq!(object.field_at(i), Some(expected));
        assert_eq!(fields[i].of(&value), expected);
    }
    assert_eq!(object.field("metadata.name", &fields), Some("a"));
    assert_eq!(object.field("spec.nodeName", &fields), Some("n1"));
    assert_eq!(object.field("spec.other", &fields), None);
    let empty = stored(json!({"metadata": {"name": "a"}}), 1, &fields);
    assert_eq!(
        (empty.field_at(0), empty.field_at(1), empty.field_at(2)),
        (Some(""), Some("false"), Some("0"))
    );
}

#[test]
fn typed_forms_are_shared_while_held() {
    use k8s_openapi::api::core::v1::Pod;
    let object = stored(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}), 1, &[]);
    let first = object.typed::<Pod>().expect("a pod");
    let second = object.typed::<Pod>().expect("a pod");
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(first.metadata.name.as_deref(), Some("a"));
    drop((first, second));
    assert!(object.typed.lock().as_ref().is_some_and(|w| w.upgrade().is_none()));
}

#[test]
fn damaged_bytes_are_refused() {
    for bad in ["", "{", "{\"metadata\":{\"name\":\"a\"}", "{}x"] {
        assert!(Object::from_stored(Bytes::from_static(bad.as_bytes()), 1, &[]).is_err(), "{bad}");
    }
}

#[test]
fn an_object_costs_little_more_than_its_bytes() {
    assert!(std::mem::size_of::<Object>() <= 256, "{}", std::mem::size_of::<Object>());
}
