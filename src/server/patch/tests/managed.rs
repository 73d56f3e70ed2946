use super::*;
use crate::api::Meta;
use crate::server::patch::managed::track_update;

const NOW: &str = "2024-01-01T00:00:00Z";
const LATER: &str = "2024-01-02T00:00:00Z";

fn track(old: Option<&Value>, new: &mut Value, manager: &str, now: &str) {
    track_update(&schema("v1", "ConfigMap"), old, new, manager, "v1", "", now);
}

fn created() -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u",
        "resourceVersion": "1", "labels": {"x": "1"}}, "data": {"k": "v"}});
    track(None, &mut object, "kubectl-create", NOW);
    object
}

#[test]
fn a_create_owns_all_but_what_nobody_manages() {
    assert_eq!(
        created()["metadata"]["managedFields"],
        json!([{"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {".": {}, "f:k": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}}}])
    );
}

#[test]
fn updates_of_one_manager_are_one_entry() {
    let old = created();
    let mut new = old.clone();
    new["data"]["l"] = "w".into();
    track(Some(&old), &mut new, "kubectl-create", LATER);
    let entries = Meta::of(&new).managed_fields();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["fieldsV1"]["f:data"], json!({".": {}, "f:k": {}, "f:l": {}}));
    assert_eq!(entries[0]["time"], LATER);
}

#[test]
fn nothing_changed_changes_nothing() {
    let old = created();
    let mut new = old.clone();
    new["metadata"]["resourceVersion"] = "2".into();
    track(Some(&old), &mut new, "other", LATER);
    assert_eq!(new["metadata"]["managedFields"], old["metadata"]["managedFields"]);
    MetaGone::from(&mut new);
    track(Some(&old), &mut new, "other", LATER);
    assert_eq!(
        new["metadata"]["managedFields"], old["metadata"]["managedFields"],
        "those of the old object count"
    );
}

struct MetaGone;

impl MetaGone {
    fn from(object: &mut Value) {
        object["metadata"].as_object_mut().expect("metadata").remove("managedFields");
    }
}

#[test]
fn removed_fields_have_no_owner() {
    let old = created();
    let mut new = old.clone();
    new["data"] = json!({"m": "n"});
    track(Some(&old), &mut new, "other", LATER);
    let entries = Meta::of(&new).managed_fields();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["fieldsV1"]["f:data"], json!({}), "the map is still the creator's");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:data": {"f:m": {}}}));
}

#[test]
fn an_empty_list_resets() {
    let old = created();
    for reset in [json!([]), json!([{}])] {
        let mut new = old.clone();
        new["metadata"]["managedFields"] = reset;
        track(Some(&old), &mut new, "other", LATER);
        assert_eq!(new["metadata"].get("managedFields"), None);
    }
    let mut new = old.clone();
    new["metadata"]["managedFields"] = json!([{"operation": "Dance"}]);
    track(Some(&old), &mut new, "other", LATER);
    assert_eq!(
        new["metadata"]["managedFields"], old["metadata"]["managedFields"],
        "malformed entries do not count"
    );
}

#[test]
fn old_updaters_are_united() {
    let mut object = created();
    for n in 0..12 {
        let old = object.clone();
        object["data"][format!("k{n}")] = "v".into();
        let time = format!("2024-01-01T00:01:{n:02}Z");
        track(Some(&old), &mut object, &format!("m{n:02}"), &time);
    }
    let entries = Meta::of(&object).managed_fields();
    assert_eq!(entries.len(), 10);
    let ancient = entries.iter().find(|e| e["manager"] == "ancient-changes").expect("united");
    assert_eq!(
        ancient["fieldsV1"]["f:data"],
        json!({".": {}, "f:k": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}})
    );
    let all: usize = entries.iter().map(|e| e["fieldsV1"]["f:data"].as_object().map_or(0, |d| d.len())).sum();
    assert_eq!(all, 14, "no field is lost: 13 keys and the map itself");
}
