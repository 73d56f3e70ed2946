//! Opening: the newest generation that is whole, then the log that follows it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Condvar, Mutex, RwLock};

use super::checkpoint;
use super::commit::{Committer, Lazy, Queue, Shared};
use super::error::{Context, Error};
use super::frame::Meta;
use super::generations::{Generation, Generations};
use super::lock::{self, Lock};
use super::log::Log;
use super::pending::Pending;
use super::record::{Change, Kind, Record};
use super::state::State;
use super::types::{Entry, Observer, Revision};
use super::{Options, Recovery};

/// Opens the store in `dir`; answers the commit thread's part, not yet running, and what was found.
pub(super) fn open(
    dir: &Path,
    options: Options,
    observer: Box<dyn Observer>,
) -> Result<(Committer, Recovery), Error> {
    let disk = Arc::clone(&options.disk);
    let (checkpoints, logs) = (dir.join("checkpoints"), dir.join("log"));
    disk.create_dir_all(dir).on(dir)?;
    let lock = Lock::take(dir)?;
    let has_format = lock::has_format(&*disk, dir)?;
    for dir in [&checkpoints, &logs] {
        disk.create_dir_all(dir).on(dir)?;
    }
    let base = load(&options, &checkpoints, &logs)?;
    let mut replay = Replay::new(&base);
    let from = base.meta.log_start.max(1);
    let required = has_format && base.meta.log_start > 0;
    let mut state = base.state;
    let each = |record| replay.apply(record, &mut state);
    let (log, tail) = Log::open(disk, &logs, from, required, options.segment_bytes, each)?;
    if !has_format {
        lock::write_format(&*options.disk, dir)?;
        sync_parent(&options, dir)?;
    }
    let recovery = Recovery {
        generation: (base.generation > 0).then_some(base.generation),
        fallback: base.fallback,
        records: tail.records,
        torn: tail.torn,
        clean: replay.clean,
    };
    let revision = replay.reserved.max(replay.revision);
    let shared = Shared {
        queue: Mutex::new(Queue { pending: Pending::new(revision), ..Queue::default() }),
        wake: Condvar::new(),
        state: RwLock::new(state),
        revision: AtomicU64::new(revision),
    };
    let generations = Generations {
        disk: options.disk,
        engine: options.engine,
        dir: dir.to_owned(),
        lock: Arc::new(lock),
        threshold: options.checkpoint_bytes,
        not_before: 0,
        needed: recovery.fallback.is_some(),
        last_number: base.last_number,
        newest: Generation { number: base.generation, log_start: from },
        running: None,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let committer = Committer {
        shared: Arc::new(shared),
        log,
        observer,
        reserved: revision,
        open: !replay.clean,
        generations,
        lazy: Lazy::new(options.lazy_interval),
    };
    Ok((committer, recovery))
}

/// What the log is applied to.
struct Base {
    state: State,
    meta: Meta,
    /// 0: none, the log has everything.
    generation: u64,
    last_number: u64,
    fallback: Option<String>,
}

/// Loads the newest generation that is whole. Before the first there was only the log.
fn load(options: &Options, dir: &Path, logs: &Path) -> Result<Base, Error> {
    let numbers = checkpoint::generations(&*options.disk, dir)?;
    let last_number = numbers.first().copied().unwrap_or(0);
    let mut first_error = None;
    for generation in numbers {
        match checkpoint::read(&options.engine, &*options.disk, dir, generation) {
            Ok((meta, state)) => {
                let fallback = first_error.as_ref().map(Error::to_string);
                return Ok(Base { state, meta, generation, last_number, fallback });
            }
            Err(error) => {
                tracing::error!(%error, generation, "a checkpoint cannot be read; trying the one before");
                first_error.get_or_insert(error);
            }
        }
    }
    let whole_log = || logs.join("0000000000000001.log").exists();
    let fallback = match first_error {
        Some(error) if !whole_log() => return Err(error),
        error => error.map(|e| e.to_string()),
    };
    let meta = Meta { log_start: 1, ..Meta::default() };
    Ok(Base { state: State::default(), meta, generation: 0, last_number, fallback })
}

/// Applies records, and learns which revisions may have been handed out.
struct Replay {
    /// What is up to here is in the state already.
    skip: Revision,
    revision: Revision,
    reserved: Revision,
    clean: bool,
}

impl Replay {
    fn new(base: &Base) -> Self {
        let Meta { revision, reserved, .. } = base.meta;
        Self { skip: revision, revision, reserved, clean: true }
    }

    fn apply(&mut self, record: Record, state: &mut State) {
        self.clean = record.kind == Kind::Closed;
        self.revision = record.revision.max(self.revision);
        self.reserved = match record.kind {
            Kind::Closed => record.revision,
            Kind::Commits => record.reserved,
        };
        for change in record.changes {
            if change.revision() > self.skip {
                state.apply(change);
            }
        }
    }
}

fn sync_parent(options: &Options, dir: &Path) -> Result<(), Error> {
    match dir.canonicalize().on(dir)?.parent() {
        Some(parent) => options.disk.sync_dir(parent).on(parent),
        None => Ok(()),
    }
}

impl Change {
    fn revision(&self) -> Revision {
        let (Self::Put { modified: revision, .. } | Self::Delete { revision, .. }) = self;
        *revision
    }
}

impl From<Entry> for Change {
    fn from(entry: Entry) -> Self {
        let Entry { key, value, created, modified } = entry;
        Self::Put { key, value, created, modified }
    }
}
