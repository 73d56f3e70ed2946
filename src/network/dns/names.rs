//! Names of the cluster domain, taken apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

use super::table::{DnsEndpoint, DnsPort, DnsService, DnsTable, PodNames};
use crate::network::table::Protocol;

/// What a name below the cluster domain stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// The domain itself.
    Apex,
    /// The host the domain's NS record names.
    NameServer,
    /// `dns-version`.
    Version,
    /// A name that only has names below it.
    Empty,
    /// A Service.
    Service(ServiceName, &'a DnsService),
    /// One endpoint's name, and its addresses.
    Endpoints(Vec<&'a DnsEndpoint>),
    /// A port of a Service: what its SRV records name.
    Port(ServiceName, &'a DnsService, PortFilter),
    /// A pod by its address.
    Pod(IpAddr),
}

/// Which Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Which ports of a Service are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFilter {
    /// The port's name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
}

impl PortFilter {
    /// Whether this port is meant.
    pub fn matches(&self, port: &DnsPort) -> bool {
        port.name == self.name && port.protocol == self.protocol
    }
}

/// The labels of `name` in front of `domain`, in lower case; `None` if it is not in the domain.
pub fn labels_below(domain: &Name, name: &Name) -> Option<Vec<String>> {
    if !domain.zone_of(name) {
        return None;
    }
    let count = usize::from(name.num_labels() - domain.num_labels());
    let labels = name.iter().take(count);
    labels.map(|label| std::str::from_utf8(label).ok().map(str::to_ascii_lowercase)).collect()
}

/// What the labels in front of the cluster domain stand for; `None`: there is no such name.
pub fn find<'a>(table: &'a DnsTable, labels: &[String]) -> Option<Node<'a>> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels[..] {
        [] => Some(Node::Apex),
        ["dns-version"] => Some(Node::Version),
        ["ns", "dns"] => Some(Node::NameServer),
        ["dns" | "svc" | "pod"] | [_, "pod"] => Some(Node::Empty),
        [namespace, "svc"] => table.services.contains_key(namespace).then_some(Node::Empty),
        [pod, namespace, "pod"] => find_pod(table, pod, namespace),
        [ref front @ .., name, namespace, "svc"] => {
            let service = table.services.get(namespace)?.get(name)?;
            let which = ServiceName { namespace: namespace.to_owned(), name: name.to_owned() };
            find_in_service(which, service, front)
        }
        _ => None,
    }
}

fn find_in_service<'a>(which: ServiceName, service: &'a DnsService, front: &[&str]) -> Option<Node<'a>> {
    match *front {
        [] => match service {
            // The specification: no such name while no endpoint is ready.
            DnsService::Headless { endpoints } if endpoints.is_empty() => None,
            _ => Some(Node::Service(which, service)),
        },
        [protocol] if protocol.starts_with('_') => {
            let protocol = parse_protocol(protocol)?;
            all_ports(service).any(|port| port.protocol == protocol).then_some(Node::Empty)
        }
        [host] => {
            let DnsService::Headless { endpoints } = service else {
                return None;
            };
            let found: Vec<_> = endpoints.iter().filter(|e| host_label(e) == host).collect();
            (!found.is_empty()).then_some(Node::Endpoints(found))
        }
        [port, protocol] => {
            let filter =
                PortFilter { name: port.strip_prefix('_')?.to_owned(), protocol: parse_protocol(protocol)? };
            all_ports(service).any(|p| filter.matches(p)).then_some(Node::Port(which, service, filter))
        }
        _ => None,
    }
}

fn find_pod<'a>(table: &DnsTable, label: &str, namespace: &str) -> Option<Node<'a>> {
    let address = parse_dashed(label)?;
    match &table.pods {
        PodNames::Insecure => Some(Node::Pod(address)),
        PodNames::Verified(pods) => pods.get(namespace)?.contains(&address).then_some(Node::Pod(address)),
    }
}

/// `10-42-0-5` or `fd00--5`.
fn parse_dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from)).ok()
}

fn parse_protocol(label: &str) -> Option<Protocol> {
    match label {
        "_tcp" => Some(Protocol::Tcp),
        "_udp" => Some(Protocol::Udp),
        "_sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// The named ports of a Service or its endpoints.
fn all_ports(service: &DnsService) -> impl Iterator<Item = &DnsPort> {
    let (own, endpoints): (&[DnsPort], &[DnsEndpoint]) = match service {
        DnsService::ClusterIp { ports, .. } => (ports, &[]),
        DnsService::Headless { endpoints } => (&[], endpoints),
        DnsService::ExternalName(_) => (&[], &[]),
    };
    own.iter().chain(endpoints.iter().flat_map(|e| &e.ports)).filter(|port| !port.name.is_empty())
}

/// The label of an endpoint below its Service: its hostname, or its address with dashes.
pub fn host_label(endpoint: &DnsEndpoint) -> String {
    endpoint.hostname.as_ref().map_or_else(
        || endpoint.address.to_string().replace(['.', ':'], "-"),
        |name| name.to_ascii_lowercase(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_are_those_in_front_of_the_domain() {
        let domain = Name::from_ascii("cluster.local.").expect("valid");
        let labels = |name: &str| labels_below(&domain, &Name::from_ascii(name).expect("valid"));
        assert_eq!(
            labels("Web.Default.svc.CLUSTER.local."),
            Some(vec!["web".into(), "default".into(), "svc".into()])
        );
        assert_eq!(labels("cluster.local."), Some(Vec::new()));
        assert_eq!(labels("xcluster.local."), None);
        assert_eq!(labels("local."), None);
    }

    #[test]
    fn dashed_addresses_of_both_families() {
        assert_eq!(parse_dashed("10-42-0-5"), Some("10.42.0.5".parse().expect("valid")));
        assert_eq!(parse_dashed("fd00--5"), Some("fd00::5".parse().expect("valid")));
        assert_eq!(parse_dashed("web-0"), None);
        assert_eq!(parse_dashed(""), None);
    }

    proptest! {
        #[test]
        fn every_endpoint_is_found_by_its_label(octets: [u8; 4], hostname in prop::option::of("[a-z][a-z0-9]{0,8}")) {
            let endpoint = DnsEndpoint { address: octets.into(), hostname, ports: Vec::new() };
            let label = host_label(&endpoint);
            let service = DnsService::Headless { endpoints: vec![endpoint.clone()] };
            let which = ServiceName { namespace: "a".into(), name: "b".into() };
            prop_assert_eq!(
                find_in_service(which, &service, &[&label]),
                Some(Node::Endpoints(vec![&endpoint]))
            );
        }
    }
}
