//! Netlink sockets and attributes, as far as the crates leave them to us.
//!
//! Everything here is synchronous: the kernel answers within the system call. Callers run it on
//! blocking threads, or on a thread of its own inside a pod's network namespace.

mod attr;
mod socket;

pub use attr::{Attrs, nested, parse, value_be32, value_text};
pub use socket::Socket;

/// Flag of a request.
pub const REQUEST: u16 = 0x1;
/// The request is to be acknowledged.
pub const ACK: u16 = 0x4;
/// The request is for all objects.
pub const DUMP: u16 = 0x300;
/// Make the object if it is not there.
pub const CREATE: u16 = 0x400;
/// Fail if the object is there.
pub const EXCL: u16 = 0x200;
/// Add behind what is there.
pub const APPEND: u16 = 0x800;

/// Length of a netlink message's header.
pub const HEADER: usize = 16;

/// Appends a message of type `kind` to `out`; `body` writes what follows the header.
pub fn message(out: &mut Vec<u8>, kind: u16, flags: u16, seq: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&seq.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = u32::try_from(out.len() - start).expect("a message is far smaller than 4 GiB");
    out[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
}
