//! Links, addresses and routes by rtnetlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage as Route;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope};
use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};

use super::Cidr;
use super::netlink::{CREATE, EXCL, Socket};

/// `RTNLGRP_LINK`.
pub const GROUP_LINK: u32 = 1;
/// Longest wait for a carrier.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What this module asks of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// It is a bridge.
    pub is_bridge: bool,
    /// It is set up.
    pub up: bool,
    /// It passes packets: the kernel has seen its carrier and made its queue.
    pub passes: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
}

/// A pair of interfaces to be made.
#[derive(Clone, Debug)]
pub struct VethSpec<'a> {
    /// Name of the host's end.
    pub host_name: &'a str,
    /// Index of the bridge it joins.
    pub bridge: u32,
    /// Group of the host's end, by which all are removed at once.
    pub group: u32,
    /// Name of the pod's end.
    pub pod_name: &'a str,
    /// Hardware address of the pod's end.
    pub pod_mac: [u8; 6],
    /// The pod's network namespace.
    pub netns: RawFd,
    /// MTU of both in bytes.
    pub mtu: u32,
}

/// rtnetlink of one network namespace.
#[derive(Debug)]
pub struct Links(Socket);

impl Links {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        Socket::open(NETLINK_ROUTE).map(Self)
    }

    /// The link of this name.
    pub fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        let wanted = LinkUnspec::new_with_name(name).build();
        Ok(self.0.get_typed(&Route::GetLink(wanted))?.and_then(|answer| match answer {
            Route::NewLink(message) => Some(read_link(&message)),
            _ => None,
        }))
    }

    /// Makes a bridge with this hardware address, up.
    pub fn add_bridge(&mut self, name: &str, mac: [u8; 6], mtu: u32) -> io::Result<()> {
        let message = LinkBridge::new(name).address(mac.to_vec()).mtu(mtu).up().build();
        self.0.request_typed(CREATE | EXCL, &Route::NewLink(message))
    }

    /// Sets a link up.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.0.request_typed(0, &Route::SetLink(message))
    }

    /// Changes a link's MTU.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
        self.0.request_typed(0, &Route::SetLink(message))
    }

    /// Makes a pair of interfaces: one end on the bridge with hairpin, up, the other as in
    /// the spec. The pod's end cannot be up before it has a peer: that is for the caller to do.
    pub fn add_veth(&mut self, spec: &VethSpec<'_>) -> io::Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::default()
            .name(spec.pod_name)
            .address(spec.pod_mac.to_vec())
            .mtu(spec.mtu)
            .setns_by_fd(spec.netns)
            .build();
        let message = LinkVeth::new(spec.host_name, spec.pod_name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .mtu(spec.mtu)
            .controller(spec.bridge)
            .link_group(spec.group)
            .up()
            .build();
        self.0.request_typed(CREATE | EXCL, &Route::NewLink(message))?;
        let index = self.find(spec.host_name)?.ok_or(io::ErrorKind::NotFound)?.index;
        self.set_hairpin(index)
    }

    /// Makes a link a port of a bridge, as [`Self::add_veth`] does.
    pub fn add_port(&mut self, index: u32, bridge: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(index).controller(bridge).up().build();
        self.0.request_typed(0, &Route::SetLink(message))?;
        self.set_hairpin(index)
    }

    fn set_hairpin(&mut self, index: u32) -> io::Result<()> {
        let port = LinkBridgePort::new(index).hairpin(true).build();
        self.0.request_typed(0, &Route::NewLink(port))
    }

    /// Waits until links pass packets. The kernel notices a carrier a little later, and drops packets
    /// until then: a client's first one would be lost, and sent again only after a second. After that
    /// time there is no use in waiting any longer.
    pub fn wait_until_passing(&mut self, names: &[&str]) -> io::Result<()> {
        if self.all_pass(names)? {
            return Ok(());
        }
        let events = Socket::subscribe(NETLINK_ROUTE, GROUP_LINK, LONGEST_WAIT)?;
        let deadline = Instant::now() + LONGEST_WAIT;
        while !self.all_pass(names)? && Instant::now() < deadline {
            match events.receive() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Too many: what there is now is asked for anyway.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(e) => return Err(e),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn all_pass(&mut self, names: &[&str]) -> io::Result<bool> {
        for name in names {
            if !self.find(name)?.is_some_and(|link| link.passes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the link of this name; false if there is none.
    pub fn delete(&mut self, name: &str) -> io::Result<bool> {
        self.delete_message(LinkUnspec::new_with_name(name).build())
    }

    /// Removes all links of a group in one go; false if there is none.
    pub fn delete_group(&mut self, group: u32) -> io::Result<bool> {
        self.delete_message(LinkMessageBuilder::<LinkUnspec>::default().link_group(group).build())
    }

    fn delete_message(&mut self, message: LinkMessage) -> io::Result<bool> {
        match self.0.request_typed(0, &Route::DelLink(message)) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The IPv4 addresses of a link, with their prefixes.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let request = AddressMessageBuilder::<Ipv4Addr>::new().build();
        let answers = self.0.dump_typed(&Route::GetAddress(request))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                Route::NewAddress(m) if m.header.index == index => {
                    Some((local_address(&m)?, m.header.prefix_len))
                }
                _ => None,
            })
            .collect())
    }

    /// Gives a link an address. Fails if it has it.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
        self.0.request_typed(CREATE | EXCL, &Route::NewAddress(message))
    }

    /// Takes an address from a link.
    pub fn delete_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
        self.0.request_typed(0, &Route::DelAddress(message))
    }

    /// Makes a route to a network that is reached on the link itself, with a source address.
    /// Nothing happens if it is there.
    pub fn add_link_route(&mut self, index: u32, to: Cidr, source: Option<Ipv4Addr>) -> io::Result<()> {
        let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.base(), to.prefix())
            .output_interface(index)
            .scope(RouteScope::Link);
        if let Some(source) = source {
            builder = builder.pref_source(source);
        }
        self.add_route(builder.build())
    }

    /// Makes the default route. Nothing happens if it is there.
    pub fn add_default_route(&mut self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        self.add_route(
            RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).onlink().build(),
        )
    }

    fn add_route(&mut self, message: RouteMessage) -> io::Result<()> {
        match self.0.request_typed(CREATE | EXCL, &Route::NewRoute(message)) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Index of the interface of the default route.
    pub fn default_interface(&mut self) -> io::Result<Option<u32>> {
        let request = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes = self.0.dump_typed(&Route::GetRoute(request))?;
        Ok(routes.into_iter().find_map(|route| match route {
            Route::NewRoute(m) if m.header.destination_prefix_length == 0 && has_gateway(&m) => {
                m.attributes.iter().find_map(|a| match a {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                })
            }
            _ => None,
        }))
    }

    /// MTU of the link with this index.
    pub fn mtu(&mut self, index: u32) -> io::Result<Option<u32>> {
        let wanted = LinkUnspec::new_with_index(index).build();
        Ok(self.0.get_typed(&Route::GetLink(wanted))?.and_then(|answer| match answer {
            Route::NewLink(message) => Some(read_link(&message).mtu),
            _ => None,
        }))
    }
}

fn has_gateway(route: &RouteMessage) -> bool {
    route.attributes.iter().any(|a| matches!(a, RouteAttribute::Gateway(RouteAddress::Inet(_))))
}

fn local_address(message: &AddressMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })
}

fn read_link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        is_bridge: false,
        up: message.header.flags.contains(LinkFlags::Up),
        passes: false,
        mtu: 0,
        mac: Vec::new(),
        controller: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::OperState(state) => link.passes = *state == State::Up,
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::LinkInfo(infos) => {
                link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
            }
            _ => {}
        }
    }
    link
}
