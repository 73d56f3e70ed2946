//! The nf_tables table of the pod network: masquerade, host ports, protection of `127.0.0.1`.

use std::net::{IpAddr, Ipv4Addr};

use super::{Attachment, PodNetworkConfig};
use crate::network::Cidr;
use crate::network::conntrack::UdpFrontend;
use crate::network::nft::{Base, Batch, Data, Expr, Hook, Reg, Rule, SetSpec, Verdict, types};
use crate::network::table::Protocol;

/// From address, protocol and port of this machine to address and port of a pod. The address
/// 0.0.0.0 stands for every address of this machine.
const HOST_PORTS: SetSpec = SetSpec {
    name: "host-ports",
    key: &[types::ADDRESS, types::PROTOCOL, types::SERVICE],
    data: &[types::ADDRESS, types::SERVICE],
    dynamic: false,
};

/// Pods that may reach themselves through a host port.
const HAIRPIN: SetSpec =
    SetSpec { name: "hairpin", key: &[types::ADDRESS, types::ADDRESS], data: &[], dynamic: false };

const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;

/// Writes the whole table, in the place of one that may be there.
pub fn replace<'a>(config: &PodNetworkConfig, attachments: impl Iterator<Item = &'a Attachment>) -> Batch {
    let mut batch = Batch::new(&config.nft_table);
    // Deleting fails on a table that is not there; adding does not on one that is.
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    batch.add_set(&HOST_PORTS);
    batch.add_set(&HAIRPIN);
    add_chains(&mut batch, config);
    for attachment in attachments {
        add_host_ports(&mut batch, attachment);
    }
    batch
}

/// The table that [`replace`] makes is removed.
pub fn remove(table: &str) -> Batch {
    let mut batch = Batch::new(table);
    batch.add_table();
    batch.delete_table();
    batch
}

fn add_chains(batch: &mut Batch, config: &PodNetworkConfig) {
    let loopback = Cidr::new(Ipv4Addr::LOCALHOST, 8).expect("8 is a prefix");
    let multicast = Cidr::new(Ipv4Addr::new(224, 0, 0, 0), 4).expect("4 is a prefix");
    let chain = |batch: &mut Batch, name, kind, hook, priority| {
        batch.add_chain(name, Some(Base { kind, hook, priority }));
    };
    chain(batch, "protect-loopback", "filter", Hook::Prerouting, RAW);
    for rule in [
        Rule::new().interface(false, &config.bridge, true).destination_in(loopback, true),
        Rule::new().interface(false, &config.bridge, true).source_in(loopback, true),
    ] {
        batch.add_rule("protect-loopback", &rule.verdict(Verdict::Drop));
    }
    batch.add_chain("host-ports", None);
    batch.add_rule("host-ports", &lead_to_pod(Rule::new().destination(Reg(4))));
    batch.add_rule("host-ports", &lead_to_pod(Rule::new().destination(Reg(4)).zero(Reg(4))));
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        chain(batch, name, "nat", hook, DESTINATION_NAT);
        batch.add_rule(name, &Rule::new().local(false, true).verdict(Verdict::Jump("host-ports".to_owned())));
    }
    chain(batch, "postrouting", "nat", Hook::Postrouting, SOURCE_NAT);
    for rule in [
        // A pod cannot answer to 127.0.0.1.
        Rule::new().interface(true, &config.bridge, true).source_in(loopback, true),
        Rule::new().source(Reg(4)).destination(Reg(5)).then(Expr::InSet { set: HAIRPIN.name, key: Reg(4) }),
        Rule::new()
            .source_in(config.pod_cidr, true)
            .destination_in(config.cluster_cidr, false)
            .destination_in(multicast, false)
            .interface(true, &config.bridge, false),
    ] {
        batch.add_rule("postrouting", &rule.then(Expr::Masquerade));
    }
}

/// `address` loads register 4; the rest of the key and the way to the pod follow.
fn lead_to_pod(address: Rule) -> Rule {
    address
        .protocol_and_port(Reg(5))
        .then(Expr::Map { map: HOST_PORTS.name, key: Reg(4), to: Reg(8) })
        .then(Expr::Dnat { address: Reg(8), port: Reg(9) })
}

/// Adds the host ports of a sandbox.
pub fn add_host_ports(batch: &mut Batch, attachment: &Attachment) {
    let elements = host_ports(attachment);
    if !elements.is_empty() {
        batch.add_elements(HOST_PORTS.name, &elements);
        batch.add_elements(HAIRPIN.name, &[hairpin(attachment)]);
    }
}

/// Removes the host ports of a sandbox.
pub fn delete_host_ports(batch: &mut Batch, attachment: &Attachment) {
    let elements = host_ports(attachment);
    if !elements.is_empty() {
        batch.delete_elements(HOST_PORTS.name, &elements);
        batch.delete_elements(HAIRPIN.name, &[hairpin(attachment)]);
    }
}

fn hairpin(attachment: &Attachment) -> (Vec<u8>, Data) {
    let octets = attachment.address.octets();
    ([octets, octets].concat(), Data::None)
}

fn host_ports(attachment: &Attachment) -> Vec<(Vec<u8>, Data)> {
    attachment
        .host_ports
        .iter()
        .filter_map(|port| {
            let IpAddr::V4(host_ip) = port.host_ip else {
                return None;
            };
            let [a, b] = port.host_port.to_be_bytes();
            let key = [host_ip.octets(), [port.protocol.number(), 0, 0, 0], [a, b, 0, 0]].concat();
            let [a, b] = port.container_port.to_be_bytes();
            let to = [attachment.address.octets(), [a, b, 0, 0]].concat();
            Some((key, Data::Value(to)))
        })
        .collect()
}

/// Where UDP clients of a sandbox's host ports send to, and whether its pod may answer.
pub fn udp_frontends(attachment: &Attachment, attached: bool) -> Vec<UdpFrontend> {
    let live = if attached { vec![attachment.address] } else { Vec::new() };
    let udp = attachment.host_ports.iter().filter(|port| port.protocol == Protocol::Udp);
    udp.filter_map(|port| {
        let IpAddr::V4(host_ip) = port.host_ip else {
            return None;
        };
        let address = (!host_ip.is_unspecified()).then_some(host_ip);
        Some(UdpFrontend { address, port: port.host_port, live: live.clone() })
    })
    .collect()
}
