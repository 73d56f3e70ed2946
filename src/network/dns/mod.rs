//! Cluster DNS: authoritative for the cluster domain, forwarding for the rest.

mod handler;
mod names;
pub mod table;
mod upstream;
mod zone;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;
use hickory_server::Server;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Error, Result};
use handler::Handler;
use table::DnsTable;
use upstream::Upstream;
use zone::Zone;

/// A client's TCP connection may rest so long before it is closed.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that wait for a slow client on one TCP connection.
const TCP_RESPONSES: usize = 32;

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
pub struct Dns {
    server: Server<Handler>,
    addresses: Vec<SocketAddr>,
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Dns {
    /// Opens the sockets: once this returns, queries are answered.
    pub async fn bind(config: DnsConfig, table: watch::Receiver<Arc<DnsTable>>) -> Result<Self> {
        let mut domain = Name::from_utf8(&config.cluster_domain).map_err(|error| Error::Config {
            what: "cluster domain",
            value: config.cluster_domain.clone(),
            problem: format!("is no domain name: {error}"),
        })?;
        domain.set_fqdn(true);
        let mut sockets = Vec::new();
        for address in &config.listen {
            let pair = listen(*address).await;
            sockets.push(pair.map_err(|source| Error::Listen { address: *address, source })?);
        }
        let addresses: Vec<_> = sockets.iter().map(|(_, _, address)| *address).collect();
        let servers = addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect();
        let upstream = Upstream::new(config.resolv_conf, addresses.clone());
        let mut server = Server::new(Handler::new(Zone::new(domain, servers), table, upstream));
        for (udp, tcp, _) in sockets {
            server.register_socket(udp);
            server.register_listener(tcp, TCP_IDLE, TCP_RESPONSES);
        }
        Ok(Self { server, addresses })
    }

    /// The addresses it listens on, with the ports the kernel chose where the configuration said 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Answers until `token` is cancelled.
    pub async fn run(mut self, token: CancellationToken) -> Result<()> {
        let failed = |error| Error::Dns(Box::new(error));
        let stop = self.server.shutdown_token().clone();
        tokio::select! {
            ended = self.server.block_until_done() => return ended.map_err(failed),
            () = token.cancelled() => stop.cancel(),
        }
        self.server.block_until_done().await.map_err(failed)
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

/// Opens UDP and TCP sockets of one address, with the same port.
async fn listen(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let tcp = TcpListener::bind(address).await?;
    let address = tcp.local_addr()?;
    Ok((UdpSocket::bind(address).await?, tcp, address))
}
