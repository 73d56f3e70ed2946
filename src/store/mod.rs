//! Revisioned key-value store: bytes only, one writer process.
//!
//! Memory holds the state, the log makes it durable, checkpoints keep the log short:
//!
//! ```text
//! commit() -> pending   checked against the newest state, given a revision, encoded   caller's thread
//!          -> log       one record a group, one fdatasync                             commit thread
//!          -> state     acknowledged: what readers see
//!          -> observer, then the callers, in order of revision
//! checkpoints/  generations of the state, built in the background when the log is large enough
//! ```
//!
//! Invariants: an acknowledged synced commit survives a power cut; a commit that was not
//! acknowledged is there as a whole or not at all; revisions grow and are never used again, lazy
//! ones included, since the log reserves ranges ahead; a log that is damaged in a way that no
//! power cut explains is refused; without work there is no wakeup and no write.
//!
//! Files: `lock` (its holder's pid), `format`, `log/*.log`, `checkpoints/<generation>/`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

mod checkpoint;
mod commit;
pub mod disk;
mod engine;
mod error;
mod frame;
mod generations;
mod lock;
mod log;
mod open;
mod pending;
mod record;
mod segment;
mod state;
mod types;

pub use checkpoint::{ENGINE_COMMAND, Engine};
pub use engine::engine_main;
pub use error::Error;
pub use types::{Durability, Entry, Event, Expect, Observer, Op, Revision, Value};

use error::Context;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where checkpoints are built and read; a server wants [`Engine::this_executable`], since the
    /// threads and the memory that the default takes stay for good.
    pub engine: Engine,
    /// The size of the first segment of the log. Later ones are up to 32 MiB when much is written.
    pub segment_bytes: u64,
    /// A checkpoint is taken when the log is as large as this or as the state, whichever is more.
    pub checkpoint_bytes: u64,
    /// How long a lazy value may wait to be written.
    pub lazy_interval: Duration,
    /// The files; replaced in tests.
    pub disk: Arc<dyn disk::Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: Engine::default(),
            segment_bytes: 4 << 20,
            checkpoint_bytes: 64 << 20,
            lazy_interval: Duration::from_secs(600),
            disk: Arc::new(disk::RealDisk),
        }
    }
}

/// What was found at opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The checkpoint that was loaded; without one, the log had everything.
    pub generation: Option<u64>,
    /// Why a newer checkpoint could not be used, if so. Nothing is lost: its log was still there.
    pub fallback: Option<String>,
    /// Records of the log that were replayed.
    pub records: usize,
    /// The last write was cut off by a crash; it had not been acknowledged.
    pub torn: bool,
    /// The store had been closed, or is new.
    pub clean: bool,
}

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

/// The store; clones are the same store. When the last is dropped it closes by itself, but only
/// [`Store::close`] waits for that and says whether it went well.
#[derive(Clone, Debug)]
pub struct Store(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<commit::Shared>,
    thread: Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.lock().closing = true;
        self.shared.wake.notify_one();
    }
}

impl Store {
    /// Opens or makes the store in `dir`, which is made with the mode 0700.
    ///
    /// `observer` is told of every commit from now on, not of what is in [`Opened::entries`].
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another process has it open, [`Error::Newer`] if a newer release wrote
    /// it, [`Error::Corrupt`] if what is there cannot be trusted, [`Error::Full`], [`Error::Io`].
    pub fn open(dir: &Path, options: Options, observer: Box<dyn Observer>) -> Result<Opened, Error> {
        let (committer, recovery) = open::open(dir, options, observer)?;
        let shared = Arc::clone(&committer.shared);
        let entries = shared.state.read().iter().collect();
        let revision = shared.revision.load(Ordering::Acquire);
        let builder = thread::Builder::new().name("store-commit".to_owned());
        let thread = builder.spawn(move || committer.run()).on(dir)?;
        let store = Self(Arc::new(Handle { shared, thread: Mutex::new(Some(thread)) }));
        Ok(Opened { store, entries, revision, recovery })
    }

    /// Commits operations atomically, with one revision. Every expectation is about the state
    /// before the commit. It is under way when this returns, also if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if an expectation does not hold; [`Error::Full`] and [`Error::Io`] if it
    /// could not be written, upon which nothing has changed; [`Error::Closed`].
    #[must_use = "the commit may fail"]
    pub fn commit(&self, ops: Vec<Op>) -> impl Future<Output = Result<Revision, Error>> + Send + use<> {
        let (done, result) = oneshot::channel();
        let shared = &self.0.shared;
        {
            let mut queue = shared.queue.lock();
            if !queue.closing {
                queue.pending.add(ops, &shared.state.read(), done);
                shared.wake.notify_one();
            }
        }
        async move { result.await.unwrap_or(Err(Error::Closed)) }
    }

    /// Nothing can be committed any more: it was closed, or its thread ended.
    pub fn is_closed(&self) -> bool {
        self.0.shared.queue.lock().closing
    }

    /// The newest acknowledged entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        self.0.shared.state.read().get(key)
    }

    /// Acknowledged entries whose key starts with `prefix`, in order, after the key `after`, at
    /// most `limit`.
    pub fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Entry> {
        self.0.shared.state.read().range(prefix, after, limit)
    }

    /// The newest acknowledged revision.
    pub fn revision(&self) -> Revision {
        self.0.shared.revision.load(Ordering::Acquire)
    }

    /// Writes a live, consistent copy of the store to `dir`, which must not exist; it can be
    /// opened as a store. Answers the newest revision in it. Commits go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Io`] and [`Error::Closed`]; nothing is left at `dir` then.
    pub fn snapshot(&self, dir: &Path) -> impl Future<Output = Result<Revision, Error>> + Send + use<> {
        let (done, result) = oneshot::channel();
        {
            let mut queue = self.0.shared.queue.lock();
            if !queue.closing {
                queue.snapshots.push((dir.to_owned(), done));
                self.0.shared.wake.notify_one();
            }
        }
        async move { result.await.unwrap_or(Err(Error::Closed)) }
    }

    /// Finishes the commits under way, writes lazy values, syncs and ends the commit thread.
    /// Blocks until that is done. Other clones answer [`Error::Closed`] to commits from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] and [`Error::Io`] if lazy values could not be written, [`Error::Closed`] if
    /// it was closed before.
    pub fn close(self) -> Result<(), Error> {
        self.0.shared.queue.lock().closing = true;
        self.0.shared.wake.notify_one();
        let thread = self.0.thread.lock().take().ok_or(Error::Closed)?;
        thread.join().unwrap_or(Err(Error::Closed))
    }
}
