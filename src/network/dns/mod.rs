//! Cluster DNS: authoritative for the cluster domain, forwarding for the rest.

pub mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Result;
use table::DnsTable;

/// Where DNS listens and what it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Addresses to answer on, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// The cluster's domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// The node's resolver configuration: other names are forwarded to its name servers.
    pub resolv_conf: PathBuf,
}

/// The DNS server of a node, with its sockets bound.
#[derive(Debug)]
pub struct Dns;

impl Dns {
    /// Opens the sockets: once this returns, queries are queued for [`Dns::run`].
    pub async fn bind(_config: DnsConfig, _table: watch::Receiver<Arc<DnsTable>>) -> Result<Self> {
        todo!()
    }

    /// The addresses it listens on, with the ports the kernel chose where the configuration said 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        todo!()
    }

    /// Answers until `token` is cancelled.
    pub async fn run(self, _token: CancellationToken) -> Result<()> {
        todo!()
    }

    /// [`Dns::bind`] and [`Dns::run`] in one.
    pub async fn serve(
        config: DnsConfig,
        table: watch::Receiver<Arc<DnsTable>>,
        token: CancellationToken,
    ) -> Result<()> {
        Self::bind(config, table).await?.run(token).await
    }
}
