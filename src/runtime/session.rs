//! Streams of an exec or an attach: file descriptors handed over by the shim, wrapped for tokio.
//!
//! Bytes go directly between kedge and the process (exec) or through the shim, which logs them as
//! well (attach); never through its control socket.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

use super::client::{Connection, unexpected};
use super::error::Error;
use super::paths::SandboxDir;
use super::protocol::{Reply, Request};
use super::sys;

/// Bytes to a process.
pub type Writer = Box<dyn AsyncWrite + Send + Sync + Unpin>;
/// Bytes from a process.
pub type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// A process running beside a container's own. Dropping it does not end the process, but closes its
/// streams; with a terminal that hangs up.
pub struct ExecSession {
    /// Its standard input, if asked for. Dropping it is end of file (not with a terminal).
    pub stdin: Option<Writer>,
    /// Its standard output, or its terminal's.
    pub stdout: Option<Reader>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Reader>,
    terminal: Option<Arc<AsyncFd<File>>>,
    connection: Connection,
    code: Option<i32>,
}

impl ExecSession {
    /// Takes over a connection on which an exec was asked for.
    pub(crate) async fn open(mut connection: Connection) -> Result<Self, Error> {
        let Streams { stdin, stdout, stderr, terminal } = Streams::receive(&mut connection).await?;
        Ok(Self { stdin, stdout, stderr, terminal, connection, code: None })
    }

    /// Changes the size of its terminal, in characters; without one nothing happens.
    pub fn resize(&self, cols: u16, rows: u16) -> Result<(), Error> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        sys::set_window_size(&terminal.get_ref().as_fd(), cols, rows)
            .map_err(|e| Error::Other(format!("resize: {e}")))
    }

    /// Waits for the end of the process: its exit code, 128 + N when signal N ended it.
    pub async fn wait(&mut self) -> Result<i32, Error> {
        if let Some(code) = self.code {
            return Ok(code);
        }
        match self.connection.receive().await? {
            Reply::Exited { code } => {
                self.code = Some(code);
                Ok(code)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Kills the process.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.connection.send(&Request::KillExec).await
    }
}

impl std::fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecSession").field("code", &self.code).finish_non_exhaustive()
    }
}

/// A connection to the standard streams of a container's first process.
pub struct AttachSession {
    /// Its standard input, if that was asked for and the container keeps one open.
    pub stdin: Option<Writer>,
    /// Its output from now on, or its terminal's; end of file when the container ends.
    pub stdout: Option<Reader>,
    /// Its errors from now on; `None` with a terminal.
    pub stderr: Option<Reader>,
    sandbox: String,
    dir: SandboxDir,
    id: String,
}

impl AttachSession {
    /// Attaches to a container.
    pub(crate) async fn open(sandbox: &str, dir: &SandboxDir, id: &str, stdin: bool) -> Result<Self, Error> {
        let mut connection = Connection::open(sandbox, dir).await?;
        connection.send(&Request::Attach { id: id.to_string(), stdin }).await?;
        // Even from a terminal these are pipes of the shim's.
        let Streams { stdin, stdout, stderr, .. } = Streams::receive(&mut connection).await?;
        let (sandbox, dir, id) = (sandbox.to_string(), dir.clone(), id.to_string());
        Ok(Self { stdin, stdout, stderr, sandbox, dir, id })
    }

    /// Changes the size of the container's terminal, in characters; without one nothing happens.
    pub async fn resize(&self, cols: u16, rows: u16) -> Result<(), Error> {
        let request = Request::Resize { id: self.id.clone(), cols, rows };
        Connection::ask(&self.sandbox, &self.dir, &request).await.map(drop)
    }
}

impl std::fmt::Debug for AttachSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttachSession").field("id", &self.id).finish_non_exhaustive()
    }
}

struct Streams {
    stdin: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    terminal: Option<Arc<AsyncFd<File>>>,
}

impl Streams {
    async fn receive(connection: &mut Connection) -> Result<Self, Error> {
        let reply = connection.receive().await?;
        let Reply::Streams { stdin, stdout, stderr, tty } = reply else {
            return Err(unexpected(&reply));
        };
        let mut fds = connection.take_fds().into_iter();
        let mut take = |there: bool| {
            let missing = || Error::Other("a shim sent too few descriptors".into());
            there.then(|| fds.next().ok_or_else(missing)).transpose()
        };
        let (input, output, errors) = (take(stdin)?, take(stdout)?, take(stderr)?);
        let wrap = |e: io::Error| Error::Other(format!("streams: {e}"));
        if tty && output.as_ref().is_some_and(is_terminal) {
            let master = output.map(terminal).transpose().map_err(wrap)?;
            let half = || master.clone().map(Terminal);
            return Ok(Self {
                stdin: input.and_then(|_| half()).map(|t| Box::new(t) as Writer),
                stdout: half().map(|t| Box::new(t) as Reader),
                stderr: None,
                terminal: master,
            });
        }
        let writer = |fd: OwnedFd| pipe::Sender::from_owned_fd(fd).map(|p| Box::new(p) as Writer);
        let reader = |fd: OwnedFd| pipe::Receiver::from_owned_fd(fd).map(|p| Box::new(p) as Reader);
        Ok(Self {
            stdin: input.map(writer).transpose().map_err(wrap)?,
            stdout: output.map(reader).transpose().map_err(wrap)?,
            stderr: errors.map(reader).transpose().map_err(wrap)?,
            terminal: None,
        })
    }
}

fn is_terminal(fd: &OwnedFd) -> bool {
    nix::unistd::isatty(fd.as_raw_fd()).unwrap_or(false)
}

fn terminal(fd: OwnedFd) -> io::Result<Arc<AsyncFd<File>>> {
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_raw_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    sys::asynchronous(File::from(fd)).map(Arc::new)
}

/// One direction of a terminal's master.
struct Terminal(Arc<AsyncFd<File>>);

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|fd| fd.get_ref().read(unfilled)) {
                Ok(Ok(n)) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                // The last process that had it open has gone.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| fd.get_ref().write(bytes)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
