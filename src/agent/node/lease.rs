//! The node's lease in `kube-node-lease`: proof of life, every ten seconds.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-node-lease";
const RENEW: Duration = Duration::from_secs(10);
const DURATION_SECONDS: i32 = 40;

/// Renews the lease of `name` until cancelled.
pub(super) async fn run(client: &kube::Client, name: &str, nodes: &Api<Node>, token: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let mut tick = tokio::time::interval(RENEW);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            _ = tick.tick() => {}
        }
        // A server that does not answer must not keep the next attempt from being made.
        match tokio::time::timeout(RENEW, renew(&api, name, nodes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the node's lease was not renewed"),
            Err(_) => tracing::warn!("the node's lease was not renewed: the API server did not answer"),
        }
    }
}

async fn renew(api: &Api<Lease>, name: &str, nodes: &Api<Node>) -> kube::Result<()> {
    let now = MicroTime(Timestamp::now());
    let patch = Patch::Merge(json!({"spec": {"renewTime": now}}));
    match api.patch(name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = lease(name, nodes.get_opt(name).await?.as_ref(), now);
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        Err(error) => Err(error),
    }
}

fn lease(name: &str, node: Option<&Node>, now: MicroTime) -> Lease {
    let owner = node.and_then(|n| n.metadata.uid.clone()).map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.into(),
        uid,
        ..OwnerReference::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(NAMESPACE.into()),
            owner_references: owner.map(|o| vec![o]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.into()),
            lease_duration_seconds: Some(DURATION_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_names_its_holder_and_belongs_to_the_node() {
        let node = Node {
            metadata: ObjectMeta { uid: Some("u".into()), ..ObjectMeta::default() },
            ..Node::default()
        };
        let lease = lease("n1", Some(&node), MicroTime(Timestamp::UNIX_EPOCH));
        let spec = lease.spec.expect("spec");
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some("n1"), Some(40)));
        assert_eq!(lease.metadata.owner_references.expect("owner")[0].uid, "u");
    }
}
