//! The role of the machine that runs the control plane: a label on its Node, which `kubectl get nodes` shows.
//!
//! A node may not give itself a role (NodeRestriction): the server does, as k3s does with its own node.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::FIELD_MANAGER;

/// `node-role.kubernetes.io/control-plane` (<https://kubernetes.io/docs/reference/labels-annotations-taints/>).
const LABEL: &str = "node-role.kubernetes.io/control-plane";

/// The label could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the role of the node {node} was not written: {source}")]
pub(super) struct Error {
    node: String,
    source: kube::Error,
}

/// Labels the node when it registers, each time it does. A label that somebody takes away or changes
/// afterwards is theirs to decide about, until the next start.
pub(super) async fn keep(client: &Client, node: &str, token: &CancellationToken) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let mut watch = std::pin::pin!(watch_object(nodes.clone(), node).default_backoff());
    let mut labelled = None;
    loop {
        let seen = tokio::select! {
            () = token.cancelled() => return Ok(()),
            seen = watch.next() => match seen {
                Some(Ok(Some(seen))) if seen.uid() != labelled => seen,
                // It is gone or known, or the watch failed, which goes on by itself.
                Some(_) => continue,
                None => return Ok(()),
            },
        };
        if !seen.labels().contains_key(LABEL) {
            let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: "true"}}}));
            match nodes.patch(node, &parameters, &patch).await {
                // It is gone already: the watch tells when it comes back.
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                result => result.map(drop).map_err(|source| Error { node: node.to_owned(), source })?,
            }
        }
        labelled = seen.uid();
    }
}
