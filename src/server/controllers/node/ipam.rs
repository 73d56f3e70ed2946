//! Gives every node a network for its pods out of the cluster's.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::server::controllers::kit::informer::Informer;
use crate::server::controllers::kit::{Context, Error, Next, Queue, meta, patch};
use crate::supervisor::TaskError;

struct Ipam {
    cx: Context,
    nodes: Arc<Informer<Node>>,
    /// Networks that are being written to a node.
    assigned: Mutex<HashSet<String>>,
    queue: Queue<String>,
}

/// Runs the controller that allocates pod networks.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(Ipam {
        nodes: cx.informers.get(),
        assigned: Mutex::default(),
        queue: Queue::new("node-ipam"),
        cx,
    });
    let that = Arc::clone(&this);
    let _nodes = this.nodes.subscribe(move |change| {
        if change.new.is_some() && cidr(change.latest()).is_none() {
            that.queue.add(meta::name(&change.latest().metadata).to_owned());
        }
    });
    this.nodes.synced().await;
    this.queue.run(1, stop, |name| this.reconcile(name)).await;
    Ok(())
}

fn cidr(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|c| !c.is_empty())
}

/// The first network of `mask` bits in the cluster's that is not taken.
fn allocate(base: Ipv4Addr, prefix: u8, mask: u8, taken: &HashSet<String>) -> Option<String> {
    let count = 1u64.checked_shl(u32::from(mask.checked_sub(prefix)?))?;
    let step = 1u64.checked_shl(u32::from(32u8.checked_sub(mask)?))?;
    let first = u64::from(u32::from(base));
    (0..count)
        .filter_map(|i| u32::try_from(first + i * step).ok())
        .map(|network| format!("{}/{mask}", Ipv4Addr::from(network)))
        .find(|network| !taken.contains(network))
}

impl Ipam {
    async fn reconcile(&self, name: String) -> Result<Next, Error> {
        let Some(node) = self.nodes.named(&name).filter(|n| cidr(n).is_none()) else { return Ok(Next::Done) };
        let Some((IpAddr::V4(base), prefix)) = self.cx.config.cluster_cidr else { return Ok(Next::Done) };
        let mut taken: HashSet<String> =
            self.nodes.list().iter().filter_map(|n| cidr(n).map(str::to_owned)).collect();
        taken.extend(self.assigned.lock().iter().cloned());
        let Some(network) = allocate(base, prefix, self.cx.config.node_cidr_mask, &taken) else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.cx.recorder.normal(node.as_ref(), "CIDRNotAvailable", message);
            return Err(Error::Unfinished(
                "CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range"
                    .into(),
            ));
        };
        self.assigned.lock().insert(network.clone());
        let mut wanted = Node::clone(&node);
        let spec = wanted.spec.get_or_insert_default();
        spec.pod_cidr = Some(network.clone());
        spec.pod_cidrs = Some(vec![network.clone()]);
        let api: Api<Node> = Api::all(self.cx.client.clone());
        let written = patch::write(&api, node.as_ref(), &wanted, None).await;
        if written.is_ok() {
            self.nodes.caught_up(|nodes| nodes.named(&name).is_none_or(|n| cidr(&n).is_some())).await;
        }
        self.assigned.lock().remove(&network);
        written.map(|_| Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_given_out_in_order_until_there_are_none() {
        let base = Ipv4Addr::new(10, 42, 0, 0);
        let mut taken = HashSet::new();
        for expected in ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"] {
            let network = allocate(base, 16, 24, &taken).expect("there is room");
            assert_eq!(network, expected);
            taken.insert(network);
        }
        taken.remove("10.42.1.0/24");
        assert_eq!(allocate(base, 16, 24, &taken).as_deref(), Some("10.42.1.0/24"));
        let two: HashSet<String> = ["10.42.0.0/24".to_owned(), "10.42.1.0/24".to_owned()].into();
        assert_eq!(allocate(base, 23, 24, &two), None);
        assert_eq!(allocate(base, 24, 16, &two), None);
    }
}
