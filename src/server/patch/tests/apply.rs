use proptest::prelude::*;

use super::*;
use crate::api::{Meta, Status};
use crate::server::patch::managed::track_update;
use crate::server::patch::{apply, strategic};

const NOW: &str = "2024-01-01T00:00:00Z";
const LATER: &str = "2024-01-02T00:00:00Z";

struct Applied(Option<Value>);

impl Applied {
    fn new() -> Self {
        Self(None)
    }

    fn try_apply(&self, config: &Value, manager: &str, force: bool) -> Result<Value, Status> {
        let schema = schema(Meta::of(config).api_version(), Meta::of(config).kind());
        apply(&schema, self.0.as_ref(), config, manager, force, "", LATER)
    }

    fn apply(&mut self, config: &Value, manager: &str) -> &Value {
        let result = self.try_apply(config, manager, false).unwrap_or_else(|e| panic!("{manager}: {e}"));
        self.0.insert(result)
    }

    fn force(&mut self, config: &Value, manager: &str) -> &Value {
        let result = self.try_apply(config, manager, true).unwrap_or_else(|e| panic!("{manager}: {e}"));
        self.0.insert(result)
    }

    fn update(&mut self, change: impl Fn(&mut Value), manager: &str) -> &Value {
        let old = self.0.clone().expect("an object");
        let mut new = old.clone();
        change(&mut new);
        let id = schema(Meta::of(&old).api_version(), Meta::of(&old).kind());
        track_update(&id, Some(&old), &mut new, manager, &id.kind().api_version(), "", LATER);
        self.0.insert(new)
    }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-cm", "namespace": "default"}, "data": data})
}

fn owner(object: &Value, manager: &str) -> Value {
    let entries = Meta::of(object).managed_fields().iter();
    entries.filter(|e| e["manager"] == manager).map(|e| e["fieldsV1"].clone()).next().unwrap_or_default()
}

#[test]
fn the_documented_example() {
    let mut object = Applied::new();
    let mut config = config_map(json!({"key": "some value"}));
    config["metadata"]["labels"] = json!({"test-label": "test"});
    let result = object.apply(&config, "kubectl");
    assert_eq!(
        result["metadata"]["managedFields"],
        json!([{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "time": LATER, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {"f:test-label": {}}}, "f:data": {"f:key": {}}}}])
    );
    let result = object.update(|o| o["data"]["key"] = "new value".into(), "kube-controller-manager");
    assert_eq!(owner(result, "kube-controller-manager"), json!({"f:data": {"f:key": {}}}));
    assert_eq!(owner(result, "kubectl"), json!({"f:metadata": {"f:labels": {"f:test-label": {}}}}));
    let conflict = object.try_apply(&config, "kubectl", false).expect_err("a conflict");
    assert_eq!(
        conflict.message,
        "Apply failed with 1 conflict: conflict with \"kube-controller-manager\" using v1: .data.key"
    );
    assert_eq!(conflict.code, 409);
    assert_eq!(
        conflict.to_value()["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "field": ".data.key",
            "message": "conflict with \"kube-controller-manager\" using v1"}])
    );
    let result = object.force(&config, "kubectl");
    assert_eq!(result["data"]["key"], "some value");
    assert_eq!(Meta::of(result).managed_fields().len(), 1);
}

#[test]
fn what_is_no_longer_applied_goes() {
    let mut object = Applied::new();
    object.apply(&config_map(json!({"a": "1", "b": "2"})), "m");
    object.update(|o| o["data"]["c"] = "3".into(), "other");
    let result = object.apply(&config_map(json!({"a": "1"})), "m");
    assert_eq!(result["data"], json!({"a": "1", "c": "3"}));
    let bare = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-cm", "namespace": "default"}});
    let result = object.apply(&bare, "m");
    assert_eq!(result["data"], json!({"c": "3"}));
    assert_eq!(owner(result, "m"), Value::Null);
}

#[test]
fn shared_fields_stay_while_one_applies_them() {
    let mut object = Applied::new();
    object.apply(&config_map(json!({"a": "1"})), "one");
    object.apply(&config_map(json!({"a": "1", "b": "2"})), "two");
    let result = object.apply(&config_map(json!({})), "one");
    assert_eq!(result["data"], json!({"a": "1", "b": "2"}));
    let result = object.apply(&config_map(json!({"b": "2"})), "two");
    assert_eq!(result["data"], json!({"b": "2"}));
}

#[test]
fn many_conflicts_are_listed_by_manager() {
    let mut object = Applied::new();
    object.apply(&config_map(json!({"a": "1", "b": "1"})), "one");
    object.update(|o| o["data"]["c"] = "1".into(), "two");
    let conflict = object.try_apply(&config_map(json!({"a": "2", "b": "2", "c": "2"})), "three", false);
    assert_eq!(
        conflict.expect_err("conflicts").message,
        "Apply failed with 3 conflicts: conflicts with \"one\":\n- .data.a\n- .data.b\nconflicts with \"two\" using v1:\n- .data.c"
    );
}

#[test]
fn items_of_lists_have_owners() {
    let config = |containers: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "template": {"spec": {"containers": containers}}}})
    };
    let mut object = Applied::new();
    object
        .apply(&config(json!([{"name": "app", "image": "app:1", "ports": [{"containerPort": 80}]}])), "team");
    let result = object.apply(&config(json!([{"name": "proxy", "image": "proxy:1"}])), "injector");
    let names: Vec<&Value> = result["spec"]["template"]["spec"]["containers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["app", "proxy"]);
    let conflict = object.try_apply(&config(json!([{"name": "app", "image": "app:2"}])), "injector", false);
    assert_eq!(
        conflict.expect_err("a conflict").message,
        "Apply failed with 1 conflict: conflict with \"team\": .spec.template.spec.containers[name=\"app\"].image"
    );
    let result = object.apply(&config(json!([{"name": "app", "image": "app:1"}])), "team");
    assert_eq!(
        result["spec"]["template"]["spec"]["containers"],
        json!([{"name": "app", "image": "app:1"}, {"name": "proxy", "image": "proxy:1"}])
    );
}

#[test]
fn scaling_by_another_manager_is_handed_over() {
    let mut config = patch_demo();
    let mut object = Applied::new();
    object.apply(&config, "kubectl");
    object.update(|o| o["spec"]["replicas"] = 5.into(), "scaler");
    config["spec"].as_object_mut().expect("a spec").remove("replicas");
    let result = object.apply(&config, "kubectl");
    assert_eq!(result["spec"]["replicas"], 5);
    assert_eq!(owner(result, "scaler"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn objects_from_before_have_an_owner() {
    let live = config_map(json!({"a": "1"}));
    let object = Applied(Some(live));
    let conflict = object.try_apply(&config_map(json!({"a": "2"})), "m", false).expect_err("a conflict");
    assert!(conflict.message.contains("\"before-first-apply\" using v1: .data.a"), "{}", conflict.message);
    let result = object.try_apply(&config_map(json!({"b": "2"})), "m", false).expect("no conflict");
    assert_eq!(result["data"], json!({"a": "1", "b": "2"}));
}

#[test]
fn kubectl_takes_over_from_its_client_side_apply() {
    let mut live = config_map(json!({"a": "1"}));
    let last = live.to_string();
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let id = schema("v1", "ConfigMap");
    track_update(&id, None, &mut live, "kubectl-client-side-apply", "v1", "", NOW);
    let object = Applied(Some(live));
    let config = config_map(json!({"a": "2"}));
    assert!(object.try_apply(&config, "other", false).is_err());
    let result = object.try_apply(&config, "kubectl", false).expect("taken over");
    assert_eq!(result["data"]["a"], "2");
    let note =
        Meta::of(&result).annotation("kubectl.kubernetes.io/last-applied-configuration").expect("kept");
    assert_eq!(serde_json::from_str::<Value>(note).expect("JSON"), config);
}

#[test]
fn what_is_malformed() {
    let object = Applied::new();
    let mut config = config_map(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        object.try_apply(&config, "m", false).expect_err("refused").message,
        "metadata.managedFields must be nil"
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "a"}, {"name": "a"}]}});
    assert_eq!(
        object.try_apply(&pod, "m", false).expect_err("refused").message,
        "failed to create typed patch object (n/p; v1, Kind=Pod): .spec.containers: duplicate entries for key [name=\"a\"]"
    );
}

#[test]
fn subresources_have_entries_of_their_own() {
    let mut object = Applied::new();
    object.apply(&patch_demo(), "kubectl");
    let old = object.0.clone().expect("an object");
    let id = schema("apps/v1", "Deployment");
    let mut new = strategic(&id, &old, &json!({"status": {"replicas": 2}})).expect("a patch");
    track_update(&id, Some(&old), &mut new, "controller", "apps/v1", "status", LATER);
    let entry =
        Meta::of(&new).managed_fields().iter().find(|e| e["manager"] == "controller").expect("an entry");
    assert_eq!(
        (&entry["subresource"], &entry["fieldsV1"]),
        (&json!("status"), &json!({"f:status": {".": {}, "f:replicas": {}}}))
    );
    let result = Applied(Some(new)).try_apply(&patch_demo(), "kubectl", false).expect("no conflict");
    assert_eq!(result["status"]["replicas"], 2);
}

#[test]
fn what_a_request_cannot_write_is_ignored() {
    let mut config = patch_demo();
    config["status"] = json!({"replicas": 7});
    let mut object = Applied::new();
    let result = object.apply(&config, "m").clone();
    assert_eq!(result.get("status"), None);
    assert_eq!(owner(&result, "m").get("f:status"), None);
    let id = schema("apps/v1", "Deployment");
    let result =
        apply(&id, Some(&result), &config, "controller", false, "status", LATER).expect("no conflict");
    assert_eq!(result["status"], json!({"replicas": 7}));
    assert_eq!(owner(&result, "controller"), json!({"f:status": {"f:replicas": {}}}));
}

proptest! {
    #[test]
    fn applying_twice_changes_nothing(
        data in prop::collection::btree_map("[a-d]", "[xy]", 0..4),
        first in prop::collection::btree_map("[a-d]", "[xy]", 0..4),
        containers in prop::collection::btree_set("[a-d]", 1..4),
    ) {
        let mut object = Applied::new();
        object.force(&config_map(json!(first)), "one");
        let config = config_map(json!(data));
        let once = object.force(&config, "two").clone();
        prop_assert_eq!(object.force(&config, "two"), &once);

        let containers: Vec<Value> = containers.iter().map(|n| json!({"name": n, "image": "i"})).collect();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}});
        let mut object = Applied::new();
        let once = object.apply(&pod, "one").clone();
        prop_assert_eq!(object.apply(&pod, "one"), &once);
    }

    #[test]
    fn applies_of_disjoint_fields_commute(
        one in prop::collection::btree_map("a[a-c]", "[xy]", 0..4),
        two in prop::collection::btree_map("b[a-c]", "[xy]", 0..4),
    ) {
        let (one, two) = (config_map(json!(one)), config_map(json!(two)));
        let (mut forth, mut back) = (Applied::new(), Applied::new());
        forth.apply(&one, "one");
        back.apply(&two, "two");
        prop_assert_eq!(forth.apply(&two, "two"), back.apply(&one, "one"));
    }

    #[test]
    fn the_last_applied_configuration_is_there(
        first in prop::collection::btree_map("[a-d]", "[xy]", 0..4),
        second in prop::collection::btree_map("[a-d]", "[xy]", 1..4),
    ) {
        let mut object = Applied::new();
        object.apply(&config_map(json!(first)), "m");
        let result = object.apply(&config_map(json!(second)), "m");
        prop_assert_eq!(&result["data"], &json!(second));
    }
}
