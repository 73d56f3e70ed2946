//! Lists and watches: pages, selectors, bookmarks, initial events, tables.

mod server_support;

use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use http::Request;
use kube::{Client, Error};
use serde_json::{Value, json};
use server_support::TestServer;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(client: &Client, method: &str, uri: &str, body: Value) -> Value {
    let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client.request(request.body(body).unwrap()).await.unwrap()
}

async fn get_as(client: &Client, uri: &str, accept: &str) -> Value {
    let request = Request::get(uri).header("accept", accept).body(Vec::new()).unwrap();
    client.request(request).await.unwrap()
}

async fn create(client: &Client, name: &str, labels: Value) -> Value {
    send(client, "POST", MAPS, json!({"metadata": {"name": name, "labels": labels}})).await
}

async fn label(client: &Client, name: &str, labels: Value) {
    let request =
        Request::patch(format!("{MAPS}/{name}")).header("content-type", "application/merge-patch+json");
    let body = json!({"metadata": {"labels": labels}}).to_string().into_bytes();
    client.request::<Value>(request.body(body).unwrap()).await.unwrap();
}

fn failure(result: Result<Value, Error>) -> (u16, String, String) {
    match result.unwrap_err() {
        Error::Api(status) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("{other}"),
    }
}

async fn list(client: &Client, query: &str) -> Result<Value, Error> {
    client.request(Request::get(format!("{MAPS}?{query}")).body(Vec::new()).unwrap()).await
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect()
}

struct Watch(std::pin::Pin<Box<dyn futures::Stream<Item = Value> + Send>>);

impl Watch {
    async fn start(client: &Client, query: &str, accept: &str) -> Self {
        let request = Request::get(format!("{MAPS}?watch=true&{query}")).header("accept", accept);
        let stream = client.request_stream(request.body(Vec::new()).unwrap()).await.unwrap();
        let lines = stream.lines().map_ok(|line| serde_json::from_str(&line).unwrap());
        Self(Box::pin(lines.map(Result::unwrap)))
    }

    async fn next(&mut self) -> Value {
        tokio::time::timeout(Duration::from_secs(10), self.0.next()).await.unwrap().expect("an event")
    }

    /// Type and name of the next event.
    async fn brief(&mut self) -> (String, String) {
        let event = self.next().await;
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        (event["type"].as_str().unwrap().to_owned(), name.to_owned())
    }

    async fn ended(mut self) -> bool {
        tokio::time::timeout(Duration::from_secs(10), self.0.next()).await.unwrap().is_none()
    }
}

fn brief(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn pages_show_one_moment_while_others_write() {
    let server = TestServer::start().await.restart().await;
    let client = server.admin();
    for i in 0..7 {
        create(&client, &format!("m{i}"), json!({})).await;
    }
    let first = list(&client, "limit=3").await.unwrap();
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["m0", "m1", "m2"], &json!(4))
    );
    send(&client, "DELETE", &format!("{MAPS}/m4"), Value::Null).await;
    create(&client, "m3x", json!({})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = list(&client, &format!("limit=3&continue={token}")).await.unwrap();
    assert_eq!(names(&second), ["m3", "m4", "m5"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = list(&client, &format!("limit=3&continue={token}")).await.unwrap();
    assert_eq!((names(&third), &third["metadata"]["continue"]), (vec!["m6"], &Value::Null));
    assert_eq!(names(&list(&client, "").await.unwrap()), ["m0", "m1", "m2", "m3", "m3x", "m5", "m6"]);
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact =
        list(&client, &format!("resourceVersion={version}&resourceVersionMatch=Exact")).await.unwrap();
    assert_eq!(names(&exact).len(), 7);
    let (code, reason, _) = failure(list(&client, "resourceVersion=1&resourceVersionMatch=Exact").await);
    assert_eq!((code, &*reason), (410, "Expired"));
    let (code, ..) = failure(list(&client, "resourceVersion=999999").await);
    assert_eq!(code, 504);
    assert_eq!(failure(list(&client, "continue=damaged").await).0, 400);
}

#[tokio::test]
async fn selectors_choose_what_is_listed() {
    let server = TestServer::start().await;
    let client = server.admin();
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "x")] {
        create(&client, name, json!({"tier": tier})).await;
    }
    assert_eq!(names(&list(&client, "labelSelector=tier%3Dx").await.unwrap()), ["a", "c"]);
    assert_eq!(names(&list(&client, "labelSelector=tier%20in%20(x,y),tier!%3Dx").await.unwrap()), ["b"]);
    assert_eq!(names(&list(&client, "fieldSelector=metadata.name%3Db").await.unwrap()), ["b"]);
    assert_eq!(names(&list(&client, "fieldSelector=metadata.name!%3Db").await.unwrap()), ["a", "c"]);
    let (code, _, message) = failure(list(&client, "fieldSelector=data.x%3Db").await);
    assert_eq!(code, 400);
    assert!(message.starts_with("\"data.x\" is not a known field selector: "), "{message}");
}

#[tokio::test]
async fn a_watch_goes_on_from_a_revision() {
    // What was before the last start is forgotten.
    let server = TestServer::start().await.restart().await;
    let client = server.admin();
    let first = create(&client, "a", json!({})).await;
    create(&client, "b", json!({})).await;
    let version = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = Watch::start(&client, &format!("resourceVersion={version}"), "application/json").await;
    assert_eq!(watch.brief().await, brief("ADDED", "b"));
    label(&client, "a", json!({"x": "y"})).await;
    assert_eq!(watch.brief().await, brief("MODIFIED", "a"));
    send(&client, "DELETE", &format!("{MAPS}/a"), Value::Null).await;
    let event = watch.next().await;
    assert_eq!(event["type"], "DELETED");
    // A deletion has a revision of its own.
    assert!(
        event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
            > version.parse().unwrap()
    );
    let mut watch = Watch::start(&client, "resourceVersion=1", "application/json").await;
    let event = watch.next().await;
    assert_eq!((&event["type"], &event["object"]["reason"]), (&json!("ERROR"), &json!("Expired")));
    assert!(watch.ended().await);
}

#[tokio::test]
async fn a_watch_without_a_revision_begins_with_what_is_there() {
    let server = TestServer::start().await;
    let client = server.admin();
    create(&client, "a", json!({})).await;
    create(&client, "b", json!({})).await;
    let mut watch = Watch::start(&client, "timeoutSeconds=1", "application/json").await;
    assert_eq!(watch.brief().await, brief("ADDED", "a"));
    assert_eq!(watch.brief().await, brief("ADDED", "b"));
    assert!(watch.ended().await);
    let mut watch = Watch::start(&client, "timeoutSeconds=18446744073709551615", "application/json").await;
    assert_eq!(watch.brief().await, brief("ADDED", "a"));
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&limit=1";
    let mut watch = Watch::start(&client, query, "application/json").await;
    watch.next().await;
    watch.next().await;
    let bookmark = watch.next().await;
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    create(&client, "c", json!({})).await;
    assert_eq!(watch.brief().await, brief("ADDED", "c"));
}

#[tokio::test]
async fn objects_come_and_go_with_the_selector() {
    let server = TestServer::start().await;
    let client = server.admin();
    create(&client, "a", json!({"in": "yes"})).await;
    let now = list(&client, "").await.unwrap();
    let version = now["metadata"]["resourceVersion"].as_str().unwrap();
    let query = format!("labelSelector=in%3Dyes&resourceVersion={version}");
    let mut watch = Watch::start(&client, &query, "application/json").await;
    create(&client, "other", json!({"in": "no"})).await;
    label(&client, "a", json!({"in": "no"})).await;
    let gone = watch.next().await;
    // It goes away as it was known, at the revision of the change.
    assert_eq!(
        (&gone["type"], &gone["object"]["metadata"]["labels"]["in"]),
        (&json!("DELETED"), &json!("yes"))
    );
    label(&client, "a", json!({"in": "yes"})).await;
    assert_eq!(watch.brief().await, brief("ADDED", "a"));
    label(&client, "a", json!({"more": "x"})).await;
    assert_eq!(watch.brief().await, brief("MODIFIED", "a"));
    send(&client, "DELETE", &format!("{MAPS}/other"), Value::Null).await;
    send(&client, "DELETE", &format!("{MAPS}/a"), Value::Null).await;
    assert_eq!(watch.brief().await, brief("DELETED", "a"));
}

#[tokio::test]
async fn tables_and_metadata() {
    let server = TestServer::start().await;
    let client = server.admin();
    create(&client, "a", json!({"x": "y"})).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let shown = get_as(&client, MAPS, table).await;
    assert_eq!((&shown["kind"], &shown["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(shown["columnDefinitions"][1]["name"], "Data");
    assert_eq!(shown["rows"][0]["cells"][0], "a");
    assert_eq!(shown["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = get_as(&client, &format!("{MAPS}/a?includeObject=Object"), table).await;
    assert_eq!(whole["rows"][0]["object"]["kind"], "ConfigMap");
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = get_as(&client, MAPS, metadata).await;
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][0]["metadata"]["labels"]["x"], "y");
    let mut watch = Watch::start(&client, "", table).await;
    let first = watch.next().await;
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert!(first["object"]["columnDefinitions"].is_array());
    create(&client, "b", json!({})).await;
    assert!(watch.next().await["object"]["columnDefinitions"].is_null());
    let request =
        Request::get(MAPS).header("accept", "application/vnd.kubernetes.protobuf").body(Vec::new()).unwrap();
    assert_eq!(failure(client.request::<Value>(request).await).0, 406);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_watchers_see_every_event_in_order() {
    let server = TestServer::start().await;
    let client = server.admin();
    let version =
        list(&client, "").await.unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let query = format!("resourceVersion={version}");
    let watches = (0..20).map(|_| Watch::start(&client, &query, "application/json"));
    let mut watches = futures::future::join_all(watches).await;
    futures::future::join_all((0..50).map(|i| {
        let client = client.clone();
        async move { create(&client, &format!("m{i}"), json!({})).await }
    }))
    .await;
    for watch in &mut watches {
        let mut last = 0;
        for _ in 0..50 {
            let event = watch.next().await;
            let revision =
                event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
            assert!(revision > last);
            last = revision;
        }
    }
}
