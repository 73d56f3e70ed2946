//! The form in which the objects of a custom kind are served, when it is not that in which they were stored.
//!
//! A definition may change after objects were stored: other fields, other defaults, another storage version.
//! Readers see objects as they would be stored now. All objects of the kind are brought into that form before
//! the first read after the change, and not where the change is committed, which holds up all writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::Kind;
use crate::api::Object;
use crate::api::object::serialize;

/// Brings stored objects into the form in which they are served.
pub trait Form: Send + Sync {
    /// Changes an object; false if it is in that form already.
    fn settle(&self, object: &mut Value) -> bool;
}

/// What is still to be done for a kind.
#[derive(Default)]
pub(super) struct Forming {
    wanted: AtomicBool,
    next: Mutex<Option<Arc<dyn Form>>>,
    /// Held while objects are changed: other readers wait.
    running: Mutex<()>,
}

impl Kind {
    /// Objects are to be served in this form from now on.
    pub(super) fn reform(&self, form: Arc<dyn Form>) {
        *self.forming.next.lock() = Some(form);
        self.forming.wanted.store(true, Ordering::Release);
    }

    /// Brings all objects into the form that was asked for last.
    pub(super) fn settle(&self) {
        if !self.forming.wanted.load(Ordering::Acquire) {
            return;
        }
        let _running = self.forming.running.lock();
        loop {
            let next = self.forming.next.lock().take();
            let Some(form) = next else { break };
            self.settle_to(&*form);
            // Readers that come now and find the flag set wait for `running`, and find nothing to do.
            let next = self.forming.next.lock();
            self.forming.wanted.store(next.is_some(), Ordering::Release);
        }
    }

    fn settle_to(&self, form: &dyn Form) {
        let all: Vec<(Bytes, Arc<Object>)> =
            self.state.read().objects.iter().map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        for (key, before) in all {
            let mut value = before.value();
            if !form.settle(&mut value) {
                continue;
            }
            let bytes = serialize(value).at(before.revision());
            let Ok(after) = Object::from_stored(bytes, before.revision(), self.fields()) else { continue };
            let mut state = self.state.write();
            // One that was written meanwhile is in the new form.
            if let Some(place) = state.objects.get_mut(&key).filter(|now| Arc::ptr_eq(now, &before)) {
                *place = Arc::new(after);
                state.stale.insert(key);
            }
        }
    }

    /// Whether an object is stored in another form than that in which it is served: a write of it is to be
    /// committed even if it changes nothing.
    pub fn is_stale(&self, namespace: Option<&str>, name: &str) -> bool {
        let state = self.state.read();
        !state.stale.is_empty()
            && match namespace {
                Some(namespace) => state.stale.contains(format!("{namespace}/{name}").as_bytes()),
                None => state.stale.contains(name.as_bytes()),
            }
    }
}
