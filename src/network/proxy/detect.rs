//! What the kernel can do.

use std::io;

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER};

use crate::network::netlink::{Attrs, Socket};
use crate::network::nft::table_names;

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY` and `CTRL_ATTR_FAMILY_NAME`.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_NAME: u16 = 2;

/// Whether the kernel has IPVS: asks for its generic netlink family, upon which the kernel loads the
/// module if there is one.
pub fn ipvs() -> io::Result<bool> {
    let mut socket = Socket::open(NETLINK_GENERIC)?;
    let mut body = vec![GET_FAMILY, 1, 0, 0];
    body.text(FAMILY_NAME, "IPVS");
    Ok(socket.get(CONTROLLER, &body)?.is_some())
}

/// Whether the kernel has nf_tables; the error says what it answered.
pub fn nftables() -> io::Result<()> {
    table_names(&mut Socket::open(NETLINK_NETFILTER)?).map(drop)
}
