//! CustomResourceDefinitions: kinds that come and go while the server runs.

mod server_crd_support;
mod server_support;

use std::time::Duration;

use serde_json::{Value, json};
use server_crd_support::{Api, crd, instance, version};
use server_support::TestServer;

#[tokio::test]
async fn a_kind_is_served_once_its_definition_is_established() {
    let server = TestServer::start().await;
    let api = Api::of(&server);
    let made = api.create_definition(&crd("tabs", "Tab", vec![version("v1")])).await;
    assert_eq!(
        made["status"]["acceptedNames"],
        json!({"plural": "tabs", "singular": "tab", "kind": "Tab", "listKind": "TabList", "shortNames": ["tbs"], "categories": ["all"]})
    );
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    let reasons: Vec<_> =
        made["status"]["conditions"].as_array().unwrap().iter().map(|c| c["reason"].clone()).collect();
    assert_eq!(reasons, ["NoConflicts", "InitialNamesAccepted"]);

    let tab = api.ok("POST", "tabs", &instance("v1", "one", json!({"color": "red", "size": 2}))).await;
    assert_eq!((&tab["metadata"]["generation"], &tab["apiVersion"]), (&json!(1), &json!("example.com/v1")));
    assert_eq!(api.ok("GET", "tabs/one", &Value::Null).await, tab);
    let list = api.ok("GET", "tabs", &Value::Null).await;
    assert_eq!((&list["kind"], &list["items"]), (&json!("TabList"), &json!([tab])));
    let mut changed = tab.clone();
    changed["spec"]["color"] = json!("blue");
    let changed = api.ok("PUT", "tabs/one", &changed).await;
    assert_eq!(changed["metadata"]["generation"], 2);
    let merged = api.patch("merge-patch+json", "tabs/one", &json!({"spec": {"size": null}})).await.unwrap();
    assert_eq!(merged["spec"], json!({"color": "blue"}));
    let json_patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]);
    let labelled = api.patch("json-patch+json", "tabs/one", &json_patch).await.unwrap();
    assert_eq!(
        (&labelled["metadata"]["labels"]["a"], &labelled["metadata"]["generation"]),
        (&json!("b"), &json!(3))
    );
    let refused = api.patch("strategic-merge-patch+json", "tabs/one", &json!({})).await.unwrap_err();
    assert_eq!(refused.code, 415, "{refused:?}");
    let selected = api.ok("GET", "tabs?labelSelector=a%3Db", &Value::Null).await;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    let gone = api.ok("DELETE", "tabs/one", &Value::Null).await;
    assert_eq!((&gone["kind"], &gone["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(
        api.err("GET", "tabs/one", &Value::Null).await,
        (404, "tabs.example.com \"one\" not found".into())
    );
}

#[tokio::test]
async fn apply_keeps_account_of_fields() {
    let server = TestServer::start().await;
    let api = Api::of(&server);
    api.create_definition(&crd("tabs", "Tab", vec![version("v1")])).await;
    let config = instance("v1", "a", json!({"color": "red"}));
    let made = api.apply("one", "tabs/a", &config).await.unwrap();
    assert_eq!(made["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {"f:color": {}}}));
    let same = api.apply("one", "tabs/a", &config).await.unwrap();
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let refused =
        api.apply("two", "tabs/a", &instance("v1", "a", json!({"color": "blue"}))).await.unwrap_err();
    assert_eq!(refused.code, 409);
    assert!(refused.message.contains("conflict with \"one\": .spec.color"), "{refused:?}");
    let left = api.apply("one", "tabs/a", &instance("v1", "a", json!({}))).await.unwrap();
    assert_eq!(left["spec"].get("color"), None);
}

#[tokio::test]
async fn status_and_scale_have_paths_of_their_own() {
    let server = TestServer::start().await;
    let api = Api::of(&server);
    let mut v1 = version("v1");
    v1["subresources"] = json!({"status": {}, "scale": {"specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"}});
    api.create_definition(&crd("tabs", "Tab", vec![v1])).await;
    let mut tab = instance("v1", "a", json!({"size": 3}));
    tab["status"] = json!({"size": 9});
    let made = api.ok("POST", "tabs", &tab).await;
    assert_eq!(made.get("status"), None, "a create cannot set it");
    let mut written = made.clone();
    written["status"] = json!({"size": 1, "selector": "a=b"});
    written["spec"]["size"] = json!(7);
    let main = api.ok("PUT", "tabs/a", &written).await;
    assert_eq!((main.get("status"), &main["metadata"]["generation"]), (None, &json!(2)));
    written["metadata"]["resourceVersion"] = main["metadata"]["resourceVersion"].clone();
    written["spec"]["size"] = json!(0);
    let status = api.ok("PUT", "tabs/a/status", &written).await;
    assert_eq!((&status["status"]["size"], &status["spec"]["size"]), (&json!(1), &json!(7)));
    assert_eq!(status["metadata"]["generation"], 2);
    let scale = api.ok("GET", "tabs/a/scale", &Value::Null).await;
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(7)));
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "a=b"}));
    let scaled =
        api.patch("merge-patch+json", "tabs/a/scale", &json!({"spec": {"replicas": 4}})).await.unwrap();
    assert_eq!(scaled["spec"]["replicas"], 4);
    let tab = api.ok("GET", "tabs/a", &Value::Null).await;
    assert_eq!((&tab["spec"]["size"], &tab["metadata"]["generation"]), (&json!(4), &json!(3)));
    assert_eq!(api.err("GET", "tabs/a/log", &Value::Null).await.0, 404);
    let mut config = instance("v1", "b", json!({"size": 1}));
    config["status"] = json!({"size": 1});
    let applied = api.apply("one", "tabs/b", &config).await.unwrap();
    assert_eq!(applied["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {"f:size": {}}}));
    let status = api.apply("two", "tabs/b/status", &config).await.unwrap();
    let entries = status["metadata"]["managedFields"].as_array().unwrap();
    let two = entries.iter().find(|e| e["manager"] == "two").unwrap();
    assert_eq!(
        (&two["subresource"], &two["fieldsV1"]),
        (&json!("status"), &json!({"f:status": {"f:size": {}}}))
    );
}

#[tokio::test]
async fn objects_are_seen_in_every_version() {
    let server = TestServer::start().await;
    let api = Api::of(&server);
    let (v1, mut v2) = (version("v1"), version("v2"));
    v2["storage"] = json!(false);
    v2["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        json!({"color": {"type": "string"}, "new": {"type": "string", "default": "n"}});
    let made = api.create_definition(&crd("tabs", "Tab", vec![v1, v2])).await;
    api.ok("POST", "tabs", &instance("v1", "a", json!({"color": "red", "size": 1}))).await;
    let other = Api { version: "v2", ..Api::of(&server) };
    let seen = other.ok("GET", "tabs/a", &Value::Null).await;
    assert_eq!((&seen["apiVersion"], &seen["spec"]["color"]), (&json!("example.com/v2"), &json!("red")));
    let list = other.ok("GET", "tabs", &Value::Null).await;
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["apiVersion"]),
        (&json!("example.com/v2"), &json!("example.com/v2"))
    );
    other.ok("POST", "tabs", &instance("v2", "b", json!({"color": "blue"}))).await;
    assert_eq!(api.ok("GET", "tabs/b", &Value::Null).await["apiVersion"], "example.com/v1");
    assert_eq!(api.err("POST", "tabs", &instance("v2", "c", json!({}))).await.0, 400);

    // The other version becomes the one that is stored; the first is served no longer.
    let mut definition = made.clone();
    definition["spec"]["versions"][0]["storage"] = json!(false);
    definition["spec"]["versions"][0]["served"] = json!(false);
    definition["spec"]["versions"][1]["storage"] = json!(true);
    let updated = api
        .ok_at("PUT", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tabs.example.com", &definition)
        .await;
    assert_eq!(updated["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(api.err("GET", "tabs/a", &Value::Null).await.0, 404, "v1 is not served");
    assert_eq!(api.err_at("GET", "/apis/example.com/v1", &Value::Null).await.0, 404);
    let before = other.ok("GET", "tabs/a", &Value::Null).await;
    assert_eq!(before["apiVersion"], "example.com/v2");
    // A write that changes nothing stores the object in the new version.
    let after = other.ok("PUT", "tabs/a", &before).await;
    assert_ne!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"]);
    let again = other.ok("PUT", "tabs/a", &after).await;
    assert_eq!(after["metadata"]["resourceVersion"], again["metadata"]["resourceVersion"]);
    let server = server.restart().await;
    let other = Api { version: "v2", ..Api::of(&server) };
    assert_eq!(other.ok("GET", "tabs/a", &Value::Null).await, again);
}

#[tokio::test]
async fn defaults_are_applied_to_requests_and_to_what_is_stored() {
    let server = TestServer::start().await;
    let api = Api::of(&server);
    let made = api.create_definition(&crd("tabs", "Tab", vec![version("v1")])).await;
    api.ok("POST", "tabs", &instance("v1", "old", json!({"color": "red"}))).await;
    let mut definition = made.clone();
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    definition.pointer_mut(field).unwrap()["shape"] = json!({"type": "string", "default": "round"});
    let uri = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tabs.example.com";
    let definition = api.ok_at("PUT", uri, &definition).await;
    assert_eq!(api.ok("GET", "tabs/old", &Value::Null).await["spec"]["shape"], "round");
    assert_eq!(api.ok("GET", "tabs", &Value::Null).await["items"][0]["spec"]["shape"], "round");
    let new = api.ok("POST", "tabs", &instance("v1", "new", json!({}))).await;
    assert_eq!(new["spec"]["shape"], "round");
    // The default goes: what was stored with it keeps it.
    let mut definition = definition;
    definition.pointer_mut(field).unwrap()["shape"] = json!({"type": "string"});
    api.ok_at("PUT", uri, &definition).await;
    assert_eq!(api.ok("GET", "tabs/new", &Value::Null).await["spec"]["shape"], "round");
    // Fields that the schema no longer has are gone.
    definition["metadata"]["resourceVersion"] =
        api.ok_at("GET", uri, &Value::Null).await["metadata"]["resourceVersion"].clone();
    definition.pointer_mut(field).unwrap().as_object_mut().unwrap().remove("color");
    api.ok_at("PUT", uri, &definition).await;
    assert_eq!(api.ok("GET", "tabs/old", &Value::Null).await["spec"].get("color"), None);
}

#[tokio::test]
async fn a_definition_goes_with_its_objects() {
    let server = TestServer::start().await;
    let api = Api::of(&server);
    api.create_definition(&crd("tabs", "Tab", vec![version("v1")])).await;
    let mut held = instance("v1", "held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.ok("POST", "tabs", &held).await;
    api.ok("POST", "tabs", &instance("v1", "free", json!({}))).await;
    let uri = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tabs.example.com";
    let going = api.ok_at("DELETE", uri, &Value::Null).await;
    assert_eq!(going["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    let (code, message) = api.err("POST", "tabs", &instance("v1", "late", json!({}))).await;
    assert_eq!(code, 403);
    assert!(
        message.contains("create not allowed while custom resource definition is terminating"),
        "{message}"
    );
    api.until(|| async { api.ok("GET", "tabs", &Value::Null).await["items"].as_array().unwrap().len() == 1 })
        .await;
    let seen = api.ok_at("GET", uri, &Value::Null).await;
    let terminating =
        seen["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Terminating");
    assert_eq!(terminating.unwrap()["reason"], "InstanceDeletionInProgress");
    api.patch("merge-patch+json", "tabs/held", &json!({"metadata": {"finalizers": null}})).await.unwrap();
    api.until(|| async { api.err_at("GET", uri, &Value::Null).await.0 == 404 }).await;
    assert_eq!(api.err("GET", "tabs", &Value::Null).await.0, 404);
    // And comes again, without them.
    api.create_definition(&crd("tabs", "Tab", vec![version("v1")])).await;
    assert_eq!(api.ok("GET", "tabs", &Value::Null).await["items"], json!([]));
}

#[tokio::test]
async fn names_are_given_once() {
    let server = TestServer::start().await;
    let api = Api::of(&server);
    api.create_definition(&crd("tabs", "Tab", vec![version("v1")])).await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut second = crd("tables", "Table", vec![version("v1")]);
    second["spec"]["names"]["shortNames"] = json!(["tab"]);
    api.ok_at("POST", definitions, &second).await;
    let uri = format!("{definitions}/tables.example.com");
    let condition = async |kind: &str| {
        let seen = api.ok_at("GET", &uri, &Value::Null).await;
        let found =
            seen["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).cloned();
        found.unwrap_or_default()
    };
    api.until(|| async { condition("NamesAccepted").await["status"] == "False" }).await;
    let refused = condition("NamesAccepted").await;
    assert_eq!(
        (&refused["reason"], &refused["message"]),
        (&json!("ShortNamesConflict"), &json!("\"tab\" is already in use"))
    );
    assert_eq!(condition("Established").await["reason"], "NotAccepted");
    assert_eq!(api.err("GET", "tables", &Value::Null).await.0, 404);
    api.ok_at("DELETE", &format!("{definitions}/tabs.example.com"), &Value::Null).await;
    api.until(|| async { condition("Established").await["status"] == "True" }).await;
    assert_eq!(api.ok("GET", "tables", &Value::Null).await["kind"], "TableList");
}

#[tokio::test]
async fn watches_see_what_happens_and_end_with_the_kind() {
    let server = TestServer::start().await;
    let api = Api::of(&server);
    api.create_definition(&crd(
        "tabs",
        "Tab",
        vec![version("v1"), {
            let mut v2 = version("v2");
            v2["storage"] = json!(false);
            v2
        }],
    ))
    .await;
    let mut first = api.watch("tabs?watch=1").await;
    let other = Api { version: "v2", ..Api::of(&server) };
    let mut second = other.watch("tabs?watch=1&fieldSelector=metadata.name%3Da").await;
    api.ok("POST", "tabs", &instance("v1", "a", json!({"color": "red"}))).await;
    api.ok("POST", "tabs", &instance("v1", "b", json!({}))).await;
    api.ok("DELETE", "tabs/a", &Value::Null).await;
    let seen = [first.next().await, first.next().await, first.next().await].map(|e| e.unwrap());
    let brief = |e: &Value| {
        format!(
            "{} {} {}",
            e["type"].as_str().unwrap(),
            e["object"]["metadata"]["name"].as_str().unwrap(),
            e["object"]["apiVersion"].as_str().unwrap()
        )
    };
    assert_eq!(
        seen.each_ref().map(brief),
        ["ADDED a example.com/v1", "ADDED b example.com/v1", "DELETED a example.com/v1"]
    );
    let seen = [second.next().await, second.next().await].map(|e| e.unwrap());
    assert_eq!(seen.each_ref().map(brief), ["ADDED a example.com/v2", "DELETED a example.com/v2"]);
    api.ok_at(
        "DELETE",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tabs.example.com",
        &Value::Null,
    )
    .await;
    let mut last = Value::Null;
    while let Some(event) =
        tokio::time::timeout(Duration::from_secs(10), first.next()).await.expect("the watch ends")
    {
        last = event;
    }
    assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test]
async fn tables_and_selectors_follow_the_definition() {
    let server = TestServer::start().await;
    let api = Api::of(&server);
    let mut v1 = version("v1");
    v1["additionalPrinterColumns"] = json!([
        {"name": "Color", "type": "string", "jsonPath": ".spec.color", "description": "Its color."},
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]);
    v1["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    let made = api.create_definition(&crd("tabs", "Tab", vec![v1])).await;
    for (name, color, size) in [("a", "red", 1), ("b", "blue", 2), ("c", "red", 3)] {
        api.ok("POST", "tabs", &instance("v1", name, json!({"color": color, "size": size}))).await;
    }
    let table = api.table("tabs?fieldSelector=spec.color%3Dred").await;
    let titles: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(titles, ["Name", "Color", "Size", "Age"]);
    assert_eq!(table["columnDefinitions"][1]["description"], "Its color.");
    let rows: Vec<_> = table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["cells"].as_array().unwrap()[..3].to_vec())
        .collect();
    assert_eq!(rows, [vec![json!("a"), json!("red"), json!(1)], vec![json!("c"), json!("red"), json!(3)]]);
    assert!(table["rows"][0]["cells"][3].as_str().unwrap().ends_with('s'));
    let (code, message) = api.err("GET", "tabs?fieldSelector=spec.size%3D1", &Value::Null).await;
    assert!(code == 400 && message.contains("field label not supported: spec.size"), "{message}");
    // Other fields: objects are looked at anew.
    let mut definition = made;
    definition["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.size"}]);
    api.ok_at("PUT", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tabs.example.com", &definition)
        .await;
    let found = api.ok("GET", "tabs?fieldSelector=spec.size%3D2", &Value::Null).await;
    assert_eq!(found["items"][0]["metadata"]["name"], "b");
    api.ok("DELETE", "tabs?fieldSelector=spec.size%3D2", &Value::Null).await;
    assert_eq!(api.ok("GET", "tabs", &Value::Null).await["items"].as_array().unwrap().len(), 2);
}
