//! nf_tables by netlink: expressions, sets, chains, atomic batches.
//!
//! Only the IPv4 family (`ip`) is used. The numbers are those of `linux/netfilter/nf_tables.h`.

mod batch;
mod dump;
mod expr;
mod monitor;
mod set;

pub use batch::{Base, Batch, Hook};
pub use dump::{chain_names, dump_table, elements, rules, table_names, timed_elements};
pub use expr::{CT_DESTINATION, CT_PORT, CT_SOURCE, CT_STATE, CT_STATUS, Expr, META_L4PROTO, Reg, Rule};
pub use monitor::{Change, Monitor};
pub use set::{Data, SetSpec, Timed, Verdict, types};

/// Netlink message type of an nf_tables message.
const fn kind(message: u16) -> u16 {
    (10 << 8) | message
}

/// `struct nfgenmsg`: family, version, resource.
fn header(out: &mut Vec<u8>, resource: u16) {
    out.extend_from_slice(&[libc::AF_INET as u8, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
}

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const DEL_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DEL_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const GET_SET: u16 = 10;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DEL_ELEMENT: u16 = 14;
const NEW_GENERATION: u16 = 15;
