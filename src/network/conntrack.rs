//! Connection tracking: entries that lead UDP clients to where nothing answers any more.

use std::io;
use std::net::Ipv4Addr;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink::{Attrs, Socket, nested};

/// Message types of the connection tracking subsystem.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;
/// Fields of a tuple a filter compares.
const FILTER_DESTINATION: u32 = 1 << 1;
const FILTER_PROTOCOL: u32 = 1 << 3;
const FILTER_PORT: u32 = 1 << 5;
const UDP: u8 = 17;
/// Length of `struct nfgenmsg`.
const HEADER: usize = 4;

/// Where UDP clients send to, and who may answer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpFrontend {
    /// The address; `None`: every address of this machine.
    pub address: Option<Ipv4Addr>,
    /// The port.
    pub port: u16,
    /// Endpoints that may go on.
    pub live: Vec<Ipv4Addr>,
}

/// Removes the entries of clients of these frontends that lead elsewhere than to a live endpoint, so
/// that their next datagram finds one. TCP needs none of this: its clients are told by a reset. A
/// kernel without this interface is no failure of the caller: the entries end by themselves later.
pub fn remove_stale(frontends: &[UdpFrontend]) {
    if frontends.is_empty() {
        return;
    }
    match try_remove_stale(frontends) {
        Ok(removed) => tracing::debug!(removed, "removed connection tracking entries"),
        Err(error) => {
            tracing::warn!(%error, "cannot remove connection tracking entries of gone UDP endpoints");
        }
    }
}

fn try_remove_stale(frontends: &[UdpFrontend]) -> io::Result<usize> {
    let mut socket = Socket::open(NETLINK_NETFILTER)?;
    let mut removed = 0;
    for frontend in frontends {
        for message in socket.dump(GET, &request(frontend))? {
            let Some(entry) = message.payload.get(HEADER..) else {
                continue;
            };
            let Some(original) = nested(entry, TUPLE_ORIGINAL) else {
                continue;
            };
            if !is_stale(frontend, original, nested(entry, TUPLE_REPLY)) {
                continue;
            }
            let mut body = header();
            body.nest(TUPLE_ORIGINAL, |t| t.extend_from_slice(original));
            match socket.request(DELETE, 0, &body) {
                Ok(()) => removed += 1,
                // It ended by itself.
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(removed)
}

fn header() -> Vec<u8> {
    vec![libc::AF_INET as u8, 0, 0, 0]
}

/// Asks for the entries of a frontend. Kernels before 5.8 give all: the answers are checked anyway.
fn request(frontend: &UdpFrontend) -> Vec<u8> {
    let mut flags = FILTER_PROTOCOL | FILTER_PORT;
    if frontend.address.is_some() {
        flags |= FILTER_DESTINATION;
    }
    let mut body = header();
    body.nest(TUPLE_ORIGINAL, |tuple| {
        if let Some(address) = frontend.address {
            tuple.nest(1, |ip| {
                ip.bytes(2, &address.octets());
            });
        }
        tuple.nest(2, |proto| {
            proto.bytes(1, &[UDP]).bytes(3, &frontend.port.to_be_bytes());
        });
    });
    body.nest(FILTER, |filter| {
        filter.bytes(1, &flags.to_ne_bytes()).bytes(2, &0u32.to_ne_bytes());
    });
    body
}

/// Whether an entry is of this frontend and its answers come from none of the live endpoints.
fn is_stale(frontend: &UdpFrontend, original: &[u8], reply: Option<&[u8]>) -> bool {
    let Some(original) = Tuple::read(original) else {
        return false;
    };
    let Some(reply) = reply.and_then(Tuple::read) else {
        return false;
    };
    original.protocol == UDP
        && original.port == frontend.port
        && frontend.address.is_none_or(|address| address == original.destination)
        // What pods send to this port of other machines, with our address as their source, goes on.
        && !(reply.source == original.destination && reply.destination != original.source)
        && !frontend.live.contains(&reply.source)
}

struct Tuple {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    port: u16,
}

impl Tuple {
    fn read(bytes: &[u8]) -> Option<Self> {
        let ip = nested(bytes, 1)?;
        let proto = nested(bytes, 2)?;
        let address = |kind| nested(ip, kind)?.try_into().ok().map(|a: [u8; 4]| Ipv4Addr::from(a));
        Some(Self {
            source: address(1)?,
            destination: address(2)?,
            protocol: *nested(proto, 1)?.first()?,
            port: u16::from_be_bytes(nested(proto, 3)?.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: [u8; 4], destination: [u8; 4], protocol: u8, port: u16) -> Vec<u8> {
        let mut out = Vec::new();
        out.nest(1, |ip| {
            ip.bytes(1, &source).bytes(2, &destination);
        });
        out.nest(2, |proto| {
            proto.bytes(1, &[protocol]).bytes(2, &[0, 9]).bytes(3, &port.to_be_bytes());
        });
        out
    }

    #[test]
    fn only_entries_to_gone_endpoints_are_stale() {
        const CLIENT: [u8; 4] = [10, 42, 0, 9];
        const VIP: [u8; 4] = [10, 43, 0, 1];
        let frontend =
            UdpFrontend { address: Some(VIP.into()), port: 53, live: vec![Ipv4Addr::new(10, 42, 0, 2)] };
        let original = tuple(CLIENT, VIP, UDP, 53);
        let answered_by = |pod: u8| tuple([10, 42, 0, pod], CLIENT, UDP, 1);
        assert!(is_stale(&frontend, &original, Some(&answered_by(3))));
        assert!(!is_stale(&frontend, &original, Some(&answered_by(2))));
        assert!(is_stale(&frontend, &original, Some(&tuple(VIP, CLIENT, UDP, 1))), "never led anywhere");
        assert!(!is_stale(&frontend, &tuple(CLIENT, VIP, 6, 53), Some(&answered_by(3))), "TCP");
        assert!(!is_stale(&frontend, &tuple(CLIENT, VIP, UDP, 54), Some(&answered_by(3))), "another port");
        assert!(!is_stale(&frontend, &tuple(CLIENT, [10, 43, 0, 2], UDP, 53), Some(&answered_by(3))));
        assert!(!is_stale(&frontend, &original, None));
        let node_port = UdpFrontend { address: None, ..frontend };
        let passing_by = tuple(CLIENT, [192, 0, 2, 9], UDP, 53);
        let masqueraded = tuple([192, 0, 2, 9], [192, 0, 2, 1], UDP, 1);
        assert!(!is_stale(&node_port, &passing_by, Some(&masqueraded)));
        assert!(is_stale(&node_port, &original, Some(&answered_by(3))));
    }
}
