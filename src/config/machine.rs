//! Defaults that only the machine can tell.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use nix::net::if_::InterfaceFlags;

use super::Error;

/// The machine's host name in the form of a node name (RFC 1123 subdomain, lower case).
pub(super) fn node_name() -> Result<String, Error> {
    let name = nix::unistd::gethostname()
        .map_err(|e| Error::Unusable(format!("cannot read the host name: {e}; give --node-name")))?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// The address others reach this machine at: the source address of the default route, else the
/// first address of an interface that is up.
pub(super) fn node_ip(skip_interface: &str) -> Result<IpAddr, Error> {
    // Connecting a UDP socket sends nothing; it asks the kernel for a route (TEST-NET-1, RFC 5737).
    let target = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(target).and_then(|()| socket.local_addr()));
    if let Ok(address) = routed
        && !address.ip().is_loopback()
        && !address.ip().is_unspecified()
    {
        return Ok(address.ip());
    }
    let interfaces = nix::ifaddrs::getifaddrs()
        .map_err(|e| Error::Unusable(format!("cannot list network interfaces: {e}; give --node-ip")))?;
    interfaces
        .filter(|i| {
            i.flags.contains(InterfaceFlags::IFF_UP) && !i.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .filter(|i| i.interface_name != skip_interface)
        .find_map(|i| i.address?.as_sockaddr_in().map(|a| IpAddr::V4(a.ip())))
        .ok_or_else(|| {
            Error::Unusable(
                "no network interface with an IPv4 address is up; bring one up or give --node-ip".into(),
            )
        })
}

/// Bytes of memory.
pub(super) fn memory() -> Result<u64, Error> {
    let info = nix::sys::sysinfo::sysinfo()
        .map_err(|e| Error::Unusable(format!("cannot ask the kernel for the machine's memory: {e}")))?;
    Ok(info.ram_total())
}
