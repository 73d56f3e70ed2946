//! Connecting a sandbox to the bridge.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::bridge::Bridge;
use super::{Attachment, names, sysctl};
use crate::network::link::{Links, VethSpec};
use crate::network::{Cidr, Error, Result, netns};

/// Name of a pod's interface.
const POD_INTERFACE: &str = "eth0";

/// Makes the pair of interfaces and what the pod's namespace needs. A pair that is there already
/// stays: its sandbox was attached before.
pub fn connect(attachment: &Attachment, path: &Path, bridge: Bridge, bridge_name: &str) -> Result<()> {
    let failed = |source| Error::Kernel {
        doing: format!("connect sandbox {} to the bridge {bridge_name}", attachment.sandbox),
        source,
    };
    let namespace = File::open(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let mut links = Links::open().map_err(failed)?;
    if links.find(&attachment.interface).map_err(failed)?.is_some() {
        if is_connected(attachment, &namespace).map_err(failed)? {
            return Ok(());
        }
        // Half done, or left by a sandbox of the same name in a namespace that is gone.
        links.delete(&attachment.interface).map_err(failed)?;
    }
    let spec = VethSpec {
        host_name: &attachment.interface,
        bridge: bridge.index,
        group: names::group(bridge_name),
        pod_name: POD_INTERFACE,
        pod_mac: names::mac(attachment.address),
        netns: namespace.as_raw_fd(),
        mtu: bridge.mtu,
    };
    let done = links
        .add_veth(&spec)
        .and_then(|()| netns::inside(&namespace, || configure(attachment)))
        .and_then(|()| links.wait_until_passing(&[&attachment.interface, bridge_name]))
        .map_err(failed);
    if done.is_err() {
        // The first error is the one to tell.
        let _ = links.delete(&attachment.interface);
    }
    done
}

/// Whether this namespace has the pod's end with its address and its way out.
fn is_connected(attachment: &Attachment, namespace: &File) -> io::Result<bool> {
    netns::inside(namespace, || {
        let mut links = Links::open()?;
        let Some(link) = links.find(POD_INTERFACE)? else {
            return Ok(false);
        };
        Ok(links.addresses(link.index)?.contains(&(attachment.address, 32))
            && links.default_interface()? == Some(link.index))
    })
}

/// Runs inside the pod's namespace.
fn configure(attachment: &Attachment) -> io::Result<()> {
    let mut links = Links::open()?;
    if let Some(lo) = links.find("lo")? {
        links.set_up(lo.index)?;
    }
    let eth0 = links.find(POD_INTERFACE)?.ok_or(io::ErrorKind::NotFound)?.index;
    // Another way between pods would bypass the place where Services are undone.
    for scope in ["all", POD_INTERFACE] {
        sysctl::set(&format!("ipv4/conf/{scope}/accept_redirects"), "0").map_err(io::Error::other)?;
    }
    links.set_up(eth0)?;
    links.add_address(eth0, attachment.address, 32)?;
    let gateway = Cidr::new(attachment.gateway, 32).map_err(io::Error::other)?;
    links.add_link_route(eth0, gateway, None)?;
    links.add_default_route(eth0, attachment.gateway)
}
