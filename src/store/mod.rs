//! Revisioned key-value store: bytes only.

use std::path::Path;

use bytes::Bytes;

mod error;
mod types;

pub use error::Error;
pub use types::{Durability, Entry, Event, Expect, Observer, Op, Revision, Value};

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct Options {}

/// What was found at opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {}

/// An open store and what it held.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Every entry, in order of key.
    pub entries: Vec<Entry>,
    /// The newest revision that may have been handed out before.
    pub revision: Revision,
    /// What was found.
    pub recovery: Recovery,
}

/// The store; clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Opens or makes the store in `dir`.
    pub fn open(dir: &Path, options: Options, observer: Box<dyn Observer>) -> Result<Opened, Error> {
        todo!("{dir:?} {options:?} {}", std::mem::size_of_val(&observer))
    }

    /// Commits operations atomically, with one revision.
    pub fn commit(&self, ops: Vec<Op>) -> impl Future<Output = Result<Revision, Error>> + Send + use<> {
        async move { todo!("{ops:?}") }
    }

    /// The newest acknowledged entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        todo!("{key:?}")
    }

    /// Acknowledged entries whose key starts with `prefix`, in order, after the key `after`, at most `limit`.
    pub fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Entry> {
        todo!("{prefix:?} {after:?} {limit}")
    }

    /// The newest acknowledged revision.
    pub fn revision(&self) -> Revision {
        todo!()
    }

    /// Writes a live, consistent copy of the store to `dir`, which can be opened as a store.
    pub fn snapshot(&self, dir: &Path) -> impl Future<Output = Result<Revision, Error>> + Send + use<> {
        let dir = dir.to_owned();
        async move { todo!("{dir:?}") }
    }

    /// Writes lazy values, syncs and ends the commit thread. Blocks until that is done.
    pub fn close(self) -> Result<(), Error> {
        let _: Option<Bytes> = None;
        todo!()
    }
}
