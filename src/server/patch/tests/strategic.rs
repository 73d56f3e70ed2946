use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::server::patch::strategic;

fn patched(api_version: &str, kind: &str, current: &Value, patch: Value) -> Value {
    strategic(&schema(api_version, kind), current, &patch).unwrap_or_else(|e| panic!("{patch}: {e}"))
}

#[test]
fn the_documented_examples() {
    let demo = patch_demo();
    let containers = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "patch-demo-ctr-2", "image": "redis"}]}}}});
    let result = patched("apps/v1", "Deployment", &demo, containers);
    assert_eq!(
        result["spec"]["template"]["spec"]["containers"],
        json!([{"name": "patch-demo-ctr-2", "image": "redis"}, {"name": "patch-demo-ctr", "image": "nginx"}])
    );
    let tolerations = json!({"spec": {"template": {"spec": {"tolerations": [
        {"effect": "NoSchedule", "key": "disktype", "value": "ssd"}]}}}});
    let result = patched("apps/v1", "Deployment", &demo, tolerations.clone());
    assert_eq!(
        result["spec"]["template"]["spec"]["tolerations"],
        tolerations["spec"]["template"]["spec"]["tolerations"]
    );
    let retain = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let result = patched("apps/v1", "Deployment", &demo, retain);
    assert_eq!(result["spec"]["strategy"], json!({"type": "Recreate"}));
}

/// Rows of original, patch, result for the lists and maps of a pod.
#[test]
fn directives() {
    let c = |name: &str, image: &str| json!({"name": name, "image": image});
    let table = [
        ("a field is set", json!({"nodeName": "a"}), json!({"nodeName": "b"}), json!({"nodeName": "b"})),
        (
            "null removes",
            json!({"nodeName": "a", "hostname": "h"}),
            json!({"nodeName": null}),
            json!({"hostname": "h"}),
        ),
        (
            "null where nothing is",
            json!({}),
            json!({"nodeName": null, "dnsConfig": {"options": null}}),
            json!({"dnsConfig": {}}),
        ),
        (
            "items merge by key",
            json!({"containers": [c("a", "1"), c("b", "1")]}),
            json!({"containers": [{"name": "b", "image": "2"}, c("c", "3")]}),
            json!({"containers": [c("a", "1"), c("b", "2"), c("c", "3")]}),
        ),
        (
            "an item is deleted",
            json!({"containers": [c("a", "1"), c("b", "1")]}),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [c("b", "1")]}),
        ),
        (
            "a list is replaced",
            json!({"containers": [c("a", "1"), c("b", "1")]}),
            json!({"containers": [c("c", "1"), {"$patch": "replace"}]}),
            json!({"containers": [c("c", "1")]}),
        ),
        (
            "an object is replaced",
            json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}}),
            json!({"securityContext": {"$patch": "replace", "runAsUser": 3}}),
            json!({"securityContext": {"runAsUser": 3}}),
        ),
        (
            "an object is emptied",
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "delete"}}),
            json!({"securityContext": {}}),
        ),
        (
            "an atomic list is replaced",
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        ),
        (
            "the order is as said",
            json!({"containers": [c("a", "1"), c("b", "1"), c("s", "1")]}),
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "containers": [c("c", "1")]}),
            json!({"containers": [c("c", "1"), c("b", "1"), c("a", "1"), c("s", "1")]}),
        ),
        (
            "only the order changes",
            json!({"containers": [c("a", "1"), c("b", "1")]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [c("b", "1"), c("a", "1")]}),
        ),
        (
            "the server's items stay near their neighbours",
            json!({"containers": [c("a", "1"), c("s", "1"), c("b", "1")]}),
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [c("a", "1"), c("s", "1"), c("b", "2")]}),
        ),
        (
            "retained keys of a volume",
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
        ),
        (
            "directives of a new item go",
            json!({}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}], "$setElementOrder/volumes": [{"name": "v"}]}),
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        ),
        (
            "deep within items",
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "X", "$patch": "delete"}, {"name": "Y", "value": "2"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}),
        ),
        (
            "a type changes",
            json!({"overhead": {"cpu": "1"}}),
            json!({"overhead": "x"}),
            json!({"overhead": "x"}),
        ),
    ];
    for (what, original, patch, expected) in table {
        let result = patched("v1", "Pod", &json!({"spec": original}), json!({"spec": patch}));
        assert_eq!(result, json!({"spec": expected}), "{what}");
    }
}

#[test]
fn sets_of_scalars() {
    let pod = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}}});
    let merge = json!({"metadata": {"finalizers": ["c", "b"]}});
    assert_eq!(patched("v1", "Pod", &pod, merge)["metadata"]["finalizers"], json!(["c", "a", "b"]));
    let delete =
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"x": null, "z": "3"}}});
    assert_eq!(
        patched("v1", "Pod", &pod, delete)["metadata"],
        json!({"finalizers": ["b"], "labels": {"y": "2", "z": "3"}})
    );
}

#[test]
fn keys_follow_the_schema() {
    let service = json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}});
    let patch = json!({"spec": {"ports": [{"port": 81, "nodePort": 30001}]}});
    assert_eq!(
        patched("v1", "Service", &service, patch)["spec"]["ports"],
        json!([{"port": 80, "name": "a"}, {"port": 81, "name": "b", "nodePort": 30001}])
    );
    let node = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Disk", "status": "False"}]}});
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    assert_eq!(
        patched("v1", "Node", &node, patch)["status"]["conditions"],
        json!([{"type": "Ready", "status": "False"}, {"type": "Disk", "status": "False"}])
    );
    let budget = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
    let patch = json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}});
    assert_eq!(patched("policy/v1", "PodDisruptionBudget", &budget, patch.clone()), patch);
}

#[test]
fn malformed_patches() {
    let table = [
        (json!({"spec": {"containers": [{"image": "x"}]}}), "does not contain declared merge key: name"),
        (json!({"spec": {"$patch": "explode"}}), "unknown patch type: explode in map: {}"),
        (json!({"spec": {"$retainKeys": "x"}}), "invalid patch format of retainKeys"),
        (json!({"spec": {"$retainKeys": ["a"], "b": 1}}), "invalid patch format of retainKeys"),
        (json!({"spec": {"$setElementOrder/containers": 1}}), "invalid patch format of setElementOrder list"),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "x"}], "containers": [{"name": "y"}]}}),
            "The order in patch list:",
        ),
        (
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": 1}}),
            "invalid patch format of primitive list",
        ),
        (json!({"spec": {"containers": ["x"]}}), "list element types are not identical"),
        (json!([]), "invalid JSON document"),
    ];
    let pod = json!({"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a"}]}});
    for (patch, text) in table {
        let error = strategic(&schema("v1", "Pod"), &pod, &patch).expect_err(text);
        assert_eq!(error.code, 400);
        assert!(error.message.contains(text), "{patch}: {}", error.message);
    }
}

/// A patch of variables, by name, of the container `c`; those without a value are deleted.
fn variables(values: &BTreeMap<String, Option<u8>>) -> Value {
    let items: Vec<Value> = values
        .iter()
        .map(|(name, value)| match value {
            Some(value) => json!({"name": name, "value": value.to_string()}),
            None => json!({"name": name, "$patch": "delete"}),
        })
        .collect();
    json!({"spec": {"containers": [{"name": "c", "env": items}]}})
}

/// The variables in an order that says nothing of the patches' order.
fn sorted(mut pod: Value) -> Value {
    if let Some(env) = pod["spec"]["containers"][0]["env"].as_array_mut() {
        env.sort_by_key(|item| item["name"].to_string());
    }
    pod
}

proptest! {
    #[test]
    fn disjoint_patches_commute(
        base in prop::collection::btree_map("[ab][a-c]", any::<u8>().prop_map(Some), 0..5),
        one in prop::collection::btree_map("a[a-c]", any::<Option<u8>>(), 1..4),
        two in prop::collection::btree_map("b[a-c]", any::<Option<u8>>(), 1..4),
    ) {
        let (base, one, two) = (variables(&base), variables(&one), variables(&two));
        let both = |first: &Value, second: &Value| {
            sorted(patched("v1", "Pod", &patched("v1", "Pod", &base, first.clone()), second.clone()))
        };
        prop_assert_eq!(both(&one, &two), both(&two, &one));
    }

    #[test]
    fn a_patch_twice_is_a_patch_once(
        base in prop::collection::btree_map("[a-e]", any::<u8>().prop_map(Some), 0..5),
        change in prop::collection::btree_map("[a-e]", any::<Option<u8>>(), 1..4),
    ) {
        let change = variables(&change);
        let once = patched("v1", "Pod", &variables(&base), change.clone());
        prop_assert_eq!(patched("v1", "Pod", &once, change), once);
    }
}
