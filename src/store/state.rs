//! The state in memory: every key with its newest acknowledged value.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::record::Change;
use super::types::{Entry, Event, Revision};

/// A value without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    value: Bytes,
    created: Revision,
    modified: Revision,
}

impl Stored {
    fn entry(&self, key: &Bytes) -> Entry {
        Entry { key: key.clone(), value: self.value.clone(), created: self.created, modified: self.modified }
    }
}

/// An ordered map of entries. A clone shares all bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    map: BTreeMap<Bytes, Stored>,
    bytes: u64,
}

impl State {
    pub(super) fn get(&self, key: &[u8]) -> Option<Entry> {
        let (key, stored) = self.map.get_key_value(key)?;
        Some(stored.entry(key))
    }

    /// Keys that start with `prefix`, after the key `after`, at most `limit`.
    pub(super) fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Entry> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.map
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, stored)| stored.entry(key))
            .collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> {
        self.map.iter().map(|(key, stored)| stored.entry(key))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Bytes of all keys and values.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Applies a change and says what it did, if anything.
    pub(super) fn apply(&mut self, change: Change) -> Option<Event> {
        match change {
            Change::Put { key, value, created, modified } => {
                self.bytes += (key.len() + value.len()) as u64;
                let stored = Stored { value, created, modified };
                let entry = stored.entry(&key);
                // Insert keeps the old key, so that its bytes stay shared with older entries.
                let previous = self.map.insert(key.clone(), stored).map(|old| old.entry(&key));
                self.forget(&previous);
                Some(Event::Put { entry, previous })
            }
            Change::Delete { key, revision } => {
                let previous = self.map.remove(&key).map(|old| old.entry(&key));
                self.forget(&previous);
                Some(Event::Delete { key, revision, previous: previous? })
            }
        }
    }

    fn forget(&mut self, previous: &Option<Entry>) {
        if let Some(entry) = previous {
            self.bytes -= (entry.key.len() + entry.value.len()) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(state: &mut State, key: &str, value: &str, modified: Revision) -> Option<Event> {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
        state.apply(Change::Put { key, value, created: 1, modified })
    }

    #[test]
    fn ranges_are_ordered_limited_and_continued() {
        let mut state = State::default();
        for key in ["b/2", "a", "b/1", "b/3", "b0"] {
            put(&mut state, key, "v", 1);
        }
        let keys = |prefix: &str, after: Option<&str>, limit| {
            let found = state.range(prefix.as_bytes(), after.map(str::as_bytes), limit);
            found.iter().map(|e| String::from_utf8_lossy(&e.key).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys("b/", None, 9), ["b/1", "b/2", "b/3"]);
        assert_eq!(keys("b/", Some("b/1"), 1), ["b/2"]);
        assert_eq!(keys("b/", Some("b/3"), 9), Vec::<String>::new());
        assert_eq!(keys("b/", Some("a"), 1), ["b/1"]);
        assert_eq!(keys("", None, 2), ["a", "b/1"]);
    }

    #[test]
    fn bytes_are_counted_and_events_tell_what_was_before() {
        let mut state = State::default();
        put(&mut state, "key", "12345", 1);
        let Some(Event::Put { entry, previous: Some(previous) }) = put(&mut state, "key", "1", 2) else {
            panic!("no event")
        };
        assert_eq!((entry.modified, previous.value.len(), state.bytes()), (2, 5, 4));
        let delete = Change::Delete { key: Bytes::from("key"), revision: 3 };
        assert!(matches!(state.apply(delete.clone()), Some(Event::Delete { revision: 3, .. })));
        assert_eq!((state.apply(delete), state.bytes(), state.len()), (None, 0, 0));
    }
}
