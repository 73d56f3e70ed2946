//! What the store is asked for and what it answers: keys and values are bytes.

use bytes::Bytes;

/// The number of a commit: global, ever growing, never used twice, also not after a crash.
pub type Revision = u64;

/// A key with its newest value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value, shared with the store: there is one copy in memory.
    pub value: Bytes,
    /// The commit that made the key.
    pub created: Revision,
    /// The commit that wrote this value.
    pub modified: Revision,
}

/// What a commit did to one key, with the same `Bytes` that the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A value was written.
    Put {
        /// The key and its new value.
        entry: Entry,
        /// What it replaced.
        previous: Option<Entry>,
    },
    /// A key was removed.
    Delete {
        /// The key.
        key: Bytes,
        /// The commit that removed it.
        revision: Revision,
        /// What was removed.
        previous: Entry,
    },
}

impl Event {
    /// The key it is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { entry, .. } => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// A value to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes; kept as they are, so they should not be a small slice of a large buffer.
    pub bytes: Bytes,
    /// Where the commit's revision is inserted into the bytes, in decimal. At most `bytes.len()`.
    pub revision_at: Option<usize>,
}

impl Value {
    /// The bytes as they are to be stored, in the commit with this revision.
    pub(super) fn at(&self, revision: Revision) -> Bytes {
        let Some(at) = self.revision_at else { return self.bytes.clone() };
        let (before, after) = self.bytes.split_at(at.min(self.bytes.len()));
        [before, revision.to_string().as_bytes(), after].concat().into()
    }
}

impl<T: Into<Bytes>> From<T> for Value {
    fn from(bytes: T) -> Self {
        Self { bytes: bytes.into(), revision_at: None }
    }
}

/// What must be so for a commit to happen; compared with the newest state, in which writes that
/// wait for the disk are included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    #[default]
    Any,
    /// There is no such key.
    Absent,
    /// The key's value was written by this commit.
    Revision(Revision),
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it would survive a power cut.
    #[default]
    Synced,
    /// When it is in memory. It is written minutes later, so a crash may undo it; for what
    /// changes often and is rebuilt by itself, such as leases.
    Lazy,
}

/// One operation of a commit. An operation that is synced makes its whole commit so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write a value.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Value,
        /// The condition.
        expect: Expect,
        /// When it is acknowledged.
        durability: Durability,
    },
    /// Remove a key; that it is not there is no error, unless `expect` says otherwise.
    Delete {
        /// The key.
        key: Bytes,
        /// The condition.
        expect: Expect,
        /// When it is acknowledged.
        durability: Durability,
    },
}

impl Op {
    /// Puts `value` if `expect` holds, durably.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Value>, expect: Expect) -> Self {
        let durability = Durability::Synced;
        Self::Put { key: key.into(), value: value.into(), expect, durability }
    }

    /// Deletes `key` if `expect` holds, durably.
    pub fn delete(key: impl Into<Bytes>, expect: Expect) -> Self {
        Self::Delete { key: key.into(), expect, durability: Durability::Synced }
    }

    /// The same operation, acknowledged before it is on disk.
    pub fn lazy(mut self) -> Self {
        let (Self::Put { durability, .. } | Self::Delete { durability, .. }) = &mut self;
        *durability = Durability::Lazy;
        self
    }

    /// The key it is about.
    pub fn key(&self) -> &Bytes {
        let (Self::Put { key, .. } | Self::Delete { key, .. }) = self;
        key
    }

    pub(super) fn expect(&self) -> Expect {
        let (Self::Put { expect, .. } | Self::Delete { expect, .. }) = self;
        *expect
    }

    pub(super) fn durability(&self) -> Durability {
        let (Self::Put { durability, .. } | Self::Delete { durability, .. }) = self;
        *durability
    }
}

/// Is told of every commit, in order of revision, on the commit thread, before its caller is.
///
/// It must be quick (all writers wait for it) and must not wait for a commit.
pub trait Observer: Send {
    /// A commit is acknowledged; `events` are in the order of its operations.
    fn committed(&mut self, revision: Revision, events: &[Event]);
}

impl<F: FnMut(Revision, &[Event]) + Send> Observer for F {
    fn committed(&mut self, revision: Revision, events: &[Event]) {
        self(revision, events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_inserted_where_asked() {
        let value = |at| Value { bytes: Bytes::from_static(b"{\"rv\":\"\"}"), revision_at: at };
        assert_eq!(value(Some(7)).at(42), "{\"rv\":\"42\"}");
        assert_eq!(value(Some(99)).at(42), "{\"rv\":\"\"}42");
        assert_eq!(value(None).at(42), "{\"rv\":\"\"}");
    }

    #[test]
    fn lazy_changes_only_the_durability() {
        let op = Op::delete("a", Expect::Revision(3)).lazy();
        assert_eq!((op.durability(), op.expect()), (Durability::Lazy, Expect::Revision(3)));
        assert_eq!(Op::put("a", "b", Expect::Any).durability(), Durability::Synced);
    }
}
