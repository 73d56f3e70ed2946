//! Pod network, service proxy and cluster DNS of a node.
//!
//! [`PodNetwork`] gives pods addresses from a bridge, [`ServiceProxy`] makes the kernel serve a
//! [`table::ServiceTable`], [`Dns`] answers names. All of it is programmed by netlink from this
//! process: no other program is run. Everything carries the installation's own names
//! ([`Names`]), so that several installations share a machine, and [`cleanup()`] removes exactly one.

mod cidr;
mod cleanup;
mod conntrack;
pub mod dns;
mod error;
mod link;
mod netlink;
mod netns;
mod nft;
mod pod;
mod proxy;
pub mod table;

pub use cidr::Cidr;
pub use cleanup::{Names, cleanup};
pub use dns::{Dns, DnsConfig};
pub use error::Error;
pub use pod::{Attachment, HostPort, PodNetwork, PodNetworkConfig};
pub use proxy::{ProxyMode, ServiceProxy, ServiceProxyConfig};

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Runs netlink work, which blocks for as long as the kernel takes, off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Stopped),
        },
    }
}
