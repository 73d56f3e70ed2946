//! What `kedge images` and a server say to each other: a request as one line of JSON, for an import
//! that the server cannot read itself followed by the archive; answers as lines of JSON until the connection
//! is closed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::runtime::spec::Image;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Take the images of an archive.
    Import {
        /// The name of its only image.
        name: Option<String>,
        /// Where it is; without, it follows.
        file: Option<FileId>,
    },
    /// All images.
    List,
    /// Remove a name or an id.
    Remove {
        /// The name or id.
        name: String,
    },
    /// Remove all that nobody uses.
    Prune,
    /// Pull an image.
    Pull {
        /// Its name.
        name: String,
        /// User name and password.
        user: Option<(String, String)>,
    },
}

/// A file, so that two processes know that they mean the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// Its absolute path.
    pub path: PathBuf,
    /// Device and inode.
    pub id: (u64, u64),
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The server cannot read the archive: send it.
    Send,
    /// How far a pull is.
    Progress(Vec<Layer>),
    /// Images: those listed, imported or pulled.
    Images(Vec<Image>),
    /// A name that was removed.
    Removed(String),
    /// So many bytes became free.
    Freed(u64),
    /// It failed; nothing follows.
    Error(String),
}

/// How far a layer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its digest.
    pub digest: String,
    /// Bytes that have arrived.
    pub current: u64,
    /// Bytes in all.
    pub total: u64,
    /// What is being done with it, in Docker's words.
    pub state: String,
}
