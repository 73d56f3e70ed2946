//! What one address, protocol and port needs in the sets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::layout::{Balancer, Chain, LOCAL_INDEX, Masquerade, Memory, Set};
use crate::network::nft::{Data, Verdict};
use crate::network::table::{Protocol, ServiceEndpoint, ServicePort};

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// The address; unspecified: every address of this machine.
    pub address: Ipv4Addr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl Frontend {
    /// It is a node port.
    pub fn is_node_port(&self) -> bool {
        self.address.is_unspecified()
    }

    /// Address, protocol and port as the kernel's keys have them.
    pub fn key(&self) -> Vec<u8> {
        [self.address.octets(), [self.protocol.number(), 0, 0, 0], port_field(self.port)].concat()
    }
}

/// Everything a frontend puts into the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Elements of the sets, sorted.
    pub elements: BTreeSet<(Set, Vec<u8>, Data)>,
    /// Chains its elements lead to, once for each.
    pub chains: Vec<Chain>,
    /// Addresses of pods of this node behind it.
    pub hairpins: BTreeSet<Ipv4Addr>,
}

/// The frontends of a Service port: cluster addresses, external addresses, node port.
pub fn frontends(port: &ServicePort) -> impl Iterator<Item = Frontend> + '_ {
    let protocol = port.protocol;
    let addresses = port.cluster_ips.iter().chain(&port.external_ips);
    addresses
        .filter_map(move |address| match address {
            IpAddr::V4(address) => Some(Frontend { address: *address, protocol, port: port.port }),
            IpAddr::V6(_) => None,
        })
        .chain(port.node_port.map(|number| Frontend {
            address: Ipv4Addr::UNSPECIFIED,
            protocol,
            port: number,
        }))
}

/// The endpoints a frontend leads pods and this machine to.
pub fn endpoints_of<'a>(frontend: &Frontend, port: &'a ServicePort) -> Vec<&'a ServiceEndpoint> {
    let only_local = port.internal_local && is_cluster_ip(frontend, port);
    port.endpoints.iter().filter(|e| e.address.is_ipv4() && (e.local || !only_local)).collect()
}

fn is_cluster_ip(frontend: &Frontend, port: &ServicePort) -> bool {
    !frontend.is_node_port() && port.cluster_ips.contains(&frontend.address.into())
}

/// Compiles one frontend of a Service port.
pub fn compile(frontend: &Frontend, port: &ServicePort) -> Compiled {
    let mut out = Compiled::default();
    let key = frontend.key();
    if !port.endpoints.iter().any(|e| e.address.is_ipv4()) {
        out.elements.insert((Set::Rejected, key, Data::None));
        return out;
    }
    let internal = is_cluster_ip(frontend, port);
    out.remember(frontend, port, internal);
    let endpoints = endpoints_of(frontend, port);
    let masquerade = if internal || port.external_local { Masquerade::Outside } else { Masquerade::Always };
    out.lead(Set::Services, frontend, port, masquerade, &endpoints);
    if !internal && port.external_local {
        let local: Vec<_> = endpoints.into_iter().filter(|e| e.local).collect();
        out.lead(Set::External, frontend, port, Masquerade::Never, &local);
    }
    out
}

impl Compiled {
    /// Lets clients stick; external addresses whose clients do not must not be taken for node ports.
    fn remember(&mut self, frontend: &Frontend, port: &ServicePort, internal: bool) {
        let data = if let Some(seconds) = port.affinity_seconds {
            let memory = Chain::Memory(Memory { any_address: frontend.is_node_port(), seconds });
            self.chains.push(memory);
            memory.verdict()
        } else if !internal && !frontend.is_node_port() {
            Data::Verdict(Verdict::Return)
        } else {
            return;
        };
        self.elements.insert((Set::Remembered, frontend.key(), data));
    }

    /// Leads what `map` finds to one of `endpoints`, or drops it if there is none.
    fn lead(
        &mut self,
        map: Set,
        frontend: &Frontend,
        port: &ServicePort,
        masquerade: Masquerade,
        endpoints: &[&ServiceEndpoint],
    ) {
        let key = frontend.key();
        if endpoints.is_empty() {
            self.elements.insert((map, key, Data::Verdict(Verdict::Drop)));
            return;
        }
        let local = map == Set::External;
        let balancer = Chain::Balancer(Balancer {
            endpoints: u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
            any_address: frontend.is_node_port(),
            local,
            masquerade,
            sticky: port.affinity_seconds.is_some(),
        });
        self.elements.insert((map, key.clone(), balancer.verdict()));
        self.chains.push(balancer);
        let first = if local { LOCAL_INDEX } else { 0 };
        for (index, endpoint) in (first..).zip(endpoints) {
            let IpAddr::V4(address) = endpoint.address else {
                continue;
            };
            let to = endpoint_datum(address, endpoint.port);
            let with_index = [key.as_slice(), &index.to_ne_bytes()].concat();
            self.elements.insert((Set::Endpoints, with_index, Data::Value(to)));
            if endpoint.local {
                self.hairpins.insert(address);
            }
        }
    }
}

/// An endpoint as the kernel's data have it.
pub fn endpoint_datum(address: Ipv4Addr, port: u16) -> Vec<u8> {
    [address.octets(), port_field(port)].concat()
}

fn port_field(port: u16) -> [u8; 4] {
    let [a, b] = port.to_be_bytes();
    [a, b, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> ServicePort {
        let endpoint = |n: u8, local| ServiceEndpoint { address: [10, 42, 0, n].into(), port: 8080, local };
        ServicePort {
            protocol: Protocol::Tcp,
            cluster_ips: vec![[10, 43, 0, 1].into(), "fd00::1".parse().expect("valid")],
            port: 80,
            node_port: Some(30080),
            external_ips: vec![[192, 0, 2, 1].into()],
            affinity_seconds: None,
            internal_local: false,
            external_local: false,
            endpoints: vec![endpoint(2, true), endpoint(3, false)],
        }
    }

    /// Set and chain of what is looked up first for each frontend: cluster, external, node port.
    fn verdicts(port: &ServicePort) -> Vec<Vec<(Set, String)>> {
        frontends(port)
            .map(|f| {
                compile(&f, port)
                    .elements
                    .into_iter()
                    .filter(|(set, ..)| *set != Set::Remembered)
                    .filter_map(|(set, _, data)| match data {
                        Data::Verdict(Verdict::Goto(chain)) => Some((set, chain)),
                        Data::Verdict(_) => Some((set, "drop".to_owned())),
                        Data::None => Some((set, "present".to_owned())),
                        Data::Value(_) => None,
                    })
                    .collect()
            })
            .collect()
    }

    fn on(set: Set, chain: &str) -> (Set, String) {
        (set, chain.to_owned())
    }

    #[test]
    fn cluster_addresses_keep_pods_and_others_masquerade() {
        use Set::Services;
        assert_eq!(
            verdicts(&port()),
            [
                vec![on(Services, "address-cluster-2")],
                vec![on(Services, "address-masquerade-2")],
                vec![on(Services, "node-masquerade-2")]
            ]
        );
    }

    #[test]
    fn external_policy_local_keeps_clients_and_uses_this_node() {
        use Set::{External, Services};
        let port = ServicePort { external_local: true, ..port() };
        assert_eq!(
            verdicts(&port),
            [
                vec![on(Services, "address-cluster-2")],
                vec![on(Services, "address-cluster-2"), on(External, "address-keep-local-1")],
                vec![on(Services, "node-cluster-2"), on(External, "node-keep-local-1")],
            ]
        );
    }

    #[test]
    fn without_a_local_endpoint_the_local_policies_drop() {
        use Set::{External, Services};
        let mut port = ServicePort { external_local: true, internal_local: true, ..port() };
        port.endpoints.remove(0);
        assert_eq!(
            verdicts(&port),
            [
                vec![on(Services, "drop")],
                vec![on(Services, "address-cluster-1"), on(External, "drop")],
                vec![on(Services, "node-cluster-1"), on(External, "drop")],
            ]
        );
    }

    #[test]
    fn without_endpoints_everything_is_rejected() {
        let port = ServicePort { endpoints: Vec::new(), external_local: true, ..port() };
        assert_eq!(verdicts(&port), vec![vec![on(Set::Rejected, "present")]; 3]);
    }

    #[test]
    fn clients_stick_for_their_time() {
        let port = ServicePort { affinity_seconds: Some(10800), ..port() };
        let chains: Vec<Vec<_>> =
            frontends(&port).map(|f| compile(&f, &port).chains.iter().map(Chain::name).collect()).collect();
        assert_eq!(chains[0], ["remember-address-10800s", "address-cluster-2-sticky"]);
        assert_eq!(chains[2], ["remember-node-10800s", "node-masquerade-2-sticky"]);
    }

    #[test]
    fn an_external_address_is_not_taken_for_a_node_port() {
        let remembered: Vec<_> = frontends(&port())
            .map(|f| compile(&f, &port()).elements.into_iter().find(|(set, ..)| *set == Set::Remembered))
            .collect();
        assert_eq!(remembered[0], None);
        assert_eq!(remembered[1].as_ref().map(|(.., data)| data), Some(&Data::Verdict(Verdict::Return)));
        assert_eq!(remembered[2], None);
    }

    #[test]
    fn only_pods_of_this_node_can_reach_themselves() {
        let port = port();
        let compiled = compile(&frontends(&port).next().expect("a cluster address"), &port);
        assert_eq!(compiled.hairpins, BTreeSet::from([Ipv4Addr::new(10, 42, 0, 2)]));
    }
}
