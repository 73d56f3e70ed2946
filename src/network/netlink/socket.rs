//! A netlink socket that sends requests and reads their answers.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NetlinkDeserializable, NetlinkSerializable};
use netlink_sys::SocketAddr;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::{ACK, DUMP, HEADER, REQUEST, message};

/// Types of messages that netlink itself defines.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// What a dump showed changed while it ran.
const DUMP_INTERRUPTED: u16 = 0x10;
/// How often an interrupted dump is tried again.
const DUMP_TRIES: usize = 50;
/// The kernel answers at once; this only keeps a lost answer from blocking a thread for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const RECEIVE_BUFFER: usize = 1 << 20;

/// A message the kernel sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// Sequence number of the request it answers.
    pub seq: u32,
    /// Netlink port of the socket that caused it, or that it answers.
    pub port: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Message {
    /// What an error message says: `Ok` is an acknowledgement.
    fn status(&self) -> io::Result<()> {
        let code = self.payload.get(..4).and_then(|c| c.try_into().ok()).map_or(0, i32::from_ne_bytes);
        if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
    }
}

/// A netlink socket of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    seq: u32,
    port: u32,
    send_buffer: usize,
}

impl Socket {
    /// Opens a socket of a netlink protocol, such as `NETLINK_NETFILTER`.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut inner = netlink_sys::Socket::new(protocol)?;
        let port = inner.bind_auto()?.port_number();
        let timeout = TimeVal::new(ANSWER_TIMEOUT.as_secs() as i64, 0);
        setsockopt(&inner, sockopt::ReceiveTimeout, &timeout)?;
        // The buffer may be refused to grow in a restricted container; dumps work with less.
        let _ = setsockopt(&inner, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        inner.set_cap_ack(true)?;
        Ok(Self { inner, seq: 0, port, send_buffer: 0 })
    }

    /// Opens a socket that receives the notifications of a group; [`Socket::receive`] waits so long.
    pub fn subscribe(protocol: isize, group: u32, wait: Duration) -> io::Result<Self> {
        let socket = Self::open(protocol)?;
        let wait = TimeVal::new(wait.as_secs() as i64, i64::from(wait.subsec_micros()));
        setsockopt(&socket.inner, sockopt::ReceiveTimeout, &wait)?;
        socket.inner.add_membership(group)?;
        Ok(socket)
    }

    /// The socket's netlink port, by which its own changes are known in notifications.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// A sequence number not used before.
    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// Sends messages in one piece.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let wanted = bytes.len() * 2;
        if wanted > 200_000 && wanted > self.send_buffer {
            setsockopt(&self.inner, sockopt::SndBufForce, &wanted)?;
            self.send_buffer = wanted;
        }
        let sent = self.inner.send_to(bytes, &SocketAddr::new(0, 0), 0)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next messages, one datagram of them.
    pub fn receive(&self) -> io::Result<Vec<Message>> {
        let mut buffer = Vec::with_capacity(64 << 10);
        loop {
            match self.inner.recv_from(&mut buffer, 0) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(_) => return Ok(Self::split(&buffer)),
            }
        }
    }

    /// Sends one request and waits until the kernel has done it.
    pub fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let seq = self.next_seq();
        let mut out = Vec::with_capacity(HEADER + body.len());
        message(&mut out, kind, flags | REQUEST | ACK, seq, |o| o.extend_from_slice(body));
        self.send(&out)?;
        self.acknowledged(seq, seq)
    }

    /// Waits for the acknowledgement of request `last`, or the first error of `first..=last`.
    pub fn acknowledged(&self, first: u32, last: u32) -> io::Result<()> {
        loop {
            for message in self.receive()? {
                if message.kind != ERROR || !(first..=last).contains(&message.seq) {
                    continue;
                }
                message.status()?;
                if message.seq == last {
                    return Ok(());
                }
            }
        }
    }

    /// Sends a request for one object and gives the answer; `None` if it is not there.
    pub fn get(&mut self, kind: u16, body: &[u8]) -> io::Result<Option<Message>> {
        let seq = self.next_seq();
        let mut out = Vec::new();
        message(&mut out, kind, REQUEST, seq, |o| o.extend_from_slice(body));
        self.send(&out)?;
        loop {
            for message in self.receive()? {
                if message.seq != seq {
                    continue;
                }
                if message.kind != ERROR {
                    return Ok(Some(message));
                }
                match message.status() {
                    Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                        return Ok(None);
                    }
                    Err(e) => return Err(e),
                    Ok(()) => {}
                }
            }
        }
    }

    /// Sends a request for all objects, again if they changed meanwhile.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        for _ in 0..DUMP_TRIES {
            if let Some(messages) = self.dump_once(kind, body)? {
                return Ok(messages);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINTR))
    }

    fn dump_once(&mut self, kind: u16, body: &[u8]) -> io::Result<Option<Vec<Message>>> {
        let seq = self.next_seq();
        let mut out = Vec::new();
        message(&mut out, kind, REQUEST | DUMP, seq, |o| o.extend_from_slice(body));
        self.send(&out)?;
        let mut all = Vec::new();
        let mut whole = true;
        loop {
            for message in self.receive()? {
                if message.seq != seq {
                    continue;
                }
                whole &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    DONE => {
                        message.status()?;
                        return Ok(whole.then_some(all));
                    }
                    ERROR => message.status()?,
                    _ => all.push(message),
                }
            }
        }
    }

    /// [`Socket::request`] with a typed message.
    pub fn request_typed<M: NetlinkSerializable>(&mut self, flags: u16, message: &M) -> io::Result<()> {
        self.request(message.message_type(), flags, &serialized(message))
    }

    /// [`Socket::dump`] with typed messages; those this process cannot read are left out.
    pub fn dump_typed<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        message: &M,
    ) -> io::Result<Vec<M>> {
        let answers = self.dump(message.message_type(), &serialized(message))?;
        Ok(answers.iter().filter_map(typed).collect())
    }

    /// [`Socket::get`] with a typed message.
    pub fn get_typed<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        message: &M,
    ) -> io::Result<Option<M>> {
        let answer = self.get(message.message_type(), &serialized(message))?;
        Ok(answer.as_ref().and_then(typed))
    }
}

fn typed<M: NetlinkDeserializable>(message: &Message) -> Option<M> {
    let mut header = netlink_packet_core::NetlinkHeader::default();
    header.message_type = message.kind;
    M::deserialize(&header, &message.payload).ok()
}

fn serialized<M: NetlinkSerializable>(message: &M) -> Vec<u8> {
    let mut body = vec![0; message.buffer_len()];
    message.serialize(&mut body);
    body
}

impl Socket {
    /// The messages of a datagram. Ends at the first one that is cut off.
    pub fn split(mut bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some((header, _)) = bytes.split_at_checked(HEADER) {
            let word =
                |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
            let len = word(0) as usize;
            let Some(payload) = bytes.get(HEADER..len) else {
                break;
            };
            messages.push(Message {
                kind: half(4),
                flags: half(6),
                seq: word(8),
                port: word(12),
                payload: payload.to_vec(),
            });
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_datagram_are_split() {
        let mut bytes = Vec::new();
        message(&mut bytes, 16, REQUEST, 3, |o| o.extend_from_slice(&[1, 2, 3]));
        message(&mut bytes, DONE, 0, 3, |_| {});
        let messages = Socket::split(&bytes);
        assert_eq!(messages.len(), 2);
        assert_eq!(
            (messages[0].kind, messages[0].seq, messages[0].payload.as_slice()),
            (16, 3, &[1, 2, 3][..])
        );
        assert_eq!(messages[1].kind, DONE);
        assert_eq!(Socket::split(&bytes[..18]), []);
    }

    #[test]
    fn an_error_carries_the_kernels_number() {
        let refused =
            Message { kind: ERROR, flags: 0, seq: 1, port: 0, payload: (-17i32).to_ne_bytes().to_vec() };
        assert_eq!(refused.status().expect_err("refused").raw_os_error(), Some(17));
        let done = Message { payload: vec![0; 4], ..refused };
        assert!(done.status().is_ok());
    }
}
