//! Streams of an exec or an attach: file descriptors handed over by the shim, wrapped for tokio.

use super::error::Error;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes to a process.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;
/// Bytes from a process.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// A process running beside a container's own. Dropping it does not end the process.
pub struct ExecSession {
    /// Its standard input, if asked for. Dropping it is end of file (not with a terminal).
    pub stdin: Option<Writer>,
    /// Its standard output, or its terminal's.
    pub stdout: Option<Reader>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Reader>,
}

impl ExecSession {
    /// Changes the size of its terminal, in characters; without one nothing happens.
    pub fn resize(&self, cols: u16, rows: u16) -> Result<(), Error> {
        todo!("{cols}{rows}")
    }

    /// Waits for the end of the process: its exit code, 128 + N when signal N ended it.
    pub async fn wait(&mut self) -> Result<i32, Error> {
        todo!()
    }
}

/// A connection to the standard streams of a container's first process.
pub struct AttachSession {
    /// Its standard input, if the container keeps one open.
    pub stdin: Option<Writer>,
    /// Its output from now on, or its terminal's; end of file when the container ends.
    pub stdout: Option<Reader>,
    /// Its errors from now on; `None` with a terminal.
    pub stderr: Option<Reader>,
}

impl AttachSession {
    /// Changes the size of the container's terminal, in characters; without one nothing happens.
    pub async fn resize(&self, cols: u16, rows: u16) -> Result<(), Error> {
        todo!("{cols}{rows}")
    }
}
