//! Sets, maps and their elements.

use crate::network::netlink::{Attrs, nested};

/// What kinds of values a key or datum is made of; numbers are those the `nft` program shows names for.
pub mod types {
    /// An IPv4 address.
    pub const ADDRESS: u32 = 7;
    /// A transport protocol.
    pub const PROTOCOL: u32 = 12;
    /// A port.
    pub const SERVICE: u32 = 13;
    /// A 32-bit mark, here an index.
    pub const MARK: u32 = 19;
    /// A verdict.
    pub const VERDICT: u32 = 0xffff_ff00;
}

const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const EVAL: u32 = 0x20;
const CONCAT: u32 = 0x80;
/// Bits of a concatenation's type that one field takes.
const TYPE_BITS: u32 = 6;

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It is dropped.
    Drop,
    /// It passes this hook.
    Accept,
    /// On with a chain, without coming back.
    Goto(String),
    /// On with a chain, and then back here.
    Jump(String),
    /// Back to the calling chain.
    Return,
}

impl Verdict {
    /// Writes `NFTA_DATA_VERDICT`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Return => (-5, None),
        };
        out.nest(2, |v| {
            v.bytes(1, &i32::to_be_bytes(code));
            if let Some(chain) = chain {
                v.text(2, chain);
            }
        });
    }
}

/// What an element of a map leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Data {
    /// Nothing: it is an element of a set.
    None,
    /// A value.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
}

impl Data {
    /// The form in which [`super::dump_table`] gives it.
    pub fn canonical(&self) -> Vec<u8> {
        let mut attribute = Vec::new();
        match self {
            Self::None => return Vec::new(),
            Self::Value(value) => return value.clone(),
            Self::Verdict(verdict) => verdict.write(&mut attribute),
        }
        canonical(&attribute)
    }
}

/// The datum of an element the kernel sent, without what netlink adds: a value, or a verdict's code
/// and chain.
pub(super) fn canonical(data: &[u8]) -> Vec<u8> {
    if let Some(value) = nested(data, 1) {
        return value.to_vec();
    }
    let Some(verdict) = nested(data, 2) else {
        return Vec::new();
    };
    [nested(verdict, 1), nested(verdict, 2)].into_iter().flatten().collect::<Vec<_>>().concat()
}

/// A set or map to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec {
    /// Its name.
    pub name: &'static str,
    /// Types of the key's fields.
    pub key: &'static [u32],
    /// Types of the datum's fields; empty: a set.
    pub data: &'static [u32],
    /// Rules add elements, which go away after a time.
    pub dynamic: bool,
}

impl SetSpec {
    /// Bytes of a key: every field takes a register of four bytes.
    fn key_len(&self) -> u32 {
        4 * self.key.len() as u32
    }

    fn flags(&self) -> u32 {
        let mut flags = 0;
        if !self.data.is_empty() {
            flags |= MAP;
        }
        if self.dynamic {
            flags |= TIMEOUT | EVAL;
        }
        if self.key.len() > 1 {
            flags |= CONCAT;
        }
        flags
    }

    /// Writes the attributes of `NFT_MSG_NEWSET`.
    pub(super) fn write(&self, out: &mut Vec<u8>, table: &str, id: u32) {
        out.text(1, table).text(2, self.name).be32(3, self.flags());
        out.be32(4, concatenated(self.key)).be32(5, self.key_len());
        match self.data {
            [] => {}
            [types::VERDICT] => {
                out.be32(6, types::VERDICT).be32(7, 0);
            }
            data => {
                out.be32(6, concatenated(data)).be32(7, 4 * data.len() as u32);
            }
        }
        out.nest(9, |desc| {
            if self.dynamic {
                desc.be32(1, DYNAMIC_SIZE);
            }
            if self.key.len() > 1 {
                desc.nest(2, |fields| {
                    for _ in self.key {
                        fields.nest(1, |field| {
                            field.be32(1, 4);
                        });
                    }
                });
            }
        });
        out.be32(10, id);
    }
}

/// How many elements rules may add to a dynamic set.
const DYNAMIC_SIZE: u32 = 65_535;

fn concatenated(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, t| (all << TYPE_BITS) | t)
}

/// An element that goes away by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Its key.
    pub key: Vec<u8>,
    /// What it leads to.
    pub data: Vec<u8>,
    /// Milliseconds it lives after each use.
    pub timeout: u64,
    /// Milliseconds it still has.
    pub left: u64,
}

impl Timed {
    /// Reads an element of `NFTA_SET_ELEM_LIST_ELEMENTS`.
    pub(super) fn read(element: &[u8]) -> Option<Self> {
        let number = |kind| Some(u64::from_be_bytes(nested(element, kind)?.try_into().ok()?));
        Some(Self {
            key: nested(nested(element, 1)?, 1)?.to_vec(),
            data: nested(element, 2).map(canonical)?,
            timeout: number(4)?,
            left: number(5)?,
        })
    }

    /// Writes it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.nest(1, |element| {
            write_key_and_data(element, &self.key, &Data::Value(self.data.clone()));
            element.be64(4, self.timeout).be64(5, self.left);
        });
    }
}

/// Writes one element of `NFTA_SET_ELEM_LIST_ELEMENTS`.
pub(super) fn write_element(out: &mut Vec<u8>, key: &[u8], data: &Data) {
    out.nest(1, |element| write_key_and_data(element, key, data));
}

fn write_key_and_data(element: &mut Vec<u8>, key: &[u8], data: &Data) {
    element.nest(1, |k| {
        k.bytes(1, key);
    });
    match data {
        Data::None => {}
        Data::Value(value) => {
            element.nest(2, |d| {
                d.bytes(1, value);
            });
        }
        Data::Verdict(verdict) => {
            element.nest(2, |d| verdict.write(d));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::netlink::{value_be32, value_text};

    #[test]
    fn concatenated_types_are_what_nft_shows() {
        assert_eq!(concatenated(&[types::ADDRESS, types::PROTOCOL, types::SERVICE]), 0x730d);
        let four = [types::ADDRESS, types::PROTOCOL, types::SERVICE, types::MARK];
        assert_eq!(concatenated(&four), 0x730d << 6 | 19);
    }

    #[test]
    fn a_verdict_names_its_chain() {
        let mut out = Vec::new();
        Verdict::Goto("c3".to_owned()).write(&mut out);
        let verdict = nested(&out, 2).expect("a verdict");
        assert_eq!(nested(verdict, 1).and_then(value_be32), Some(-4i32 as u32));
        assert_eq!(nested(verdict, 2).map(value_text), Some("c3"));
    }

    #[test]
    fn data_is_compared_without_netlinks_flags() {
        let verdict = Data::Verdict(Verdict::Goto("c3".to_owned()));
        let mut sent = Vec::new();
        // The kernel does not mark nested attributes.
        let mut inner = Vec::new();
        inner.bytes(1, &(-4i32).to_be_bytes()).text(2, "c3");
        sent.bytes(2, &inner);
        assert_eq!(canonical(&sent), verdict.canonical());
        assert_ne!(canonical(&sent), Data::Verdict(Verdict::Goto("c4".to_owned())).canonical());
        assert_ne!(canonical(&sent), Data::Verdict(Verdict::Drop).canonical());
    }

    #[test]
    fn a_timed_element_is_read_back() {
        let element = Timed { key: vec![1, 2, 3, 4], data: vec![5, 6, 7, 8], timeout: 10_800_000, left: 7 };
        let mut out = Vec::new();
        element.write(&mut out);
        assert_eq!(nested(&out, 1).and_then(Timed::read), Some(element));
    }

    #[test]
    fn a_map_says_so_in_its_flags() {
        let spec = SetSpec {
            name: "m",
            key: &[types::ADDRESS, types::SERVICE],
            data: &[types::VERDICT],
            dynamic: false,
        };
        assert_eq!(spec.flags(), 0x88);
        assert_eq!(SetSpec { data: &[], key: &[types::ADDRESS], ..spec }.flags(), 0);
    }
}
