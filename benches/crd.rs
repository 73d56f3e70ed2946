//! Figures of custom kinds, one line each: `cargo bench --bench crd`.

#[path = "../tests/server_support/mod.rs"]
mod server_support;

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use http::Request;
use kube::Client;
use serde_json::{Map, Value, json};
use server_support::TestServer;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// So many of the kinds have objects.
const USED: usize = 50;

async fn send(client: &Client, method: &str, uri: &str, body: &Value) -> Value {
    let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client.request(request.body(body).unwrap()).await.unwrap()
}

/// A definition of about the size of those that operators bring along.
fn definition(i: usize) -> Value {
    let field = |f: usize| {
        let text =
            "What the field means, in a sentence or two, as people write it for those who come after them.";
        let properties = json!({"name": {"type": "string", "description": text, "maxLength": 63},
            "count": {"type": "integer", "description": text, "minimum": 0, "default": 1},
            "items": {"type": "array", "description": text, "items": {"type": "string"}}});
        (format!("field{f}"), json!({"type": "object", "description": text, "properties": properties}))
    };
    let spec: Map<String, Value> = (0..20).map(field).collect();
    json!({"metadata": {"name": format!("kinds{i}.group{}.example.com", i % 100)}, "spec": {
        "group": format!("group{}.example.com", i % 100), "scope": "Namespaced",
        "names": {"plural": format!("kinds{i}"), "kind": format!("Kind{i}")},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": spec}, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

fn uri(i: usize) -> String {
    format!("/apis/group{}.example.com/v1/namespaces/default/kinds{i}", i % 100)
}

fn object(kind: usize, i: usize) -> Value {
    json!({"apiVersion": format!("group{}.example.com/v1", kind % 100), "kind": format!("Kind{kind}"), "metadata": {"name": format!("o{i}")},
        "spec": {"field0": {"name": "a", "items": ["x", "y"]}, "field1": {"name": "b"}, "field2": {"count": 3}}})
}

/// Proportional set size of this process in MiB.
fn memory() -> f64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|l| l.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

async fn established(client: &Client) -> usize {
    let list = send(client, "GET", DEFINITIONS, &Value::Null).await;
    let is = |c: &Value| c["type"] == "Established" && c["status"] == "True";
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .filter(|d| d["status"]["conditions"].as_array().is_some_and(|list| list.iter().any(is)))
        .count()
}

/// A count from the environment, so that a slow build can be tried with less.
fn count(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::main]
async fn main() {
    let (definitions, objects) = (count("DEFINITIONS", 1000), count("OBJECTS", 50_000));
    let server = TestServer::start().await;
    let client = server.admin();
    let (start, before) = (Instant::now(), memory());
    stream::iter(0..definitions)
        .for_each_concurrent(16, |i| {
            let client = &client;
            async move { drop(send(client, "POST", DEFINITIONS, &definition(i)).await) }
        })
        .await;
    while established(&client).await < definitions {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{definitions} definitions, until established: {:.1} s", start.elapsed().as_secs_f64());
    println!("memory before: {before:.0} MiB; with them: {:.0} MiB", memory());
    let start = Instant::now();
    stream::iter(0..objects)
        .for_each_concurrent(32, |i| {
            let (client, kind) = (&client, i % USED.min(definitions));
            async move { drop(send(client, "POST", &uri(kind), &object(kind, i)).await) }
        })
        .await;
    println!(
        "creates of custom objects, 32 in flight, in-process: {:.0}/s",
        objects as f64 / start.elapsed().as_secs_f64()
    );
    println!("memory with {objects} of them: {:.0} MiB", memory());
    drop(client);
    let start = Instant::now();
    let server = server.restart().await;
    let client = server.admin();
    send(&client, "GET", &uri(0), &Value::Null).await;
    println!("stop and start with them, until the first list: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    println!("memory then: {:.0} MiB", memory());
    let start = Instant::now();
    let discovery = Request::get("/apis")
        .header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let text = client.request_text(discovery.body(Vec::new()).unwrap()).await.unwrap();
    println!(
        "aggregated discovery ({:.1} MB): {:.1} ms",
        text.len() as f64 / 1e6,
        start.elapsed().as_secs_f64() * 1e3
    );
    let start = Instant::now();
    for kind in 0..USED.min(definitions) {
        send(&client, "GET", &format!("{}?limit=1", uri(kind)), &Value::Null).await;
    }
    println!("first look at the other kinds: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    println!("memory then: {:.0} MiB", memory());
}
