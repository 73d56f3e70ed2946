//! Writes on their way to the disk: checked against the newest state, given a revision, encoded
//! into the group that the commit thread writes next.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::error::Error;
use super::record::{Change, Kind, RecordBuffer};
use super::state::State;
use super::types::{Durability, Entry, Expect, Op, Revision};

/// A group is closed for more when its record has this many bytes.
const GROUP_BYTES: usize = 4 << 20;
/// The largest key and value together; a record's length must fit its header.
const MAX_COMMIT: usize = 1 << 30;

/// How a waiting caller is told.
pub(super) type Done = oneshot::Sender<Result<Revision, Error>>;

/// One commit of a group.
#[derive(Debug)]
pub(super) struct Commit {
    pub revision: Revision,
    pub changes: Vec<Change>,
    pub lazy: bool,
    pub done: Done,
}

/// Commits that become durable together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub commits: Vec<Commit>,
    /// `None` as long as all its commits are lazy.
    pub record: Option<RecordBuffer>,
}

/// The newest write of a key that is not acknowledged.
#[derive(Debug)]
struct Write {
    revision: Revision,
    entry: Option<Entry>,
}

/// All writes that are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The newest revision given to a commit.
    pub revision: Revision,
    /// Groups to write, oldest first.
    pub groups: VecDeque<Group>,
    writes: HashMap<Bytes, Write>,
}

impl Pending {
    pub(super) fn new(revision: Revision) -> Self {
        Self { revision, ..Self::default() }
    }

    /// Checks `ops` against what `state` will be, and adds them to the last group. All
    /// expectations are about the state before the commit.
    pub(super) fn add(&mut self, ops: Vec<Op>, state: &State, done: Done) {
        if let Err(error) = self.check(&ops, state) {
            // A caller who has gone does not want to know.
            let _ = done.send(Err(error));
            return;
        }
        self.revision += 1;
        let revision = self.revision;
        let lazy = ops.iter().all(|op| op.durability() == Durability::Lazy);
        let mut changes = Vec::with_capacity(ops.len());
        for op in ops {
            changes.extend(self.change(op, revision, state));
        }
        let full = |g: &Group| g.record.as_ref().is_some_and(|r| r.len() > GROUP_BYTES);
        if self.groups.back().is_none_or(full) {
            self.groups.push_back(Group::default());
        }
        let group = self.groups.back_mut().expect("one was added");
        if !lazy {
            let record = group.record.get_or_insert_with(|| RecordBuffer::new(Kind::Commits));
            changes.iter().for_each(|change| record.add(change));
        }
        group.commits.push(Commit { revision, changes, lazy, done });
    }

    fn check(&self, ops: &[Op], state: &State) -> Result<(), Error> {
        let size: usize = ops.iter().map(size).sum();
        if size > MAX_COMMIT {
            let message = format!("a commit of {size} bytes is too large");
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, message);
            return Err(Error::io("commit", source));
        }
        for op in ops.iter().filter(|op| op.expect() != Expect::Any) {
            let current = self.newest(op.key(), state).map(|entry| entry.modified);
            let expected = match op.expect() {
                Expect::Revision(revision) => Some(revision),
                Expect::Absent | Expect::Any => None,
            };
            if current != expected {
                return Err(Error::Conflict { key: op.key().clone(), current });
            }
        }
        Ok(())
    }

    /// The newest entry of a key, writes that wait included.
    fn newest(&self, key: &[u8], state: &State) -> Option<Entry> {
        match self.writes.get(key) {
            Some(write) => write.entry.clone(),
            None => state.get(key),
        }
    }

    /// What an operation does; `None` if it deletes what is not there.
    fn change(&mut self, op: Op, revision: Revision, state: &State) -> Option<Change> {
        let newest = self.newest(op.key(), state);
        let (key, entry, change) = match op {
            Op::Put { key, value, .. } => {
                // The key in memory stays, so that old and new entries share it.
                let key = newest.as_ref().map_or(key, |entry| entry.key.clone());
                let value = value.at(revision);
                let created = newest.map_or(revision, |entry| entry.created);
                let modified = revision;
                let change = Change::Put { key: key.clone(), value: value.clone(), created, modified };
                (key.clone(), Some(Entry { key, value, created, modified }), change)
            }
            Op::Delete { key, .. } => {
                newest?;
                (key.clone(), None, Change::Delete { key, revision })
            }
        };
        self.writes.insert(key, Write { revision, entry });
        Some(change)
    }

    /// Forgets the writes of a commit that is in `state` now.
    pub(super) fn settle(&mut self, commit: &Commit) {
        for change in &commit.changes {
            let key = change.key();
            if self.writes.get(key).is_some_and(|w| w.revision == commit.revision) {
                self.writes.remove(key);
            }
        }
    }

    /// Forgets all writes that wait; they are handed out to be failed.
    pub(super) fn roll_back(&mut self) -> VecDeque<Group> {
        self.writes.clear();
        std::mem::take(&mut self.groups)
    }
}

fn size(op: &Op) -> usize {
    let value = match op {
        Op::Put { value, .. } => value.bytes.len(),
        Op::Delete { .. } => 0,
    };
    op.key().len() + value + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(pending: &mut Pending, state: &State, op: Op) -> Option<Error> {
        let (done, mut result) = oneshot::channel();
        pending.add(vec![op], state, done);
        result.try_recv().ok().and_then(Result::err)
    }

    #[test]
    fn expectations_see_writes_that_wait() {
        let (mut pending, mut state) = (Pending::new(10), State::default());
        assert!(add(&mut pending, &state, Op::put("a", "1", Expect::Absent)).is_none());
        let conflict = add(&mut pending, &state, Op::put("a", "2", Expect::Absent));
        assert!(matches!(conflict, Some(Error::Conflict { current: Some(11), .. })));
        assert!(add(&mut pending, &state, Op::put("a", "2", Expect::Revision(11))).is_none());
        assert!(add(&mut pending, &state, Op::delete("a", Expect::Revision(12))).is_none());
        let conflict = add(&mut pending, &state, Op::put("a", "3", Expect::Revision(12)));
        assert!(matches!(conflict, Some(Error::Conflict { current: None, .. })));
        let group = pending.groups.pop_front().unwrap();
        for commit in &group.commits {
            commit.changes.iter().for_each(|c| drop(state.apply(c.clone())));
            pending.settle(commit);
        }
        assert!(pending.writes.is_empty());
        assert_eq!((state.len(), pending.revision), (0, 13));
    }

    #[test]
    fn lazy_commits_need_no_record_and_large_groups_are_split() {
        let (mut pending, state) = (Pending::default(), State::default());
        add(&mut pending, &state, Op::put("lease", "1", Expect::Any).lazy());
        assert!(pending.groups[0].record.is_none());
        add(&mut pending, &state, Op::put("a", vec![0; GROUP_BYTES + 1], Expect::Any));
        add(&mut pending, &state, Op::put("b", "1", Expect::Any));
        let sizes: Vec<usize> = pending.groups.iter().map(|g| g.commits.len()).collect();
        assert_eq!(sizes, [2, 1]);
        assert_eq!(pending.roll_back().len(), 2);
        assert!(add(&mut pending, &state, Op::put("a", "1", Expect::Absent)).is_none());
        assert_eq!(pending.revision, 4, "revisions are not used again");
    }

    #[test]
    fn a_commit_keeps_created_and_shares_keys() {
        let (mut pending, mut state) = (Pending::new(5), State::default());
        let old = Change::Put { key: "k".into(), value: "v".into(), created: 2, modified: 3 };
        state.apply(old);
        add(&mut pending, &state, Op::put("k", "w", Expect::Any));
        let Change::Put { created, modified, .. } = pending.groups[0].commits[0].changes[0] else {
            panic!("not a put")
        };
        assert_eq!((created, modified), (2, 6));
    }
}
