//! Makes links right again that something else deleted or took apart.
//!
//! Somebody's script, another network manager or a second installation's clean-up may delete the bridge, take
//! a pod's end from it, or delete a pair. Pods do not notice by themselves; the kernel tells of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};

use super::{Attachment, Inner, attach, bridge};
use crate::network::link::{GROUP_LINK, Links};
use crate::network::netlink::{Socket, nested, value_text};
use crate::network::{Error, Result};

/// `RTM_DELLINK`: also told, for the family of bridges, of a port that leaves its bridge.
const DELETED: u16 = 17;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
/// Length of `struct ifinfomsg`.
const HEADER: usize = 16;
/// No datagram is larger: the kernel fills pages.
const DATAGRAM: usize = 64 << 10;

/// A subscription to the ends of links.
pub(super) struct Monitor(TokioSocket);

impl Monitor {
    /// Subscribes in the network namespace of the calling thread. Ends from now on are seen.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(GROUP_LINK)?;
        Ok(Self(socket))
    }

    /// Names of links that are gone, or left a bridge; none if notifications were lost.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<String>>> {
        let mut buffer = Vec::with_capacity(DATAGRAM);
        loop {
            buffer.clear();
            match self.0.recv(&mut buffer).await {
                Ok(_) => {
                    let names = ended(&buffer);
                    if !names.is_empty() {
                        return Ok(Some(names));
                    }
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn ended(datagram: &[u8]) -> Vec<String> {
    let name = |payload: &[u8]| nested(payload.get(HEADER..)?, NAME).map(|n| value_text(n).to_owned());
    let messages = Socket::split(datagram).into_iter().filter(|message| message.kind == DELETED);
    messages.filter_map(|message| name(&message.payload)).collect()
}

impl Inner {
    /// Looks after what these links were; `None`: after all of them.
    pub(super) fn restore_links(&self, ended: Option<&[String]>) -> Result<()> {
        // Nothing is attached or detached meanwhile: what is missing then is missing for a foreign reason.
        let _all = self.links.write();
        let attachments: Vec<_> = self.ipam.lock().all().cloned().collect();
        let concerned = |name: &str| {
            name == self.config.bridge || attachments.iter().any(|attachment| attachment.interface == name)
        };
        if ended.is_some_and(|names| !names.iter().any(|name| concerned(name))) {
            return Ok(());
        }
        let bridge = bridge::make_equal(&self.config)?;
        if bridge.index != std::mem::replace(&mut *self.bridge.lock(), bridge).index {
            tracing::warn!(
                bridge = self.config.bridge,
                "something else deleted the bridge; it was made again"
            );
            let further = self.further.lock().clone();
            further.into_iter().try_for_each(|address| self.add_address(address))?;
        }
        for attachment in &attachments {
            if let Err(error) = self.reconnect(attachment, bridge) {
                // Its namespace may be gone too: then the sandbox is, which is noticed elsewhere.
                let (sandbox, interface) = (&attachment.sandbox, &attachment.interface);
                tracing::info!(sandbox, interface, %error, "a sandbox cannot be connected again");
            }
        }
        Ok(())
    }

    fn reconnect(&self, attachment: &Attachment, bridge: bridge::Bridge) -> Result<()> {
        let name = &self.config.bridge;
        let failed =
            |source| Error::Kernel { doing: format!("connect {} again", attachment.interface), source };
        let mut links = Links::open().map_err(failed)?;
        match links.find(&attachment.interface).map_err(failed)? {
            Some(link) if link.controller == Some(bridge.index) => Ok(()),
            Some(link) => {
                tracing::warn!(interface = attachment.interface, "it was no port of the bridge any more");
                links.add_port(link.index, bridge.index).map_err(failed)?;
                links.wait_until_passing(&[&attachment.interface, name]).map_err(failed)
            }
            None if is_another_namespace(&attachment.netns).map_err(failed)? => {
                tracing::warn!(
                    interface = attachment.interface,
                    "something else deleted it; it was made again"
                );
                attach::connect(attachment, &attachment.netns, bridge, name)
            }
            None => Ok(()),
        }
    }
}

/// Whether this path opens a network namespace that is not this process's own. Reservations of older versions
/// name none.
fn is_another_namespace(path: &Path) -> io::Result<bool> {
    if path.as_os_str().is_empty() {
        return Ok(false);
    }
    let (pod, own) = (File::open(path)?.metadata()?, File::open("/proc/thread-self/ns/net")?.metadata()?);
    Ok(pod.dev() == own.dev() && pod.ino() != own.ino())
}
