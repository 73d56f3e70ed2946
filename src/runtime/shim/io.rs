//! A container's standard streams: read without blocking, logged, and copied to whoever is attached.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;

use super::log::{Log, Stream};
use crate::runtime::sys;

/// While an attached client is this far behind, the container's output is not read: it waits, as with containerd.
const MAX_BEHIND: usize = 256 << 10;
/// So much of what a container says before anybody is attached is kept for the first client, if its input ends
/// with that client: what `kubectl run -i` starts may be done before it can attach.
const MAX_EARLY: usize = 64 << 10;

/// What a readiness report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The container wrote.
    Output(Stream),
    /// The container takes more input.
    Input,
    /// An attached client wrote, or can take more, or is gone.
    Attached(u64, Side),
}

/// A stream of an attached client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Its input to the container.
    In,
    /// The container's output to it.
    Out,
    /// The container's errors to it.
    Err,
}

/// Writes without blocking and keeps what could not be written.
struct Sink {
    file: File,
    waiting: VecDeque<u8>,
}

impl Sink {
    /// `false`: the reader is gone.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.waiting.extend(bytes);
        self.flush()
    }

    fn is_behind(&self) -> bool {
        self.waiting.len() > MAX_BEHIND
    }

    fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            match self.file.write(self.waiting.as_slices().0) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// One attached client.
#[derive(Default)]
struct Client {
    input: Option<File>,
    sinks: BTreeMap<Side, Sink>,
}

/// The streams of one container, the shim's ends of them.
pub struct Streams {
    log: Log,
    log_failed: bool,
    outputs: Vec<(Stream, File)>,
    input: Option<Sink>,
    /// Input is closed once all of it is written.
    input_ended: bool,
    stdin_once: bool,
    terminal: Option<OwnedFd>,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    /// What was said before the first client came; `None` when nobody is to be told.
    early: Option<Vec<(Side, Vec<u8>)>>,
}

/// Descriptors for an attached client: input, output, errors.
pub type ClientEnds = [Option<OwnedFd>; 3];

impl Streams {
    /// Streams over pipes.
    pub fn pipes(
        log: Log,
        input: Option<OwnedFd>,
        out: OwnedFd,
        err: OwnedFd,
        stdin_once: bool,
    ) -> io::Result<Self> {
        let outputs = vec![(Stream::Stdout, unblock(out)?), (Stream::Stderr, unblock(err)?)];
        Self::new(log, outputs, input.map(unblock).transpose()?, None, stdin_once)
    }

    /// Streams over the master of a terminal.
    pub fn terminal(log: Log, master: OwnedFd, stdin: bool, stdin_once: bool) -> io::Result<Self> {
        let output = unblock(master.try_clone()?)?;
        let input = if stdin { Some(unblock(master.try_clone()?)?) } else { None };
        Self::new(log, vec![(Stream::Stdout, output)], input, Some(master), stdin_once)
    }

    fn new(
        log: Log,
        outputs: Vec<(Stream, File)>,
        input: Option<File>,
        terminal: Option<OwnedFd>,
        stdin_once: bool,
    ) -> io::Result<Self> {
        let input = input.map(|file| Sink { file, waiting: VecDeque::new() });
        let clients = BTreeMap::new();
        Ok(Self {
            log,
            log_failed: false,
            outputs,
            input,
            input_ended: false,
            stdin_once,
            terminal,
            clients,
            next_client: 0,
            early: stdin_once.then(Vec::new),
        })
    }

    /// Tells which descriptors to wait for.
    pub fn wait_for(&self, mut on: impl FnMut(RawFd, PollFlags, Token)) {
        for (stream, file) in &self.outputs {
            let side = side_of(*stream);
            if self.clients.values().any(|c| c.sinks.get(&side).is_some_and(Sink::is_behind)) {
                continue;
            }
            on(file.as_raw_fd(), PollFlags::POLLIN, Token::Output(*stream));
        }
        let full = self.input.as_ref().is_some_and(|i| !i.waiting.is_empty());
        if let Some(input) = self.input.as_ref().filter(|_| full) {
            on(input.file.as_raw_fd(), PollFlags::POLLOUT, Token::Input);
        }
        for (id, client) in &self.clients {
            if let Some(file) = client.input.as_ref().filter(|_| !full) {
                on(file.as_raw_fd(), PollFlags::POLLIN, Token::Attached(*id, Side::In));
            }
            for (side, sink) in &client.sinks {
                // Without events asked for, a reader that went away is still told.
                let flags = if sink.waiting.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
                on(sink.file.as_raw_fd(), flags, Token::Attached(*id, *side));
            }
        }
    }

    /// Acts on what [`Streams::wait_for`] asked about.
    pub fn ready(&mut self, token: Token, events: PollFlags) {
        match token {
            Token::Output(stream) => drop(self.read(stream)),
            Token::Input => self.flush_input(),
            Token::Attached(id, Side::In) => self.read_client(id),
            Token::Attached(id, side) => {
                let Some(client) = self.clients.get_mut(&id) else {
                    return;
                };
                let gone = events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL);
                let open = client.sinks.get_mut(&side).is_some_and(|s| !gone && s.flush());
                // After the container's end sinks only live until they are empty.
                let done =
                    self.outputs.is_empty() && client.sinks.get(&side).is_some_and(|s| s.waiting.is_empty());
                if !open || done {
                    client.sinks.remove(&side);
                }
                self.forget_empty_clients();
            }
        }
    }

    /// Reads one piece of output; `false` at its end or when there is no more for now.
    fn read(&mut self, stream: Stream) -> bool {
        let mut buffer = [0; 32 * 1024];
        let Some((_, file)) = self.outputs.iter_mut().find(|(s, _)| *s == stream) else {
            return false;
        };
        match file.read(&mut buffer) {
            Ok(n) if n > 0 => {
                self.output(stream, &buffer[..n]);
                true
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => true,
            // End of file; a terminal nobody has open any more says EIO.
            _ => {
                self.outputs.retain(|(s, _)| *s != stream);
                let logged = self.log.finish(stream);
                self.check_log(logged);
                false
            }
        }
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let logged = self.log.write(stream, bytes);
        self.check_log(logged);
        let side = side_of(stream);
        if let Some(early) = &mut self.early {
            early.push((side, bytes.to_vec()));
            if early.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > MAX_EARLY {
                self.early = None;
            }
        }
        for client in self.clients.values_mut() {
            if client.sinks.get_mut(&side).is_some_and(|sink| !sink.push(bytes)) {
                client.sinks.remove(&side);
            }
        }
    }

    fn read_client(&mut self, id: u64) {
        let mut buffer = [0; 16 * 1024];
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(file) = &mut client.input else {
            return;
        };
        match file.read(&mut buffer) {
            Ok(n) if n > 0 => {
                if self.input.as_mut().is_some_and(|i| !i.push(&buffer[..n])) {
                    self.input = None;
                }
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            _ => {
                client.input = None;
                if self.stdin_once && self.terminal.is_none() {
                    self.input_ended = true;
                } else {
                    // Nothing closes the container's input: the client would wait for ever. containerd lets it go too.
                    client.sinks.clear();
                }
                self.flush_input();
                self.forget_empty_clients();
            }
        }
    }

    fn flush_input(&mut self) {
        if self.input.as_mut().is_some_and(|i| !i.flush() || (self.input_ended && i.waiting.is_empty())) {
            self.input = None;
        }
    }

    fn forget_empty_clients(&mut self) {
        self.clients.retain(|_, c| c.input.is_some() || !c.sinks.is_empty());
    }

    /// Connects a client from now on, to the input only if it has something to say: the end of its input means
    /// something.
    pub fn attach(&mut self, stdin: bool) -> io::Result<ClientEnds> {
        let mut client = Client::default();
        let mut ends: ClientEnds = [None, None, None];
        if stdin && self.input.is_some() {
            let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            client.input = Some(unblock(read)?);
            ends[0] = Some(write);
        }
        for (stream, _) in &self.outputs {
            let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            let (side, slot) = if *stream == Stream::Stdout { (Side::Out, 1) } else { (Side::Err, 2) };
            client.sinks.insert(side, Sink { file: unblock(write)?, waiting: VecDeque::new() });
            ends[slot] = Some(read);
        }
        for (side, bytes) in self.early.take().into_iter().flatten() {
            if client.sinks.get_mut(&side).is_some_and(|sink| !sink.push(&bytes)) {
                client.sinks.remove(&side);
            }
        }
        self.clients.insert(self.next_client, client);
        self.next_client += 1;
        Ok(ends)
    }

    /// Changes the size of the terminal, if there is one.
    pub fn resize(&self, cols: u16, rows: u16) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |t| sys::set_window_size(&t.as_fd(), cols, rows))
    }

    /// Whether they are a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// A log that cannot be written, for a full disk maybe, must not stop the container, nor fill
    /// another disk with complaints.
    fn check_log(&mut self, logged: io::Result<()>) {
        if let Err(e) = &logged
            && !self.log_failed
        {
            tracing::warn!("container log: {e}");
        }
        self.log_failed = logged.is_err();
    }

    /// The log's path, once after it was rotated.
    pub fn take_rotated(&mut self) -> Option<PathBuf> {
        self.log.take_rotated()
    }

    /// Opens the log anew.
    pub fn reopen_log(&mut self) -> io::Result<()> {
        self.log.reopen()
    }

    /// The container has ended: takes what it still wrote and closes everything but clients that
    /// have not read all of it yet.
    pub fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.read(stream) {}
            let logged = self.log.finish(stream);
            self.check_log(logged);
        }
        self.outputs.clear();
        self.input = None;
        self.terminal = None;
        for client in self.clients.values_mut() {
            client.input = None;
            client.sinks.retain(|_, sink| !sink.waiting.is_empty());
        }
        self.forget_empty_clients();
    }
}

fn side_of(stream: Stream) -> Side {
    if stream == Stream::Stdout { Side::Out } else { Side::Err }
}

fn unblock(fd: OwnedFd) -> io::Result<File> {
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_raw_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(File::from(fd))
}

#[cfg(test)]
mod tests;
