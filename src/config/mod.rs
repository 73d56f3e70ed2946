//! Validated settings of a server or agent.
//!
//! A setting is looked up in layers, the later ones winning: defaults, the configuration file, the
//! files of `<file>.d` in order of name, the environment, flags. A [`Layer`] holds plain strings and
//! says where they come from, so that an error names the place to mend. [`ServerSettings::resolve`]
//! and [`NodeSettings::resolve`] turn the layers into typed, checked settings.
//!
//! Names and file format follow k3s: <https://docs.k3s.io/installation/configuration>.

mod file;
mod image_verification;
mod kubelet;
mod kubelet_flags;
mod layer;
mod machine;
mod registration;
mod resolve;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

pub use file::load as load_files;
pub use image_verification::ImageVerification;
pub use kubelet::{EVICTION_SIGNALS, Eviction, Kubelet, Threshold};
pub use kubelet_flags::kubelet_help;
pub use layer::{Layer, Layers};
pub use registration::{NodeTaint, is_nodes_own};

/// Where everything lies unless `--data-dir` says otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/kedge";
/// The configuration file unless `--config` says otherwise.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/kedge/config.yaml";
/// The admin kubeconfig unless `--write-kubeconfig` says otherwise.
pub const DEFAULT_KUBECONFIG: &str = "/etc/kedge/kedge.yaml";

/// A setting that cannot be used, or a configuration file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value does not fit its setting.
    #[error("--{setting} {value:?} ({origin}): {problem}")]
    Value {
        /// The setting's name, as a flag without dashes.
        setting: String,
        /// What was given.
        value: String,
        /// Which layer gave it.
        origin: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Two settings exclude each other, or the machine lacks what a default needs.
    #[error("{0}")]
    Unusable(String),
    /// A configuration file cannot be read or is not a map of settings.
    #[error("configuration file {}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        problem: String,
    },
}

/// An IPv4 network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The network's first address.
    pub base: Ipv4Addr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

impl Cidr {
    /// The address `n` places after the first; `None` past the network's end.
    pub fn nth(&self, n: u32) -> Option<Ipv4Addr> {
        let size = 1u64 << (32 - u32::from(self.prefix));
        (u64::from(n) < size).then(|| Ipv4Addr::from(u32::from(self.base) + n))
    }

    /// Whether the network holds this address.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        u32::from(address) & mask == u32::from(self.base)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected an IPv4 network such as 10.42.0.0/16".to_owned();
        let (base, prefix) = text.split_once('/').ok_or_else(expected)?;
        let base: Ipv4Addr = base.parse().map_err(|_| expected())?;
        let prefix: u8 = prefix.parse().map_err(|_| expected())?;
        if !(1..=30).contains(&prefix) {
            return Err("the prefix length must be between 1 and 30".to_owned());
        }
        let cidr = Self { base, prefix };
        if !cidr.contains(base) {
            let mask = u32::MAX << (32 - u32::from(prefix));
            let first = Ipv4Addr::from(u32::from(base) & mask);
            return Err(format!("{base} is not the network's first address; did you mean {first}/{prefix}?"));
        }
        Ok(cidr)
    }
}

/// What tells one installation's interfaces, cgroups, rules and run-time files from another's on
/// the same machine. It follows from the data directory alone, so that `kedge killall` finds the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `kedge`, or `kedge-` and eight hexadecimal digits for another data directory.
    pub name: String,
    /// The bridge: `kedge0`, or `kdg` and eight digits.
    pub bridge: String,
}

impl Instance {
    /// The installation whose files lie in `data_dir`.
    pub fn of(data_dir: &Path) -> Self {
        if data_dir == Path::new(DEFAULT_DATA_DIR) {
            return Self { name: "kedge".to_owned(), bridge: "kedge0".to_owned() };
        }
        use sha2::Digest;
        let digest = sha2::Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        let short = hex::encode(&digest[..4]);
        Self { name: format!("kedge-{short}"), bridge: format!("kdg{short}") }
    }

    /// Sockets, pid files and namespaces: what a reboot may take away.
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run").join(&self.name)
    }
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
    /// Where the admin kubeconfig goes.
    pub write_kubeconfig: PathBuf,
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
    /// Who may speak to the API.
    pub authentication: Authentication,
    /// Run no node in this process.
    pub disable_agent: bool,
    /// Build and read checkpoints in processes of this executable. Another executable that holds a
    /// server, such as a test, must not: it has no such command.
    pub checkpoint_process: bool,
    /// The node in this process; its address is also the one the API is advertised under.
    pub node: NodeSettings,
}

/// How the API finds out who speaks to it, beyond certificates and its own tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// Requests without credentials are the user `system:anonymous`.
    pub anonymous: bool,
    /// A file of static tokens.
    pub token_file: Option<PathBuf>,
}

impl Default for Authentication {
    fn default() -> Self {
        Self { anonymous: true, token_file: None }
    }
}

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Everything kedge keeps lies below this directory; the agent's part is `DATA/agent`.
    pub data_dir: PathBuf,
    /// Names that are this installation's own on the machine.
    pub instance: Instance,
    /// Name of the Node object.
    pub node_name: String,
    /// The node's own address.
    pub node_ip: IpAddr,
    /// Labels the node registers with.
    pub node_labels: Vec<(String, String)>,
    /// Taints the node registers with.
    pub node_taints: Vec<NodeTaint>,
    /// Addresses at which the node is reached from outside.
    pub node_external_ips: Vec<IpAddr>,
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
    /// Registry mirrors and credentials, k3s's `registries.yaml`.
    pub private_registry: PathBuf,
    /// Registries that have mirrors are not asked themselves.
    pub disable_default_registry_endpoint: bool,
    /// Service proxy back end.
    pub proxy_mode: ProxyMode,
    /// Upper limit of pods.
    pub max_pods: u32,
    /// How the node treats its pods.
    pub kubelet: Kubelet,
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

#[cfg(test)]
mod tests;
