//! Reading what the kernel has.

use std::collections::BTreeMap;
use std::io;

use crate::network::netlink::{Attrs, Socket, nested, parse, value_text};

use super::set::{Timed, canonical};
use super::{GET_CHAIN, GET_ELEMENT, GET_RULE, GET_SET, GET_TABLE, header, kind};

/// Length of `struct nfgenmsg`.
const HEADER: usize = 4;

/// A rule of another program's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignRule {
    /// The number the kernel gave it.
    pub handle: u64,
    /// What its maker kept with it.
    pub tag: Vec<u8>,
}

/// The content of a table, comparable: equal tables treat packets equally.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The expressions of the rules of each chain.
    pub chains: BTreeMap<String, Vec<Vec<u8>>>,
    /// The elements of each set: key and datum. Those of dynamic sets are left out.
    pub sets: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
}

fn body(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    header(&mut out, 0);
    fill(&mut out);
    out
}

/// Names of all tables of the IPv4 family.
pub fn table_names(socket: &mut Socket) -> io::Result<Vec<String>> {
    let tables = socket.dump(kind(GET_TABLE), &body(|_| {}))?;
    Ok(tables.iter().filter_map(|m| text_attribute(&m.payload, 1)).collect())
}

/// Names of the chains of a table.
pub fn chain_names(socket: &mut Socket, table: &str) -> io::Result<Vec<String>> {
    let chains = socket.dump(kind(GET_CHAIN), &body(|_| {}))?;
    Ok(chains
        .iter()
        .filter(|m| text_attribute(&m.payload, 1).as_deref() == Some(table))
        .filter_map(|m| text_attribute(&m.payload, 3))
        .collect())
}

/// The rules of a chain.
pub fn rules(socket: &mut Socket, table: &str, chain: &str) -> io::Result<Vec<ForeignRule>> {
    let filter = body(|o| {
        o.text(1, table).text(2, chain);
    });
    let rules = socket.dump(kind(GET_RULE), &filter)?;
    Ok(rules
        .iter()
        .filter_map(|m| {
            let attributes = m.payload.get(HEADER..)?;
            let handle = u64::from_be_bytes(nested(attributes, 3)?.try_into().ok()?);
            Some(ForeignRule { handle, tag: nested(attributes, 7).unwrap_or_default().to_vec() })
        })
        .collect())
}

/// The content of a table; `None` if it is not there, or is removed or changed meanwhile.
pub fn dump_table(socket: &mut Socket, name: &str) -> io::Result<Option<Table>> {
    if !table_names(socket)?.iter().any(|n| n == name) {
        return Ok(None);
    }
    match dump_parts(socket, name) {
        Ok(table) => Ok(Some(table)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn dump_parts(socket: &mut Socket, name: &str) -> io::Result<Table> {
    let mut table = Table::default();
    for chain in chain_names(socket, name)? {
        table.chains.insert(chain, Vec::new());
    }
    let of_table = body(|o| {
        o.text(1, name);
    });
    for rule in socket.dump(kind(GET_RULE), &of_table)? {
        let attributes = &rule.payload[HEADER.min(rule.payload.len())..];
        let (Some(chain), Some(expressions)) = (nested(attributes, 2), nested(attributes, 4)) else {
            continue;
        };
        table.chains.entry(value_text(chain).to_owned()).or_default().push(expressions.to_vec());
    }
    for set in socket.dump(kind(GET_SET), &of_table)? {
        let Some(set_name) = text_attribute(&set.payload, 2) else {
            continue;
        };
        let dynamic = set.payload.get(HEADER..).is_some_and(is_dynamic);
        let elements = if dynamic { BTreeMap::new() } else { elements(socket, name, &set_name)? };
        table.sets.insert(set_name, elements);
    }
    Ok(table)
}

/// `NFT_SET_TIMEOUT` among the flags.
fn is_dynamic(set: &[u8]) -> bool {
    nested(set, 3).and_then(crate::network::netlink::value_be32).is_some_and(|flags| flags & 0x10 != 0)
}

/// The elements of a set: key and datum.
pub fn elements(socket: &mut Socket, table: &str, set: &str) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    map_elements(socket, table, set, |element| {
        let key = nested(nested(element, 1)?, 1)?;
        let data = nested(element, 2).map(canonical).unwrap_or_default();
        Some((key.to_vec(), data))
    })
}

/// The elements of a dynamic map, with their times.
pub fn timed_elements(socket: &mut Socket, table: &str, set: &str) -> io::Result<Vec<Timed>> {
    map_elements(socket, table, set, Timed::read)
}

fn map_elements<T, C: FromIterator<T>>(
    socket: &mut Socket,
    table: &str,
    set: &str,
    read: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<C> {
    let of_set = body(|o| {
        o.text(1, table).text(2, set);
    });
    let messages = socket.dump(kind(GET_ELEMENT), &of_set)?;
    let lists = messages.iter().filter_map(|m| nested(m.payload.get(HEADER..)?, 3));
    Ok(lists.flat_map(parse).filter_map(|(_, element)| read(element)).collect())
}

fn text_attribute(payload: &[u8], kind: u16) -> Option<String> {
    nested(payload.get(HEADER..)?, kind).map(|v| value_text(v).to_owned())
}
