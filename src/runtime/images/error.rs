//! What can go wrong with images.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image could not be had or kept. The texts are those of `ErrImagePull`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is not one.
    #[error("invalid reference format{reason}")]
    InvalidName {
        /// What was given.
        name: String,
        /// What is wrong with it, after a colon, as far as that is known.
        reason: String,
    },
    /// The registry answered, and has no such image.
    #[error(
        "failed to pull image {name:?}: not found: {registry} has no such image (manifest unknown): check its name and tag"
    )]
    NotFound {
        /// The image.
        name: String,
        /// Who was asked.
        registry: String,
    },
    /// The registry wants other credentials, or any.
    #[error(
        "failed to pull image {name:?}: unauthorized: {registry} asks for authentication, or the repository does not exist: give an imagePullSecret or configs in registries.yaml ({reason})"
    )]
    Unauthorized {
        /// The image.
        name: String,
        /// Who was asked.
        registry: String,
        /// The registry's words.
        reason: String,
    },
    /// The registry could not be reached, or failed.
    #[error("failed to pull image {name:?}: {registry}: {reason}")]
    Registry {
        /// The image.
        name: String,
        /// Who was asked.
        registry: String,
        /// What happened, such as `connection refused`.
        reason: String,
    },
    /// The registry says itself that it cannot serve now.
    #[error("failed to pull image {name:?}: {registry} is unavailable: {reason}")]
    Unavailable {
        /// The image.
        name: String,
        /// Who was asked.
        registry: String,
        /// Its words.
        reason: String,
    },
    /// What came is not what was asked for.
    #[error(
        "digest mismatch: {what} should be {expected}, but is {found}: it was damaged on its way or at its source"
    )]
    DigestMismatch {
        /// A blob, manifest or layer.
        what: String,
        /// Its digest by whoever referred to it.
        expected: String,
        /// Its real one.
        found: String,
    },
    /// The image is not made for this machine.
    #[error("no match for platform {wanted} in image {name:?}: it has {found}")]
    NoPlatform {
        /// The image.
        name: String,
        /// This machine.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// A manifest, configuration or layer that cannot be used.
    #[error("image {name:?} is invalid: {reason}")]
    Invalid {
        /// The image or its part.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An archive to import that cannot be used.
    #[error("the archive cannot be imported: {0}")]
    Archive(String),
    /// The configuration of registries cannot be used.
    #[error("registries.yaml: {0}")]
    Config(String),
    /// There is no such image on this node.
    #[error("no such image: {0}")]
    Unknown(String),
    /// Containers use the image.
    #[error("image {0} is in use by a container: remove that first")]
    InUse(String),
    /// The disk is full.
    #[error("no space left on the disk for {}: free some, or let unused images be collected", path.display())]
    Full {
        /// What could not be written.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }

    pub(super) fn invalid(name: impl Into<String>, reason: impl ToString) -> Self {
        Self::Invalid { name: name.into(), reason: reason.to_string() }
    }
}

/// Names the path an operating system error is about.
pub(super) trait Context<T> {
    /// The same result, with `path` in its error.
    fn on(self, path: &Path) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn on(self, path: &Path) -> Result<T, Error> {
        self.map_err(|e| Error::io(path, e))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn on(self, path: &Path) -> Result<T, Error> {
        self.map_err(|e| Error::io(path, e.into()))
    }
}

/// What libraries say of a connection that cannot be had, and the words that people search for.
const KNOWN: &[(&str, &str)] = &[
    (
        "InvalidContentType",
        "http: server gave HTTP response to HTTPS client: give it an http:// endpoint in registries.yaml",
    ),
    ("UnknownIssuer", "x509: certificate signed by unknown authority: name its ca_file in registries.yaml"),
    ("Name or service not known", "no such host"),
    ("No address associated with hostname", "no such host"),
];

/// The same text in known words, as far as there are any.
pub(super) fn known(text: String) -> String {
    match KNOWN.iter().find(|(told, _)| text.contains(told)) {
        Some((_, known)) => format!("{text}: {known}"),
        None => text,
    }
}

/// An error and all that caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
