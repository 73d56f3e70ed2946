//! The bridge, its addresses and routes, and the kernel parameters forwarding needs.

use std::io;

use super::{PodNetworkConfig, names, sysctl};
use crate::network::link::{Link, Links};
use crate::network::{Error, Result};

/// MTU where there is no default route to learn it from: Ethernet's.
const DEFAULT_MTU: u32 = 1500;

/// The bridge as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its index.
    pub index: u32,
    /// MTU of the pods' interfaces in bytes.
    pub mtu: u32,
}

/// Makes bridge, gateway address, route to the Services and kernel parameters as the configuration says.
///
/// Pods have `/32` addresses and a route to the gateway only, so every packet between pods crosses the
/// IP layer of this machine, where Services are undone; `br_netfilter` is not needed and its
/// parameters are left alone.
pub fn make_equal(config: &PodNetworkConfig) -> Result<Bridge> {
    let failed = |source| Error::Kernel { doing: format!("set up the bridge {}", config.bridge), source };
    let mut links = Links::open().map_err(failed)?;
    let mtu = match config.mtu {
        Some(mtu) => mtu,
        None => default_mtu(&mut links).map_err(failed)?,
    };
    let bridge = make_bridge(&mut links, config, mtu)?;
    set_addresses(&mut links, config, bridge.index).map_err(failed)?;
    links.add_link_route(bridge.index, config.service_cidr, Some(config.gateway())).map_err(failed)?;
    set_parameters(&config.bridge)?;
    Ok(Bridge { index: bridge.index, mtu })
}

fn default_mtu(links: &mut Links) -> io::Result<u32> {
    let Some(index) = links.default_interface()? else {
        return Ok(DEFAULT_MTU);
    };
    Ok(links.mtu(index)?.unwrap_or(DEFAULT_MTU))
}

fn make_bridge(links: &mut Links, config: &PodNetworkConfig, mtu: u32) -> Result<Link> {
    let failed = |source| Error::Kernel { doing: format!("make the bridge {}", config.bridge), source };
    let mac = names::mac(config.gateway());
    let found = match links.find(&config.bridge).map_err(failed)? {
        Some(link) => link,
        None => {
            links.add_bridge(&config.bridge, mac, mtu).map_err(failed)?;
            links
                .find(&config.bridge)
                .map_err(failed)?
                .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?
        }
    };
    if !found.is_bridge {
        return Err(Error::Config {
            what: "bridge",
            value: config.bridge.clone(),
            problem: "is the name of an interface that is no bridge: rename it, or choose another name"
                .to_owned(),
        });
    }
    if found.mtu != mtu {
        links.set_mtu(found.index, mtu).map_err(failed)?;
    }
    if !found.up {
        links.set_up(found.index).map_err(failed)?;
    }
    Ok(found)
}

/// The gateway is the bridge's only address with a network; those with `/32` are of
/// [`super::PodNetwork::add_address`].
fn set_addresses(links: &mut Links, config: &PodNetworkConfig, index: u32) -> io::Result<()> {
    let wanted = (config.gateway(), config.pod_cidr.prefix());
    let mut there = false;
    for (address, prefix) in links.addresses(index)? {
        if (address, prefix) == wanted {
            there = true;
        } else if prefix != 32 {
            links.delete_address(index, address, prefix)?;
        }
    }
    if !there {
        links.add_address(index, wanted.0, wanted.1)?;
    }
    Ok(())
}

fn set_parameters(bridge: &str) -> Result<()> {
    sysctl::set("ipv4/ip_forward", "1")?;
    // Pods talk to each other through this machine although they are neighbours: that is meant, and
    // redirects would use up what the kernel allows itself in ICMP errors. Redirects are sent if
    // `all` or the interface says so: other interfaces go on as their own parameter says.
    for scope in ["all", bridge] {
        sysctl::set(&format!("ipv4/conf/{scope}/send_redirects"), "0")?;
    }
    // Answers to node ports used at 127.0.0.1 come in here; the table keeps pods from using it.
    sysctl::set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")
}
