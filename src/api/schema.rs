//! The schema engine: one compact tree of types serves checks, defaults, patches and documents.
//!
//! [`Schemas::builtin`] holds the built-in kinds, read from a file that the build script makes; a custom kind is a
//! tree of its own. A [`Schema`] is one kind of a tree; patches walk it by [`Schema::root`].

mod check;
mod custom;
mod docs;
mod load;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::identity::GroupVersionKind;

pub(crate) use check::{is_strict, wrong_root};
pub use docs::Docs;
pub use tree::{Definition, Field, Kind, ListKind, Node, NodeRef, Tree};

/// What is done about unknown and duplicate fields: the `fieldValidation` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped in silence.
    Ignore,
    /// They are dropped, and the client is warned.
    #[default]
    Warn,
    /// The request fails.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; an empty one is Warn.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Why the object cannot be read, in upstream's words; empty if it can.
    pub errors: Vec<String>,
    /// To be sent as warning headers.
    pub warnings: Vec<String>,
}

/// The schemas of all kinds of a tree.
#[derive(Debug)]
pub struct Schemas {
    kinds: HashMap<GroupVersionKind, Schema>,
}

static BUILTIN: LazyLock<Schemas> = LazyLock::new(|| Schemas::of(load::builtin()));

impl Schemas {
    /// The built-in kinds, loaded at the first call.
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// The kinds of a tree.
    pub fn of(tree: Tree) -> Self {
        let tree = Arc::new(tree);
        let kinds = tree.kinds().iter().map(|kind| {
            let schema = Schema { kind: Arc::new(kind.id.clone()), root: kind.node, tree: tree.clone() };
            (kind.id.clone(), schema)
        });
        Self { kinds: kinds.collect() }
    }

    /// The schema of a kind.
    pub fn get(&self, kind: &GroupVersionKind) -> Option<Schema> {
        self.kinds.get(kind).cloned()
    }

    /// All kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &Schema> {
        self.kinds.values()
    }
}

/// The schema of one kind. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    kind: Arc<GroupVersionKind>,
    tree: Arc<Tree>,
    root: u32,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Schema({})", self.kind)
    }
}

impl Schema {
    /// The kind.
    pub fn kind(&self) -> &GroupVersionKind {
        &self.kind
    }

    /// The tree it is part of.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Where walks begin.
    pub fn root(&self) -> NodeRef<'_> {
        self.tree.node(self.root)
    }

    /// Checks types and drops nulls and unknown fields in place.
    pub fn check(&self, object: &mut Value, validation: FieldValidation) -> Checked {
        if self.tree.is_builtin() {
            check::check(self.root(), object, validation)
        } else {
            custom::check_custom(self.root(), object, validation)
        }
    }

    /// Drops unknown fields.
    pub fn prune(&self, object: &mut Value) {
        self.check(object, FieldValidation::Ignore);
    }
}
