use proptest::prelude::*;

use super::*;
use crate::network::table::ServiceEndpoint;

fn endpoint() -> impl Strategy<Value = ServiceEndpoint> {
    (2u8..8, prop_oneof![Just(80), Just(81)], any::<bool>()).prop_map(|(n, port, local)| ServiceEndpoint {
        address: [10, 42, 0, n].into(),
        port,
        local,
    })
}

prop_compose! {
    fn service_port()(
        protocol in prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)],
        cluster in prop::collection::vec(1u8..6, 0..2),
        external in prop::collection::vec(1u8..4, 0..2),
        port in 80u16..82,
        node_port in prop::option::of(30000u16..30003),
        affinity_seconds in prop::option::of(Just(10)),
        internal_local: bool,
        external_local: bool,
        endpoints in prop::collection::vec(endpoint(), 0..4),
    ) -> ServicePort {
        ServicePort {
            protocol,
            cluster_ips: cluster.into_iter().map(|n| [10, 43, 0, n].into()).collect(),
            port,
            node_port,
            external_ips: external.into_iter().map(|n| [192, 0, 2, n].into()).collect(),
            affinity_seconds,
            internal_local,
            external_local,
            endpoints,
        }
    }
}

/// Few names and addresses, so that tables share some and collide.
pub fn table() -> impl Strategy<Value = ServiceTable> {
    prop::collection::btree_map(0u8..6, service_port(), 0..6).prop_map(|ports| ServiceTable {
        ports: ports
            .into_iter()
            .map(|(n, port)| {
                let name =
                    ServicePortName { namespace: "ns".into(), name: format!("s{n}"), port: String::new() };
                (name, port)
            })
            .collect(),
    })
}

/// A kernel that refuses what the real one refuses.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kernel {
    chains: BTreeSet<String>,
    elements: BTreeMap<(Set, Vec<u8>), Data>,
}

impl Kernel {
    fn commit(&mut self, changes: &Changes) {
        for chain in &changes.add_chains {
            assert!(self.chains.insert(chain.name()), "EEXIST {chain:?}");
        }
        for (set, elements) in &changes.delete {
            for (key, data) in elements {
                assert_eq!(self.elements.remove(&(*set, key.clone())).as_ref(), Some(data), "ENOENT {set:?}");
            }
        }
        for (set, elements) in &changes.add {
            for (key, data) in elements {
                assert_eq!(self.elements.insert((*set, key.clone()), data.clone()), None, "EEXIST {set:?}");
                if let Data::Verdict(crate::network::nft::Verdict::Goto(chain)) = data {
                    assert!(self.chains.contains(chain), "ENOENT {chain}");
                }
            }
        }
        for chain in &changes.delete_chains {
            assert!(self.chains.remove(&chain.name()), "ENOENT {chain:?}");
        }
        for data in self.elements.values() {
            if let Data::Verdict(crate::network::nft::Verdict::Goto(chain)) = data {
                assert!(self.chains.contains(chain), "EBUSY {chain}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_way_to_a_table_leads_to_the_same_kernel(tables in prop::collection::vec(table(), 1..5)) {
        let mut plan = Plan::default();
        let mut kernel = Kernel::default();
        for table in &tables {
            kernel.commit(&plan.advance(table));
            let mut fresh = Kernel::default();
            fresh.commit(&Plan::default().advance(table));
            prop_assert_eq!(&kernel, &fresh);
            let mut rebuilt = Kernel::default();
            rebuilt.commit(&plan.everything());
            prop_assert_eq!(&rebuilt, &fresh);
        }
        prop_assert_eq!(plan.advance(&tables[tables.len() - 1]), Changes::default(), "nothing to do");
    }
}

fn udp(endpoints: &[u8]) -> ServiceTable {
    let port = ServicePort {
        protocol: Protocol::Udp,
        cluster_ips: vec![[10, 43, 0, 10].into()],
        port: 53,
        node_port: Some(30053),
        external_ips: Vec::new(),
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        endpoints: endpoints
            .iter()
            .map(|n| ServiceEndpoint { address: [10, 42, 0, *n].into(), port: 53, local: true })
            .collect(),
    };
    let name = ServicePortName { namespace: "kube-system".into(), name: "dns".into(), port: "dns".into() };
    ServiceTable { ports: BTreeMap::from([(name, port)]) }
}

#[test]
fn one_endpoint_more_of_the_same_count_changes_one_element() {
    let mut plan = Plan::default();
    plan.advance(&udp(&[2, 3]));
    let changes = plan.advance(&udp(&[2, 4]));
    assert!(changes.add_chains.is_empty() && changes.delete_chains.is_empty());
    // At the cluster address and at the node port.
    assert_eq!(changes.add[&Set::Endpoints].len(), 2);
    assert_eq!(changes.delete[&Set::Endpoints].len(), 2);
    assert!(!changes.add.contains_key(&Set::Services));
}

#[test]
fn udp_clients_of_gone_endpoints_are_found() {
    let mut plan = Plan::default();
    assert_eq!(plan.advance(&udp(&[])).stale, [], "nothing answers yet");
    let first = plan.advance(&udp(&[2, 3])).stale;
    assert_eq!(first.len(), 2, "clients that sent before there was an endpoint: {first:?}");
    assert_eq!(plan.advance(&udp(&[2, 3, 4])).stale, [], "one more disturbs nobody");
    let lost = plan.advance(&udp(&[3, 4])).stale;
    let live = vec![Ipv4Addr::new(10, 42, 0, 3), Ipv4Addr::new(10, 42, 0, 4)];
    assert!(lost.contains(&UdpFrontend { address: None, port: 30053, live: live.clone() }), "{lost:?}");
    assert!(
        lost.contains(&UdpFrontend { address: Some([10, 43, 0, 10].into()), port: 53, live }),
        "{lost:?}"
    );
    assert_eq!(plan.advance(&ServiceTable::default()).stale.len(), 2);
}

#[test]
fn clients_stuck_to_gone_endpoints_are_led_anew() {
    let sticky = |endpoints: &[u8]| {
        let mut table = udp(endpoints);
        table.ports.values_mut().for_each(|port| port.affinity_seconds = Some(10));
        table
    };
    let mut plan = Plan::default();
    assert_eq!(plan.advance(&sticky(&[2, 3])).forget, []);
    assert_eq!(plan.advance(&sticky(&[4, 3, 2])).forget, [], "all are still there");
    let forget = plan.advance(&sticky(&[3])).forget;
    assert_eq!(forget.len(), 2, "cluster address and node port");
    assert_eq!(forget[0].live, BTreeSet::from([endpoint_datum(Ipv4Addr::new(10, 42, 0, 3), 53)]));
    assert_eq!(plan.advance(&udp(&[3])).forget.len(), 2, "clients stick no more");
}
