//! What can go wrong in the network of a node.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use super::Cidr;
use super::table::Protocol;

/// A failure of the pod network, the service proxy or DNS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a netlink request.
    #[error("cannot {doing}: {source}")]
    Kernel {
        /// What was to be done, such as `make the bridge kedge0`.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of the state directory or of `/proc/sys` could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A configuration value cannot be used.
    #[error("{what} {value:?} {problem}")]
    Config {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// Every address of the pod network is taken.
    #[error("no free address in the pod network {0}: delete pods, or give the node a larger pod CIDR")]
    AddressesExhausted(Cidr),
    /// A host port is taken by another pod of this node.
    #[error("host port {host_ip}:{port}/{protocol} is already taken by sandbox {owner}")]
    HostPortTaken {
        /// The address asked for.
        host_ip: IpAddr,
        /// The port asked for.
        port: u16,
        /// Its protocol.
        protocol: Protocol,
        /// The sandbox that holds it.
        owner: String,
    },
    /// The service proxy mode cannot be had here.
    #[error("proxy mode {mode} is not available: {why}; supported now: auto, nftables")]
    Mode {
        /// The mode asked for.
        mode: String,
        /// Why it is not available.
        why: String,
    },
    /// The process is stopping.
    #[error("the network is stopping")]
    Stopped,
    /// The DNS server failed.
    #[error("cluster DNS: {0}")]
    Dns(Box<dyn std::error::Error + Send + Sync>),
    /// A DNS listener could not be opened.
    #[error("cannot listen for DNS on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
}
