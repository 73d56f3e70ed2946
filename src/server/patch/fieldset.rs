//! Sets of fields, as `metadata.managedFields` writes them (FieldsV1).
//!
//! A field is reached by elements: `f:<name>` of an object, `k:<keys>` of a list with keys, `v:<value>` of a set.
//! A set is a tree of elements; a node may be a member itself, or only lead to members.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::api::field::quote;

/// A set of fields below one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(BTreeMap<String, Entry>);

/// One element of a [`Set`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Whether the element is a member.
    pub(super) member: bool,
    /// Members below it.
    pub(super) below: Set,
}

impl Entry {
    pub(super) fn leaf() -> Self {
        Self { member: true, below: Set::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.0.is_empty()
    }
}

/// The element of an object's field.
pub(super) fn field(name: &str) -> String {
    format!("f:{name}")
}

/// The element of a set's value.
pub(super) fn value(value: &Value) -> String {
    format!("v:{value}")
}

/// The element of a list's item by its keys.
pub(super) fn keys(keys: &BTreeMap<&str, Value>) -> String {
    let keys: Map<String, Value> = keys.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    format!("k:{}", Value::Object(keys))
}

/// An element as messages show it, as in `.spec`, `[name="a"]`, `[="x"]`.
pub(super) fn show(element: &str) -> String {
    let scalar = |v: &Value| v.as_str().map_or_else(|| v.to_string(), quote);
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={}", scalar(v))).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", value)) => {
            format!("[={}]", serde_json::from_str(value).map_or_else(|_| value.to_owned(), |v| scalar(&v)))
        }
        Some(("i", index)) => format!("[{index}]"),
        _ => element.to_owned(),
    }
}

impl Set {
    /// Reads FieldsV1. Elements of unknown kinds are dropped, as upstream drops them.
    pub(super) fn from_value(fields: &Value) -> Self {
        let entries = fields.as_object().into_iter().flatten().filter(|(k, _)| {
            let known = k.as_bytes();
            known.len() > 2 && known[1] == b':' && matches!(known[0], b'f' | b'k' | b'v' | b'i')
        });
        let entries = entries.map(|(key, below)| {
            let below_set = Self::from_value(below);
            // A node without anything below it is a member, said or not.
            let member = below.get(".").is_some() || below_set.0.is_empty();
            (key.clone(), Entry { member, below: below_set })
        });
        Self(entries.collect())
    }

    /// Writes FieldsV1.
    pub(super) fn to_value(&self) -> Value {
        let entries = self.0.iter().map(|(key, entry)| {
            let mut below = entry.below.to_value();
            if entry.member && !entry.below.0.is_empty() {
                below["."] = Value::Object(Map::new());
            }
            (key.clone(), below)
        });
        Value::Object(entries.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, element: &str) -> Option<&Entry> {
        self.0.get(element)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// Adds an entry, united with what the set has there. Empty entries are not kept.
    pub(super) fn add(&mut self, element: String, entry: Entry) {
        if entry.is_empty() {
            return;
        }
        let mine = self.0.entry(element).or_default();
        mine.member |= entry.member;
        if mine.below.is_empty() {
            mine.below = entry.below;
        } else {
            mine.below = mine.below.union(&entry.below);
        }
    }

    /// Members of either.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (key, entry) in &other.0 {
            all.add(key.clone(), entry.clone());
        }
        all
    }

    /// Members of this one that the other lacks.
    pub(super) fn difference(&self, other: &Self) -> Self {
        self.combine(
            other,
            |mine, theirs| mine && !theirs,
            |mine, theirs| theirs.map_or_else(|| mine.clone(), |theirs| mine.difference(theirs)),
        )
    }

    /// Members of both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(
            other,
            |mine, theirs| mine && theirs,
            |mine, theirs| theirs.map_or_else(Self::default, |theirs| mine.intersection(theirs)),
        )
    }

    fn combine(
        &self,
        other: &Self,
        member: impl Fn(bool, bool) -> bool,
        below: impl Fn(&Self, Option<&Self>) -> Self,
    ) -> Self {
        let mut result = Self::default();
        for (key, mine) in &self.0 {
            let theirs = other.0.get(key);
            let entry = Entry {
                member: member(mine.member, theirs.is_some_and(|t| t.member)),
                below: below(&mine.below, theirs.map(|t| &t.below)),
            };
            result.add(key.clone(), entry);
        }
        result
    }

    /// The members' paths as messages show them, in order.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        for (key, entry) in &self.0 {
            let path = format!("{prefix}{}", show(key));
            if entry.member {
                paths.push(path.clone());
            }
            entry.below.collect_paths(&path, paths);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sets() -> impl Strategy<Value = Set> {
        let leaf = Just(Entry::leaf());
        let entry = leaf.prop_recursive(3, 16, 3, |inner| {
            (any::<bool>(), prop::collection::btree_map("f:[a-c]", inner, 1..3))
                .prop_map(|(member, below)| Entry { member, below: Set(below) })
        });
        prop::collection::btree_map("f:[a-c]", entry, 0..3).prop_map(Set)
    }

    proptest! {
        #[test]
        fn the_written_form_is_read_back(set in sets()) {
            prop_assert_eq!(Set::from_value(&set.to_value()), set);
        }

        #[test]
        fn the_laws_of_sets_hold(a in sets(), b in sets()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.union(&a), a);
        }
    }

    #[test]
    fn the_written_form_is_upstreams() {
        let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
            "f:finalizers": {"v:\"x\"": {}}}});
        let set = Set::from_value(&fields);
        assert_eq!(set.to_value(), fields);
        assert_eq!(
            set.paths(),
            [
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.finalizers[=\"x\"]",
                ".spec.ports",
                ".spec.ports[port=80,protocol=\"TCP\"]",
                ".spec.ports[port=80,protocol=\"TCP\"].port",
            ]
        );
        assert!(Set::from_value(&json!({"q:x": {}, "nonsense": {}})).is_empty());
    }
}
