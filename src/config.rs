//! Validated settings of a server or agent: defaults, then the configuration file, then files of
//! `config.yaml.d`, then the environment, then flags.

use std::net::IpAddr;
use std::path::PathBuf;

/// An IPv4 network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The network's first address.
    pub base: std::net::Ipv4Addr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

/// Settings of `kedge server`.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Everything kedge keeps lies below this directory.
    pub data_dir: PathBuf,
    /// Address the API listens on.
    pub bind_address: IpAddr,
    /// Port the API listens on.
    pub https_listen_port: u16,
    /// Further names and addresses in the API's certificate.
    pub tls_san: Vec<String>,
    /// Where the admin kubeconfig goes; `None`: `DATA/server/kubeconfig.yaml` only.
    pub write_kubeconfig: Option<PathBuf>,
    /// Its mode.
    pub write_kubeconfig_mode: u32,
    /// The join token, if the user chose one.
    pub token: Option<String>,
    /// Addresses of pods.
    pub cluster_cidr: Cidr,
    /// Addresses of Services.
    pub service_cidr: Cidr,
    /// First and last node port.
    pub service_node_port_range: (u16, u16),
    /// The cluster's DNS address.
    pub cluster_dns: IpAddr,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// Run no node in this process.
    pub disable_agent: bool,
    /// The node in this process.
    pub node: NodeSettings,
}

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Everything kedge keeps lies below this directory; the agent's part is `DATA/agent`.
    pub data_dir: PathBuf,
    /// Name of the Node object.
    pub node_name: String,
    /// The node's own address.
    pub node_ip: IpAddr,
    /// Labels the node registers with.
    pub node_labels: Vec<(String, String)>,
    /// Port of the node API.
    pub node_api_port: u16,
    /// Addresses of pods in the whole cluster.
    pub cluster_cidr: Cidr,
    /// Addresses of Services.
    pub service_cidr: Cidr,
    /// The cluster's DNS address.
    pub cluster_dns: IpAddr,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// Resolver configuration pods inherit, such as `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Service proxy back end.
    pub proxy_mode: ProxyMode,
    /// Name of the bridge, `kedge0` unless several nodes share a network namespace.
    pub bridge_name: String,
    /// Upper limit of pods.
    pub max_pods: u32,
}

/// Which back end programs Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// The best one the kernel has.
    Auto,
    /// IPVS.
    Ipvs,
    /// nf_tables.
    Nftables,
    /// iptables-restore.
    Iptables,
    /// In-process.
    Userspace,
}
