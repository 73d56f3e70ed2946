//! The pod network of a node: bridge, addresses, veth pairs, host ports, masquerade.

mod attach;
mod bridge;
pub(super) mod firewall;
mod ipam;
pub(super) mod names;
mod restore;
mod sysctl;
pub(super) mod tables;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use netlink_sys::protocols::NETLINK_NETFILTER;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::link::Links;
use super::netlink::Socket;
use super::nft::{Batch, Change, Monitor};
use super::table::Protocol;
use super::{Cidr, Error, Result, blocking, conntrack};
use bridge::Bridge;
use ipam::Ipam;

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
    /// A path that opens its network namespace.
    #[serde(default)]
    pub netns: PathBuf,
}

impl PodNetworkConfig {
    /// The bridge's own address.
    fn gateway(&self) -> Ipv4Addr {
        self.pod_cidr.nth(1).unwrap_or(self.pod_cidr.base())
    }
}

/// The pod network of this node. Clones share it; all methods may be called concurrently.
#[derive(Clone, Debug)]
pub struct PodNetwork(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: PodNetworkConfig,
    bridge: Mutex<Bridge>,
    /// The bridge's further addresses.
    further: Mutex<Vec<Ipv4Addr>>,
    /// Written to while links are looked after: none comes or goes then.
    links: RwLock<()>,
    ipam: Mutex<Ipam>,
    /// Locked before `ipam` where both are.
    nft: Mutex<Socket>,
    nft_port: u32,
}

impl PodNetwork {
    /// Makes bridge, masquerade, forwarding and routes equal to `config`. Doing it again leaves
    /// everything as it is; the nf_tables table is replaced by an equal one at once.
    pub async fn open(config: PodNetworkConfig) -> Result<Self> {
        blocking(move || {
            check_name(&config.bridge)?;
            let ipam = Ipam::open(&config.state_dir, config.pod_cidr)?;
            let mut socket = Socket::open(NETLINK_NETFILTER)
                .map_err(|source| Error::Kernel { doing: "open a netfilter socket".to_owned(), source })?;
            // First, since it also keeps pods from what the bridge's parameters would allow them.
            write_tables(&mut socket, &config, &ipam)?;
            let bridge = bridge::make_equal(&config)?;
            let nft_port = socket.port();
            Ok(Self(Arc::new(Inner {
                config,
                bridge: Mutex::new(bridge),
                further: Mutex::default(),
                links: RwLock::default(),
                ipam: Mutex::new(ipam),
                nft: Mutex::new(socket),
                nft_port,
            })))
        })
        .await
    }

    /// Connects the sandbox whose network namespace `netns` opens: an address, `eth0`, a default
    /// route, `lo`, host ports. Attaching again gives the same attachment.
    pub async fn attach(&self, sandbox: &str, netns: &Path, host_ports: &[HostPort]) -> Result<Attachment> {
        let (inner, sandbox) = (Arc::clone(&self.0), sandbox.to_owned());
        let (netns, host_ports) = (netns.to_owned(), host_ports.to_vec());
        blocking(move || inner.attach(&sandbox, &netns, &host_ports)).await
    }

    /// Disconnects the sandbox and frees its address. Nothing happens if it is not attached.
    pub async fn detach(&self, sandbox: &str) -> Result<()> {
        let (inner, sandbox) = (Arc::clone(&self.0), sandbox.to_owned());
        blocking(move || inner.detach(&sandbox)).await
    }

    /// All attachments, also those made before a restart, by address.
    pub fn attachments(&self) -> Vec<Attachment> {
        self.0.ipam.lock().all().cloned().collect()
    }

    /// Detaches every sandbox that is not in `live`, and names them.
    pub async fn release_stale(&self, live: &HashSet<String>) -> Result<Vec<String>> {
        let mut stale: Vec<_> = self.attachments().into_iter().map(|a| a.sandbox).collect();
        stale.retain(|sandbox| !live.contains(sandbox));
        for sandbox in &stale {
            self.detach(sandbox).await?;
        }
        Ok(stale)
    }

    /// Gives the bridge a further address (`/32`), such as the cluster's DNS address, that this
    /// process then listens on. Nothing happens if it has it.
    pub async fn add_address(&self, address: Ipv4Addr) -> Result<()> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let _links = inner.links.read();
            inner.add_address(address)?;
            let mut further = inner.further.lock();
            if !further.contains(&address) {
                further.push(address);
            }
            Ok(())
        })
        .await
    }

    /// The bridge's own address: the pods' gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        self.0.config.gateway()
    }

    /// Re-creates tables, bridge and pairs when something else changes or removes them. Ends when `token`
    /// is cancelled.
    pub async fn run(&self, token: CancellationToken) -> Result<()> {
        let failed = |source| Error::Kernel { doing: "watch nf_tables".to_owned(), source };
        let mut monitor = Monitor::open().map_err(failed)?;
        let mut ends = restore::Monitor::open()
            .map_err(|source| Error::Kernel { doing: "watch links".to_owned(), source })?;
        // What happened before the subscription.
        let inner = Arc::clone(&self.0);
        blocking(move || inner.write_tables().and_then(|()| inner.restore_links(None))).await?;
        let own = [self.0.nft_port];
        loop {
            let inner = Arc::clone(&self.0);
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                change = monitor.next(&own) => {
                    let change = change.map_err(failed)?;
                    blocking(move || inner.restore(&change)).await?;
                }
                ended = ends.next() => {
                    let failed = |source| Error::Kernel { doing: "watch links".to_owned(), source };
                    let ended = ended.map_err(failed)?;
                    blocking(move || inner.restore_links(ended.as_deref())).await?;
                }
            }
        }
    }
}

impl Inner {
    fn write_tables(&self) -> Result<()> {
        let mut socket = self.nft.lock();
        write_tables(&mut socket, &self.config, &self.ipam.lock())
    }

    /// Makes right again what a foreign change may have touched.
    fn restore(&self, change: &Change) -> Result<()> {
        let (own, firewall) = match change {
            Change::Lost => (true, true),
            Change::Tables(tables) => {
                (tables.contains(&self.config.nft_table), tables.iter().any(|t| firewall::is_concerned(t)))
            }
        };
        if own {
            tracing::warn!(
                table = self.config.nft_table,
                "something else changed the table; writing it again"
            );
            return self.write_tables();
        }
        if firewall {
            firewall::accept(&mut self.nft.lock(), &self.config.bridge).map_err(|source| Error::Kernel {
                doing: "accept pods in the chain FORWARD of the host's firewall".to_owned(),
                source,
            })?;
        }
        Ok(())
    }

    /// Adds or removes the host ports of an attachment, then does `then`; if the table is not what it should be, all of it is written anew.
    fn change_host_ports(
        &self,
        attachment: &Attachment,
        attached: bool,
        then: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut batch = Batch::new(&self.config.nft_table);
        if attached {
            tables::add_host_ports(&mut batch, attachment);
        } else {
            tables::delete_host_ports(&mut batch, attachment);
        }
        let done = batch.commit(&mut self.nft.lock());
        then()?;
        conntrack::remove_stale(&tables::udp_frontends(attachment, attached));
        if let Err(error) = done {
            let table = &self.config.nft_table;
            tracing::warn!(%error, table, "host ports could not be changed; writing the table again");
            self.write_tables()?;
        }
        Ok(())
    }

    fn add_address(&self, address: Ipv4Addr) -> Result<()> {
        let index = self.bridge.lock().index;
        let add = || {
            let mut links = Links::open()?;
            if links.addresses(index)?.iter().any(|(a, _)| *a == address) {
                return Ok(());
            }
            links.add_address(index, address, 32)
        };
        add().map_err(|source| Error::Kernel {
            doing: format!("add {address} to the bridge {}", self.config.bridge),
            source,
        })
    }

    fn attach(&self, sandbox: &str, netns: &Path, host_ports: &[HostPort]) -> Result<Attachment> {
        let _links = self.links.read();
        let fresh = self.ipam.lock().get(sandbox).is_none();
        let attachment = self.ipam.lock().reserve(sandbox, host_ports, |address| Attachment {
            sandbox: sandbox.to_owned(),
            address,
            gateway: self.config.gateway(),
            mac: names::mac_text(names::mac(address)),
            interface: names::interface(&self.config.bridge, sandbox),
            host_ports: host_ports.to_vec(),
            netns: netns.to_owned(),
        })?;
        let bridge = *self.bridge.lock();
        if let Err(error) = attach::connect(&attachment, netns, bridge, &self.config.bridge) {
            if fresh {
                self.ipam.lock().release(sandbox)?;
            }
            return Err(error);
        }
        if fresh && !host_ports.is_empty() {
            self.change_host_ports(&attachment, true, || Ok(()))?;
        }
        Ok(attachment)
    }

    fn detach(&self, sandbox: &str) -> Result<()> {
        let _links = self.links.read();
        let Some(attachment) = self.ipam.lock().get(sandbox).cloned() else {
            return Ok(());
        };
        let remove = || -> io::Result<()> {
            Links::open()?.delete(&attachment.interface)?;
            Ok(())
        };
        remove()
            .map_err(|source| Error::Kernel { doing: format!("disconnect sandbox {sandbox}"), source })?;
        // Nothing may lead to the address any more when it is free.
        self.change_host_ports(&attachment, false, || self.ipam.lock().release(sandbox))
    }
}

fn write_tables(socket: &mut Socket, config: &PodNetworkConfig, ipam: &Ipam) -> Result<()> {
    let batch = tables::replace(config, ipam.all());
    let done = batch.commit(socket).and_then(|()| firewall::accept(socket, &config.bridge));
    done.map_err(|source| Error::Kernel { doing: format!("write the table {}", config.nft_table), source })
}

/// An interface name the kernel takes, and nothing that leads out of a directory of parameters.
fn check_name(bridge: &str) -> Result<()> {
    let fits = (1..libc::IFNAMSIZ).contains(&bridge.len());
    if fits && bridge.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        return Ok(());
    }
    Err(Error::Config {
        what: "bridge",
        value: bridge.to_owned(),
        problem: "is no interface name: use 1 to 15 letters, digits, - and _".to_owned(),
    })
}
