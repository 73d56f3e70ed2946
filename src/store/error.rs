//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::types::Revision;

/// Why the store could not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The state is not what the commit expected; nothing was written.
    #[error("conflict on {}: it is {}", key.escape_ascii(), match current {
        Some(revision) => format!("at revision {revision}"),
        None => "absent".to_owned(),
    })]
    Conflict {
        /// The first key whose expectation failed.
        key: Bytes,
        /// The revision that wrote the key, acknowledged or not yet; `None` if there is no such key.
        current: Option<Revision>,
    },
    /// The disk is full. The commit did not happen; later ones work when there is room again.
    #[error("no space left on the disk for {}: free some, writes go on by themselves then", path.display())]
    Full {
        /// What could not be written.
        path: PathBuf,
    },
    /// The disk failed. The commit did not happen.
    #[error("{}: {source}", path.display())]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// What lies on disk is not what was written there, and guessing might lose data.
    #[error("{}: {what}; the disk may be failing: keep a copy of the directory, then restore a snapshot", path.display())]
    Corrupt {
        /// The damaged file or directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The directory was written by a newer release.
    #[error("{}: written in format {found} by a newer kedge, this one knows up to {supported}: use the newer release", path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// Another process has the directory open.
    #[error("{} is in use by process {pid}: stop it, or choose another data directory", path.display())]
    Locked {
        /// That process; 0 if it did not say.
        pid: u32,
        /// The directory.
        path: PathBuf,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// An error of the system, on this path: full disks and quotas are told apart from the rest.
    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source: Arc::new(source) },
        }
    }

    pub(super) fn corrupt(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), what: what.into() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disks_and_quotas_are_full() {
        for errno in [libc::ENOSPC, libc::EDQUOT] {
            let error = Error::io("/x", io::Error::from_raw_os_error(errno));
            assert!(matches!(&error, Error::Full { path } if path == Path::new("/x")), "{error}");
        }
        let error = Error::io("/x", io::Error::from_raw_os_error(libc::EIO));
        assert!(error.to_string().starts_with("/x: Input/output error"), "{error}");
    }

    #[test]
    fn a_conflict_names_the_key_and_the_revision() {
        let conflict =
            |current| Error::Conflict { key: Bytes::from_static(b"/pods/a\0"), current }.to_string();
        assert_eq!(conflict(Some(7)), "conflict on /pods/a\\x00: it is at revision 7");
        assert_eq!(conflict(None), "conflict on /pods/a\\x00: it is absent");
    }
}
