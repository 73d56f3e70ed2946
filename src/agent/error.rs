//! What can go wrong on a node, as types.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the agent. Its text says what was tried and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key is not usable.
    #[error("node credentials: {0}")]
    Credentials(String),
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
    /// The API refused or could not be reached.
    #[error("API: {0}")]
    Api(#[from] kube::Error),
    /// The runtime could not do it.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    /// Anything else; the text says it all.
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
