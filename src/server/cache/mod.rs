//! The watch cache: the only copy of the objects that reads and watches use.
//!
//! The store tells it of every commit, synchronously and in order, before the writer gets its answer
//! ([`crate::store::Observer`]), so a reader in this process always sees the newest write. Each stored
//! kind has an ordered map of key to [`Object`] and a ring of its recent events. Watches read from the
//! ring at their own pace; nothing is queued per watcher. One that falls out of the ring is told so.
//!
//! Custom kinds come and go ([`Cache::put`], [`Cache::remove`]). What the store holds of kinds that are not
//! served lies here as it is stored, so that nothing is read from the disk when one comes.

mod event;
mod form;
mod kind;
mod splice;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::api::Object;
use crate::api::object::{Error as ObjectError, SelectableField};
use crate::server::reader::Reader;
use crate::store::{Entry, Event as StoreEvent, Observer, Revision};

pub use event::{Event, EventType, frame as event_frame};
pub use form::Form;
pub use kind::{Expired, Kind, Page, Scope};
pub use splice::with_revision;
pub use watch::Watcher;

/// What all keys start with.
const ROOT: &str = "/registry/";
/// What stands for the core group in keys.
const CORE: &str = "core";
/// Old events are looked for no more often.
const LOOK_FOR_OLD: Duration = Duration::from_secs(60);

/// Stored objects of one kind that is not served: bytes and revision by the rest of the key.
type Strays = BTreeMap<Bytes, (Bytes, Revision)>;

/// All stored kinds.
pub struct Cache {
    kinds: RwLock<HashMap<String, Arc<Kind>>>,
    strays: Mutex<HashMap<String, Strays>>,
    revision: Arc<AtomicU64>,
    /// When old events were last looked for.
    looked_for_old: Mutex<Instant>,
}

/// Why a stored object cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key} of the store: {source}; restore a snapshot, or move the data directory away and start anew")]
pub struct LoadError {
    key: String,
    source: ObjectError,
}

/// The key of an object in the store.
pub fn key(group: &str, plural: &str, namespace: Option<&str>, name: &str) -> Bytes {
    let group = if group.is_empty() { CORE } else { group };
    match namespace {
        Some(namespace) => format!("{ROOT}{group}/{plural}/{namespace}/{name}").into(),
        None => format!("{ROOT}{group}/{plural}/{name}").into(),
    }
}

/// `pods`, `deployments.apps`.
fn group_resource(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

impl Cache {
    /// An empty cache of these kinds: group, plural, and what field selectors may ask of them.
    pub fn new(kinds: impl IntoIterator<Item = (String, String, Vec<SelectableField>)>) -> Self {
        let revision = Arc::new(AtomicU64::new(0));
        let kinds = kinds.into_iter().map(|(group, plural, fields)| {
            let name = group_resource(&group, &plural);
            (name.clone(), Arc::new(Kind::new(name, fields, Arc::clone(&revision))))
        });
        Self {
            kinds: RwLock::new(kinds.collect()),
            strays: Mutex::default(),
            revision,
            looked_for_old: Mutex::new(Instant::now()),
        }
    }

    /// Takes over what the store held when it was opened. Entries of kinds that are not served wait for
    /// [`Cache::put`].
    pub fn load(&self, entries: Vec<Entry>, revision: Revision) -> Result<(), LoadError> {
        for entry in entries {
            let Some((name, suffix)) = locate(&entry.key) else { continue };
            let Some(kind) = self.raw(&name) else {
                let stored = (entry.value, entry.modified);
                self.strays.lock().entry(name).or_default().insert(suffix, stored);
                continue;
            };
            let object =
                Object::from_stored(entry.value, entry.modified, kind.fields()).map_err(|source| {
                    LoadError { key: String::from_utf8_lossy(&entry.key).into_owned(), source }
                })?;
            kind.restore(suffix, Arc::new(object));
        }
        self.revision.store(revision, Ordering::Release);
        self.kinds.read().values().for_each(|kind| kind.restored(revision));
        Ok(())
    }

    /// The newest acknowledged revision.
    pub fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// The kind of this name: `pods`, `deployments.apps`. Its objects are in the form they are served in.
    pub fn kind(&self, group_resource: &str) -> Option<Arc<Kind>> {
        let kind = self.raw(group_resource)?;
        kind.settle();
        Some(kind)
    }

    fn raw(&self, group_resource: &str) -> Option<Arc<Kind>> {
        self.kinds.read().get(group_resource).cloned()
    }

    /// Every stored kind, in no order.
    pub fn kinds(&self) -> Vec<Arc<Kind>> {
        self.kinds.read().values().cloned().collect()
    }

    /// Begins to serve a custom kind, or serves it in another form. Watches go on unless `fields` are others.
    /// To be called where commits are observed, or before there are any.
    pub fn put(&self, name: &str, fields: Vec<SelectableField>, form: Arc<dyn Form>) {
        if let Some(kind) = self.raw(name).filter(|kind| kind.fields() == fields) {
            kind.reform(form);
            return;
        }
        let objects = match self.kinds.write().remove(name) {
            Some(old) => old.close(self.revision()),
            None => self.strays.lock().remove(name).unwrap_or_default(),
        };
        let kind = Kind::new(name.to_owned(), fields, Arc::clone(&self.revision));
        for (key, (bytes, revision)) in objects {
            match Object::from_stored(bytes, revision, kind.fields()) {
                Ok(object) => kind.restore(key, Arc::new(object)),
                Err(error) => {
                    tracing::error!(kind = name, key = %key.escape_ascii(), %error, "unreadable object")
                }
            }
        }
        kind.restored(self.revision());
        kind.reform(form);
        self.kinds.write().insert(name.to_owned(), Arc::new(kind));
    }

    /// Serves a custom kind no longer: its watches end. To be called where commits are observed.
    pub fn remove(&self, name: &str) {
        let Some(kind) = self.kinds.write().remove(name) else { return };
        let objects = kind.close(self.revision());
        if !objects.is_empty() {
            self.strays.lock().insert(name.to_owned(), objects);
        }
    }

    /// How many stored objects there are of a kind that is not served.
    pub fn strays(&self, name: &str) -> usize {
        self.strays.lock().get(name).map_or(0, BTreeMap::len)
    }

    fn stray(&self, name: String, suffix: Bytes, event: &StoreEvent) {
        let mut strays = self.strays.lock();
        let kind = strays.entry(name).or_default();
        match event {
            StoreEvent::Put { entry, .. } => drop(kind.insert(suffix, (entry.value.clone(), entry.modified))),
            StoreEvent::Delete { .. } => drop(kind.remove(&suffix)),
        }
    }

    fn apply(&self, revision: Revision, events: &[StoreEvent]) {
        let mut changed = Vec::new();
        for event in events {
            let Some((name, suffix)) = locate(event.key()) else { continue };
            let Some(kind) = self.raw(&name) else {
                self.stray(name, suffix, event);
                continue;
            };
            if let Err(error) = kind.apply(suffix, event, revision) {
                // What was committed was serialised by us a moment ago.
                tracing::error!(key = %event.key().escape_ascii(), %error, "committed object is not readable");
            }
            changed.push(kind);
        }
        self.revision.store(revision, Ordering::Release);
        changed.iter().for_each(|kind| kind.wake());
        self.forget_old(Instant::now());
    }

    /// Forgets old events of all kinds, if that was not done for a while. Some lease is always renewed, so
    /// that this is come by.
    fn forget_old(&self, now: Instant) {
        let mut last = self.looked_for_old.lock();
        if now.duration_since(*last) >= LOOK_FOR_OLD {
            *last = now;
            self.kinds.read().values().for_each(|kind| kind.forget_old(now));
        }
    }
}

/// The name of the kind a key belongs to, and the rest of the key.
fn locate(key: &Bytes) -> Option<(String, Bytes)> {
    let rest = key.strip_prefix(ROOT.as_bytes())?;
    let text = std::str::from_utf8(rest).ok()?;
    let (group, rest) = text.split_once('/')?;
    let (plural, suffix) = rest.split_once('/')?;
    let group = if group == CORE { "" } else { group };
    Some((group_resource(group, plural), key.slice(key.len() - suffix.len()..)))
}

/// The key of an object in the store, if it is one of this kind: `namespace/name` or `name`.
pub fn key_within<'k>(key: &'k Bytes, group: &str, plural: &str) -> Option<&'k str> {
    let text = std::str::from_utf8(key.strip_prefix(ROOT.as_bytes())?).ok()?;
    text.strip_prefix(group)?.strip_prefix('/')?.strip_prefix(plural)?.strip_prefix('/')
}

/// Feeds a cache from the store's commit thread.
pub struct Feed(pub Arc<Cache>);

impl Observer for Feed {
    fn committed(&mut self, revision: Revision, events: &[StoreEvent]) {
        self.0.apply(revision, events);
    }
}

impl Reader for Cache {
    fn get(&self, resource: &str, namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        self.kind(resource)?.get(namespace, name)
    }

    fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let scope = namespace.map_or(Scope::All, |n| Scope::Namespace(n.to_owned()));
        self.kind(resource).map(|kind| kind.all(&scope)).unwrap_or_default()
    }

    fn revision(&self, resource: &str) -> Option<u64> {
        self.kind(resource).map(|kind| kind.last())
    }
}

#[cfg(test)]
mod tests;
