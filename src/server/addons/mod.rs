//! What a cluster has from its first moment: the cluster DNS Service, the role of the server's own node, and
//! whatever manifests lie in `DATA/server/manifests`. All of it is applied through the API like a user's own objects.
//!
//! As in k3s (<https://docs.k3s.io/installation/packaged-components>), files are applied at start
//! and when they change; removing a file removes nothing from the cluster.

mod apply;
mod directory;
mod role;

use std::net::IpAddr;
use std::path::PathBuf;

use kube::Client;
use serde_json::{Value, json};

use crate::supervisor::{OnFailure, Stage, Supervisor};

/// The field manager of everything applied here.
const FIELD_MANAGER: &str = "deploy@kedge";

/// What add-ons need to know of the cluster.
#[derive(Clone, Debug)]
pub struct AddonConfig {
    /// Directory whose manifests are applied.
    pub manifests: PathBuf,
    /// The cluster's DNS address.
    pub cluster_dns: IpAddr,
    /// The node in the server's own process, if there is one.
    pub node: Option<String>,
}

/// Spawns the tasks that keep add-ons applied.
pub fn spawn(supervisor: &Supervisor, client: &Client, config: &AddonConfig) {
    let (dns_client, address) = (client.clone(), config.cluster_dns);
    supervisor.spawn("addon kube-dns", Stage::Controller, OnFailure::Restart, move |_| {
        let client = dns_client.clone();
        async move { Ok(apply::object(&client, dns_service(address)).await?) }
    });
    if let Some(node) = config.node.clone() {
        let client = client.clone();
        supervisor.spawn("addon node role", Stage::Controller, OnFailure::Restart, move |token| {
            let (client, node) = (client.clone(), node.clone());
            async move { Ok(role::keep(&client, &node, &token).await?) }
        });
    }
    let (client, directory) = (client.clone(), config.manifests.clone());
    supervisor.spawn("addon manifests", Stage::Controller, OnFailure::Restart, move |token| {
        let (client, directory) = (client.clone(), directory.clone());
        async move { Ok(directory::keep_applied(&client, &directory, &token).await?) }
    });
}

/// The Service through which pods reach cluster DNS. It has no selector: every node answers the
/// address itself.
fn dns_service(address: IpAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "clusterIP": address.to_string(),
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    })
}
