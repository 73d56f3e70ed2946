//! One change of one object, as watchers see it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

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
    frame: OnceLock<Bytes>,
}

impl Event {
    pub(super) fn new(
        revision: Revision,
        key: Bytes,
        kind: EventType,
        object: Arc<Object>,
        previous: Option<Arc<Object>>,
    ) -> Self {
        Self { revision, key, kind, object, previous, frame: OnceLock::new() }
    }

    /// The line of a watch stream for this event: made once, for all watchers.
    pub fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| frame(self.kind, self.object.bytes())).clone()
    }

    /// What the event costs in the ring, in bytes.
    pub(super) fn cost(&self) -> usize {
        // The object, its frame, and what both are wrapped in.
        2 * self.object.bytes().len() + 256
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
