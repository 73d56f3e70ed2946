//! When checkpoints are taken and what they make superfluous.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::checkpoint::{self, Content, Engine};
use super::disk::Disk;
use super::error::{Context, Error};
use super::frame::Meta;
use super::lock::{self, Lock};
use super::log::{self, Log};
use super::pending::Done;
use super::state::State;
use super::types::Revision;

/// A generation, and the first segment of the log that follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation {
    pub number: u64,
    pub log_start: u64,
}

/// Takes checkpoints in the background, one at a time.
#[derive(Debug)]
pub(super) struct Generations {
    pub disk: Arc<dyn Disk>,
    pub engine: Engine,
    /// The store's directory.
    pub dir: PathBuf,
    /// Held until the last thread that writes into the directory has ended.
    pub lock: Arc<Lock>,
    /// The size of the log at which the next is taken, if the state is not larger.
    pub threshold: u64,
    /// Not before the log has this size, after a failure.
    pub not_before: u64,
    /// The newest one is damaged: take another at the next commit.
    pub needed: bool,
    /// The number of the newest there is, damaged or not.
    pub last_number: u64,
    /// The newest that was verified.
    pub newest: Generation,
    pub running: Option<Running>,
    pub stop: Arc<AtomicBool>,
}

/// A checkpoint that is being written.
#[derive(Debug)]
pub(super) struct Running {
    thread: JoinHandle<Result<(), Error>>,
    generation: Generation,
    /// Bytes of log that it makes superfluous.
    covers: u64,
}

impl Generations {
    /// Whether a checkpoint should be taken now. Takes note of one that has ended.
    pub(super) fn due(&mut self, log: &mut Log, state_bytes: u64) -> bool {
        if let Some(running) = self.running.take_if(|r| r.thread.is_finished()) {
            match ended(running.thread) {
                Ok(()) => self.newest = running.generation,
                Err(error) => {
                    log.set_used(log.used() + running.covers);
                    self.put_off(log, &error);
                }
            }
        }
        let large = log.used() >= self.threshold.max(state_bytes) && log.used() >= self.not_before;
        self.running.is_none() && (large || self.needed)
    }

    /// After a failure: not again before the log has grown by as much once more.
    pub(super) fn put_off(&mut self, log: &Log, error: &Error) {
        tracing::warn!(%error, "no checkpoint could be taken; the log goes on growing");
        self.not_before = log.used() + self.threshold;
        self.needed = false;
    }

    /// Starts a checkpoint of `state`; `log` has just begun a new segment.
    pub(super) fn start(&mut self, log: &mut Log, state: State, revision: Revision, reserved: Revision) {
        self.last_number += 1;
        let generation = Generation { number: self.last_number, log_start: log.sequence() };
        let meta = Meta { revision, reserved, log_start: generation.log_start, ..Meta::default() };
        let content = Content { state, meta, stop: Arc::clone(&self.stop) };
        let (disk, engine) = (Arc::clone(&self.disk), self.engine.clone());
        let (dir, lock, previous) = (self.dir.clone(), Arc::clone(&self.lock), self.newest);
        let work = move || {
            let _lock = lock;
            let checkpoints = dir.join("checkpoints");
            checkpoint::write(&engine, &*disk, &checkpoints, generation.number, content)?;
            // The previous one and its log stay until the next is verified.
            checkpoint::remove_except(&*disk, &checkpoints, &[generation.number, previous.number])?;
            log::remove_before(&*disk, &dir.join("log"), previous.log_start)
        };
        let builder = thread::Builder::new().name("store-checkpoint".to_owned());
        match builder.spawn(work).on(&self.dir) {
            Ok(thread) => {
                let covers = log.used();
                log.set_used(0);
                (self.not_before, self.needed) = (0, false);
                self.running = Some(Running { thread, generation, covers });
            }
            Err(error) => self.put_off(log, &error),
        }
    }

    /// Writes `state` to a directory of its own, which can be opened as a store.
    pub(super) fn snapshot(
        &self,
        target: PathBuf,
        state: State,
        revision: Revision,
        reserved: Revision,
        done: Done,
    ) {
        let meta = Meta { revision, reserved, log_start: 0, ..Meta::default() };
        let content = Content { state, meta, stop: Arc::clone(&self.stop) };
        let (disk, engine) = (Arc::clone(&self.disk), self.engine.clone());
        let work = move || {
            let result = write_snapshot(&*disk, &engine, &target, content).map(|()| revision);
            let _ = done.send(result);
        };
        // If there is no thread, the caller sees the channel close.
        let builder = thread::Builder::new().name("store-snapshot".to_owned());
        if let Err(error) = builder.spawn(work) {
            tracing::error!(%error, "no thread for a snapshot");
        }
    }

    /// Gives up what runs and waits for it.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take()
            && let Err(error) = ended(running.thread)
        {
            tracing::info!(%error, "the checkpoint under way was given up");
        }
    }
}

fn ended(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|_| Err(Error::corrupt("checkpoints", "the checkpoint thread panicked")))
}

fn write_snapshot(
    disk: &dyn Disk,
    engine: &Engine,
    target: &std::path::Path,
    content: Content,
) -> Result<(), Error> {
    if target.exists() {
        let exists = std::io::ErrorKind::AlreadyExists;
        return Err(Error::io(target, exists.into()));
    }
    let mut name = target.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    if temporary.exists() {
        disk.remove_dir_all(&temporary).on(&temporary)?;
    }
    let checkpoints = temporary.join("checkpoints");
    for dir in [&temporary, &checkpoints, &temporary.join("log")] {
        disk.create_dir_all(dir).on(dir)?;
    }
    checkpoint::write(engine, disk, &checkpoints, 1, content)?;
    lock::write_format(disk, &temporary)?;
    disk.sync_tree(&temporary).on(&temporary)?;
    disk.rename(&temporary, target).on(target)?;
    match target.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => disk.sync_dir(parent).on(parent),
        None => Ok(()),
    }
}
