//! The commit thread: the only one that writes the log, acknowledges and tells the observer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

use super::error::Error;
use super::generations::Generations;
use super::log::Log;
use super::pending::{Done, Group, Pending};
use super::record::{Change, Kind, RecordBuffer};
use super::state::State;
use super::types::{Observer, Revision};

/// How many revisions the log reserves ahead. After a crash that many may be skipped.
const RESERVE: u64 = 8192;
/// A record with lazy values is finished at this size.
const LAZY_RECORD: usize = 4 << 20;

/// What the commit thread and all handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub queue: Mutex<Queue>,
    pub wake: Condvar,
    /// Locked after `queue` by whoever needs both.
    pub state: RwLock<State>,
    /// The newest acknowledged revision.
    pub revision: AtomicU64,
}

/// What waits for the commit thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub pending: Pending,
    pub snapshots: Vec<(PathBuf, Done)>,
    /// Nothing new is taken.
    pub closing: bool,
}

/// The commit thread's own things.
pub(super) struct Committer {
    pub shared: Arc<Shared>,
    pub log: Log,
    pub observer: Box<dyn Observer>,
    /// Revisions up to this one may be handed out without asking the disk.
    pub reserved: Revision,
    /// The log ends with something else than "closed".
    pub open: bool,
    pub generations: Generations,
    pub lazy: Lazy,
}

/// Keys whose newest value was acknowledged and is not in the log.
#[derive(Debug)]
pub(super) struct Lazy {
    keys: HashMap<Bytes, Revision>,
    since: Option<Instant>,
    interval: Duration,
}

impl Lazy {
    pub(super) fn new(interval: Duration) -> Self {
        Self { keys: HashMap::new(), since: None, interval }
    }

    /// When they are to be written.
    fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.interval)
    }
}

/// What there is to do.
#[derive(Debug)]
enum Work {
    Group(Group),
    Snapshots(Vec<(PathBuf, Done)>),
    Lazy,
    Close,
}

impl Committer {
    /// Works until the store is closed.
    pub(super) fn run(mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        // Also when the observer panics, nobody may wait for this thread any more.
        let _ended = Ended(&shared);
        loop {
            match self.next() {
                Work::Group(group) => {
                    self.commit(group);
                    self.checkpoint_if_due();
                }
                Work::Snapshots(requests) => {
                    for (dir, done) in requests {
                        let state = self.shared.state.read().clone();
                        let revision = self.shared.revision.load(Ordering::Acquire);
                        self.generations.snapshot(dir, state, revision, self.reserved, done);
                    }
                }
                Work::Lazy => {
                    if let Err(error) = self.write_lazy() {
                        tracing::warn!(%error, "lazy values could not be written; trying again later");
                        self.lazy.since = Some(Instant::now());
                    }
                }
                Work::Close => return self.close(),
            }
        }
    }

    /// Waits for work. Without any there is no timer either.
    fn next(&self) -> Work {
        let mut queue = self.shared.queue.lock();
        loop {
            if let Some(group) = queue.pending.groups.pop_front() {
                return Work::Group(group);
            }
            if !queue.snapshots.is_empty() {
                return Work::Snapshots(std::mem::take(&mut queue.snapshots));
            }
            if queue.closing {
                return Work::Close;
            }
            match self.lazy.deadline() {
                Some(deadline) if deadline <= Instant::now() => return Work::Lazy,
                Some(deadline) => drop(self.shared.wake.wait_until(&mut queue, deadline)),
                None => self.shared.wake.wait(&mut queue),
            }
        }
    }

    fn commit(&mut self, mut group: Group) {
        let Some(last) = group.commits.last().map(|commit| commit.revision) else { return };
        let mut record = group.record.take();
        if record.is_none() && last > self.reserved {
            record = Some(RecordBuffer::new(Kind::Commits));
        }
        if let Some(mut record) = record
            && let Err(error) = self.append(&mut record, last)
        {
            return self.fail(group, error);
        }
        self.acknowledge(group);
    }

    fn append(&mut self, record: &mut RecordBuffer, last: Revision) -> Result<(), Error> {
        let reserved = match last + RESERVE / 2 > self.reserved {
            true => last + RESERVE,
            false => self.reserved,
        };
        self.log.append(record, last, reserved)?;
        self.reserved = reserved;
        self.open = true;
        Ok(())
    }

    /// Fails a group and all that were checked against it.
    fn fail(&self, group: Group, error: Error) {
        let waiting = self.shared.queue.lock().pending.roll_back();
        tracing::error!(%error, commits = group.commits.len(), "commits failed");
        for commit in std::iter::once(group).chain(waiting).flat_map(|g| g.commits) {
            // A caller who has gone does not want to know.
            let _ = commit.done.send(Err(error.clone()));
        }
    }

    fn acknowledge(&mut self, group: Group) {
        let mut told = Vec::with_capacity(group.commits.len());
        {
            let mut queue = self.shared.queue.lock();
            let mut state = self.shared.state.write();
            for commit in group.commits {
                queue.pending.settle(&commit);
                self.lazy.note(&commit.changes, commit.lazy, commit.revision);
                let apply = |change| state.apply(change);
                let events: Vec<_> = commit.changes.into_iter().filter_map(apply).collect();
                self.shared.revision.store(commit.revision, Ordering::Release);
                told.push((commit.revision, events, commit.done));
            }
        }
        for (revision, events, done) in told {
            self.observer.committed(revision, &events);
            let _ = done.send(Ok(revision));
        }
    }

    fn checkpoint_if_due(&mut self) {
        let bytes = self.shared.state.read().bytes();
        if !self.generations.due(&mut self.log, bytes) {
            return;
        }
        if let Err(error) = self.log.rotate(0) {
            return self.generations.put_off(&self.log, &error);
        }
        let state = self.shared.state.read().clone();
        let revision = self.shared.revision.load(Ordering::Acquire);
        self.generations.start(&mut self.log, state, revision, self.reserved);
    }

    fn write_lazy(&mut self) -> Result<(), Error> {
        let revision = self.shared.revision.load(Ordering::Acquire);
        let mut record = RecordBuffer::new(Kind::Commits);
        let keys: Vec<_> = self.lazy.keys.iter().map(|(k, r)| (k.clone(), *r)).collect();
        for (key, revision_of_key) in keys {
            let entry = self.shared.state.read().get(&key);
            record.add(&match entry {
                Some(entry) => Change::from(entry),
                None => Change::Delete { key, revision: revision_of_key },
            });
            if record.len() > LAZY_RECORD {
                self.append(&mut record, revision)?;
                record = RecordBuffer::new(Kind::Commits);
            }
        }
        if !self.lazy.keys.is_empty() {
            self.append(&mut record, revision)?;
        }
        self.lazy.keys.clear();
        self.lazy.since = None;
        Ok(())
    }

    fn close(mut self) -> Result<(), Error> {
        let written = self.write_lazy();
        let closed = match self.open {
            true => {
                let last = self.shared.queue.lock().pending.revision;
                self.log.append(&mut RecordBuffer::new(Kind::Closed), last, last)
            }
            false => Ok(()),
        };
        self.generations.stop();
        written.and(closed)
    }
}

impl Lazy {
    fn note(&mut self, changes: &[Change], lazy: bool, revision: Revision) {
        for change in changes {
            match lazy {
                true => drop(self.keys.insert(change.key().clone(), revision)),
                false => drop(self.keys.remove(change.key())),
            }
        }
        match self.keys.is_empty() {
            true => self.since = None,
            false => drop(self.since.get_or_insert_with(Instant::now)),
        }
    }
}

/// Ends the queue with the thread.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closing = true;
        queue.snapshots.clear();
        // Their callers see the channel close.
        drop(queue.pending.roll_back());
    }
}
