//! What may go wrong with certificates and keys.

use std::io;
use std::path::{Path, PathBuf};

/// Why certificates or keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `write`.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file whose loss cannot be made good is damaged.
    #[error("{} is damaged: {what}; restore it from a backup, or remove it together with its .key or .crt \
             to start with a new one (all certificates and tokens made with it end)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A CA has a certificate but no key.
    #[error("{} is missing, but its certificate is there; restore it from a backup, or remove the \
             certificate too to start with a new CA", path.display())]
    KeyMissing {
        /// The key's file.
        path: PathBuf,
    },
    /// A name that cannot be put into a certificate.
    #[error("cannot make a certificate for {name:?}: {what}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// Making a certificate failed.
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// A certificate that was asked for cannot be signed.
    #[error("cannot sign the certificate request: {0}")]
    Request(String),
    /// The TLS library refused a certificate or key.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

impl Error {
    /// An [`Error::Io`] of `action` on `path`.
    pub(in crate::server::auth) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Damaged`] of `path`.
    pub(in crate::server::auth) fn damaged(path: &Path, what: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.to_string() }
    }

    /// An [`Error::Tls`].
    pub(in crate::server::auth) fn tls(what: impl ToString) -> Self {
        Self::Tls(what.to_string())
    }
}
