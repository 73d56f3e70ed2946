//! The service proxy: makes the kernel serve a [`ServiceTable`].

use std::fmt;

use tokio_util::sync::CancellationToken;

use super::table::ServiceTable;
use super::{Cidr, Result};

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

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Userspace => "userspace",
        })
    }
}

/// What the service proxy has to know of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceProxyConfig {
    /// Base name of the nf_tables tables, as in [`super::PodNetworkConfig::nft_table`].
    pub nft_table: String,
    /// Addresses of all pods: traffic to Services from elsewhere is masqueraded.
    pub cluster_cidr: Cidr,
    /// Addresses of Services: what no Service port answers is rejected.
    pub service_cidr: Cidr,
    /// The pod bridge, through which node ports are reachable at `127.0.0.1`.
    pub bridge: String,
}

/// Programs Services on this node. Clones share it.
#[derive(Clone, Debug)]
pub struct ServiceProxy;

impl ServiceProxy {
    /// Chooses a back end. The text says which one and why, such as
    /// `nftables: the kernel has no IPVS (ip_vs module not found)`.
    pub async fn select(_mode: ProxyMode, _config: ServiceProxyConfig) -> Result<(Self, String)> {
        todo!()
    }

    /// The back end in use, for `/proxyMode`.
    pub fn mode(&self) -> ProxyMode {
        todo!()
    }

    /// Makes the kernel equal to `table`, atomically, by the difference to what it has.
    pub async fn apply(&self, _table: &ServiceTable) -> Result<()> {
        todo!()
    }

    /// Watches for foreign changes of our tables and makes them right again. Ends when `token` is cancelled.
    pub async fn run(&self, _token: CancellationToken) -> Result<()> {
        todo!()
    }

    /// Deletes the tables. Connections that exist go on.
    pub async fn remove(&self) -> Result<()> {
        todo!()
    }
}
