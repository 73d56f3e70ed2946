//! Notifications of changes that others made.

use std::collections::BTreeSet;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use nix::sys::socket::{setsockopt, sockopt};

use crate::network::netlink::{Socket, nested, value_text};

use super::{NEW_GENERATION, kind};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// Room for the notifications of a large change.
const RECEIVE_BUFFER: usize = 1 << 20;
/// No datagram is larger: the kernel fills pages.
const DATAGRAM: usize = 64 << 10;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A batch of another socket touched these tables.
    Tables(BTreeSet<String>),
    /// Notifications were lost: anything may have changed.
    Lost,
}

/// A subscription to the changes of nf_tables.
pub struct Monitor {
    socket: TokioSocket,
    touched: BTreeSet<String>,
}

impl Monitor {
    /// Subscribes in the network namespace of the calling thread. Changes from now on are seen.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        let inner = socket.socket_mut();
        inner.bind_auto()?;
        // May be refused in a restricted container; then more changes count as lost.
        let _ = setsockopt(&*inner, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        inner.add_membership(GROUP)?;
        Ok(Self { socket, touched: BTreeSet::new() })
    }

    /// The next change that no socket with one of the netlink ports `own` made.
    pub async fn next(&mut self, own: &[u32]) -> io::Result<Change> {
        let mut buffer = Vec::with_capacity(DATAGRAM);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer).await {
                Ok(_) => {
                    if let Some(tables) = self.read(&buffer, own) {
                        return Ok(Change::Tables(tables));
                    }
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.touched.clear();
                    return Ok(Change::Lost);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
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
