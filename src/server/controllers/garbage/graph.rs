//! Who owns whom. To stay small the graph holds only objects that have owners or are being deleted,
//! and of all others merely that they exist.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Finalizer of an owner that waits for its dependents to go first.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner whose dependents are to be kept.
pub const ORPHAN: &str = "orphan";

/// A uid as a number: half the size of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(u128);

impl Uid {
    /// From its text.
    pub fn parse(text: &str) -> Self {
        match uuid::Uuid::parse_str(text) {
            Ok(uuid) => Self(uuid.as_u128()),
            // Not what API servers make, but legal: FNV-1a of 128 bits.
            Err(_) => Self(text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, b| {
                (hash ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
            })),
        }
    }
}

/// One owner of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its uid.
    pub uid: Uid,
    /// Its foreground deletion waits for the object.
    pub blocks: bool,
}

/// An object with owners, or one that is being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Index of its kind in the list of kinds.
    pub kind: u16,
    /// Namespace, or empty.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// Its deletion was asked for.
    pub deleting: bool,
    /// It waits for its dependents to be deleted.
    pub foreground: bool,
    /// It waits for its dependents to be orphaned.
    pub orphaning: bool,
}

impl Node {
    /// What the graph needs to know of an object.
    pub fn of(kind: u16, meta: &ObjectMeta) -> Self {
        let owners = meta.owner_references.iter().flatten();
        let deleting = meta.deletion_timestamp.is_some();
        let has = |name: &str| meta.finalizers.iter().flatten().any(|f| f == name);
        Self {
            kind,
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
            owners: owners
                .map(|o| Owner { uid: Uid::parse(&o.uid), blocks: o.block_owner_deletion == Some(true) })
                .collect(),
            deleting,
            foreground: deleting && has(FOREGROUND),
            orphaning: deleting && has(ORPHAN),
        }
    }

    fn is_plain(&self) -> bool {
        self.owners.is_empty() && !self.deleting
    }
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Look whether the object is still wanted, and delete it if not.
    Examine(Uid),
    /// Take the object away from its dependents as an owner.
    Orphan(Uid),
}

/// The graph of owners and dependents.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    alive: HashSet<Uid>,
    dependents: HashMap<Uid, Vec<Uid>>,
}

impl Graph {
    /// The object, if it has owners or is being deleted.
    pub fn node(&self, uid: Uid) -> Option<&Node> {
        self.nodes.get(&uid)
    }

    /// Whether an object of this uid was seen and not deleted since.
    pub fn is_alive(&self, uid: Uid) -> bool {
        self.alive.contains(&uid)
    }

    /// The objects of which this one is an owner.
    pub fn dependents(&self, uid: Uid) -> &[Uid] {
        self.dependents.get(&uid).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the object waits for its dependents to be deleted.
    pub fn is_foreground(&self, uid: Uid) -> bool {
        self.nodes.get(&uid).is_some_and(|n| n.foreground)
    }

    /// Dependents that a foreground deletion waits for.
    pub fn blocking(&self, owner: Uid) -> Vec<Uid> {
        let blocks = |d: &&Uid| {
            self.nodes.get(*d).is_some_and(|n| n.owners.iter().any(|o| o.uid == owner && o.blocks))
        };
        self.dependents(owner).iter().filter(blocks).copied().collect()
    }

    /// An object was created or changed. Gives what to do about it.
    pub fn set(&mut self, uid: Uid, node: Node) -> Vec<Task> {
        self.alive.insert(uid);
        let old = self.nodes.remove(&uid);
        let before = old.as_ref().map(|n| n.owners.clone()).unwrap_or_default();
        let mut tasks = Vec::new();
        for gone in before.iter().filter(|b| !node.owners.iter().any(|o| o.uid == b.uid)) {
            self.unlink(gone.uid, uid);
        }
        // A foreground deletion may go on once something no longer blocks it.
        for owner in before.iter().filter(|b| b.blocks && !node.owners.contains(b)) {
            if self.is_foreground(owner.uid) {
                tasks.push(Task::Examine(owner.uid));
            }
        }
        let mut examine = false;
        for owner in node.owners.iter().filter(|o| !before.iter().any(|b| b.uid == o.uid)) {
            self.dependents.entry(owner.uid).or_default().push(uid);
            examine |= !self.is_alive(owner.uid) || self.is_foreground(owner.uid);
        }
        if examine {
            tasks.push(Task::Examine(uid));
        }
        if node.orphaning && !old.as_ref().is_some_and(|n| n.orphaning) {
            tasks.push(Task::Orphan(uid));
        }
        if node.foreground && !old.as_ref().is_some_and(|n| n.foreground) {
            tasks.extend(self.dependents(uid).iter().map(|d| Task::Examine(*d)));
            tasks.push(Task::Examine(uid));
        }
        if !node.is_plain() {
            self.nodes.insert(uid, node);
        }
        tasks
    }

    /// An object is gone. Gives what to do about it.
    pub fn remove(&mut self, uid: Uid) -> Vec<Task> {
        self.alive.remove(&uid);
        let mut tasks: Vec<Task> = self.dependents(uid).iter().map(|d| Task::Examine(*d)).collect();
        if let Some(node) = self.nodes.remove(&uid) {
            for owner in &node.owners {
                self.unlink(owner.uid, uid);
                if self.is_foreground(owner.uid) {
                    tasks.push(Task::Examine(owner.uid));
                }
            }
        }
        tasks
    }

    fn unlink(&mut self, owner: Uid, dependent: Uid) {
        if let Some(dependents) = self.dependents.get_mut(&owner) {
            dependents.retain(|d| *d != dependent);
            if dependents.is_empty() {
                self.dependents.remove(&owner);
            }
        }
    }

    /// Everything with an owner that was not seen, once all kinds are listed.
    pub fn dangling(&self) -> Vec<Task> {
        let lost = self.dependents.iter().filter(|(owner, _)| !self.is_alive(**owner));
        lost.flat_map(|(_, dependents)| dependents.iter().map(|d| Task::Examine(*d))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn uid(n: u128) -> Uid {
        Uid(n)
    }

    fn text(n: u128) -> String {
        uuid::Uuid::from_u128(n).to_string()
    }

    fn node(owners: &[(u128, bool)], finalizer: Option<&str>) -> Node {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(n, blocks)| json!({"uid": text(*n), "apiVersion": "v1", "kind": "K", "name": "o", "blockOwnerDeletion": blocks}))
            .collect();
        let mut meta = json!({"name": "x", "ownerReferences": owners});
        if let Some(finalizer) = finalizer {
            meta["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
            meta["finalizers"] = json!([finalizer]);
        }
        Node::of(0, &serde_json::from_value(meta).expect("metadata"))
    }

    #[test]
    fn a_deleted_owners_dependents_are_examined() {
        let mut graph = Graph::default();
        assert_eq!(graph.set(uid(1), node(&[], None)), []);
        assert_eq!(graph.set(uid(2), node(&[(1, true)], None)), []);
        assert_eq!(graph.remove(uid(1)), [Task::Examine(uid(2))]);
        assert_eq!(graph.dangling(), [Task::Examine(uid(2))]);
        assert_eq!(graph.remove(uid(2)), []);
        assert!(graph.nodes.is_empty() && graph.dependents.is_empty() && graph.alive.is_empty());
    }

    #[test]
    fn an_unknown_owner_is_looked_for() {
        let mut graph = Graph::default();
        assert_eq!(graph.set(uid(2), node(&[(9, true)], None)), [Task::Examine(uid(2))]);
        assert_eq!(graph.set(uid(2), node(&[(9, true)], None)), []);
    }

    #[test]
    fn objects_without_owners_take_no_room() {
        let mut graph = Graph::default();
        graph.set(uid(1), node(&[], None));
        assert!(graph.node(uid(1)).is_none() && graph.is_alive(uid(1)));
    }

    #[test]
    fn foreground_deletion_waits_for_what_blocks_it() {
        let mut graph = Graph::default();
        graph.set(uid(1), node(&[], None));
        graph.set(uid(2), node(&[(1, true)], None));
        graph.set(uid(3), node(&[(1, false)], None));
        let tasks = graph.set(uid(1), node(&[], Some(FOREGROUND)));
        assert_eq!(tasks, [Task::Examine(uid(2)), Task::Examine(uid(3)), Task::Examine(uid(1))]);
        assert_eq!(graph.blocking(uid(1)), [uid(2)]);
        assert_eq!(graph.set(uid(2), node(&[(1, false)], None)), [Task::Examine(uid(1))]);
        assert!(graph.blocking(uid(1)).is_empty());
        assert_eq!(graph.remove(uid(3)), [Task::Examine(uid(1))]);
    }

    #[test]
    fn orphaning_is_asked_for_once() {
        let mut graph = Graph::default();
        graph.set(uid(1), node(&[], None));
        assert_eq!(graph.set(uid(1), node(&[], Some(ORPHAN))), [Task::Orphan(uid(1))]);
        assert_eq!(graph.set(uid(1), node(&[], Some(ORPHAN))), []);
    }

    #[test]
    fn uids_that_are_no_uuids_are_told_apart() {
        assert_ne!(Uid::parse("a"), Uid::parse("b"));
        assert_eq!(Uid::parse(&text(5)), uid(5));
    }
}
