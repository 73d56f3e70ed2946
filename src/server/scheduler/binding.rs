//! Carrying out a decision: binding the pod, with its claims first, and reporting failure on it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Notify;

use super::podinfo::PodInfo;
use super::volumes::{SELECTED_NODE, Storage};
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Error, meta};

/// Claims must be bound by then.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(600);

/// Binds a pod to a node; claims that waited for the choice are provisioned first.
pub async fn bind(
    client: Client,
    storage: Storage,
    pod: Arc<PodInfo>,
    node: Arc<str>,
    waiting: Vec<String>,
) -> Result<(), Error> {
    let meta = &pod.pod.metadata;
    let namespace = meta::namespace(meta);
    if !waiting.is_empty() {
        bind_claims(&client, &storage, namespace, &node, &waiting).await?;
    }
    let binding = Binding {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            ..Default::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.to_string()),
            ..Default::default()
        },
    };
    let api: Api<Pod> = Api::namespaced(client, namespace);
    api.create_subresource::<_, serde_json::Value>(
        "binding",
        meta::name(meta),
        &PostParams::default(),
        &binding,
    )
    .await
    .map(|_| ())
    .map_err(Error::api("binding a pod"))
}

async fn bind_claims(
    client: &Client,
    storage: &Storage,
    namespace: &str,
    node: &str,
    names: &[String],
) -> Result<(), Error> {
    let changed = Arc::new(Notify::new());
    let signal = Arc::clone(&changed);
    let _subscription = storage.on_claim(move || signal.notify_one());
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
    for name in names {
        let params = PatchParams::default();
        api.patch(name, &params, &Patch::Merge(&patch))
            .await
            .map_err(Error::api("choosing a claim's node"))?;
    }
    let bound = async {
        while !storage.all_bound(namespace, names) {
            changed.notified().await;
        }
    };
    tokio::time::timeout(CLAIM_TIMEOUT, bound)
        .await
        .map_err(|_| Error::Unfinished("binding volumes: context deadline exceeded".into()))
}

/// Sets the condition `PodScheduled=False`, unless it says so already.
pub async fn report(
    client: Client,
    pod: Arc<PodInfo>,
    reason: &'static str,
    message: String,
) -> Result<(), Error> {
    let known = pod.pod.condition("PodScheduled");
    if known.is_some_and(|c| {
        c.status == "False" && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(&message)
    }) {
        return Ok(());
    }
    let since = known.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": since.unwrap_or_else(meta::now),
    });
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
    let api: Api<Pod> = Api::namespaced(client, meta::namespace(&pod.pod.metadata));
    api.patch_status(meta::name(&pod.pod.metadata), &PatchParams::default(), &Patch::Strategic(&patch))
        .await
        .map(|_| ())
        .map_err(Error::api("reporting that a pod is unschedulable"))
}
