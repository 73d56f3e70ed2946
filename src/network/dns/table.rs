//! What cluster DNS knows, in plain structs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::network::table::Protocol;

/// All names of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsTable {
    /// Services by namespace, then name.
    pub services: BTreeMap<String, BTreeMap<String, DnsService>>,
    /// Which `a-b-c-d.namespace.pod` names exist.
    pub pods: PodNames,
}

/// One Service as DNS shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsService {
    /// It has cluster addresses.
    ClusterIp {
        /// They.
        addresses: Vec<IpAddr>,
        /// Its ports.
        ports: Vec<DnsPort>,
    },
    /// `clusterIP: None`: its names lead to the endpoints themselves.
    Headless {
        /// Those that are ready, or all with `publishNotReadyAddresses`.
        endpoints: Vec<DnsEndpoint>,
    },
    /// `type: ExternalName`.
    ExternalName(String),
}

/// A port of a Service or endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsPort {
    /// Its name; unnamed ports have no SRV record.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port number.
    pub port: u16,
}

/// An endpoint of a headless Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsEndpoint {
    /// Its address.
    pub address: IpAddr,
    /// `hostname` of the endpoint; without one its name is made of the address, as CoreDNS does (`10-42-0-5`).
    pub hostname: Option<String>,
    /// Its ports, with the numbers they have on the pod.
    pub ports: Vec<DnsPort>,
}

/// How `a-b-c-d.namespace.pod.domain` is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodNames {
    /// With the address the name spells, as CoreDNS' `pods insecure` does. Needs no knowledge of pods.
    #[default]
    Insecure,
    /// Only if such a pod exists: addresses by namespace.
    Verified(BTreeMap<String, BTreeSet<IpAddr>>),
}
