//! The difference between the Services that are served and those that are to be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};

use super::compile::{Compiled, Frontend, compile, endpoint_datum, endpoints_of, frontends};
use super::layout::{Chain, Set};
use crate::network::conntrack::UdpFrontend;
use crate::network::nft::Data;
use crate::network::table::{Protocol, ServicePort, ServicePortName, ServiceTable};

/// Elements of one set.
type Elements = Vec<(Vec<u8>, Data)>;

/// What is to be changed in the kernel, in this order: chains added, elements removed, elements
/// added, chains removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Chains that are not there yet.
    pub add_chains: BTreeSet<Chain>,
    /// Elements to remove.
    pub delete: BTreeMap<Set, Elements>,
    /// Elements to add.
    pub add: BTreeMap<Set, Elements>,
    /// Chains nothing leads to any more.
    pub delete_chains: BTreeSet<Chain>,
    /// UDP clients that may have been led to endpoints that are gone.
    pub stale: Vec<UdpFrontend>,
    /// Clients that may stick to endpoints that are gone.
    pub forget: Vec<Forget>,
}

/// Clients of a frontend that stick to anything else than the endpoints it has are to be led anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forget {
    /// Address, protocol, port.
    pub frontend: Vec<u8>,
    /// The endpoints it has.
    pub live: BTreeSet<Vec<u8>>,
}

/// What is served now.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    table: ServiceTable,
    /// Who wants a frontend. The first by name has it: a frontend leads to one Service port.
    claims: HashMap<Frontend, BTreeSet<ServicePortName>>,
    chains: Counts<Chain>,
    hairpins: Counts<Ipv4Addr>,
}

/// How often something is used.
#[derive(Clone, Debug)]
struct Counts<T>(HashMap<T, usize>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash + Copy + Ord> Counts<T> {
    /// Counts `more` and `less`; gives what is used now and was not, and what was and is not.
    fn change(&mut self, more: &[T], less: &[T]) -> (BTreeSet<T>, BTreeSet<T>) {
        let touched: BTreeSet<T> = more.iter().chain(less).copied().collect();
        let before: BTreeSet<T> = touched.iter().filter(|t| self.0.contains_key(t)).copied().collect();
        for item in more {
            *self.0.entry(*item).or_default() += 1;
        }
        for item in less {
            if let Some(count) = self.0.get_mut(item) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(item);
                }
            }
        }
        let after: BTreeSet<T> = touched.into_iter().filter(|t| self.0.contains_key(t)).collect();
        (after.difference(&before).copied().collect(), before.difference(&after).copied().collect())
    }
}

impl Plan {
    /// The plan after `next`, and how to get there.
    pub fn advance(&mut self, next: &ServiceTable) -> Changes {
        let changed = changed_ports(&self.table, next);
        let mut touched: BTreeSet<Frontend> = BTreeSet::new();
        for name in &changed {
            for port in [self.table.ports.get(*name), next.ports.get(*name)].into_iter().flatten() {
                touched.extend(frontends(port));
            }
        }
        let before: Vec<_> = touched.iter().map(|f| self.compiled(f)).collect();
        let changed: Vec<(ServicePortName, Option<ServicePort>)> =
            changed.into_iter().map(|name| (name.clone(), next.ports.get(name).cloned())).collect();
        let old_udp = self.udp_endpoints(&touched);
        let old_sticky = self.sticky_endpoints(&touched);
        for (name, port) in changed {
            self.set(name, port);
        }
        let mut changes = Changes::default();
        let (mut more, mut less) = (Uses::default(), Uses::default());
        for (frontend, before) in touched.iter().zip(before) {
            let after = self.compiled(frontend);
            difference(&before, &after, &mut changes);
            more.count(&after);
            less.count(&before);
        }
        (changes.add_chains, changes.delete_chains) = self.chains.change(&more.chains, &less.chains);
        let (new, gone) = self.hairpins.change(&more.hairpins, &less.hairpins);
        changes.put(Set::Hairpin, hairpin_elements(&new), hairpin_elements(&gone));
        changes.forget = forget(&old_sticky, &self.sticky_endpoints(&touched));
        changes.stale = stale(&old_udp, &self.udp_endpoints(&touched));
        changes
    }

    /// Changes that make an empty table what it is now.
    pub fn everything(&self) -> Changes {
        Self::default().advance(&self.table)
    }

    /// The endpoints of every frontend whose clients stick.
    pub fn sticky(&self) -> HashMap<Vec<u8>, BTreeSet<Vec<u8>>> {
        let sticky = self.table.ports.values().filter(|port| port.affinity_seconds.is_some());
        let all = sticky.flat_map(frontends).collect();
        let endpoints = self.sticky_endpoints(&all).into_iter();
        endpoints.map(|(frontend, sticky)| (frontend.key(), sticky.live)).collect()
    }

    fn set(&mut self, name: ServicePortName, port: Option<ServicePort>) {
        if let Some(old) = self.table.ports.remove(&name) {
            for frontend in frontends(&old) {
                if let Some(claims) = self.claims.get_mut(&frontend) {
                    claims.remove(&name);
                    if claims.is_empty() {
                        self.claims.remove(&frontend);
                    }
                }
            }
        }
        if let Some(port) = port {
            for frontend in frontends(&port) {
                self.claims.entry(frontend).or_default().insert(name.clone());
            }
            self.table.ports.insert(name, port);
        }
    }

    /// The Service port that has a frontend.
    fn owner(&self, frontend: &Frontend) -> Option<&ServicePort> {
        self.table.ports.get(self.claims.get(frontend)?.first()?)
    }

    fn compiled(&self, frontend: &Frontend) -> Compiled {
        self.owner(frontend).map(|port| compile(frontend, port)).unwrap_or_default()
    }

    /// The endpoints of frontends whose clients stick, and whether clients from outside have the same.
    fn sticky_endpoints(&self, touched: &BTreeSet<Frontend>) -> BTreeMap<Frontend, Sticky> {
        let sticky = touched.iter().filter_map(|frontend| {
            let port = self.owner(frontend).filter(|port| port.affinity_seconds.is_some())?;
            let live = endpoints_of(frontend, port).into_iter().filter_map(|e| match e.address {
                IpAddr::V4(address) => Some(endpoint_datum(address, e.port)),
                IpAddr::V6(_) => None,
            });
            Some((*frontend, Sticky { live: live.collect(), external_local: port.external_local }))
        });
        sticky.collect()
    }

    fn udp_endpoints(&self, touched: &BTreeSet<Frontend>) -> BTreeMap<Frontend, BTreeSet<Ipv4Addr>> {
        let udp = touched.iter().filter(|f| f.protocol == Protocol::Udp);
        udp.map(|frontend| {
            let endpoints = self.owner(frontend).map(|port| endpoints_of(frontend, port)).unwrap_or_default();
            let addresses = endpoints.into_iter().filter_map(|e| match e.address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            });
            (*frontend, addresses.collect())
        })
        .collect()
    }
}

/// What the compiled frontends use, with repetition.
#[derive(Default)]
struct Uses {
    chains: Vec<Chain>,
    hairpins: Vec<Ipv4Addr>,
}

impl Uses {
    fn count(&mut self, compiled: &Compiled) {
        self.chains.extend(&compiled.chains);
        self.hairpins.extend(&compiled.hairpins);
    }
}

/// Names of the ports that are not equal in both, both being sorted.
fn changed_ports<'a>(old: &'a ServiceTable, new: &'a ServiceTable) -> Vec<&'a ServicePortName> {
    let mut changed = Vec::new();
    let (mut left, mut right) = (old.ports.iter().peekable(), new.ports.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (None, None) => return changed,
            (Some((name, _)), None) => {
                changed.push(*name);
                left.next();
            }
            (None, Some((name, _))) => {
                changed.push(*name);
                right.next();
            }
            (Some((a, old)), Some((b, new))) => match a.cmp(b) {
                std::cmp::Ordering::Less => {
                    changed.push(*a);
                    left.next();
                }
                std::cmp::Ordering::Greater => {
                    changed.push(*b);
                    right.next();
                }
                std::cmp::Ordering::Equal => {
                    if old != new {
                        changed.push(*a);
                    }
                    left.next();
                    right.next();
                }
            },
        }
    }
}

fn difference(before: &Compiled, after: &Compiled, changes: &mut Changes) {
    for (set, key, data) in before.elements.difference(&after.elements) {
        changes.delete.entry(*set).or_default().push((key.clone(), data.clone()));
    }
    for (set, key, data) in after.elements.difference(&before.elements) {
        changes.add.entry(*set).or_default().push((key.clone(), data.clone()));
    }
}

fn hairpin_elements(addresses: &BTreeSet<Ipv4Addr>) -> Elements {
    addresses.iter().map(|a| ([a.octets(), a.octets()].concat(), Data::None)).collect()
}

impl Changes {
    fn put(&mut self, set: Set, add: Elements, delete: Elements) {
        if !add.is_empty() {
            self.add.insert(set, add);
        }
        if !delete.is_empty() {
            self.delete.insert(set, delete);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sticky {
    live: BTreeSet<Vec<u8>>,
    external_local: bool,
}

/// Frontends whose clients stuck to an endpoint that is gone, or that is now another's.
fn forget(before: &BTreeMap<Frontend, Sticky>, after: &BTreeMap<Frontend, Sticky>) -> Vec<Forget> {
    let changed = before.iter().filter_map(|(frontend, old)| {
        let live = match after.get(frontend) {
            Some(new) if new.external_local == old.external_local => new.live.clone(),
            _ => BTreeSet::new(),
        };
        (!old.live.is_subset(&live)).then(|| Forget { frontend: frontend.key(), live })
    });
    changed.collect()
}

/// UDP frontends that lost an endpoint, or have some and had none: a client's datagrams may still go
/// where they went before.
fn stale(
    before: &BTreeMap<Frontend, BTreeSet<Ipv4Addr>>,
    after: &BTreeMap<Frontend, BTreeSet<Ipv4Addr>>,
) -> Vec<UdpFrontend> {
    after
        .iter()
        .filter(|(frontend, live)| {
            let old = &before[*frontend];
            !old.is_subset(live) || (old.is_empty() && !live.is_empty())
        })
        .map(|(frontend, live)| UdpFrontend {
            address: (!frontend.is_node_port()).then_some(frontend.address),
            port: frontend.port,
            live: live.iter().copied().collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
