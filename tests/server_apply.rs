//! The examples of Kubernetes' documents on patches and server-side apply, over the API.
//!
//! "Update API Objects in Place Using kubectl patch" and "Server-Side Apply"
//! (<https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/>,
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>).

mod server_support;

use http::Request;
use kube::{Client, Error};
use serde_json::{Value, json};
use server_support::TestServer;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A status code and the body: the object, or the Status of an error.
async fn send(client: &Client, method: &str, uri: &str, media: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(uri).header("content-type", media);
    match client.request::<Value>(request.body(body.as_bytes().to_vec()).unwrap()).await {
        Ok(object) => (200, object),
        Err(Error::Api(status)) => (status.code, serde_json::to_value(status).unwrap()),
        Err(error) => panic!("{method} {uri}: {error}"),
    }
}

async fn post(client: &Client, uri: &str, object: &Value) -> Value {
    let (code, answer) = send(client, "POST", uri, "application/json", &object.to_string()).await;
    assert_eq!(code, 200, "{answer}");
    answer
}

async fn patch(client: &Client, uri: &str, media: &str, body: Value) -> (u16, Value) {
    send(client, "PATCH", uri, media, &body.to_string()).await
}

async fn apply(client: &Client, uri: &str, query: &str, config: &Value) -> (u16, Value) {
    patch(
        client,
        &format!("{uri}/{}?{query}", config["metadata"]["name"].as_str().unwrap()),
        APPLY,
        config.clone(),
    )
    .await
}

fn patch_demo() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "patch-demo"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "nginx"}},
        "template": {"metadata": {"labels": {"app": "nginx"}}, "spec": {
            "containers": [{"name": "patch-demo-ctr", "image": "nginx"}],
            "tolerations": [{"effect": "NoSchedule", "key": "dedicated", "value": "test-team"}]}}}})
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-cm", "labels": {"test-label": "test"}},
        "data": data})
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// Manager and operation of each entry.
fn managers(object: &Value) -> Vec<(String, String)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    entries.iter().map(|e| (text(e, "manager"), text(e, "operation"))).collect()
}

fn pair(manager: &str, operation: &str) -> (String, String) {
    (manager.to_owned(), operation.to_owned())
}

#[tokio::test]
async fn patches_of_a_deployment() {
    let server = TestServer::start().await;
    let client = server.admin();
    post(&client, DEPLOYMENTS, &patch_demo()).await;
    let uri = format!("{DEPLOYMENTS}/patch-demo");
    let template = |spec: Value| json!({"spec": {"template": {"spec": spec}}});

    let added = template(json!({"containers": [{"name": "patch-demo-ctr-2", "image": "redis"}]}));
    let (code, object) = patch(&client, &uri, STRATEGIC, added).await;
    assert_eq!(code, 200);
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(names(&pod["containers"]), ["patch-demo-ctr-2", "patch-demo-ctr"]);

    let replaced =
        template(json!({"tolerations": [{"effect": "NoSchedule", "key": "disktype", "value": "ssd"}]}));
    let (_, object) = patch(&client, &uri, STRATEGIC, replaced).await;
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(pod["tolerations"], json!([{"effect": "NoSchedule", "key": "disktype", "value": "ssd"}]));

    let only = template(
        json!({"containers": [{"name": "patch-demo-ctr-3", "image": "gcr.io/google-samples/hello-app:2.0"}]}),
    );
    let (_, object) = patch(&client, &uri, MERGE, only).await;
    assert_eq!(names(&object["spec"]["template"]["spec"]["containers"]), ["patch-demo-ctr-3"]);

    let (code, object) =
        patch(&client, &format!("{uri}/scale"), MERGE, json!({"spec": {"replicas": 3}})).await;
    assert_eq!((code, &object["kind"], &object["spec"]["replicas"]), (200, &json!("Scale"), &json!(3)));
}

#[tokio::test]
async fn retain_keys_replaces_the_strategy() {
    let server = TestServer::start().await;
    let client = server.admin();
    post(&client, DEPLOYMENTS, &patch_demo()).await;
    let uri = format!("{DEPLOYMENTS}/patch-demo");
    let (code, refused) =
        patch(&client, &uri, STRATEGIC, json!({"spec": {"strategy": {"type": "Recreate"}}})).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "Deployment.apps \"patch-demo\" is invalid: spec.strategy.rollingUpdate: Forbidden: \
         may not be specified when strategy `type` is 'Recreate'"
    );
    let retain = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let (code, object) = patch(&client, &uri, STRATEGIC, retain).await;
    assert_eq!((code, &object["spec"]["strategy"]), (200, &json!({"type": "Recreate"})));
}

#[tokio::test]
async fn json_patches_test_and_change() {
    let server = TestServer::start().await;
    let client = server.admin();
    let mut noted = config_map(json!({"key": "some value"}));
    noted["metadata"]["annotations"] = json!({"example.com/note": "1", "b": "2"});
    post(&client, MAPS, &noted).await;
    let uri = format!("{MAPS}/test-cm");
    let change = json!([{"op": "test", "path": "/data/key", "value": "some value"},
        {"op": "replace", "path": "/data/key", "value": "new value"}, {"op": "remove", "path": "/metadata/annotations/example.com~1note"}]);
    let (code, object) = patch(&client, &uri, JSON_PATCH, change.clone()).await;
    assert_eq!((code, &object["data"]), (200, &json!({"key": "new value"})));
    assert_eq!(object["metadata"]["annotations"], json!({"b": "2"}));
    let (code, refused) = patch(&client, &uri, JSON_PATCH, change).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")));
    let (code, refused) = patch(&client, &uri, "application/json", json!({})).await;
    assert_eq!((code, &refused["reason"]), (415, &json!("UnsupportedMediaType")));
}

#[tokio::test]
async fn an_applied_configuration_has_an_owner() {
    let server = TestServer::start().await;
    let client = server.admin();
    let config = config_map(json!({"key": "some value"}));
    let (_, object) = apply(&client, MAPS, "fieldManager=kubectl", &config).await;
    let entries = &object["metadata"]["managedFields"];
    assert_eq!(managers(&object), [pair("kubectl", "Apply")]);
    assert_eq!(
        entries[0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {"f:test-label": {}}}, "f:data": {"f:key": {}}})
    );
    let (code, same) = apply(&client, MAPS, "fieldManager=kubectl", &config).await;
    assert_eq!((code, &same), (200, &object), "an apply that changes nothing writes nothing");

    let uri = format!("{MAPS}/test-cm?fieldManager=kube-controller-manager");
    patch(&client, &uri, MERGE, json!({"data": {"key": "new value"}})).await;
    let (code, conflict) = apply(&client, MAPS, "fieldManager=kubectl", &config).await;
    assert_eq!((code, &conflict["reason"]), (409, &json!("Conflict")));
    assert_eq!(
        conflict["message"],
        "Apply failed with 1 conflict: conflict with \"kube-controller-manager\" using v1: .data.key"
    );
    assert_eq!(conflict["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let (code, object) = apply(&client, MAPS, "fieldManager=kubectl&force=true", &config).await;
    assert_eq!((code, &object["data"]["key"]), (200, &json!("some value")));
    assert_eq!(managers(&object), [pair("kubectl", "Apply")]);
}

#[tokio::test]
async fn scaling_is_handed_over_to_an_autoscaler() {
    let server = TestServer::start().await;
    let client = server.admin();
    let mut config = patch_demo();
    apply(&client, DEPLOYMENTS, "fieldManager=kubectl", &config).await;
    let mut replicas = patch_demo();
    replicas["spec"] = json!({"replicas": 2});
    let (code, object) = apply(&client, DEPLOYMENTS, "fieldManager=handover-to-hpa", &replicas).await;
    assert_eq!(code, 200, "{object}");
    config["spec"].as_object_mut().unwrap().remove("replicas");
    let (_, object) = apply(&client, DEPLOYMENTS, "fieldManager=kubectl", &config).await;
    assert_eq!(object["spec"]["replicas"], 2, "kept while one applies it");
    let scale = format!("{DEPLOYMENTS}/patch-demo/scale?fieldManager=hpa");
    let (code, _) = patch(&client, &scale, MERGE, json!({"spec": {"replicas": 5}})).await;
    assert_eq!(code, 200);
    let (_, object) = apply(&client, DEPLOYMENTS, "fieldManager=kubectl", &config).await;
    assert_eq!(object["spec"]["replicas"], 5);
    assert_eq!(managers(&object), [pair("kubectl", "Apply"), pair("hpa", "Update")]);
    let entry = &object["metadata"]["managedFields"][1];
    assert_eq!(
        (&entry["subresource"], &entry["fieldsV1"]),
        (&json!("scale"), &json!({"f:spec": {"f:replicas": {}}}))
    );
}

#[tokio::test]
async fn managed_fields_are_cleared_and_carried() {
    let server = TestServer::start().await;
    let client = server.admin();
    let uri = format!("{MAPS}/test-cm");
    for (media, reset) in [
        (MERGE, json!({"metadata": {"managedFields": [{}]}})),
        (JSON_PATCH, json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}])),
    ] {
        apply(&client, MAPS, "fieldManager=kubectl", &config_map(json!({"key": "v"}))).await;
        let (code, object) = patch(&client, &uri, media, reset).await;
        assert_eq!((code, managers(&object)), (200, Vec::new()), "{object}");
        send(&client, "DELETE", &uri, "application/json", "").await;
    }
    // As a restored backup: what the client says of the owners stays, what it does not say is its own.
    let mut carried = config_map(json!({"key": "v", "other": "w"}));
    carried["metadata"]["managedFields"] = json!([{"manager": "team", "operation": "Apply", "apiVersion": "v1",
        "time": "2024-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:key": {}}}}]);
    let object = post(&client, &format!("{MAPS}?fieldManager=restore"), &carried).await;
    // A create changes every field: they are the creator's, as upstream.
    assert_eq!(managers(&object), [pair("restore", "Update")]);
    let fields = &object["metadata"]["managedFields"][0]["fieldsV1"]["f:data"];
    assert_eq!(*fields, json!({".": {}, "f:key": {}, "f:other": {}}));
}

#[tokio::test]
async fn what_an_apply_must_say() {
    let server = TestServer::start().await;
    let client = server.admin();
    let config = config_map(json!({"key": "v"}));
    let (code, refused) = apply(&client, MAPS, "", &config).await;
    assert_eq!(
        (code, refused["message"].as_str()),
        (
            422,
            Some(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
            )
        )
    );
    let mut other = config.clone();
    other["metadata"]["name"] = json!("other");
    let (code, refused) = patch(&client, &format!("{MAPS}/test-cm?fieldManager=m"), APPLY, other).await;
    assert_eq!(code, 400, "{refused}");
    let mut owned = config.clone();
    owned["metadata"]["managedFields"] = json!([{"manager": "m"}]);
    let (code, refused) = apply(&client, MAPS, "fieldManager=m", &owned).await;
    assert_eq!((code, &refused["message"]), (400, &json!("metadata.managedFields must be nil")));
    let (code, refused) = apply(&client, MAPS, &format!("fieldManager={}", "m".repeat(129)), &config).await;
    assert_eq!(code, 422, "{refused}");
    let mut old = config.clone();
    old["metadata"]["resourceVersion"] = json!("1");
    let (code, _) = apply(&client, MAPS, "fieldManager=m&dryRun=All", &config).await;
    assert_eq!(code, 200);
    let (code, _) = send(&client, "GET", &format!("{MAPS}/test-cm"), "application/json", "").await;
    assert_eq!(code, 404, "a dry run leaves nothing");
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: test-cm\ndata:\n  key: value # as YAML\n";
    let (code, object) = send(&client, "PATCH", &format!("{MAPS}/test-cm?fieldManager=m"), APPLY, text).await;
    assert_eq!((code, &object["data"]), (200, &json!({"key": "value"})));
    let (code, refused) = apply(&client, MAPS, "fieldManager=m", &old).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")));
}
