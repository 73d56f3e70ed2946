//! A tree of types from the `openAPIV3Schema` of a custom kind, and how objects of custom kinds are checked.
//!
//! Custom objects are not typed as built-in ones are: a wrong type is a matter of validation. Decoding reads
//! `apiVersion`, `kind` and `metadata` (of the object and of objects embedded in it) and drops unknown fields.

mod build;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::tree::{Node, NodeRef};
use super::{Checked, FieldValidation, Schema, Schemas, check};
use crate::api::field::quote;
use crate::api::identity::GroupVersionKind;

impl Schema {
    /// The types of a custom kind by its `openAPIV3Schema`; with `preserve_unknown` or without a schema every field
    /// is kept.
    pub fn custom(kind: &GroupVersionKind, openapi: Option<&Value>, preserve_unknown: bool) -> Self {
        let tree = build::tree(kind, openapi, preserve_unknown, true);
        Schemas::of(tree).get(kind).expect("the tree has this one kind")
    }

    /// The types of a part of a custom kind.
    pub fn custom_part(kind: &GroupVersionKind, openapi: &Value) -> Self {
        let tree = build::tree(kind, Some(openapi), false, false);
        Schemas::of(tree).get(kind).expect("the tree has this one kind")
    }
}

/// Checks an object of a custom kind.
pub(super) fn check_custom(root: NodeRef<'_>, object: &mut Value, validation: FieldValidation) -> Checked {
    let mut walk = Walk { path: String::new(), unknown: Vec::new() };
    if let Err(error) = walk.value(Some(root), object) {
        return Checked { errors: vec![error], warnings: Vec::new() };
    }
    walk.unknown.sort();
    let unknown = walk.unknown.iter().map(|path| format!("unknown field {}", quote(path))).collect();
    match validation {
        FieldValidation::Ignore => Checked::default(),
        FieldValidation::Warn => Checked { errors: Vec::new(), warnings: unknown },
        FieldValidation::Strict => Checked { errors: unknown, warnings: Vec::new() },
    }
}

struct Walk {
    path: String,
    unknown: Vec<String>,
}

impl Walk {
    fn within<T>(&mut self, step: &str, run: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        let result = run(self);
        self.path.truncate(length);
        result
    }

    /// A value; without a type it has no known field.
    fn value(&mut self, node: Option<NodeRef<'_>>, value: &mut Value) -> Result<(), String> {
        match (node.map(|n| (n, n.node())), value) {
            (Some((_, Node::Any | Node::AnyObject)), _) => Ok(()),
            (Some((node, Node::Object(object))), Value::Object(fields)) => {
                if object.embedded {
                    self.identity(node, fields)?;
                }
                let mut failed = None;
                fields.retain(|key, value| {
                    if failed.is_some() || (object.embedded && is_meta(key)) {
                        return true;
                    }
                    match node.field(key) {
                        Some(field) => {
                            failed = self.within(key, |w| w.value(Some(field.node()), value)).err();
                            true
                        }
                        None if object.open => true,
                        None => {
                            self.within(key, |w| w.unknown.push(w.path.clone()));
                            false
                        }
                    }
                });
                failed.map_or(Ok(()), Err)
            }
            (Some((node, Node::Map { .. })), Value::Object(fields)) => {
                let child = node.child("");
                fields.iter_mut().try_for_each(|(key, value)| self.within(key, |w| w.value(child, value)))
            }
            (None, Value::Object(fields)) => {
                for key in fields.keys() {
                    self.within(key, |w| w.unknown.push(w.path.clone()));
                }
                fields.clear();
                Ok(())
            }
            (node, Value::Array(items)) => {
                let item = node.and_then(|(node, _)| node.item());
                let mut items = items.iter_mut().enumerate();
                items.try_for_each(|(i, value)| self.within(&format!("[{i}]"), |w| w.value(item, value)))
            }
            // An object where the schema has a scalar keeps nothing; validation will say what it should be.
            (Some((_, Node::List(_))), Value::Object(_)) | (Some(_), _) | (None, _) => Ok(()),
        }
    }

    /// What is typed of an object: who it is, and its metadata.
    fn identity(
        &mut self,
        node: NodeRef<'_>,
        fields: &mut serde_json::Map<String, Value>,
    ) -> Result<(), String> {
        for name in ["apiVersion", "kind"] {
            if fields.get(name).is_some_and(|v| !v.is_string()) {
                let path = if self.path.is_empty() { String::new() } else { format!("{}.", self.path) };
                let value = &fields[name];
                return Err(format!("{path}{name}: Invalid value: {value}: must be a string"));
            }
        }
        let (Some(metadata), Some(field)) = (fields.get_mut("metadata"), node.field("metadata")) else {
            return Ok(());
        };
        if metadata.is_null() {
            fields.remove("metadata");
            return Ok(());
        }
        let checked = check::check_part(field.node(), metadata, "ObjectMeta");
        if let Some(error) = checked.errors.first() {
            return Err(error.clone());
        }
        let prefix = if self.path.is_empty() { String::new() } else { format!("{}.", self.path) };
        self.unknown.extend(checked.warnings.iter().map(|name| format!("{prefix}metadata.{name}")));
        Ok(())
    }
}

/// Whether a field is one that every whole object has.
fn is_meta(key: &str) -> bool {
    matches!(key, "apiVersion" | "kind" | "metadata")
}
