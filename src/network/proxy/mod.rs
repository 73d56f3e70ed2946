//! The service proxy: makes the kernel serve a [`ServiceTable`].

mod detect;
mod nftables;

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::nft::{Change, Monitor};
use super::table::ServiceTable;
use super::{Cidr, Error, Result, blocking};
use nftables::Backend;

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
pub struct ServiceProxy {
    backend: Arc<Mutex<Backend>>,
}

impl ServiceProxy {
    /// Chooses a back end. The text says which one and why, such as
    /// `nftables: the kernel has no IPVS (ip_vs module not found)`.
    ///
    /// Only IPv4 is served; IPv6 addresses of a table are passed over.
    pub async fn select(mode: ProxyMode, config: ServiceProxyConfig) -> Result<(Self, String)> {
        blocking(move || {
            let reason = choose(mode)?;
            let backend = Backend::open(config).map_err(failed("open a netfilter socket"))?;
            Ok((
                Self { backend: Arc::new(Mutex::new(backend)) },
                format!("{}: {reason}", ProxyMode::Nftables),
            ))
        })
        .await
    }

    /// The back end in use, for `/proxyMode`.
    pub fn mode(&self) -> ProxyMode {
        ProxyMode::Nftables
    }

    /// Makes the kernel equal to `table`, atomically, by the difference to what it has.
    pub async fn apply(&self, table: &ServiceTable) -> Result<()> {
        let mut backend = Arc::clone(&self.backend).lock_owned().await;
        let changes = backend.prepare(table);
        blocking(move || backend.commit(changes).map_err(failed("program Services"))).await
    }

    /// Watches for foreign changes of our table and makes it right again. Ends when `token` is cancelled.
    pub async fn run(&self, token: CancellationToken) -> Result<()> {
        let mut monitor = Monitor::open().map_err(failed("watch nf_tables"))?;
        let (own, table) = {
            let backend = self.backend.lock().await;
            ([backend.port()], backend.table().to_owned())
        };
        // What happened before the subscription.
        let mut change = Change::Lost;
        loop {
            let concerned = match &change {
                Change::Lost => true,
                Change::Tables(tables) => tables.contains(&table),
            };
            if concerned && self.with("repair the table of Services", Backend::restore).await? {
                tracing::warn!(table, "something else changed the table of Services; it is right again");
            }
            change = tokio::select! {
                () = token.cancelled() => return Ok(()),
                change = monitor.next(&own) => change.map_err(failed("watch nf_tables"))?,
            };
        }
    }

    /// Deletes the tables. Connections that exist go on.
    pub async fn remove(&self) -> Result<()> {
        self.with("remove the table of Services", Backend::remove).await
    }

    async fn with<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Backend) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut backend = Arc::clone(&self.backend).lock_owned().await;
        blocking(move || work(&mut backend).map_err(failed(doing))).await
    }
}

fn failed(doing: &str) -> impl FnOnce(io::Error) -> Error + use<> {
    let doing = doing.to_owned();
    move |source| Error::Kernel { doing, source }
}

/// Why the nf_tables back end is, or cannot be, the one to use.
fn choose(mode: ProxyMode) -> Result<String> {
    let unavailable = |why: &str| Err(Error::Mode { mode: mode.to_string(), why: why.to_owned() });
    let kernel = || failed("ask the kernel for its proxy back ends");
    let has_nftables = detect::nftables();
    let no_nftables = || has_nftables.as_ref().err().map(ToString::to_string);
    match mode {
        ProxyMode::Auto | ProxyMode::Nftables if no_nftables().is_some() => {
            unavailable(&format!("the kernel has no nf_tables ({})", no_nftables().unwrap_or_default()))
        }
        ProxyMode::Nftables => Ok("as configured".to_owned()),
        ProxyMode::Auto if detect::ipvs().map_err(kernel())? => {
            Ok("the kernel has IPVS, but this version of kedge has no back end for it".to_owned())
        }
        ProxyMode::Auto => Ok("the kernel has no IPVS (ip_vs module not found)".to_owned()),
        ProxyMode::Ipvs if !detect::ipvs().map_err(kernel())? => {
            unavailable("the kernel has no IPVS (ip_vs module not found)")
        }
        ProxyMode::Ipvs | ProxyMode::Iptables | ProxyMode::Userspace => {
            unavailable("this version of kedge has no such back end")
        }
    }
}

/// Name of the table of Services.
pub(super) fn table_name(base: &str) -> String {
    format!("{base}-services")
}
