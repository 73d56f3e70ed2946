//! Figures of the API server, one line each: `cargo bench --bench api`.
//!
//! Everything is real: certificates, TLS, HTTP/2, admission, validation, the log on disk.

#[path = "../tests/server_support/mod.rs"]
mod server_support;

use std::time::{Duration, Instant};

use futures::{AsyncBufReadExt, StreamExt, stream};
use http::Request;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use server_support::TestServer;

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn post(client: &Client, uri: &str, object: &Value) {
    let request = Request::post(uri).header("content-type", "application/json");
    client.request::<Value>(request.body(object.to_string().into_bytes()).unwrap()).await.unwrap();
}

async fn over_https(server: &TestServer) -> Client {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Durable creates a second with 32 in flight.
async fn creates(client: &Client, prefix: &str, count: usize) -> f64 {
    let start = Instant::now();
    stream::iter(0..count)
        .for_each_concurrent(32, |i| async move {
            let object = json!({"metadata": {"name": format!("{prefix}-{i}")}, "data": {"key": "value"}});
            post(client, MAPS, &object).await;
        })
        .await;
    count as f64 / start.elapsed().as_secs_f64()
}

fn pod(i: usize) -> Value {
    json!({"metadata": {"name": format!("pod-{i:05}"), "labels": {"app": "bench", "shard": (i % 10).to_string()}},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "main", "image": "registry.example.com/app:1.2.3",
            "ports": [{"containerPort": 8080}], "env": [{"name": "A", "value": "b"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}}]}})
}

/// Proportional set size of this process in MiB.
fn memory() -> f64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|l| l.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

async fn list(client: &Client) -> (Duration, usize) {
    let start = Instant::now();
    let text = client.request_text(Request::get(PODS).body(Vec::new()).unwrap()).await.unwrap();
    (start.elapsed(), text.len())
}

async fn median_list(client: &Client) -> (Duration, usize) {
    let mut runs = Vec::new();
    for _ in 0..9 {
        runs.push(list(client).await);
    }
    runs.sort();
    runs[4]
}

/// The 99th percentile of the time from the start of a write until a watcher has its event.
async fn watchers(client: &Client, count: usize, events: usize) -> Duration {
    let now: Value =
        client.request(Request::get(format!("{MAPS}?limit=1")).body(Vec::new()).unwrap()).await.unwrap();
    let version = now["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let epoch = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..count {
        let uri =
            format!("{MAPS}?watch=true&resourceVersion={version}&fieldSelector=metadata.namespace%3Ddefault");
        let lines = client.request_stream(Request::get(uri).body(Vec::new()).unwrap()).await.unwrap().lines();
        tasks.push(tokio::spawn(
            lines.take(events).map(move |line| (line.unwrap(), epoch.elapsed())).collect::<Vec<_>>(),
        ));
    }
    stream::iter(0..events)
        .for_each_concurrent(8, |i| async move {
            let sent = epoch.elapsed().as_nanos().to_string();
            post(client, MAPS, &json!({"metadata": {"name": format!("w-{i}")}, "data": {"sent": sent}}))
                .await;
        })
        .await;
    let mut delays = Vec::new();
    for task in tasks {
        for (line, seen) in task.await.unwrap() {
            let event: Value = serde_json::from_str(&line).unwrap();
            let sent: u64 = event["object"]["data"]["sent"].as_str().unwrap().parse().unwrap();
            delays.push(seen - Duration::from_nanos(sent));
        }
    }
    delays.sort();
    delays[delays.len() * 99 / 100]
}

/// Requests a second with 32 in flight.
async fn rate(count: usize, send: impl AsyncFn(usize)) -> f64 {
    let start = Instant::now();
    stream::iter(0..count).for_each_concurrent(32, |i| send(i)).await;
    count as f64 / start.elapsed().as_secs_f64()
}

async fn get(client: &Client, uri: &str) -> usize {
    client.request_text(Request::get(uri).body(Vec::new()).unwrap()).await.unwrap().len()
}

/// Gets, selective lists and applies among 5,000 pods.
async fn requests(client: &Client, what: &str) {
    let gets = rate(5000, async |i| {
        get(client, &format!("{PODS}/pod-{:05}", i % 5000)).await;
    });
    println!("gets of pods, 32 in flight, {what}: {:.0}/s", gets.await);
    for (selector, count) in
        [("labelSelector=shard%3D3", 100), ("fieldSelector=metadata.name%3Dpod-00007", 2000)]
    {
        let lists = rate(count, async |_| {
            get(client, &format!("{PODS}?{selector}")).await;
        });
        println!("lists of 5,000 pods by {selector}, 32 in flight, {what}: {:.0}/s", lists.await);
    }
    for change in ["new", "same"] {
        let applies = rate(2000, async |i| {
            let uri = format!("{MAPS}/{what}-apply-{i}?fieldManager=bench");
            let config =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "value", "other": "one"}});
            let request = Request::patch(uri).header("content-type", "application/apply-patch+yaml");
            client.request::<Value>(request.body(config.to_string().into_bytes()).unwrap()).await.unwrap();
        });
        println!("applies, {change}, 32 in flight, {what}: {:.0}/s", applies.await);
    }
}

/// The time until a server with 50,000 stored objects answers, and its memory then.
async fn start_with_many(server: TestServer) {
    let client = server.admin();
    creates(&client, "many", 50_000).await;
    drop(client);
    let start = Instant::now();
    let server = server.restart().await;
    get(&server.admin(), "/readyz").await;
    println!(
        "stop and start with 60,000 objects: {:.0} ms; memory then: {:.0} MiB",
        start.elapsed().as_secs_f64() * 1e3,
        memory()
    );
}

#[tokio::main]
async fn main() {
    let server = TestServer::start().await;
    let (inside, https) = (server.admin(), over_https(&server).await);
    post(&inside, "/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}}))
        .await;
    println!("creates, durable, 32 in flight, in-process: {:.0}/s", creates(&inside, "i", 5000).await);
    println!("creates, durable, 32 in flight, HTTPS: {:.0}/s", creates(&https, "h", 5000).await);
    println!(
        "100 watchers x 500 events, HTTPS, p99: {:.1} ms",
        watchers(&https, 100, 500).await.as_secs_f64() * 1e3
    );
    let before = memory();
    stream::iter(0..5000)
        .for_each_concurrent(64, |i| {
            let inside = &inside;
            async move { post(inside, PODS, &pod(i)).await }
        })
        .await;
    let (time, size) = median_list(&inside).await;
    println!("list 5,000 pods ({:.1} MB), in-process: {:.1} ms", size as f64 / 1e6, time.as_secs_f64() * 1e3);
    let (time, _) = median_list(&https).await;
    println!("list 5,000 pods, HTTPS: {:.1} ms", time.as_secs_f64() * 1e3);
    requests(&inside, "in-process").await;
    requests(&https, "https").await;
    println!(
        "memory of server and clients before 5,000 pods: {before:.0} MiB; with them: {:.0} MiB",
        memory()
    );
    drop((inside, https));
    start_with_many(server).await;
}
