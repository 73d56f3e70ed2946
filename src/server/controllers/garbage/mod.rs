//! The garbage collector: deletes objects whose owners are gone, in the background, in the
//! foreground (owners wait for their dependents), or leaves them as orphans.

mod collect;
mod graph;
mod sources;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::ApiResource;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::kit::discovery::{self, Kind};
use super::kit::{Context, Queue};
use crate::supervisor::TaskError;
use graph::{Graph, Task};
use sources::Observed;

const WORKERS: usize = 20;
/// A kind that cannot be listed holds collection up no longer than this; owners are looked up anyway
/// before anything is deleted.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// Definitions of kinds mostly change several at a time; the kinds are asked for once, so long after the first.
const KINDS_TOGETHER: Duration = Duration::from_millis(100);

/// The kinds that are served and the indices the graph knows them by.
#[derive(Default)]
struct Kinds {
    list: Vec<Kind>,
    by_kind: HashMap<(String, String), u16>,
}

impl Kinds {
    /// Adds kinds that are new; gives their indices. A known kind may be served in another version now.
    fn extend(&mut self, kinds: Vec<Kind>) -> Vec<u16> {
        let mut added = Vec::new();
        for kind in kinds {
            let key = (kind.resource.group.clone(), kind.resource.kind.clone());
            let next = u16::try_from(self.list.len()).unwrap_or(u16::MAX);
            match self.by_kind.entry(key) {
                Entry::Vacant(slot) => {
                    slot.insert(next);
                    self.list.push(kind);
                    added.push(next);
                }
                Entry::Occupied(slot) => {
                    if let Some(known) = self.list.get_mut(usize::from(*slot.get())) {
                        *known = kind;
                    }
                }
            }
        }
        added
    }

    fn find(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let index = self.by_kind.get(&(group.to_owned(), kind.to_owned()))?;
        self.list.get(usize::from(*index))
    }

    fn resource(&self, index: u16) -> Option<(ApiResource, bool)> {
        self.list.get(usize::from(index)).map(|k| (k.resource.clone(), k.namespaced))
    }
}

struct Collector {
    cx: Context,
    graph: Mutex<Graph>,
    kinds: Mutex<Kinds>,
    queue: Queue<Task>,
}

/// Runs the garbage collector.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(Collector {
        graph: Mutex::default(),
        kinds: Mutex::default(),
        queue: Queue::new("garbage-collector"),
        cx,
    });
    let observing = this.observe(stop.clone());
    let collecting = this.queue.run(WORKERS, stop.clone(), |task| this.work(task));
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        result = observing => result,
        () = collecting => Ok(()),
    }
}

impl Collector {
    /// Follows all kinds, and those that are added later.
    async fn observe(&self, stop: CancellationToken) -> Result<(), TaskError> {
        let (sender, mut observed) = mpsc::unbounded_channel();
        let served = discovery::kinds(&self.cx.client).await?;
        let added = self.kinds.lock().extend(served);
        let mut sources = sources::Sources::default();
        let watchable = |indices: Vec<u16>| -> Vec<(u16, Kind)> {
            let kinds = self.kinds.lock();
            indices
                .into_iter()
                .map(|i| (i, kinds.list[usize::from(i)].clone()))
                .filter(|(_, k)| k.watchable)
                .collect()
        };
        sources.add(&self.cx, watchable(added), &sender);
        let mut complete = false;
        let patience = tokio::time::sleep(SYNC_TIMEOUT);
        tokio::pin!(patience);
        let mut recheck: Option<Instant> = None;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(recheck.unwrap_or_else(Instant::now)), if recheck.is_some() => {
                    recheck = None;
                    let served = discovery::kinds(&self.cx.client).await?;
                    let added = self.kinds.lock().extend(served);
                    sources.add(&self.cx, watchable(added), &sender);
                    continue;
                }
                () = &mut patience, if !complete => {
                    tracing::warn!("not all kinds could be listed; collecting garbage without them");
                    complete = true;
                    self.enqueue_all(|g| g.dangling(), true);
                    continue;
                }
                Some(event) = observed.recv() => event,
                Some(event) = sources.streams.next() => event,
            };
            match event {
                Observed::Set(uid, node) => self.enqueue_all(|g| g.set(uid, node), complete),
                Observed::Gone(uid) => self.enqueue_all(|g| g.remove(uid), complete),
                Observed::Listed(kind) => sources.listed(kind),
                Observed::KindGone(kind) => {
                    sources.listed(kind);
                    self.kinds.lock().by_kind.retain(|_, index| *index != kind);
                    // It may be served in another version.
                    recheck.get_or_insert_with(|| Instant::now() + KINDS_TOGETHER);
                }
                Observed::KindsChanged => {
                    recheck.get_or_insert_with(|| Instant::now() + KINDS_TOGETHER);
                }
            }
            // Until every kind is listed an owner that was not seen may well exist.
            if !complete && sources.all_listed() && observed.is_empty() {
                complete = true;
                self.enqueue_all(|g| g.dangling(), true);
            }
        }
    }

    fn enqueue_all(&self, change: impl FnOnce(&mut Graph) -> Vec<Task>, complete: bool) {
        let tasks = change(&mut self.graph.lock());
        for task in tasks {
            // What looks like a lost owner is examined later; what is asked for by a finalizer, now.
            if complete || self.is_asked_for(task) {
                self.queue.add(task);
            }
        }
    }

    fn is_asked_for(&self, task: Task) -> bool {
        match task {
            Task::Orphan(_) => true,
            Task::Examine(uid) => self.graph.lock().is_foreground(uid),
        }
    }
}
