//! A server with all controllers on a temporary directory, and a stand-in for the nodes: Node objects
//! without machines, and a task that does for their pods what a node would.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kedge::config::{Layer, Layers, ServerSettings};
use kedge::server::Server;
use kedge::server::auth::User;
use kedge::supervisor::Supervisor;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// The longest a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running cluster without machines. Everything ends with it.
pub struct Cluster {
    pub client: Client,
    pub supervisor: Supervisor,
    server: Server,
    _dir: TempDir,
}

impl Cluster {
    /// Starts a server with scheduler and controllers.
    pub async fn start() -> Self {
        // With RUST_LOG set, a failing test shows what the controllers had to say.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().expect("a directory");
        let mut layer = Layer { origin: "test".into(), ..Layer::default() };
        for (name, value) in [
            ("data-dir", dir.path().to_str().expect("text")),
            ("node-name", "none"),
            ("node-ip", "192.0.2.1"),
        ] {
            layer.values.entry(name.into()).or_default().push(value.into());
        }
        let mut layers = Layers::default();
        layers.push(layer);
        let mut settings = ServerSettings::resolve(&layers).expect("settings");
        settings.https_listen_port = 0;
        settings.bind_address = [127, 0, 0, 1].into();
        settings.disable_agent = true;
        let supervisor = Supervisor::new();
        let server = Server::bind(settings, supervisor.clone()).await.expect("the server starts");
        server.run();
        let client = kedge::client::in_process(server.service_as(User::loopback()));
        Self { client, supervisor, server, _dir: dir }
    }

    /// Adds a node with room for 4 CPUs and 8 GiB, ready.
    pub async fn add_node(&self, name: &str) {
        let node: Node = from(
            json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": format!("zone-{name}")}}}),
        );
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.create(&PostParams::default(), &node).await.expect("a node");
        let status = json!({"status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
                "lastHeartbeatTime": "2030-01-01T00:00:00Z", "lastTransitionTime": "2030-01-01T00:00:00Z"}]}});
        eventually("the node's status is written", async || {
            nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.ok()
        })
        .await;
        eventually("the node loses its taints", async || {
            let node = nodes.get(name).await.ok()?;
            node.spec.and_then(|s| s.taints).is_none_or(|t| t.is_empty()).then_some(())
        })
        .await;
    }

    /// Does for all placed pods what their nodes would: starts them, and removes those that are deleted.
    /// A pod with the label `ready: "false"` never becomes ready; one with the label `ends` ends in that phase.
    pub fn run_pods(&self) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let client = self.client.clone();
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(pods, watcher::Config::default()));
            let mut address = 1u32;
            while let Some(event) = events.next().await {
                let (watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = (match event {
                    Ok(event) => event,
                    Err(_) => continue,
                }) else {
                    continue;
                };
                if pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_none() {
                    continue;
                }
                let (namespace, name) = (
                    pod.metadata.namespace.clone().unwrap_or_default(),
                    pod.metadata.name.clone().unwrap_or_default(),
                );
                let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
                if pod.metadata.deletion_timestamp.is_some() {
                    let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
                } else if let Some(phase) = pod.metadata.labels.as_ref().and_then(|l| l.get("ends")) {
                    let patch = json!({"status": {"phase": phase}});
                    let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                } else if pod.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Running") {
                    address += 1;
                    let ready = pod
                        .metadata
                        .labels
                        .as_ref()
                        .and_then(|l| l.get("ready"))
                        .is_none_or(|v| v != "false");
                    set_ready(
                        &api,
                        &name,
                        ready,
                        Some(&format!("10.42.{}.{}", address / 250, address % 250 + 1)),
                    )
                    .await;
                }
            }
        });
    }

    /// The API of a kind in the namespace `default`.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates an object in the namespace `default`.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        self.api::<K>().create(&PostParams::default(), &from::<K>(object)).await.expect("it is created")
    }

    /// Waits for an event about an object and gives its source and message.
    pub async fn event(&self, about: &str, reason: &str) -> (String, String) {
        let events: Api<Event> = self.api();
        eventually(&format!("an event {reason} about {about}"), async || {
            let list = events.list(&ListParams::default()).await.ok()?;
            let found = list.items.into_iter().find(|e| {
                e.involved_object.name.as_deref() == Some(about) && e.reason.as_deref() == Some(reason)
            })?;
            Some((
                found.source.and_then(|s| s.component).unwrap_or_default(),
                found.message.unwrap_or_default(),
            ))
        })
        .await
    }

    /// The answer to a request of this user, as it comes over the wire.
    pub async fn answer(
        &self,
        user: User,
        request: http::Request<kube::client::Body>,
    ) -> (http::response::Parts, bytes::Bytes) {
        let response = self.server.service_as(user).oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        (parts, body.collect().await.expect("a whole body").to_bytes())
    }

    /// Stops everything.
    pub async fn stop(self) {
        let late = self.supervisor.shutdown(Duration::from_secs(10)).await;
        assert!(late.is_empty(), "these tasks did not end in time: {late:?}");
    }
}

/// Makes a pod run, and ready or not.
pub async fn set_ready(pods: &Api<Pod>, name: &str, ready: bool, address: Option<&str>) {
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::now());
    let value = if ready { "True" } else { "False" };
    let mut status = json!({"phase": "Running", "conditions": [
        {"type": "Ready", "status": value, "lastTransitionTime": now},
        {"type": "ContainersReady", "status": value, "lastTransitionTime": now}]});
    if let Some(address) = address {
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{"ip": address}]);
    }
    let patch = json!({"status": status});
    let _ = pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
}

/// Decodes an object.
pub fn from<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("it decodes")
}

/// Waits until `look` finds what it looks for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// A deployment of `replicas` pods with an image.
pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]}}}})
}
