//! Forwarding through a host firewall that drops what it does not know.
//!
//! A verdict to accept in a table of ours does not overrule a drop in another. Where the machine has
//! the table `filter` with a chain `FORWARD`, as iptables makes it and Docker sets it to drop, two
//! rules at its beginning accept what comes from, or goes to, the pod bridge. A firewall of another
//! form (an nftables ruleset of one's own) has to accept the bridge itself.

use std::io;

use crate::network::netlink::Socket;
use crate::network::nft::{Batch, Rule, Verdict, chain_names, rules};

const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";

/// The comment our rules carry, in the form `nft` and `iptables` show.
fn tag(bridge: &str) -> Vec<u8> {
    let text = format!("kedge pods on {bridge}");
    let len = u8::try_from(text.len() + 1).expect("interface names have at most 15 bytes");
    [&[0, len], text.as_bytes(), &[0]].concat()
}

/// Puts the rules in, if there is such a chain and they are not in it.
pub fn accept(socket: &mut Socket, bridge: &str) -> io::Result<()> {
    match try_accept(socket, bridge) {
        // The chain went away meanwhile.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

fn try_accept(socket: &mut Socket, bridge: &str) -> io::Result<()> {
    if !has_chain(socket)? {
        return Ok(());
    }
    let tag = tag(bridge);
    if rules(socket, TABLE, CHAIN)?.iter().filter(|rule| rule.tag == tag).count() == 2 {
        return Ok(());
    }
    remove(socket, bridge)?;
    let mut batch = Batch::new(TABLE);
    for out in [true, false] {
        batch.insert_rule(CHAIN, &Rule::new().interface(out, bridge, true).verdict(Verdict::Accept), &tag);
    }
    batch.commit(socket)
}

/// Takes the rules out, wherever they are.
pub fn remove(socket: &mut Socket, bridge: &str) -> io::Result<()> {
    if !has_chain(socket)? {
        return Ok(());
    }
    let tag = tag(bridge);
    let mut batch = Batch::new(TABLE);
    for rule in rules(socket, TABLE, CHAIN)?.iter().filter(|rule| rule.tag == tag) {
        batch.delete_rule(CHAIN, rule.handle);
    }
    batch.commit(socket)
}

fn has_chain(socket: &mut Socket) -> io::Result<bool> {
    Ok(chain_names(socket, TABLE)?.iter().any(|name| name == CHAIN))
}

/// The table whose changes concern this module.
pub fn is_concerned(table: &str) -> bool {
    table == TABLE
}
