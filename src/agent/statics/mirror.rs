//! Mirror pods: what shows static pods in the API. They are made anew when somebody deletes them, and
//! deleted when the file is gone; neither touches the static pod.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio_util::sync::CancellationToken;

use crate::agent::context::Context;
use crate::agent::mirrors::{HASH, MIRROR, annotation, key};
use crate::agent::spec::{full_name, name, namespace};

/// Pauses between attempts while the API refuses or is away.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);

/// Keeps the mirror pods right until cancelled.
pub(crate) async fn keep(context: &Context, token: CancellationToken) {
    let mut node = context.node.clone();
    let mut retry = FIRST_RETRY;
    loop {
        // The owner's uid is known once the node is registered; its changes are no news after that.
        let owner = node.borrow_and_update().metadata.uid.clone();
        let failed = match &owner {
            Some(owner) => !round(context, owner).await,
            None => false,
        };
        retry = if failed { (retry * 2).min(MAX_RETRY) } else { FIRST_RETRY };
        tokio::select! {
            () = token.cancelled() => return,
            () = context.statics.work() => {}
            changed = node.changed(), if owner.is_none() => if changed.is_err() { return },
            () = tokio::time::sleep(retry), if failed => {}
        }
    }
}

/// One look at all of them; `false` if something failed.
async fn round(context: &Context, owner: &str) -> bool {
    let statics = &context.statics;
    let desired = statics.desired();
    let mut complete = true;
    for mirror in statics.mirrors() {
        let wanted = desired.iter().find(|d| key(d) == key(&mirror));
        let stale = match wanted {
            Some(pod) => annotation(&mirror, MIRROR) != annotation(pod, HASH),
            None => !statics.is_running(&key(&mirror)),
        };
        let deleted = mirror.metadata.deletion_timestamp.is_some();
        if (stale || deleted) && !report(delete(context, &mirror).await, &mirror, "deleted") {
            complete = false;
        }
    }
    for pod in desired.iter().filter(|p| !statics.mirrors().iter().any(|m| key(m) == key(p))) {
        complete &= report(create(context, pod, owner).await, pod, "made");
    }
    complete
}

fn report(result: kube::Result<()>, pod: &Pod, what: &str) -> bool {
    if let Err(error) = &result {
        tracing::warn!(pod = %full_name(pod), %error, "a mirror pod was not {what}; it is tried again");
    }
    result.is_ok()
}

async fn create(context: &Context, pod: &Arc<Pod>, owner: &str) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace(pod));
    match api.create(&PostParams::default(), &mirror(pod, &context.settings.node_name, owner)).await {
        Ok(made) => {
            context.statics.set_mirror(Arc::new(made));
            Ok(())
        }
        // The watch is about to tell of it.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

async fn delete(context: &Context, mirror: &Pod) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace(mirror));
    let preconditions = Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    match api.delete(name(mirror), &params).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
        Err(error) => return Err(error),
    }
    context.statics.remove_mirror(mirror);
    Ok(())
}

/// The picture of a static pod: the node owns it, so that it goes with the node.
fn mirror(pod: &Pod, node: &str, owner: &str) -> Pod {
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let hash = annotations.get(HASH).cloned().unwrap_or_default();
    annotations.insert(MIRROR.into(), hash);
    Pod {
        metadata: ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            labels: pod.metadata.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: node.into(),
                uid: owner.into(),
                controller: Some(true),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: pod.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mirror_belongs_to_the_node_and_names_its_file() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p-n", "namespace": "ns", "uid": "h", "labels": {"a": "b"}, "annotations": {HASH: "h"}},
            "spec": {"containers": [{"name": "c"}]}}))
        .expect("a pod");
        let mirror = mirror(&pod, "n", "node-uid");
        assert!(crate::agent::mirrors::is_mirror(&mirror));
        assert_eq!(annotation(&mirror, MIRROR), Some("h"));
        assert_eq!((mirror.metadata.uid.as_ref(), &mirror.spec), (None, &pod.spec));
        let owner = &mirror.metadata.owner_references.expect("an owner")[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("Node", "node-uid", Some(true))
        );
    }
}
