//! One watch of one kind: a place in the ring.

use std::sync::Arc;

use tokio::sync::watch;

use super::event::Event;
use super::kind::{Expired, Kind, Scope};
use crate::store::Revision;

/// Events are taken from the ring this many at a time.
const BATCH: usize = 256;

/// Reads the events of a kind one after the other, at its own pace.
pub struct Watcher {
    kind: Arc<Kind>,
    scope: Scope,
    next: u64,
    revision: Revision,
    changed: watch::Receiver<u64>,
}

impl Watcher {
    pub(super) fn new(
        kind: Arc<Kind>,
        scope: Scope,
        next: u64,
        revision: Revision,
        changed: watch::Receiver<u64>,
    ) -> Self {
        Self { kind, scope, next, revision, changed }
    }

    /// All events up to this revision have been read.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next events in the scope; waits until there are some. Safe to drop while it waits.
    ///
    /// # Errors
    /// [`Expired`] if the reader was so slow that events it has not read are gone.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        loop {
            self.changed.borrow_and_update();
            let events = self.ready()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.changed.changed().await.is_err() {
                // The sender lives in the kind, which this watcher holds.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Events in the scope that are there already; notes how far it has read.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub fn ready(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        let (state, revision) = self.kind.read();
        let mut found = Vec::new();
        loop {
            let Some(batch) = state.events(self.next, BATCH) else {
                return Err(Expired { requested: self.revision, oldest: state.forgotten() });
            };
            let mut read = 0;
            for event in batch {
                read += 1;
                self.revision = event.revision;
                if self.scope.contains(&event.key) {
                    found.push(Arc::clone(event));
                }
            }
            self.next += read as u64;
            if read < BATCH {
                self.revision = self.revision.max(revision);
                return Ok(found);
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
}
