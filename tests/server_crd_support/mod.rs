//! Definitions, their objects, and a short way to send them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use futures::io::Lines;
use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt};
use http::Request;
use kube::{Client, Error};
use serde_json::{Value, json};

use crate::server_support::TestServer;

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A version that is served and stored, whose spec has a color and a size.
pub fn version(name: &str) -> Value {
    json!({"name": name, "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
        "description": "A tab to test with.", "properties": {
            "spec": {"type": "object", "description": "What is wanted.", "properties": {
                "color": {"type": "string", "description": "The color of it."}, "size": {"type": "integer"}}},
            "status": {"type": "object", "properties": {"size": {"type": "integer"}, "selector": {"type": "string"}}}}}}})
}

/// A namespaced kind of `example.com`.
pub fn crd(plural: &str, kind: &str, versions: Vec<Value>) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced", "versions": versions, "names": {
            "plural": plural, "kind": kind, "shortNames": [plural.replace('a', "")], "categories": ["all"]}}})
}

/// A Tab.
pub fn instance(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Tab", "metadata": {"name": name}, "spec": spec})
}

/// Sends requests below one version of `example.com` in the default namespace.
pub struct Api {
    pub client: Client,
    pub version: &'static str,
}

/// What a refused request was told.
#[derive(Debug)]
pub struct Refused {
    pub code: u16,
    pub message: String,
}

fn refused(error: Error) -> Refused {
    match error {
        Error::Api(status) => Refused { code: status.code, message: status.message.clone() },
        other => panic!("{other}"),
    }
}

/// The events of a watch.
pub struct Watch(Box<dyn Lined>);

trait Lined: Send {
    fn lines(&mut self) -> futures::future::BoxFuture<'_, Option<std::io::Result<String>>>;
}

impl<R: AsyncBufRead + Unpin + Send> Lined for Lines<R> {
    fn lines(&mut self) -> futures::future::BoxFuture<'_, Option<std::io::Result<String>>> {
        Box::pin(StreamExt::next(self))
    }
}

impl Watch {
    pub async fn next(&mut self) -> Option<Value> {
        let line = self.0.lines().await?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }
}

impl Api {
    pub fn of(server: &TestServer) -> Self {
        Self { client: server.admin(), version: "v1" }
    }

    fn uri(&self, path: &str) -> String {
        format!("/apis/example.com/{}/namespaces/default/{path}", self.version)
    }

    pub async fn send(&self, method: &str, uri: &str, kind: &str, body: &Value) -> Result<Value, Refused> {
        let request = Request::builder().method(method).uri(uri).header("content-type", kind);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.client.request(request.body(body).unwrap()).await.map_err(refused)
    }

    pub async fn ok_at(&self, method: &str, uri: &str, body: &Value) -> Value {
        let answer = self.send(method, uri, "application/json", body).await;
        answer.unwrap_or_else(|e| panic!("{method} {uri}: {e:?}"))
    }

    pub async fn err_at(&self, method: &str, uri: &str, body: &Value) -> (u16, String) {
        match self.send(method, uri, "application/json", body).await {
            Err(refused) => (refused.code, refused.message),
            Ok(answer) => (200, answer.to_string()),
        }
    }

    pub async fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ok_at(method, &self.uri(path), body).await
    }

    pub async fn err(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        self.err_at(method, &self.uri(path), body).await
    }

    pub async fn patch(&self, kind: &str, path: &str, patch: &Value) -> Result<Value, Refused> {
        self.send("PATCH", &self.uri(path), &format!("application/{kind}"), patch).await
    }

    pub async fn apply(&self, manager: &str, path: &str, config: &Value) -> Result<Value, Refused> {
        self.patch("apply-patch+yaml", &format!("{path}?fieldManager={manager}"), config).await
    }

    pub async fn table(&self, path: &str) -> Value {
        let request =
            Request::get(self.uri(path)).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        self.client.request(request.body(Vec::new()).unwrap()).await.unwrap()
    }

    pub async fn watch(&self, path: &str) -> Watch {
        let request = Request::get(self.uri(path)).body(Vec::new()).unwrap();
        Watch(Box::new(Box::pin(self.client.request_stream(request).await.unwrap()).lines()))
    }

    /// Creates a definition and waits until it is established.
    pub async fn create_definition(&self, definition: &Value) -> Value {
        let made = self.ok_at("POST", DEFINITIONS, definition).await;
        let uri = format!("{DEFINITIONS}/{}", made["metadata"]["name"].as_str().unwrap());
        for _ in 0..500 {
            let seen = self.ok_at("GET", &uri, &Value::Null).await;
            let conditions = seen["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True") {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{uri} is not established");
    }

    /// Waits until something holds.
    pub async fn until<F: Future<Output = bool>>(&self, holds: impl Fn() -> F) {
        for _ in 0..500 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it does not hold after ten seconds");
    }
}
