//! What can go wrong in the runtime, as types.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the runtime. Its text says what was tried and where, for events and container statuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no sandbox of that name.
    #[error("sandbox {0:?} not found")]
    SandboxNotFound(String),
    /// There is no container of that name.
    #[error("container {0:?} not found")]
    ContainerNotFound(String),
    /// The name is taken.
    #[error("{0} already exists")]
    AlreadyExists(String),
    /// The specification cannot be carried out; the text says why.
    #[error("invalid specification: {0}")]
    Invalid(String),
    /// The container is not in the state this needs, such as exec in one that has ended.
    #[error("container {id:?} is {state}, cannot {action}")]
    State {
        /// The container.
        id: String,
        /// What it is.
        state: String,
        /// What was asked.
        action: String,
    },
    /// The container's or the exec's process could not be made or its program not executed.
    #[error("{0}")]
    Start(String),
    /// The sandbox's shim is gone, and its containers with it.
    #[error("the shim of sandbox {0:?} is gone")]
    SandboxLost(String),
    /// The shim could not be started.
    #[error("cannot start the shim of sandbox {sandbox:?}: {message}")]
    Shim {
        /// The sandbox.
        sandbox: String,
        /// What it said.
        message: String,
    },
    /// A command did not end in time; its processes were killed.
    #[error("command timed out after {0:?}")]
    Timeout(std::time::Duration),
    /// The operating system refused.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// Anything a shim answered that is none of the above.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// For `map_err`: an I/O error with what was tried and where.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}
