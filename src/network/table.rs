//! The desired state of the service proxy, in plain structs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in the IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// All Services of the cluster as this node is to serve them. Two equal tables mean the same kernel state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable {
    /// By namespace, name and port name: what the Service port offers.
    pub ports: BTreeMap<ServicePortName, ServicePort>,
}

/// Which port of which Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The port's name; empty if the Service has one unnamed port.
    pub port: String,
}

/// One port of one Service, with the endpoints behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Cluster addresses.
    pub cluster_ips: Vec<IpAddr>,
    /// The port at the cluster, external and load balancer addresses.
    pub port: u16,
    /// The port on every node address.
    pub node_port: Option<u16>,
    /// External and load balancer addresses.
    pub external_ips: Vec<IpAddr>,
    /// Seconds a client stays with its endpoint (`sessionAffinity: ClientIP`).
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`: cluster addresses lead to endpoints of this node only.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: node ports and external addresses lead to endpoints of this
    /// node only, with the client's address kept.
    pub external_local: bool,
    /// Endpoints that take new connections, in a stable order. Empty: connections are rejected.
    pub endpoints: Vec<ServiceEndpoint>,
}

/// A place a Service port leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceEndpoint {
    /// Address of the pod.
    pub address: IpAddr,
    /// Port on it.
    pub port: u16,
    /// It runs on this node.
    pub local: bool,
}
