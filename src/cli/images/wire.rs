//! What `kedge images` and a server say to each other: a request as one line of JSON, for an import
//! followed by the archive; answers as lines of JSON until the connection is closed.

use serde::{Deserialize, Serialize};

use crate::runtime::spec::Image;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Take the images of the archive that follows.
    Import,
    /// All images.
    List,
    /// Remove a name or an id.
    Remove {
        /// The name or id.
        name: String,
    },
    /// Pull an image.
    Pull {
        /// Its name.
        name: String,
        /// User name and password.
        user: Option<(String, String)>,
    },
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// How far a pull is.
    Progress(Vec<Layer>),
    /// Images: those listed, imported or pulled.
    Images(Vec<Image>),
    /// A name that was removed.
    Removed(String),
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
}
