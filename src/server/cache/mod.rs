//! The watch cache: the only copy of the objects that reads and watches use.
//!
//! The store tells it of every commit, synchronously and in order, before the writer gets its answer
//! ([`crate::store::Observer`]), so a reader in this process always sees the newest write. Each stored
//! kind has an ordered map of key to [`Object`] and a ring of its recent events. Watches read from the
//! ring at their own pace; nothing is queued per watcher. One that falls out of the ring is told so.

mod event;
mod kind;
mod splice;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::api::Object;
use crate::api::object::{Error as ObjectError, SelectableField};
use crate::server::reader::Reader;
use crate::store::{Entry, Event as StoreEvent, Observer, Revision};

pub use event::{Event, EventType, frame as event_frame};
pub use kind::{Expired, Kind, Page, Scope};
pub use splice::with_revision;
pub use watch::Watcher;

/// What all keys start with.
const ROOT: &str = "/registry/";
/// What stands for the core group in keys.
const CORE: &str = "core";

/// All stored kinds.
pub struct Cache {
    kinds: HashMap<String, Arc<Kind>>,
    revision: Arc<AtomicU64>,
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
        Self { kinds: kinds.collect(), revision }
    }

    /// Takes over what the store held when it was opened. Entries of kinds that are not served are left alone.
    pub fn load(&self, entries: Vec<Entry>, revision: Revision) -> Result<(), LoadError> {
        for entry in entries {
            let Some((kind, suffix)) = self.locate(&entry.key) else { continue };
            let object =
                Object::from_stored(entry.value, entry.modified, kind.fields()).map_err(|source| {
                    LoadError { key: String::from_utf8_lossy(&entry.key).into_owned(), source }
                })?;
            kind.restore(suffix, Arc::new(object));
        }
        self.revision.store(revision, Ordering::Release);
        self.kinds.values().for_each(|kind| kind.restored(revision));
        Ok(())
    }

    /// The newest acknowledged revision.
    pub fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// The kind of this name: `pods`, `deployments.apps`.
    pub fn kind(&self, group_resource: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(group_resource)
    }

    /// Every stored kind, in no order.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }

    /// The kind a key belongs to, and the rest of the key.
    fn locate(&self, key: &Bytes) -> Option<(&Arc<Kind>, Bytes)> {
        let rest = key.strip_prefix(ROOT.as_bytes())?;
        let text = std::str::from_utf8(rest).ok()?;
        let (group, rest) = text.split_once('/')?;
        let (plural, suffix) = rest.split_once('/')?;
        let group = if group == CORE { "" } else { group };
        let kind = self.kinds.get(group_resource(group, plural).as_str())?;
        Some((kind, key.slice(key.len() - suffix.len()..)))
    }

    fn apply(&self, revision: Revision, events: &[StoreEvent]) {
        for event in events {
            let Some((kind, suffix)) = self.locate(event.key()) else { continue };
            if let Err(error) = kind.apply(suffix, event, revision) {
                // What was committed was serialised by us a moment ago.
                tracing::error!(key = %event.key().escape_ascii(), %error, "committed object is not readable");
            }
        }
        self.revision.store(revision, Ordering::Release);
        for event in events {
            if let Some((kind, _)) = self.locate(event.key()) {
                kind.wake();
            }
        }
    }
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
