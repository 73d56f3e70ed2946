//! Every registered kind: created, read, listed, shown, patched, updated, watched and deleted, through its table
//! entry alone.

mod server_support;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kedge::server::auth::User;
use kedge::server::registry::strategy::Plain;
use kedge::server::registry::{Registry, Resource, Storage};
use kube::api::{DynamicObject, WatchEvent};
use serde_json::{Value, json};
use server_support::TestServer;
use server_support::minimal::{minimal, name_of, other_name_of};
use tower::ServiceExt;

const LIST: &str = "application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// One kind on its way.
struct Walk<'a> {
    server: &'a TestServer,
    entry: &'a Resource,
    /// What a `PUT` may do is said of what is stored.
    stored: Arc<Resource>,
    uri: String,
}

impl<'a> Walk<'a> {
    fn new(server: &'a TestServer, entry: &'a Resource) -> Self {
        let group = match &*entry.group {
            "" => "/api/v1".to_owned(),
            _ => format!("/apis/{}", entry.api_version()),
        };
        let scope = if entry.namespaced { "/namespaces/default" } else { "" };
        let registry = Registry::builtin(|_| Arc::new(Plain));
        let stored = registry.stored(&entry.stored_name()).unwrap().clone();
        Self { server, entry, stored, uri: format!("{group}{scope}/{}", entry.plural) }
    }

    fn one(&self) -> String {
        format!("{}/{}", self.uri, name_of(self.entry))
    }

    fn object(&self, name: &str) -> Value {
        let mut object = minimal(self.entry);
        if name == other_name_of(self.entry) && &*self.entry.kind == "CustomResourceDefinition" {
            object["spec"]["names"] =
                json!({"plural": "ys", "singular": "y", "kind": "Y", "listKind": "YList"});
        }
        object["metadata"] = json!({"name": name, "labels": {"probe": "yes"}});
        object
    }

    async fn ask(&self, method: &str, uri: &str, kind: &str, body: &Value) -> (StatusCode, Value) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let accept = if method == "GET" { kind } else { LIST };
        let request = Request::builder().method(method).uri(uri).header("accept", accept);
        let request = request.header("content-type", kind).body(kube::client::Body::from(body)).unwrap();
        let response = self.server.server.service_as(User::loopback()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// As [`Walk::ask`], of what must succeed.
    async fn must(&self, method: &str, uri: &str, kind: &str, body: &Value) -> Result<Value, String> {
        let (code, value) = self.ask(method, uri, kind, body).await;
        let what = format!("{} {}: {method} {uri} ({kind})", self.entry.api_version(), self.entry.kind);
        if code.is_success() { Ok(value) } else { Err(format!("{what}: {code} {value}")) }
    }

    fn demand(&self, holds: bool, what: &str, found: &Value) -> Result<(), String> {
        if holds {
            Ok(())
        } else {
            Err(format!("{} {}: {what}: {found}", self.entry.api_version(), self.entry.kind))
        }
    }

    /// What is stored, once the server has said all it has to say of the object.
    async fn settled(&self) -> Result<Value, String> {
        loop {
            let got = self.must("GET", &self.one(), LIST, &Value::Null).await?;
            if &*self.entry.kind != "ServiceCIDR" || got["status"]["conditions"].is_array() {
                return Ok(got);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn reads(&self) -> Result<(), String> {
        let made = self.must("POST", &self.uri, LIST, &self.object(name_of(self.entry))).await?;
        let got = self.settled().await?;
        let names = got["kind"] == *self.entry.kind && got["apiVersion"] == self.entry.api_version();
        self.demand(names && got["metadata"]["uid"] == made["metadata"]["uid"], "what was made", &got)?;
        let list = format!("{}?labelSelector=probe%3Dyes", self.uri);
        let found = self.must("GET", &list, LIST, &Value::Null).await?;
        let same = found["kind"] == *self.entry.list_kind && found["items"] == json!([got]);
        self.demand(same, "a list with one item", &found)?;
        let table = self.must("GET", &list, TABLE, &Value::Null).await?;
        let cells = table["rows"][0]["cells"].as_array().map(Vec::len);
        let columns = table["columnDefinitions"].as_array().map(Vec::len);
        self.demand(cells.is_some() && cells == columns, "a row with all cells", &table)?;
        let put = self.must("PUT", &self.one(), LIST, &got).await?;
        let unchanged = put["metadata"]["resourceVersion"] == got["metadata"]["resourceVersion"];
        self.demand(unchanged, "an update that changes nothing changed something", &put)
    }

    async fn patches(&self) -> Result<(), String> {
        let note = |name: &str| json!({"metadata": {"annotations": {name: "1"}}});
        let merge = "application/merge-patch+json";
        self.must("PATCH", &self.one(), merge, &note("merge")).await?;
        self.must("PATCH", &self.one(), "application/strategic-merge-patch+json", &note("strategic")).await?;
        let patch = json!([{"op": "add", "path": "/metadata/annotations/json", "value": "1"}]);
        self.must("PATCH", &self.one(), "application/json-patch+json", &patch).await?;
        let mut applied = note("apply");
        (applied["apiVersion"], applied["kind"]) = (json!(self.entry.api_version()), json!(self.entry.kind));
        applied["metadata"]["name"] = json!(name_of(self.entry));
        let uri = format!("{}?fieldManager=walk", self.one());
        let got = self.must("PATCH", &uri, "application/apply-patch+yaml", &applied).await?;
        let all = ["merge", "strategic", "json", "apply"];
        let there = all.iter().all(|name| got["metadata"]["annotations"][*name] == "1");
        self.demand(there, "all patches", &got)
    }

    /// What a `PUT` may leave unsaid, and whether it makes what is missing.
    async fn updates(&self) -> Result<(), String> {
        let mut got = self.must("GET", &self.one(), LIST, &Value::Null).await?;
        got["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        got["metadata"]["labels"]["update"] = json!("1");
        let (code, answer) = self.ask("PUT", &self.one(), LIST, &got).await;
        let text = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
        let as_told = if self.stored.unconditional_update {
            code == 200 && answer["metadata"]["labels"]["update"] == "1"
        } else {
            code == 422 && answer["message"].as_str().is_some_and(|m| m.ends_with(text))
        };
        self.demand(as_told, "an update without a version", &answer)?;
        let other = other_name_of(self.entry);
        let uri = format!("{}/{other}", self.uri);
        let (code, answer) = self.ask("PUT", &uri, LIST, &self.object(other)).await;
        let (wanted, create) = (self.stored.create_on_update, StatusCode::CREATED);
        let as_told = code == if wanted { create } else { StatusCode::NOT_FOUND };
        self.demand(as_told, "an update of what is missing", &answer)?;
        if !wanted {
            self.must("POST", &self.uri, LIST, &self.object(other)).await?;
        }
        self.must("DELETE", &format!("{uri}?gracePeriodSeconds=0"), LIST, &Value::Null).await.map(drop)
    }

    async fn deletes(&self) -> Result<bool, String> {
        let uri = format!("{}?gracePeriodSeconds=0", self.one());
        let deleted = self.must("DELETE", &uri, LIST, &Value::Null).await?;
        // An object with finalizers is answered as it is then, and may be gone a moment later.
        let held = deleted["metadata"]["finalizers"].is_array() || deleted["spec"]["finalizers"].is_array();
        if held {
            self.demand(deleted["metadata"]["deletionTimestamp"].is_string(), "a delete", &deleted)?;
            return Ok(false);
        }
        let (code, left) = self.ask("GET", &self.one(), LIST, &Value::Null).await;
        self.demand(code == StatusCode::NOT_FOUND, "left behind", &left)?;
        let as_told = match self.entry.returns_deleted {
            true => deleted["kind"] == *self.entry.kind,
            false => deleted["kind"] == "Status" && deleted["details"]["name"] == name_of(self.entry),
        };
        self.demand(as_told, "the answer of a delete", &deleted)?;
        Ok(true)
    }

    /// All of it, seen by a watch from before.
    async fn whole(&self) -> Result<(), String> {
        let before = self.must("GET", &self.uri, LIST, &Value::Null).await?;
        self.reads().await?;
        self.patches().await?;
        self.updates().await?;
        let gone = self.deletes().await?;
        let version = before["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let name = name_of(self.entry);
        let uri = format!(
            "{}?watch=true&resourceVersion={version}&fieldSelector=metadata.name%3D{name}&timeoutSeconds=60",
            self.uri
        );
        let request = Request::get(uri).body(Vec::new()).unwrap();
        let events = self.server.admin().request_events::<DynamicObject>(request).await;
        let mut events = events.map_err(|e| e.to_string())?.boxed();
        let mut seen = Vec::new();
        loop {
            match events.try_next().await.map_err(|e| e.to_string())? {
                Some(WatchEvent::Added(_)) => seen.push("ADDED"),
                Some(WatchEvent::Modified(o)) if o.metadata.deletion_timestamp.is_some() && !gone => break,
                Some(WatchEvent::Modified(_)) => seen.push("MODIFIED"),
                Some(WatchEvent::Deleted(_)) => break,
                other => return Err(format!("{}: {other:?} after {seen:?}", self.uri)),
            }
        }
        let in_order = seen.len() >= 5 && seen[0] == "ADDED" && seen[1..].iter().all(|e| *e == "MODIFIED");
        self.demand(in_order, "events", &json!(seen))
    }
}

#[tokio::test]
async fn every_kind_works_by_its_entry() {
    let server = TestServer::start().await;
    let account = json!({"metadata": {"name": "default"}});
    let registry = Registry::builtin(|_| Arc::new(Plain));
    let accounts = registry.find("", "v1", "serviceaccounts").unwrap();
    let accounts = Walk::new(&server, accounts);
    accounts.must("POST", &accounts.uri, LIST, &account).await.unwrap();
    let entries = registry.entries();
    let stored: Vec<_> = entries.iter().filter(|e| !matches!(e.storage, Storage::Virtual)).collect();
    assert!(stored.len() > 45, "only {} kinds", stored.len());
    let mut errors = Vec::new();
    for entry in stored {
        errors.extend(Walk::new(&server, entry).whole().await.err());
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[tokio::test]
async fn many_objects_go_at_once() {
    let server = TestServer::start().await;
    let registry = Registry::builtin(|_| Arc::new(Plain));
    let entries = registry.entries();
    let kinds = entries.iter().filter(|e| e.verbs.contains(&"deletecollection") && &*e.kind != "Pod");
    let failed: Vec<String> = stream::iter(kinds)
        .then(|entry| {
            let server = &server;
            async move {
                let walk = Walk::new(server, entry);
                for name in [name_of(entry), other_name_of(entry)] {
                    walk.must("POST", &walk.uri, LIST, &walk.object(name)).await?;
                }
                let uri = format!("{}?labelSelector=probe%3Dyes", walk.uri);
                let deleted = walk.must("DELETE", &uri, LIST, &Value::Null).await?;
                let count = deleted["items"].as_array().map(Vec::len);
                walk.demand(deleted["kind"] == *entry.list_kind && count == Some(2), "two", &deleted)
            }
        })
        .filter_map(|result: Result<(), String>| async move { result.err() })
        .collect()
        .await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test]
async fn addresses_of_services_are_objects() {
    let server = TestServer::start().await;
    let registry = Registry::builtin(|_| Arc::new(Plain));
    let find = |group: &str, plural: &str| registry.find(group, "v1", plural).unwrap();
    let (services, addresses, networks) = (
        find("", "services"),
        find("networking.k8s.io", "ipaddresses"),
        find("networking.k8s.io", "servicecidrs"),
    );
    let (services, addresses) = (Walk::new(&server, services), Walk::new(&server, addresses));
    let service =
        json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.43.0.55", "ports": [{"port": 80}]}});
    services.must("POST", &services.uri, LIST, &service).await.unwrap();
    let uri = format!("{}/10.43.0.55", addresses.uri);
    let found = until(&addresses, &uri, |code, _| code == 200).await;
    let parent = json!({"resource": "services", "namespace": "default", "name": "web"});
    assert_eq!(found["spec"]["parentRef"], parent);
    assert_eq!(found["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");
    // Whoever deletes it does not free the address.
    addresses.must("DELETE", &uri, LIST, &Value::Null).await.unwrap();
    let again = until(&addresses, &uri, |code, _| code == 200).await;
    assert_ne!(again["metadata"]["uid"], found["metadata"]["uid"]);
    services.must("DELETE", &format!("{}/web", services.uri), LIST, &Value::Null).await.unwrap();
    until(&addresses, &uri, |code, _| code == 404).await;
    let networks = Walk::new(&server, networks);
    let network = until(&networks, &format!("{}/kubernetes", networks.uri), |_, network| {
        network["status"]["conditions"][0]["status"] == "True"
    })
    .await;
    assert_eq!(network["spec"]["cidrs"], json!(["10.43.0.0/16"]));
}

async fn until(walk: &Walk<'_>, uri: &str, done: impl Fn(StatusCode, &Value) -> bool) -> Value {
    let asking = async {
        loop {
            let (code, value) = walk.ask("GET", uri, LIST, &Value::Null).await;
            if done(code, &value) {
                return value;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking)
        .await
        .unwrap_or_else(|_| panic!("{uri} stays as it is"))
}
