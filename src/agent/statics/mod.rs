//! Static pods: defined by files of a directory of this node, kept running with or without the API
//! server, and shown there by mirror pods that the node makes itself.
//!
//! [`Directory`] reads the files and watches them; [`crate::agent::source`] keeps a worker for each pod
//! they define; [`keep_mirrors`] keeps the mirror pods right. What they know of each other is
//! [`crate::agent::mirrors::Statics`].

mod directory;
mod manifest;
mod mirror;

pub(crate) use directory::Directory;
pub(crate) use mirror::keep as keep_mirrors;
