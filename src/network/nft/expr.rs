//! Expressions of rules.

use crate::network::netlink::Attrs;

use super::set::Verdict;

/// A 32-bit register, 0 to 15. Concatenations take consecutive ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u32);

impl Reg {
    /// The kernel's number: `NFT_REG32_00` is 8.
    fn number(self) -> u32 {
        8 + self.0
    }
}

/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const RANDOM_FULLY: u32 = 0x10;

/// One expression; an expression that does not match ends its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads bytes of the IP header.
    Network { offset: u32, len: u32, to: Reg },
    /// Loads bytes of the transport header.
    Transport { offset: u32, len: u32, to: Reg },
    /// Loads something known of the packet (`NFT_META_*`).
    Meta { key: u32, to: Reg },
    /// Sets the packet's mark from a register.
    SetMark(Reg),
    /// Loads something known of the connection (`NFT_CT_*`).
    Ct { key: u32, to: Reg },
    /// Loads something known of the connection's first packet, as its client sent it.
    CtOriginal { key: u32, to: Reg },
    /// Loads the type of the packet's source or destination address (`RTN_*`).
    AddressType { source: bool, to: Reg },
    /// Matches if the register has, or has not, this value.
    Cmp { reg: Reg, equal: bool, value: Vec<u8> },
    /// `to = (from & mask) ^ xor`.
    Bitwise { from: Reg, to: Reg, mask: Vec<u8>, xor: Vec<u8> },
    /// Matches if the set has the key.
    InSet { set: &'static str, key: Reg },
    /// Loads what the map has for the key; matches if it has something.
    Map { map: &'static str, key: Reg, to: Reg },
    /// Goes where the verdict map says for the key; matches if it has something.
    VerdictMap { map: &'static str, key: Reg },
    /// A random number of `0..modulus`, plus `offset`.
    Random { to: Reg, modulus: u32, offset: u32 },
    /// Adds an element to a dynamic map for a time, or starts its time again.
    Remember { map: &'static str, key: Reg, data: Reg, seconds: u32 },
    /// Sends the connection to the address in `address` and the port in `port`.
    Dnat { address: Reg, port: Reg },
    /// Gives the connection an address of the outgoing interface, with a random port.
    Masquerade,
    /// Answers a TCP packet with a reset.
    RejectTcp,
    /// Answers with ICMP port unreachable.
    RejectIcmp,
    /// Ends the rule with a verdict.
    Verdict(Verdict),
}

/// `NFT_META_MARK`.
pub const META_MARK: u32 = 3;
/// `NFT_META_IIFNAME`.
pub const META_IIFNAME: u32 = 6;
/// `NFT_META_OIFNAME`.
pub const META_OIFNAME: u32 = 7;
/// `NFT_META_L4PROTO`.
pub const META_L4PROTO: u32 = 16;
/// `NFT_CT_STATE`.
pub const CT_STATE: u32 = 0;
/// `NFT_CT_STATUS`.
pub const CT_STATUS: u32 = 2;
/// `NFT_CT_SRC_IP`.
pub const CT_SOURCE: u32 = 19;
/// `NFT_CT_DST_IP`.
pub const CT_DESTINATION: u32 = 20;
/// `NFT_CT_PROTO_DST`.
pub const CT_PORT: u32 = 12;
/// `RTN_LOCAL`.
pub const LOCAL: u32 = 2;

impl Expr {
    fn name(&self) -> &'static str {
        match self {
            Self::Network { .. } | Self::Transport { .. } => "payload",
            Self::Meta { .. } | Self::SetMark(_) => "meta",
            Self::Ct { .. } | Self::CtOriginal { .. } => "ct",
            Self::AddressType { .. } => "fib",
            Self::Cmp { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::InSet { .. } | Self::Map { .. } | Self::VerdictMap { .. } => "lookup",
            Self::Verdict(_) => "immediate",
            Self::Random { .. } => "numgen",
            Self::Remember { .. } => "dynset",
            Self::Dnat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::RejectTcp | Self::RejectIcmp => "reject",
        }
    }

    fn data(&self, o: &mut Vec<u8>) {
        match self {
            Self::Network { offset, len, to } => payload(o, 1, *offset, *len, *to),
            Self::Transport { offset, len, to } => payload(o, 2, *offset, *len, *to),
            Self::Meta { key, to } => done(o.be32(1, to.number()).be32(2, *key)),
            Self::SetMark(from) => done(o.be32(2, META_MARK).be32(3, from.number())),
            Self::Ct { key, to } => done(o.be32(1, to.number()).be32(2, *key)),
            Self::CtOriginal { key, to } => done(o.be32(1, to.number()).be32(2, *key).bytes(3, &[0])),
            Self::AddressType { source, to } => {
                done(o.be32(1, to.number()).be32(2, 3).be32(3, if *source { 1 } else { 2 }));
            }
            Self::Cmp { reg, equal, value } => {
                o.be32(1, reg.number()).be32(2, u32::from(!*equal));
                value_data(o, 3, value);
            }
            Self::Bitwise { from, to, mask, xor } => {
                o.be32(1, from.number()).be32(2, to.number()).be32(3, mask.len() as u32);
                value_data(o, 4, mask);
                value_data(o, 5, xor);
            }
            Self::InSet { set, key } => done(o.text(1, set).be32(2, key.number())),
            Self::Map { map, key, to } => {
                done(o.text(1, map).be32(2, key.number()).be32(3, to.number()));
            }
            // Register 0 takes verdicts.
            Self::VerdictMap { map, key } => done(o.text(1, map).be32(2, key.number()).be32(3, 0)),
            Self::Random { to, modulus, offset } => {
                done(o.be32(1, to.number()).be32(2, *modulus).be32(3, 1).be32(4, *offset));
            }
            Self::Remember { map, key, data, seconds } => {
                // NFT_DYNSET_OP_UPDATE
                o.text(1, map).be32(3, 1).be32(4, key.number()).be32(5, data.number());
                o.be64(6, u64::from(*seconds) * 1000);
            }
            Self::Dnat { address, port } => {
                o.be32(1, 1).be32(2, libc::AF_INET as u32);
                o.be32(3, address.number()).be32(5, port.number());
            }
            Self::Masquerade => done(o.be32(1, RANDOM_FULLY)),
            Self::RejectTcp => done(o.be32(1, 1).bytes(2, &[0])),
            // ICMP_PORT_UNREACH
            Self::RejectIcmp => done(o.be32(1, 0).bytes(2, &[3])),
            Self::Verdict(verdict) => {
                o.be32(1, 0).nest(2, |d| verdict.write(d));
            }
        }
    }
}

/// Ends a chain of attribute calls in an arm that yields nothing.
fn done(_: &mut Vec<u8>) {}

fn payload(o: &mut Vec<u8>, base: u32, offset: u32, len: u32, to: Reg) {
    o.be32(1, to.number()).be32(2, base).be32(3, offset).be32(4, len);
}

fn value_data(o: &mut Vec<u8>, kind: u16, value: &[u8]) {
    o.nest(kind, |d| {
        d.bytes(1, value);
    });
}

/// The expressions of one rule, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule(pub Vec<Expr>);

impl Rule {
    /// A rule without conditions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an expression.
    pub fn then(mut self, expr: Expr) -> Self {
        self.0.push(expr);
        self
    }

    /// Loads the source address.
    pub fn source(self, to: Reg) -> Self {
        self.then(Expr::Network { offset: 12, len: 4, to })
    }

    /// Loads the destination address.
    pub fn destination(self, to: Reg) -> Self {
        self.then(Expr::Network { offset: 16, len: 4, to })
    }

    /// Makes a register that was loaded 0, in a form that `nft` shows and reads back.
    pub fn zero(self, reg: Reg) -> Self {
        self.then(Expr::Bitwise { from: reg, to: reg, mask: vec![0; 4], xor: vec![0; 4] })
    }

    /// Loads the destination port.
    pub fn port(self, to: Reg) -> Self {
        self.then(Expr::Transport { offset: 2, len: 2, to })
    }

    /// Loads protocol and destination port into two registers.
    pub fn protocol_and_port(self, to: Reg) -> Self {
        self.then(Expr::Meta { key: META_L4PROTO, to }).port(Reg(to.0 + 1))
    }

    /// Matches packets whose source is, or is not, in a network.
    pub fn source_in(self, cidr: crate::network::Cidr, inside: bool) -> Self {
        self.source(Reg(0)).in_network(cidr, inside)
    }

    /// Matches packets whose destination is, or is not, in a network.
    pub fn destination_in(self, cidr: crate::network::Cidr, inside: bool) -> Self {
        self.destination(Reg(0)).in_network(cidr, inside)
    }

    /// Matches if the address in register 0 is, or is not, in a network.
    pub fn in_network(self, cidr: crate::network::Cidr, inside: bool) -> Self {
        let mask = cidr.mask().octets().to_vec();
        self.then(Expr::Bitwise { from: Reg(0), to: Reg(0), mask, xor: vec![0; 4] }).then(Expr::Cmp {
            reg: Reg(0),
            equal: inside,
            value: cidr.base().octets().to_vec(),
        })
    }

    /// Matches packets whose source or destination is, or is not, an address of this machine.
    pub fn local(self, source: bool, is: bool) -> Self {
        self.then(Expr::AddressType { source, to: Reg(0) }).then(Expr::Cmp {
            reg: Reg(0),
            equal: is,
            value: LOCAL.to_ne_bytes().to_vec(),
        })
    }

    /// Matches packets that come in, or go out, by this interface or by another.
    pub fn interface(self, out: bool, name: &str, is: bool) -> Self {
        let mut value = name.as_bytes().to_vec();
        value.resize(libc::IFNAMSIZ, 0);
        let key = if out { META_OIFNAME } else { META_IIFNAME };
        // Interface names take four registers.
        self.then(Expr::Meta { key, to: Reg(0) }).then(Expr::Cmp { reg: Reg(0), equal: is, value })
    }

    /// Matches packets of this transport protocol.
    pub fn protocol(self, number: u8) -> Self {
        self.then(Expr::Meta { key: META_L4PROTO, to: Reg(0) }).then(Expr::Cmp {
            reg: Reg(0),
            equal: true,
            value: vec![number],
        })
    }

    /// Matches if a bit of `mask` is set in the connection's `key` ([`CT_STATE`], [`CT_STATUS`]), or none is.
    pub fn ct_has(self, key: u32, mask: u32, has: bool) -> Self {
        self.then(Expr::Ct { key, to: Reg(0) }).has_bits(mask, has)
    }

    /// Matches if a bit of `mask` is set in the packet's mark.
    pub fn mark_has(self, mask: u32) -> Self {
        self.then(Expr::Meta { key: META_MARK, to: Reg(0) }).has_bits(mask, true)
    }

    fn has_bits(self, mask: u32, has: bool) -> Self {
        self.then(Expr::Bitwise {
            from: Reg(0),
            to: Reg(0),
            mask: mask.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        })
        .then(Expr::Cmp { reg: Reg(0), equal: !has, value: vec![0; 4] })
    }

    /// Sets (or clears) bits of the packet's mark.
    pub fn set_mark_bits(self, bits: u32, set: bool) -> Self {
        let xor = if set { bits } else { 0 };
        self.then(Expr::Meta { key: META_MARK, to: Reg(0) })
            .then(Expr::Bitwise {
                from: Reg(0),
                to: Reg(0),
                mask: (!bits).to_ne_bytes().to_vec(),
                xor: xor.to_ne_bytes().to_vec(),
            })
            .then(Expr::SetMark(Reg(0)))
    }

    /// Ends with a verdict.
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.then(Expr::Verdict(verdict))
    }

    /// Writes `NFTA_RULE_EXPRESSIONS`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.nest(4, |list| {
            for expr in &self.0 {
                list.nest(1, |e| {
                    e.text(1, expr.name()).nest(2, |d| expr.data(d));
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::netlink::{nested, parse, value_be32, value_text};

    #[test]
    fn a_rule_lists_its_expressions_in_order() {
        let cidr = "10.42.0.0/16".parse().expect("valid");
        let mut out = Vec::new();
        Rule::new().source_in(cidr, false).then(Expr::Masquerade).write(&mut out);
        let list = nested(&out, 4).expect("expressions");
        let names: Vec<_> =
            parse(list).map(|(_, e)| value_text(nested(e, 1).expect("name")).to_owned()).collect();
        assert_eq!(names, ["payload", "bitwise", "cmp", "masq"]);
        let cmp = parse(list).nth(2).and_then(|(_, e)| nested(e, 2)).expect("data");
        assert_eq!(nested(cmp, 2).and_then(value_be32), Some(1), "NFT_CMP_NEQ");
        assert_eq!(nested(cmp, 3).and_then(|d| nested(d, 1)), Some(&[10, 42, 0, 0][..]));
    }

    #[test]
    fn registers_are_numbered_from_eight() {
        let mut out = Vec::new();
        Expr::Dnat { address: Reg(4), port: Reg(5) }.data(&mut out);
        assert_eq!(nested(&out, 3).and_then(value_be32), Some(12));
        assert_eq!(nested(&out, 5).and_then(value_be32), Some(13));
    }
}
