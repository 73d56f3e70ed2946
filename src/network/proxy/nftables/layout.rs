//! The table of Services: its sets, its chains, and what their rules do.
//!
//! A verdict map leads from address, protocol and port to a chain; there is one chain per *number* of
//! endpoints, which draws an index and looks the endpoint up in one map by address, protocol, port and
//! index. So a changed endpoint is one element, and 50,000 endpoints are one flat map.

use crate::network::nft::{
    Base, Batch, CT_DESTINATION, CT_PORT, CT_SOURCE, CT_STATE, CT_STATUS, Data, Expr, Hook, META_L4PROTO,
    Reg, Rule, SetSpec, Verdict, types,
};
use crate::network::proxy::ServiceProxyConfig;

/// Bit of the packet mark by which a chain asks for masquerade after routing; kube-proxy's.
const MASQUERADE_MARK: u32 = 0x4000;
/// Indices of endpoints of this node, for `externalTrafficPolicy: Local`, begin here.
pub const LOCAL_INDEX: u32 = 0x1_0000;

const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
/// `IP_CT_NEW` as a bit of the connection state.
const NEW: u32 = 8;
/// `IPS_DST_NAT`.
const REDIRECTED: u32 = 32;
const TCP: u8 = 6;

/// The sets and maps of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Set {
    /// Address, protocol, port → chain.
    Services,
    /// The same for clients from outside, where only endpoints of this node may serve them.
    External,
    /// Address, protocol, port without endpoints.
    Rejected,
    /// Address, protocol, port, index → endpoint.
    Endpoints,
    /// Address, protocol, port → chain that remembers which endpoint a client was led to.
    Remembered,
    /// Endpoint, endpoint: pods that may reach themselves.
    Hairpin,
}

const FRONTEND: [u32; 3] = [types::ADDRESS, types::PROTOCOL, types::SERVICE];
const ENDPOINT: [u32; 2] = [types::ADDRESS, types::SERVICE];

/// Client, address, protocol, port → endpoint it sticks to, for a time. Unlike kube-proxy's, it is of
/// one address: a client that uses the cluster address and the node port may have an endpoint at each.
pub const AFFINITY: SetSpec = SetSpec {
    name: "affinity",
    key: &[types::ADDRESS, types::ADDRESS, types::PROTOCOL, types::SERVICE],
    data: &ENDPOINT,
    dynamic: true,
};

impl Set {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Services, Self::External, Self::Rejected, Self::Endpoints, Self::Remembered, Self::Hairpin];

    /// Its name in the kernel.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    fn spec(self) -> SetSpec {
        const WITH_INDEX: [u32; 4] = [types::ADDRESS, types::PROTOCOL, types::SERVICE, types::MARK];
        let (name, key, data): (_, &[u32], &[u32]) = match self {
            Self::Services => ("services", &FRONTEND, &[types::VERDICT]),
            Self::External => ("external", &FRONTEND, &[types::VERDICT]),
            Self::Rejected => ("rejected", &FRONTEND, &[]),
            Self::Endpoints => ("endpoints", &WITH_INDEX, &ENDPOINT),
            Self::Remembered => ("remembered", &FRONTEND, &[types::VERDICT]),
            Self::Hairpin => ("hairpin", &[types::ADDRESS, types::ADDRESS], &[]),
        };
        SetSpec { name, key, data, dynamic: false }
    }
}

/// Which connections get an address of this machine as their source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Masquerade {
    /// All.
    Always,
    /// Those that do not come from a pod.
    Outside,
    /// None: the endpoint sees its client.
    Never,
}

/// A chain that leads to one of a number of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Balancer {
    /// How many endpoints.
    pub endpoints: u32,
    /// They are found under 0.0.0.0, not under the packet's destination: node ports.
    pub any_address: bool,
    /// Only those of this node.
    pub local: bool,
    /// Whose source is changed.
    pub masquerade: Masquerade,
    /// A client sticks to the endpoint it was led to before.
    pub sticky: bool,
}

impl Balancer {
    /// The chain's name.
    pub fn name(&self) -> String {
        let who = if self.any_address { "node" } else { "address" };
        let source = match self.masquerade {
            Masquerade::Always => "masquerade",
            Masquerade::Outside => "cluster",
            Masquerade::Never => "keep",
        };
        let local = if self.local { "-local" } else { "" };
        let sticky = if self.sticky { "-sticky" } else { "" };
        format!("{who}-{source}{local}-{}{sticky}", self.endpoints)
    }

    /// Adds the chain with its rules.
    pub fn add(&self, batch: &mut Batch, config: &ServiceProxyConfig) {
        let name = self.name();
        batch.add_chain(&name, None);
        match self.masquerade {
            Masquerade::Always => batch.add_rule(&name, &Rule::new().set_mark_bits(MASQUERADE_MARK, true)),
            Masquerade::Outside => batch.add_rule(
                &name,
                &Rule::new().source_in(config.cluster_cidr, false).set_mark_bits(MASQUERADE_MARK, true),
            ),
            Masquerade::Never => {}
        }
        if self.sticky {
            batch.add_rule(&name, &self.stick());
        }
        batch.add_rule(&name, &self.choose());
    }

    /// To the endpoint the client was led to before.
    fn stick(&self) -> Rule {
        frontend(Rule::new().source(Reg(4)), self.any_address)
            .then(Expr::Map { map: AFFINITY.name, key: Reg(4), to: Reg(8) })
            .then(Expr::Dnat { address: Reg(8), port: Reg(9) })
    }

    /// To any endpoint.
    fn choose(&self) -> Rule {
        let offset = if self.local { LOCAL_INDEX } else { 0 };
        frontend(Rule::new(), self.any_address)
            .then(Expr::Random { to: Reg(8), modulus: self.endpoints, offset })
            .then(Expr::Map { map: Set::Endpoints.name(), key: Reg(5), to: Reg(8) })
            .then(Expr::Dnat { address: Reg(8), port: Reg(9) })
    }
}

/// A chain that remembers clients for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Memory {
    /// The client used any address of this machine: a node port.
    pub any_address: bool,
    /// For how long.
    pub seconds: u32,
}

impl Memory {
    /// The chain's name.
    pub fn name(&self) -> String {
        format!("remember-{}-{}s", if self.any_address { "node" } else { "address" }, self.seconds)
    }

    /// Adds the chain. It is asked after redirection: the packet has the endpoint's address and port,
    /// its connection knows what the client used.
    fn add(&self, batch: &mut Batch) {
        let name = self.name();
        batch.add_chain(&name, None);
        let client = Rule::new().then(Expr::CtOriginal { key: CT_SOURCE, to: Reg(4) });
        let rule = original_frontend(client, self.any_address).destination(Reg(8)).port(Reg(9));
        let remember =
            Expr::Remember { map: AFFINITY.name, key: Reg(4), data: Reg(8), seconds: self.seconds };
        batch.add_rule(&name, &rule.then(remember));
    }
}

/// A chain that exists because elements lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Chain {
    /// To an endpoint.
    Balancer(Balancer),
    /// Into the client's memory.
    Memory(Memory),
}

impl Chain {
    /// Its name.
    pub fn name(&self) -> String {
        match self {
            Self::Balancer(balancer) => balancer.name(),
            Self::Memory(memory) => memory.name(),
        }
    }

    /// Adds it with its rules.
    pub fn add(&self, batch: &mut Batch, config: &ServiceProxyConfig) {
        match self {
            Self::Balancer(balancer) => balancer.add(batch, config),
            Self::Memory(memory) => memory.add(batch),
        }
    }

    /// The datum of an element that leads to it.
    pub fn verdict(&self) -> Data {
        Data::Verdict(Verdict::Goto(self.name()))
    }
}

/// Loads what the client used into registers 5 to 7; any address is 0.0.0.0.
fn original_frontend(rule: Rule, any_address: bool) -> Rule {
    let rule = rule.then(Expr::CtOriginal { key: CT_DESTINATION, to: Reg(5) });
    let rule = if any_address { rule.zero(Reg(5)) } else { rule };
    rule.then(Expr::Meta { key: META_L4PROTO, to: Reg(6) })
        .then(Expr::CtOriginal { key: CT_PORT, to: Reg(7) })
}

/// Loads address, protocol and port into registers 5 to 7; any address is 0.0.0.0.
fn frontend(rule: Rule, any_address: bool) -> Rule {
    let rule = rule.destination(Reg(5));
    let rule = if any_address { rule.zero(Reg(5)) } else { rule };
    rule.protocol_and_port(Reg(6))
}

/// Adds everything that does not depend on Services, to an empty table.
pub fn add_frame(batch: &mut Batch, config: &ServiceProxyConfig) {
    for set in Set::ALL {
        batch.add_set(&set.spec());
    }
    batch.add_set(&AFFINITY);
    add_redirection(batch, config);
    add_masquerade(batch);
    add_memory(batch, config);
    add_rejection(batch, config);
}

/// Every verdict map is asked for the destination, and for any address if that is this machine's.
fn add_lookups(batch: &mut Batch, chain: &str, found: impl Fn(Rule) -> Rule) {
    batch.add_rule(chain, &found(frontend(Rule::new(), false)));
    batch.add_rule(chain, &found(frontend(Rule::new().local(false, true), true)));
}

fn add_redirection(batch: &mut Batch, config: &ServiceProxyConfig) {
    let goto = |chain: &str| Verdict::Goto(chain.to_owned());
    batch.add_chain("everywhere", None);
    add_lookups(batch, "everywhere", |rule| {
        rule.then(Expr::VerdictMap { map: Set::Services.name(), key: Reg(5) })
    });
    batch.add_chain("dispatch", None);
    // Pods and this machine use all endpoints, whatever the policy for traffic from outside.
    batch.add_rule("dispatch", &Rule::new().source_in(config.cluster_cidr, true).verdict(goto("everywhere")));
    batch.add_rule("dispatch", &Rule::new().local(true, true).verdict(goto("everywhere")));
    add_lookups(batch, "dispatch", |rule| {
        rule.then(Expr::VerdictMap { map: Set::External.name(), key: Reg(5) })
    });
    batch.add_rule("dispatch", &Rule::new().verdict(goto("everywhere")));
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        batch.add_chain(name, Some(Base { kind: "nat", hook, priority: DESTINATION_NAT }));
        batch.add_rule(name, &Rule::new().verdict(Verdict::Jump("dispatch".to_owned())));
    }
}

fn add_masquerade(batch: &mut Batch) {
    batch.add_chain("postrouting", Some(Base { kind: "nat", hook: Hook::Postrouting, priority: SOURCE_NAT }));
    let marked = Rule::new().mark_has(MASQUERADE_MARK).set_mark_bits(MASQUERADE_MARK, false);
    batch.add_rule("postrouting", &marked.then(Expr::Masquerade));
    let hairpin = Rule::new()
        .ct_has(CT_STATUS, REDIRECTED, true)
        .source(Reg(4))
        .destination(Reg(5))
        .then(Expr::InSet { set: Set::Hairpin.name(), key: Reg(4) });
    batch.add_rule("postrouting", &hairpin.then(Expr::Masquerade));
}

/// New connections that were redirected pass the chains that remember clients. An address may be a
/// node's own; Service addresses never are, and external addresses have an element of their own, so
/// that neither is mistaken for a node port.
fn add_memory(batch: &mut Batch, config: &ServiceProxyConfig) {
    let remembered = |any_address| {
        original_frontend(Rule::new(), any_address)
            .then(Expr::VerdictMap { map: Set::Remembered.name(), key: Reg(5) })
    };
    batch.add_chain("remember", None);
    batch.add_rule("remember", &remembered(false));
    let service = Rule::new()
        .then(Expr::CtOriginal { key: CT_DESTINATION, to: Reg(0) })
        .in_network(config.service_cidr, true);
    batch.add_rule("remember", &service.verdict(Verdict::Return));
    batch.add_rule("remember", &remembered(true));
    for (name, hook) in [("redirected-input", Hook::Input), ("redirected-postrouting", Hook::Postrouting)] {
        batch.add_chain(name, Some(Base { kind: "filter", hook, priority: 0 }));
        let new = Rule::new().ct_has(CT_STATE, NEW, true).ct_has(CT_STATUS, REDIRECTED, true);
        batch.add_rule(name, &new.verdict(Verdict::Jump("remember".to_owned())));
    }
}

fn add_rejection(batch: &mut Batch, config: &ServiceProxyConfig) {
    let goto_refuse = Verdict::Goto("refuse".to_owned());
    batch.add_chain("refuse", None);
    batch.add_rule("refuse", &Rule::new().protocol(TCP).then(Expr::RejectTcp));
    batch.add_rule("refuse", &Rule::new().then(Expr::RejectIcmp));
    batch.add_chain("without-endpoints", None);
    add_lookups(batch, "without-endpoints", |rule| {
        rule.then(Expr::InSet { set: Set::Rejected.name(), key: Reg(5) }).verdict(goto_refuse.clone())
    });
    let filter = |hook, priority| Some(Base { kind: "filter", hook, priority });
    // Before the output is redirected, so that the address is still the client's.
    let early = DESTINATION_NAT - 10;
    for (name, hook) in
        [("filter-input", Hook::Input), ("filter-forward", Hook::Forward), ("filter-output", Hook::Output)]
    {
        batch.add_chain(name, filter(hook, early));
        let check = Rule::new().ct_has(CT_STATE, NEW, true);
        batch.add_rule(name, &check.verdict(Verdict::Jump("without-endpoints".to_owned())));
    }
    // What is still on its way to a Service address has no Service there.
    let unknown = || Rule::new().destination_in(config.service_cidr, true);
    batch.add_rule("filter-forward", &unknown().verdict(goto_refuse.clone()));
    batch.add_chain("filter-output-redirected", filter(Hook::Output, DESTINATION_NAT + 10));
    let by_bridge = unknown().interface(true, &config.bridge, true);
    batch.add_rule("filter-output-redirected", &by_bridge.verdict(goto_refuse));
}
