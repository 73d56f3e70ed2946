//! What every kind can do, with kube's client against an API in this process.

mod server_support;

use std::collections::BTreeMap;

use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::{Value, json};
use server_support::TestServer;

fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some(name.into()), ..Default::default() },
        data: Some(BTreeMap::from([("k".to_owned(), value.to_owned())])),
        ..Default::default()
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result.unwrap_err() {
        Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("{other}"),
    }
}

/// A request without a typed client.
async fn raw(
    client: &Client,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: Value,
) -> Result<Value, Error> {
    let mut request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client.request::<Value>(request.body(body).unwrap()).await
}

#[tokio::test]
async fn create_read_update_delete() {
    let server = TestServer::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin());
    let made = api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    assert!(made.uid().is_some() && made.creation_timestamp().is_some() && made.resource_version().is_some());
    assert_eq!(made.namespace().as_deref(), Some("default"));
    assert_eq!(api.get("a").await.unwrap(), made);
    assert_eq!(code(api.create(&PostParams::default(), &map("a", "1")).await), (409, "AlreadyExists".into()));
    let mut changed = made.clone();
    changed.data.as_mut().unwrap().insert("k".into(), "2".into());
    let second = api.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(second.resource_version(), made.resource_version());
    assert_eq!((second.uid(), second.creation_timestamp()), (made.uid(), made.creation_timestamp()));
    // The first version is not the newest any more.
    assert_eq!(code(api.replace("a", &PostParams::default(), &changed).await), (409, "Conflict".into()));
    // An update that changes nothing writes nothing.
    let same = api.replace("a", &PostParams::default(), &second).await.unwrap();
    assert_eq!(same.resource_version(), second.resource_version());
    api.delete("a", &DeleteParams::default()).await.unwrap().map_right(|s| assert!(s.is_success()));
    assert_eq!(code(api.get("a").await), (404, "NotFound".into()));
    assert_eq!(code(api.delete("a", &DeleteParams::default()).await), (404, "NotFound".into()));
    assert_eq!(
        code(api.replace("b", &PostParams::default(), &map("b", "1")).await),
        (404, "NotFound".into())
    );
}

#[tokio::test]
async fn names_are_generated_and_dry_runs_leave_nothing() {
    let server = TestServer::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin());
    let mut nameless = map("", "1");
    nameless.metadata.name = None;
    nameless.metadata.generate_name = Some("x-".into());
    let params = PostParams::default();
    let (one, two) = tokio::join!(api.create(&params, &nameless), api.create(&params, &nameless));
    let (one, two) = (one.unwrap().name_any(), two.unwrap().name_any());
    assert!(one.starts_with("x-") && one.len() == 7 && one != two, "{one} {two}");
    let dry = PostParams { dry_run: true, ..Default::default() };
    let shown = api.create(&dry, &map("dry", "1")).await.unwrap();
    assert!(shown.uid().is_some());
    assert!(api.get_opt("dry").await.unwrap().is_none());
    let dry = DeleteParams { dry_run: true, ..Default::default() };
    api.delete(&one, &dry).await.unwrap();
    assert!(api.get_opt(&one).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_of_many_writers_wins() {
    let server = TestServer::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin());
    let made = api.create(&PostParams::default(), &map("a", "start")).await.unwrap();
    let writers = (0..16).map(|i| {
        let (api, mut object) = (api.clone(), made.clone());
        object.data = Some(BTreeMap::from([("k".to_owned(), i.to_string())]));
        async move { api.replace("a", &PostParams::default(), &object).await.is_ok() }
    });
    let won = futures::future::join_all(writers).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    // Patches name no version: all of them are made, one after the other.
    let patches = (0..16).map(|i| {
        let (api, patch) = (api.clone(), json!({"data": {format!("p{i}"): "x"}}));
        async move { api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await }
    });
    for result in futures::future::join_all(patches).await {
        result.unwrap();
    }
    assert_eq!(api.get("a").await.unwrap().data.unwrap().len(), 17);
}

#[tokio::test]
async fn patches_of_four_kinds() {
    let server = TestServer::start().await;
    let client = server.admin();
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let merged = Patch::Merge(json!({"data": {"m": "1", "k": null}}));
    let object = api.patch("a", &PatchParams::default(), &merged).await.unwrap();
    assert_eq!(object.data.unwrap(), BTreeMap::from([("m".to_owned(), "1".to_owned())]));
    let json_patch: json_patch::Patch =
        serde_json::from_value(json!([{"op": "add", "path": "/data/j", "value": "2"}])).unwrap();
    let object = api.patch("a", &PatchParams::default(), &Patch::Json::<()>(json_patch)).await.unwrap();
    assert_eq!(object.data.unwrap()["j"], "2");
    let strategic = Patch::Strategic(json!({"metadata": {"labels": {"s": "3"}}}));
    assert_eq!(api.patch("a", &PatchParams::default(), &strategic).await.unwrap().labels()["s"], "3");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "1"}});
    let apply = PatchParams::apply("me");
    let applied = api.patch("new", &apply, &Patch::Apply(&config)).await.unwrap();
    assert!(applied.managed_fields().iter().any(|m| m.manager.as_deref() == Some("me")));
    let again = api.patch("new", &apply, &Patch::Apply(&config)).await.unwrap();
    assert_eq!(again.resource_version(), applied.resource_version());
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "2"}});
    let refused = api.patch("new", &PatchParams::apply("you"), &Patch::Apply(&other)).await;
    assert_eq!(code(refused), (409, "Conflict".into()));
    let uri = "/api/v1/namespaces/default/configmaps/a";
    let refused = raw(&client, "PATCH", uri, &[], json!({})).await;
    assert_eq!(code(refused), (415, "UnsupportedMediaType".into()));
}

#[tokio::test]
async fn deletion_waits_for_finalizers_and_preconditions() {
    let server = TestServer::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin());
    let mut held = map("held", "1");
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    let made = api.create(&PostParams::default(), &held).await.unwrap();
    let wrong = DeleteParams {
        preconditions: Some(Preconditions { uid: Some("other".into()), resource_version: None }),
        ..Default::default()
    };
    assert_eq!(code(api.delete("held", &wrong).await), (409, "Conflict".into()));
    let pending = api.delete("held", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(pending.metadata.deletion_timestamp.is_some());
    assert_eq!(pending.uid(), made.uid());
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}));
    assert_eq!(code(api.patch("held", &PatchParams::default(), &more).await), (422, "Invalid".into()));
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("held", &PatchParams::default(), &free).await.unwrap();
    assert!(api.get_opt("held").await.unwrap().is_none());
    api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let orphan = api.delete("a", &DeleteParams::orphan()).await.unwrap().left().unwrap();
    assert_eq!(orphan.finalizers(), ["orphan"]);
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let server = TestServer::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin());
    for i in 0..5 {
        let mut object = map(&format!("a{i}"), "1");
        object.labels_mut().insert("even".into(), (i % 2 == 0).to_string());
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let even = ListParams::default().labels("even=true");
    let gone = api.delete_collection(&DeleteParams::default(), &even).await.unwrap().left().unwrap();
    assert_eq!(gone.items.len(), 3);
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_namespace_ends_when_it_is_finalized() {
    let server = TestServer::start().await;
    let client = server.admin();
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
        ..Default::default()
    };
    let made = api.create(&PostParams::default(), &namespace).await.unwrap();
    assert_eq!(made.spec.unwrap().finalizers.unwrap(), ["kubernetes"]);
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Active"));
    let ending = api.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(ending.status.unwrap().phase.as_deref(), Some("Terminating"));
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "a");
    assert_eq!(code(maps.create(&PostParams::default(), &map("x", "1")).await), (403, "Forbidden".into()));
    let mut final_form = serde_json::to_value(api.get("a").await.unwrap()).unwrap();
    final_form["spec"]["finalizers"] = json!([]);
    raw(&client, "PUT", "/api/v1/namespaces/a/finalize", &[], final_form).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
    let missing: Api<ConfigMap> = Api::namespaced(client, "missing");
    assert_eq!(code(missing.create(&PostParams::default(), &map("x", "1")).await), (404, "NotFound".into()));
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"serviceAccountName": "default",
        "automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}}))
    .unwrap()
}

#[tokio::test]
async fn pods_are_bound_once_and_end_gracefully() {
    let server = TestServer::start().await;
    let client = server.admin();
    let account = json!({"metadata": {"name": "default"}});
    raw(&client, "POST", "/api/v1/namespaces/default/serviceaccounts", &[], account).await.unwrap();
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let made = api.create(&PostParams::default(), &pod("p")).await.unwrap();
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"));
    let uri = "/api/v1/namespaces/default/pods/p/binding";
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    raw(&client, "POST", uri, &[], binding.clone()).await.unwrap();
    let bound = api.get("p").await.unwrap();
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n"));
    assert!(
        bound
            .status
            .unwrap()
            .conditions
            .unwrap()
            .iter()
            .any(|c| c.type_ == "PodScheduled" && c.status == "True")
    );
    assert_eq!(code(raw(&client, "POST", uri, &[], binding).await), (409, "Conflict".into()));
    let status = json!({"status": {"phase": "Running"}, "metadata": {"labels": {"and": "this"}}, "spec": {"nodeName": "other"}});
    let running = api.patch_status("p", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!(
        (running.status.as_ref().unwrap().phase.as_deref(), running.labels().len()),
        (Some("Running"), 1)
    );
    assert_eq!(running.spec.unwrap().node_name.as_deref(), Some("n"));
    let ending = api.delete("p", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(ending.metadata.deletion_grace_period_seconds, Some(30));
    assert!(api.get("p").await.unwrap().metadata.deletion_timestamp.is_some());
    api.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(api.get_opt("p").await.unwrap().is_none());
    api.create(&PostParams::default(), &pod("q")).await.unwrap();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "q"}});
    raw(&client, "POST", "/api/v1/namespaces/default/pods/q/eviction", &[], eviction).await.unwrap();
    assert!(api.get_opt("q").await.unwrap().is_none());
}

#[tokio::test]
async fn fields_are_validated_as_asked_for() {
    let server = TestServer::start().await;
    let client = server.admin();
    let uri = "/api/v1/namespaces/default/configmaps";
    let object = |name: &str| json!({"metadata": {"name": name}, "dta": {"a": "b"}});
    let strict = raw(&client, "POST", &format!("{uri}?fieldValidation=Strict"), &[], object("a")).await;
    assert_eq!(code(strict), (400, "BadRequest".into()));
    let request = Request::post(uri).header("content-type", "application/json");
    let request = request.body(kube::client::Body::from(object("a").to_string().into_bytes())).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let warning = response.headers()["warning"].to_str().unwrap().to_owned();
    assert_eq!(warning, "299 - \"unknown field \\\"dta\\\"\"");
    let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}});
    assert_eq!(code(raw(&client, "POST", uri, &[], other).await), (400, "BadRequest".into()));
    let elsewhere = json!({"metadata": {"name": "b", "namespace": "kube-system"}});
    assert_eq!(code(raw(&client, "POST", uri, &[], elsewhere).await), (400, "BadRequest".into()));
    let broken =
        Request::post(uri).header("content-type", "application/yaml").body(b"a: [".to_vec()).unwrap();
    assert_eq!(code(client.request::<Value>(broken).await).0, 400);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let server = TestServer::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin());
    let made = api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    drop(api);
    let server = server.restart().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin());
    assert_eq!(api.get("a").await.unwrap(), made);
    let next = api.create(&PostParams::default(), &map("b", "1")).await.unwrap();
    let number = |o: &ConfigMap| o.resource_version().unwrap().parse::<u64>().unwrap();
    assert!(number(&next) > number(&made));
}
