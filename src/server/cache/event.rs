//! One change of one object, as watchers see it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::api::Object;
use crate::store::Revision;

/// What happened to an object, in the spelling of watch events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It appeared, or begins to match a selector.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or matches a selector no longer.
    Deleted,
}

impl EventType {
    /// As in the `type` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A change, shared by all that watch it.
#[derive(Debug)]
pub struct Event {
    /// The commit.
    pub revision: Revision,
    /// Below the kind's prefix: `namespace/name` or `name`.
    pub key: Bytes,
    /// What happened.
    pub kind: EventType,
    /// The object after the change; for a deletion its last state with the revision of the deletion.
    pub object: Arc<Object>,
    /// What it was before.
    pub previous: Option<Arc<Object>>,
    frame: Mutex<Frame>,
}

/// The line of a watch stream for an event.
#[derive(Debug)]
enum Frame {
    /// The event is new: the line is kept for all watchers when the first one asks.
    New(Option<Bytes>),
    /// Whoever still asks makes it anew.
    Old,
}

impl Event {
    pub(super) fn new(
        revision: Revision,
        key: Bytes,
        kind: EventType,
        object: Arc<Object>,
        previous: Option<Arc<Object>>,
    ) -> Self {
        Self { revision, key, kind, object, previous, frame: Mutex::new(Frame::New(None)) }
    }

    /// The line of a watch stream for this event: made once, for all watchers that keep up.
    pub fn frame(&self) -> Bytes {
        let make = || frame(self.kind, self.object.bytes());
        match &mut *self.frame.lock() {
            Frame::New(kept) => kept.get_or_insert_with(make).clone(),
            Frame::Old => make(),
        }
    }

    /// Keeps the line no longer: watchers that keep up have it.
    pub(super) fn grow_old(&self) {
        *self.frame.lock() = Frame::Old;
    }

    /// What the event costs in the ring, in bytes.
    pub(super) fn cost(&self) -> usize {
        // The object and what it is wrapped in.
        self.object.bytes().len() + 512
    }
}

/// A line of a watch stream.
pub fn frame(kind: EventType, object: &[u8]) -> Bytes {
    let head = match kind {
        EventType::Added => &b"{\"type\":\"ADDED\",\"object\":"[..],
        EventType::Modified => b"{\"type\":\"MODIFIED\",\"object\":",
        EventType::Deleted => b"{\"type\":\"DELETED\",\"object\":",
    };
    [head, object, b"}\n"].concat().into()
}
