//! Notifications of changes that others made.

use std::collections::BTreeSet;
use std::io;

use tokio::io::unix::AsyncFd;

use crate::network::netlink::{Socket, nested, value_text};

use super::{NEW_GENERATION, kind};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// Room for the notifications of a large change.
const RECEIVE_BUFFER: usize = 1 << 20;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A batch of another socket touched these tables.
    Tables(BTreeSet<String>),
    /// Notifications were lost: anything may have changed.
    Lost,
}

/// A subscription to the changes of nf_tables.
#[derive(Debug)]
pub struct Monitor {
    socket: AsyncFd<netlink_sys::Socket>,
    touched: BTreeSet<String>,
}

impl Monitor {
    /// Subscribes in the network namespace of the calling thread. Changes from now on are seen.
    pub fn open() -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // May be refused in a restricted container; then more changes count as lost.
        let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &RECEIVE_BUFFER);
        socket.add_membership(GROUP)?;
        Ok(Self { socket: AsyncFd::new(socket)?, touched: BTreeSet::new() })
    }

    /// The next change that no socket with one of the netlink ports `own` made.
    pub async fn next(&mut self, own: &[u32]) -> io::Result<Change> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut buffer = Vec::with_capacity(256 << 10);
            match ready.try_io(|s| s.get_ref().recv_from(&mut buffer, 0)) {
                Err(_would_block) => {}
                Ok(Err(e)) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.touched.clear();
                    return Ok(Change::Lost);
                }
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Err(e),
                Ok(Ok(_)) => {
                    if let Some(tables) = self.read(&buffer, own) {
                        return Ok(Change::Tables(tables));
                    }
                }
            }
        }
    }

    /// Collects what a datagram touches; the tables, once their batch is complete.
    fn read(&mut self, datagram: &[u8], own: &[u32]) -> Option<BTreeSet<String>> {
        let mut complete = None;
        for message in Socket::split(datagram) {
            if own.contains(&message.port) {
                continue;
            }
            if message.kind == kind(NEW_GENERATION) {
                let touched = std::mem::take(&mut self.touched);
                complete.get_or_insert_with(BTreeSet::new).extend(touched);
            } else if let Some(table) = message.payload.get(4..).and_then(|a| nested(a, 1)) {
                self.touched.insert(value_text(table).to_owned());
            }
        }
        complete
    }
}
