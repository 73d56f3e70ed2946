//! The objects of one kind and its recent events.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

use super::event::{Event, EventType};
use super::form::Forming;
use super::splice::with_revision;
use super::watch::Watcher;
use crate::api::Object;
use crate::api::object::{Error, SelectableField};
use crate::store::{Event as StoreEvent, Revision};

/// The ring keeps at most this many events of a kind,
const RING_EVENTS: usize = 32_768;
/// at most this many bytes,
const RING_BYTES: usize = 24 << 20;
/// and no event older than this, but for the newest few.
const RING_AGE: Duration = Duration::from_secs(300);
const RING_FEW: usize = 64;
/// Lines of watch streams are kept of so many events.
const FRAMES: usize = 64;

/// In place of the number of the first event: the kind is served no longer.
const CLOSED: u64 = u64::MAX;

/// Which objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those of a namespace.
    Namespace(String),
    /// One, by `namespace/name` or `name`.
    Key(String),
}

impl Scope {
    /// Whether a key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => {
                key.strip_prefix(namespace.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
            }
            Self::Key(one) => key == one.as_bytes(),
        }
    }

    /// What all keys in it start with.
    fn prefix(&self) -> Vec<u8> {
        match self {
            Self::All => Vec::new(),
            Self::Namespace(namespace) => format!("{namespace}/").into_bytes(),
            Self::Key(one) => one.clone().into_bytes(),
        }
    }
}

/// The revision asked for is older than what the ring holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct Expired {
    /// What was asked for.
    pub requested: Revision,
    /// The oldest that can be answered.
    pub oldest: Revision,
}

/// Objects of a kind as they were at one revision.
#[derive(Debug)]
pub struct Page {
    /// In the order of their keys.
    pub objects: Vec<(Bytes, Arc<Object>)>,
    /// The revision.
    pub revision: Revision,
}

pub(super) struct State {
    pub(super) objects: BTreeMap<Bytes, Arc<Object>>,
    /// Keys of objects that are stored in another form than that in which they are here.
    pub(super) stale: HashSet<Bytes>,
    ring: VecDeque<(Instant, Arc<Event>)>,
    ring_bytes: usize,
    /// The number of the ring's first event, counted since start.
    first: u64,
    /// Newest revision of an event that is no longer in the ring.
    forgotten: Revision,
    /// Newest revision that changed this kind.
    last: Revision,
}

/// One stored kind.
pub struct Kind {
    name: String,
    fields: Vec<SelectableField>,
    pub(super) state: RwLock<State>,
    pub(super) forming: Forming,
    global: Arc<AtomicU64>,
    changed: watch::Sender<u64>,
}

impl Kind {
    pub(super) fn new(name: String, fields: Vec<SelectableField>, global: Arc<AtomicU64>) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            stale: HashSet::new(),
            ring: VecDeque::new(),
            ring_bytes: 0,
            first: 0,
            forgotten: 0,
            last: 0,
        };
        let (state, forming) = (RwLock::new(state), Forming::default());
        Self { name, fields, state, forming, global, changed: watch::Sender::new(0) }
    }

    /// `pods`, `deployments.apps`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What field selectors may ask.
    pub fn fields(&self) -> &[SelectableField] {
        &self.fields
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest revision that changed the kind.
    pub fn last(&self) -> Revision {
        self.state.read().last
    }

    pub(super) fn restore(&self, key: Bytes, object: Arc<Object>) {
        self.state.write().objects.insert(key, object);
    }

    pub(super) fn restored(&self, revision: Revision) {
        let mut state = self.state.write();
        (state.forgotten, state.last) = (revision, revision);
    }

    /// Ends all watches: they are told that they have fallen behind. Gives away the objects.
    pub(super) fn close(&self, revision: Revision) -> BTreeMap<Bytes, (Bytes, Revision)> {
        let objects = {
            let mut state = self.state.write();
            state.ring.clear();
            (state.ring_bytes, state.first, state.forgotten) = (0, CLOSED, revision + 1);
            let objects = std::mem::take(&mut state.objects);
            objects.into_iter().map(|(key, o)| (key, (o.bytes().clone(), o.revision()))).collect()
        };
        self.wake();
        objects
    }

    pub(super) fn apply(&self, key: Bytes, event: &StoreEvent, revision: Revision) -> Result<(), Error> {
        let StoreEvent::Put { entry, .. } = event else { return self.apply_delete(key, event, revision) };
        let object = Arc::new(Object::from_stored(entry.value.clone(), revision, &self.fields)?);
        let mut state = self.state.write();
        let previous = state.objects.insert(key.clone(), Arc::clone(&object));
        state.stale.remove(&key);
        let kind = if previous.is_some() { EventType::Modified } else { EventType::Added };
        state.push(Event::new(revision, key, kind, object, previous));
        Ok(())
    }

    fn apply_delete(&self, key: Bytes, event: &StoreEvent, revision: Revision) -> Result<(), Error> {
        let StoreEvent::Delete { previous: stored, .. } = event else { return Ok(()) };
        let mut state = self.state.write();
        let previous = state.objects.remove(&key);
        state.stale.remove(&key);
        // What is here may be in a newer form than what was stored.
        let bytes = previous.as_ref().map_or(&stored.value, |object| object.bytes());
        let last = Arc::new(Object::from_stored(with_revision(bytes, revision), revision, &self.fields)?);
        state.push(Event::new(revision, key, EventType::Deleted, last, previous));
        Ok(())
    }

    /// Forgets old events, also while no new ones come.
    pub(super) fn forget_old(&self, now: Instant) {
        self.state.write().forget(now);
    }

    pub(super) fn wake(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// The newest revision this kind's state is good for. Exact while the lock is held: a commit that
    /// changes the kind needs the lock before the global revision can pass it.
    fn current(&self, state: &State) -> Revision {
        self.global.load(Ordering::Acquire).max(state.last)
    }

    /// One object.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        let state = self.state.read();
        match namespace {
            Some(namespace) => state.objects.get(format!("{namespace}/{name}").as_bytes()).cloned(),
            None => state.objects.get(name.as_bytes()).cloned(),
        }
    }

    /// Waits until an object is no longer at this revision; `None` is that it does not exist. A write
    /// that lost against one that is not acknowledged yet waits so before it tries again.
    pub async fn moved_on(&self, namespace: Option<&str>, name: &str, from: Option<Revision>) {
        let mut changed = self.changed.subscribe();
        while self.get(namespace, name).map(|object| object.revision()) == from {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// All objects in a scope.
    pub fn all(&self, scope: &Scope) -> Vec<Arc<Object>> {
        let state = self.state.read();
        state.range(scope, None).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// The newest objects in a scope.
    pub fn newest(&self, scope: &Scope) -> Page {
        let state = self.state.read();
        self.page_of_newest(&state, scope, None)
    }

    fn page_of_newest(&self, state: &State, scope: &Scope, after: Option<&[u8]>) -> Page {
        let objects = state.range(scope, after).map(|(k, o)| (k.clone(), Arc::clone(o))).collect();
        Page { objects, revision: self.current(state) }
    }

    /// The objects in a scope as they were at `revision`, whose keys come after `after`.
    ///
    /// # Errors
    /// [`Expired`] if the ring does not reach back so far.
    pub fn at(&self, revision: Revision, scope: &Scope, after: Option<&[u8]>) -> Result<Page, Expired> {
        let state = self.state.read();
        if revision < state.forgotten {
            return Err(Expired { requested: revision, oldest: state.forgotten });
        }
        if revision >= state.last {
            return Ok(Page { revision, ..self.page_of_newest(&state, scope, after) });
        }
        // What was there then: the newest state with what changed since put back, latest change first.
        let mut objects: BTreeMap<Bytes, Arc<Object>> =
            state.range(scope, after).map(|(k, o)| (k.clone(), Arc::clone(o))).collect();
        for (_, event) in state.ring.iter().rev().take_while(|(_, e)| e.revision > revision) {
            if !scope.contains(&event.key) || after.is_some_and(|after| &event.key[..] <= after) {
                continue;
            }
            match &event.previous {
                Some(previous) => objects.insert(event.key.clone(), Arc::clone(previous)),
                None => objects.remove(&event.key),
            };
        }
        Ok(Page { objects: objects.into_iter().collect(), revision })
    }

    /// Watches what happens after `revision`.
    ///
    /// # Errors
    /// [`Expired`] if the ring does not reach back so far.
    pub fn watch(self: &Arc<Self>, revision: Revision, scope: Scope) -> Result<Watcher, Expired> {
        let state = self.state.read();
        if revision < state.forgotten {
            return Err(Expired { requested: revision, oldest: state.forgotten });
        }
        let old = state.ring.partition_point(|(_, e)| e.revision <= revision);
        let next = state.number(old);
        Ok(Watcher::new(Arc::clone(self), scope, next, revision, self.changed.subscribe()))
    }

    /// The newest objects in a scope, and a watch of what happens after.
    pub fn list_and_watch(self: &Arc<Self>, scope: Scope) -> (Page, Watcher) {
        let state = self.state.read();
        let page = self.page_of_newest(&state, &scope, None);
        let next = state.number(state.ring.len());
        let watcher = Watcher::new(Arc::clone(self), scope, next, page.revision, self.changed.subscribe());
        (page, watcher)
    }

    pub(super) fn read(&self) -> (RwLockReadGuard<'_, State>, Revision) {
        let state = self.state.read();
        let revision = self.current(&state);
        (state, revision)
    }
}

impl State {
    fn push(&mut self, event: Event) {
        let now = Instant::now();
        self.last = event.revision;
        self.ring_bytes += event.cost();
        self.ring.push_back((now, Arc::new(event)));
        if let Some((_, event)) = self.ring.len().checked_sub(FRAMES + 1).and_then(|i| self.ring.get(i)) {
            event.grow_old();
        }
        self.forget(now);
    }

    /// Forgets events that are old or too many.
    fn forget(&mut self, now: Instant) {
        while let Some((at, oldest)) = self.ring.front() {
            let len = self.ring.len();
            let old = len > RING_FEW && now.duration_since(*at) > RING_AGE;
            if !old && len <= RING_EVENTS && (self.ring_bytes <= RING_BYTES || len == 1) {
                break;
            }
            self.ring_bytes -= oldest.cost();
            self.forgotten = oldest.revision;
            self.first += 1;
            self.ring.pop_front();
        }
    }

    fn range<'a>(
        &'a self,
        scope: &Scope,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Arc<Object>)> + use<'a> {
        let prefix = scope.prefix();
        let from = match after {
            Some(after) if after >= &prefix[..] => Bound::Excluded(Bytes::copy_from_slice(after)),
            _ => Bound::Included(Bytes::from(prefix)),
        };
        let scope = scope.clone();
        self.objects.range((from, Bound::Unbounded)).take_while(move |(key, _)| scope.contains(key))
    }

    /// The number of an event of the ring; of a kind that is closed one that was forgotten.
    fn number(&self, place: usize) -> u64 {
        if self.first == CLOSED { 0 } else { self.first + place as u64 }
    }

    /// Events from number `next` on, at most `limit`; `None` if they are forgotten.
    pub(super) fn events(&self, next: u64, limit: usize) -> Option<impl Iterator<Item = &Arc<Event>>> {
        let skip = usize::try_from(next.checked_sub(self.first)?).ok()?;
        Some(self.ring.iter().skip(skip).take(limit).map(|(_, event)| event))
    }

    pub(super) fn forgotten(&self) -> Revision {
        self.forgotten
    }
}
