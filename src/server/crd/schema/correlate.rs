//! Which part of an old object a part of the new one takes the place of: what did not change is not judged anew.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting>

use serde_json::Value;

use super::structural::Structural;

/// A value and the one it replaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Correlated<'v> {
    pub(super) new: &'v Value,
    pub(super) old: &'v Value,
    pub(super) schema: &'v Structural,
}

impl<'v> Correlated<'v> {
    /// The field of both.
    pub(super) fn key(self, field: &str) -> Option<Self> {
        let (old, new) = (self.old.as_object()?.get(field)?, self.new.as_object()?.get(field)?);
        Some(Self { new, old, schema: self.schema.child(field)? })
    }

    /// An item, and the old one with the same keys. Only lists with keys are correlated.
    pub(super) fn index(self, index: usize) -> Option<Self> {
        let new = self.new.as_array()?.get(index)?;
        let old = item_of(self.schema, self.old.as_array()?, new)?;
        Some(Self { new, old, schema: self.schema.items.as_deref()? })
    }

    /// Whether nothing changed.
    pub(super) fn is_equal(self) -> bool {
        match (self.old, self.new) {
            (Value::Object(old), Value::Object(new)) => {
                old.len() == new.len()
                    && new.keys().all(|key| self.key(key).is_some_and(Correlated::is_equal))
            }
            (Value::Array(old), Value::Array(new)) if self.schema.list_type() == "map" => {
                old.len() == new.len()
                    && (0..new.len()).all(|i| self.index(i).is_some_and(Correlated::is_equal))
            }
            (old, new) => old == new,
        }
    }
}

/// The item of a list with keys that has the same keys as another.
pub(super) fn item_of<'v>(list: &Structural, items: &'v [Value], like: &Value) -> Option<&'v Value> {
    if list.list_type() != "map" {
        return None;
    }
    let keys_of = |item: &Value| -> Option<Vec<Option<Value>>> {
        let fields = item.as_object()?;
        Some(list.list_map_keys().iter().map(|k| fields.get(&**k).cloned()).collect())
    };
    let wanted = keys_of(like)?;
    items.iter().find(|item| keys_of(item).as_ref() == Some(&wanted))
}
