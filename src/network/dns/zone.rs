//! The cluster domain: records as the Kubernetes DNS specification has them, version 1.1.0.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::names::{Node, PortFilter, ServiceName, find, host_label, labels_below};
use super::table::{DnsEndpoint, DnsPort, DnsService, DnsTable};

/// Seconds an answer may be kept; kube-dns' and CoreDNS' default.
const TTL: u32 = 5;
/// The version of the specification that is served.
const VERSION: &str = "1.1.0";

/// What the cluster domain says to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Records, and further ones that spare the client a question.
    Records(Vec<Record>, Vec<Record>),
    /// The name is another name of this one, which may be outside the domain.
    Alias(Box<Record>, Name),
    /// The name is there, but has no such records.
    NoData,
    /// There is no such name.
    NoName,
    /// The name is not in the domain.
    Foreign,
}

/// The cluster domain.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Name,
    /// Addresses of the domain's own name server.
    servers: Vec<IpAddr>,
}

impl Zone {
    /// The zone of `domain`, whose name server is at `servers`.
    pub fn new(domain: Name, servers: Vec<IpAddr>) -> Self {
        Self { domain, servers }
    }

    /// Answers a question from `table`.
    pub fn answer(&self, table: &DnsTable, name: &Name, kind: RecordType) -> Answer {
        if let Some(labels) = labels_below(&self.domain, name) {
            return match find(table, &labels) {
                Some(node) => self.records(name, kind, node),
                None => Answer::NoName,
            };
        }
        match name.parse_arpa_name() {
            Ok(net) if is_whole_address(name, net.addr()) => self.pointers(table, name, kind, net.addr()),
            _ => Answer::Foreign,
        }
    }

    /// The record that says for how long a negative answer may be kept.
    pub fn soa(&self) -> Record {
        let server = self.name(&["ns", "dns"]);
        let mailbox = self.name(&["hostmaster"]);
        Record::from_rdata(
            self.domain.clone(),
            TTL,
            RData::SOA(SOA::new(server, mailbox, 1, 7200, 1800, 86400, TTL)),
        )
    }

    fn records(&self, name: &Name, kind: RecordType, node: Node<'_>) -> Answer {
        let answers = match (node, kind) {
            (Node::Apex, RecordType::SOA) => vec![self.soa()],
            (Node::Apex, RecordType::NS) => {
                vec![record(name, RData::NS(NS(self.name(&["ns", "dns"]))))]
            }
            (Node::NameServer, _) => addresses(name, kind, self.servers.iter().copied()),
            (Node::Version, RecordType::TXT) => {
                vec![record(name, RData::TXT(TXT::new(vec![VERSION.to_owned()])))]
            }
            (Node::Pod(address), _) => addresses(name, kind, [address]),
            (Node::Endpoints(endpoints), _) => addresses(name, kind, endpoints.iter().map(|e| e.address)),
            (Node::Port(which, service, filter), RecordType::SRV) => {
                return self.services(name, &which, service, Some(&filter));
            }
            (Node::Service(which, service), _) => return self.service(name, kind, &which, service),
            _ => Vec::new(),
        };
        if answers.is_empty() { Answer::NoData } else { Answer::Records(answers, Vec::new()) }
    }

    fn service(&self, name: &Name, kind: RecordType, which: &ServiceName, service: &DnsService) -> Answer {
        let answers = match service {
            DnsService::ExternalName(target) => {
                let Ok(mut target) = Name::from_utf8(target) else {
                    return Answer::NoName;
                };
                target.set_fqdn(true);
                let alias = record(name, RData::CNAME(CNAME(target.clone())));
                return Answer::Alias(Box::new(alias), target);
            }
            _ if kind == RecordType::SRV => return self.services(name, which, service, None),
            DnsService::ClusterIp { addresses: ips, .. } => addresses(name, kind, ips.iter().copied()),
            DnsService::Headless { endpoints } => {
                let unique: BTreeSet<_> = endpoints.iter().map(|e| e.address).collect();
                addresses(name, kind, unique)
            }
        };
        if answers.is_empty() { Answer::NoData } else { Answer::Records(answers, Vec::new()) }
    }

    /// SRV records of the ports that are meant, and the addresses of what they name.
    fn services(
        &self,
        name: &Name,
        which: &ServiceName,
        service: &DnsService,
        filter: Option<&PortFilter>,
    ) -> Answer {
        let meant = |port: &&DnsPort| filter.is_none_or(|f| f.matches(port));
        let mut targets: Vec<(Name, u16)> = Vec::new();
        let mut extra = Vec::new();
        match service {
            DnsService::ClusterIp { addresses: ips, ports } => {
                let target = self.service_name(which);
                targets.extend(ports.iter().filter(meant).map(|port| (target.clone(), port.port)));
                extra.extend(all_addresses(&target, ips.iter().copied()));
            }
            DnsService::Headless { endpoints } => {
                for endpoint in endpoints {
                    let target = self.endpoint_name(which, endpoint);
                    let before = targets.len();
                    targets
                        .extend(endpoint.ports.iter().filter(meant).map(|port| (target.clone(), port.port)));
                    if targets.len() > before {
                        extra.extend(all_addresses(&target, [endpoint.address]));
                    }
                }
            }
            DnsService::ExternalName(_) => {}
        }
        targets.dedup();
        let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(1).max(1);
        let answers: Vec<_> = targets
            .into_iter()
            .map(|(target, port)| record(name, RData::SRV(SRV::new(0, weight, port, target))))
            .collect();
        if answers.is_empty() { Answer::NoData } else { Answer::Records(answers, extra) }
    }

    /// PTR records: the Services with this cluster address, and the endpoints with a hostname.
    fn pointers(&self, table: &DnsTable, name: &Name, kind: RecordType, address: IpAddr) -> Answer {
        let mut targets = Vec::new();
        for (namespace, services) in &table.services {
            for (service_name, service) in services {
                let which = || ServiceName { namespace: namespace.clone(), name: service_name.clone() };
                match service {
                    DnsService::ClusterIp { addresses, .. } if addresses.contains(&address) => {
                        targets.push(self.service_name(&which()));
                    }
                    DnsService::Headless { endpoints } => {
                        let named = endpoints.iter().filter(|e| e.address == address && e.hostname.is_some());
                        targets.extend(named.map(|e| self.endpoint_name(&which(), e)));
                    }
                    _ => {}
                }
            }
        }
        match (targets.is_empty(), kind) {
            (true, _) => Answer::Foreign,
            (false, RecordType::PTR) => {
                let records = targets.into_iter().map(|target| record(name, RData::PTR(PTR(target))));
                Answer::Records(records.collect(), Vec::new())
            }
            (false, _) => Answer::NoData,
        }
    }

    fn service_name(&self, which: &ServiceName) -> Name {
        self.name(&[&which.name, &which.namespace, "svc"])
    }

    fn endpoint_name(&self, which: &ServiceName, endpoint: &DnsEndpoint) -> Name {
        self.name(&[&host_label(endpoint), &which.name, &which.namespace, "svc"])
    }

    /// The name of these labels below the domain; the domain itself if that is too long to be a name.
    fn name(&self, labels: &[&str]) -> Name {
        let front = Name::from_labels(labels.iter().map(|label| label.as_bytes()));
        front.and_then(|front| front.append_domain(&self.domain)).unwrap_or_else(|_| self.domain.clone())
    }
}

/// Names of fewer labels stand for networks.
fn is_whole_address(name: &Name, address: IpAddr) -> bool {
    usize::from(name.num_labels()) == if address.is_ipv4() { 6 } else { 34 }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

/// A or AAAA records, whichever are asked for.
fn addresses(name: &Name, kind: RecordType, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Record> {
    all_addresses(name, addresses).filter(|r| r.record_type() == kind).collect()
}

fn all_addresses(name: &Name, addresses: impl IntoIterator<Item = IpAddr>) -> impl Iterator<Item = Record> {
    addresses.into_iter().map(|address| match address {
        IpAddr::V4(v4) => record(name, RData::A(A(v4))),
        IpAddr::V6(v6) => record(name, RData::AAAA(AAAA(v6))),
    })
}

#[cfg(test)]
mod tests;
