//! The pod network of a node: bridge, addresses, veth pairs, host ports, masquerade.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::table::Protocol;
use super::{Cidr, Result};

/// What a node's pod network looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetworkConfig {
    /// Name of the bridge, such as `kedge0`; different for installations that share a network namespace.
    pub bridge: String,
    /// Addresses of this node's pods (`Node.spec.podCIDR`). The bridge has the first one.
    pub pod_cidr: Cidr,
    /// Addresses of all pods of the cluster: traffic to them is not masqueraded.
    pub cluster_cidr: Cidr,
    /// Addresses of Services.
    pub service_cidr: Cidr,
    /// MTU of the pods' interfaces; `None`: that of the default route's interface, else 1500.
    pub mtu: Option<u32>,
    /// Directory of the address reservations. Must survive a restart of kedge.
    pub state_dir: PathBuf,
    /// Base name of the nf_tables tables; different for installations that share a network namespace.
    pub nft_table: String,
}

/// A port of the node that leads to a container (`hostPort`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address of the node it is bound to; unspecified: all of them.
    pub host_ip: IpAddr,
    /// Port of the node.
    pub host_port: u16,
    /// Port of the pod.
    pub container_port: u16,
}

/// How a sandbox is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The sandbox.
    pub sandbox: String,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// Its default gateway: the bridge.
    pub gateway: Ipv4Addr,
    /// Hardware address of its `eth0`, such as `0a:58:0a:2a:00:05`.
    pub mac: String,
    /// The host's end of the pair.
    pub interface: String,
    /// Its host ports.
    pub host_ports: Vec<HostPort>,
}

/// The pod network of this node. Clones share it; all methods may be called concurrently.
#[derive(Clone, Debug)]
pub struct PodNetwork;

impl PodNetwork {
    /// Makes bridge, masquerade, forwarding and routes equal to `config`. Doing it again changes nothing.
    pub async fn open(_config: PodNetworkConfig) -> Result<Self> {
        todo!()
    }

    /// Connects the sandbox whose network namespace `netns` opens: an address, `eth0`, a default
    /// route, `lo`, host ports. Attaching again gives the same attachment.
    pub async fn attach(&self, _sandbox: &str, _netns: &Path, _host_ports: &[HostPort]) -> Result<Attachment> {
        todo!()
    }

    /// Disconnects the sandbox and frees its address. Nothing happens if it is not attached.
    pub async fn detach(&self, _sandbox: &str) -> Result<()> {
        todo!()
    }

    /// All attachments, also those made before a restart, by address.
    pub fn attachments(&self) -> Vec<Attachment> {
        todo!()
    }

    /// Detaches every sandbox that is not in `live`, and names them.
    pub async fn release_stale(&self, _live: &HashSet<String>) -> Result<Vec<String>> {
        todo!()
    }

    /// Gives the bridge a further address (`/32`), such as the cluster's DNS address, that this
    /// process then listens on. Nothing happens if it has it.
    pub async fn add_address(&self, _address: Ipv4Addr) -> Result<()> {
        todo!()
    }

    /// The bridge's own address: the pods' gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        todo!()
    }

    /// Re-creates the tables when something else changes or removes them. Ends when `token` is cancelled.
    pub async fn run(&self, _token: tokio_util::sync::CancellationToken) -> Result<()> {
        todo!()
    }
}
