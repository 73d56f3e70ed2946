//! kedge's side of a shim's socket.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::error::Error;
use super::paths::SandboxDir;
use super::protocol::{Reply, Request, decode, encode};
use super::{shim, sys};

/// A shim that has not done what was asked after this time never will: it may hang in a mount of a
/// file server that is gone. The kubelet's `runtimeRequestTimeout` is the same.
const PATIENCE: Duration = Duration::from_secs(120);

/// As much is read at once.
const CHUNK: usize = 16 * 1024;

/// One connection to a shim.
#[derive(Debug)]
pub(crate) struct Connection {
    sandbox: String,
    stream: UnixStream,
    /// The shim's process. Processes it was just making have copies of its sockets: the end of the
    /// stream does not come when it is killed meanwhile.
    life: AsyncFd<File>,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Connects; [`Error::SandboxLost`] if the shim is gone.
    pub async fn open(sandbox: &str, dir: &SandboxDir) -> Result<Self, Error> {
        let lost = |_: io::Error| Error::SandboxLost(sandbox.to_string());
        // Named through a descriptor: addresses of sockets are short.
        let handle = File::open(&dir.0).map_err(|_| Error::SandboxNotFound(sandbox.to_string()))?;
        let path = format!("/proc/self/fd/{}/shim.sock", handle.as_raw_fd());
        let stream = UnixStream::connect(path).await.map_err(lost)?;
        let holder = shim::holder(dir).ok_or_else(|| Error::SandboxLost(sandbox.to_string()))?;
        let life = sys::pidfd_open(holder).and_then(|fd| sys::asynchronous(File::from(fd))).map_err(lost)?;
        Ok(Self { sandbox: sandbox.to_string(), stream, life, buffer: Vec::new(), fds: Vec::new() })
    }

    /// Sends a request.
    pub async fn send(&mut self, request: &Request) -> Result<(), Error> {
        let sent = self.stream.write_all(&encode(request)).await;
        sent.map_err(|_| Error::SandboxLost(self.sandbox.clone()))
    }

    /// The next reply; failures are errors. [`Error::SandboxLost`] when the shim is gone.
    pub async fn receive(&mut self) -> Result<Reply, Error> {
        loop {
            match decode(&mut self.buffer)? {
                Some(Reply::Failed(failure)) => return Err(failure.into()),
                Some(reply) => return Ok(reply),
                None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Error> {
        let (stream, buffer, fds) = (&self.stream, &mut self.buffer, &mut self.fds);
        // What is received into lives on the stack only: each sandbox has somebody who waits here.
        let mut receive = || {
            let mut chunk = [0; CHUNK];
            let (n, new) = sys::recv_with_fds(stream, &mut chunk)?;
            buffer.extend_from_slice(&chunk[..n]);
            fds.extend(new);
            Ok(n)
        };
        let got = tokio::select! {
            biased;
            got = stream.async_io(Interest::READABLE, &mut receive) => got,
            _ = self.life.readable() => return Err(Error::SandboxLost(self.sandbox.clone())),
        };
        match got {
            Ok(n) if n > 0 => Ok(()),
            _ => Err(Error::SandboxLost(self.sandbox.clone())),
        }
    }

    /// The descriptors that have come so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Sends a request and waits for its reply, if need be for as long as a container runs.
    pub async fn ask(sandbox: &str, dir: &SandboxDir, request: &Request) -> Result<Reply, Error> {
        let reply = async {
            let mut connection = Self::open(sandbox, dir).await?;
            connection.send(request).await?;
            connection.receive().await
        };
        if let Request::Wait { .. } = request {
            return reply.await;
        }
        let stuck = |_| Error::Other(format!("the shim of sandbox {sandbox:?} does not answer"));
        tokio::time::timeout(PATIENCE, reply).await.map_err(stuck)?
    }
}

/// For replies of the wrong kind.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Other(format!("unexpected reply of a shim: {reply:?}"))
}
