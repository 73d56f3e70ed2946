//! Walks values by their types: which fields they have, how two differ, what remains without some fields, and how
//! an applied configuration is merged in. The rules are those of sigs.k8s.io/structured-merge-diff.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fieldset::{self, Entry, Set};
use crate::api::schema::{Field, ListKind, Node, NodeRef};

/// A list has an item that cannot be told from another, or has no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub(super) struct Error {
    path: String,
    problem: String,
}

type Type<'s> = Option<NodeRef<'s>>;

/// What a type is to server-side apply.
enum Shape<'s> {
    /// One value: scalars, atomic lists and maps, anything without a schema.
    Leaf,
    /// Fields or entries, each with an owner.
    Map(NodeRef<'s>),
    /// Items, each with an owner.
    List(NodeRef<'s>),
}

/// What a type is to a value; `None` for one of which it does not matter what it is.
fn shape<'s>(node: Type<'s>, value: Option<&Value>) -> Shape<'s> {
    let Some(node) = node else { return Shape::Leaf };
    match node.node() {
        Node::Any if node.is_deduced() && value.is_some_and(Value::is_object) => Shape::Map(node),
        Node::Object(_) | Node::Map { .. } if !node.is_atomic() => Shape::Map(node),
        Node::List(_) if node.list_kind() != Some(ListKind::Atomic) => Shape::List(node),
        _ => Shape::Leaf,
    }
}

/// Of two values the one that tells what both are, if they are alike.
fn both<'v>(old: Option<&'v Value>, new: Option<&'v Value>) -> Option<&'v Value> {
    match (old, new) {
        (Some(old), Some(new)) => (old.is_object() == new.is_object()).then_some(new),
        (old, new) => new.or(old),
    }
}

/// The element of a list's item.
fn element(list: NodeRef<'_>, item: &Value) -> Result<String, String> {
    if list.list_kind() == Some(ListKind::Set) {
        return match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            scalar => Ok(fieldset::value(scalar)),
        };
    }
    let Some(fields) = item.as_object() else {
        return Err("associative list with keys may not have non-map elements".into());
    };
    let mut keys = BTreeMap::new();
    for key in list.list_keys() {
        let default = || list.item().and_then(|i| i.field(key)).and_then(Field::default);
        if let Some(value) = fields.get(key).cloned().or_else(default) {
            keys.insert(key, value);
        }
    }
    if keys.is_empty() {
        let names: Vec<String> = list.list_keys().map(crate::api::field::quote).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    Ok(fieldset::keys(&keys))
}

fn elements(list: NodeRef<'_>, items: &[Value]) -> Vec<Option<String>> {
    items.iter().map(|item| element(list, item).ok()).collect()
}

/// The fields that a value has. An item without an element of its own has none.
pub(super) fn fields_of(node: Type<'_>, value: &Value) -> Entry {
    match (shape(node, Some(value)), value) {
        (Shape::Map(node), Value::Object(fields)) => {
            let mut below = Set::default();
            for (key, value) in fields {
                let mut entry = fields_of(node.child(key), value);
                let bare = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                entry.member |= bare || node.field(key).is_none();
                below.add(fieldset::field(key), entry);
            }
            Entry { member: false, below }
        }
        (Shape::List(list), Value::Array(items)) => {
            let elements = elements(list, items);
            let mut seen = BTreeSet::new();
            let twice: BTreeSet<&String> = elements.iter().flatten().filter(|e| !seen.insert(*e)).collect();
            let mut below = Set::default();
            for (item, element) in items.iter().zip(&elements) {
                let Some(element) = element else { continue };
                let mut entry =
                    if twice.contains(element) { Entry::default() } else { fields_of(list.item(), item) };
                entry.member = true;
                below.add(element.clone(), entry);
            }
            Entry { member: false, below }
        }
        (Shape::Leaf, _) => Entry::leaf(),
        _ => Entry::default(),
    }
}

/// How two values differ. No field is in two of the sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Difference {
    pub(super) removed: Entry,
    pub(super) modified: Entry,
    pub(super) added: Entry,
}

impl Difference {
    fn put(&mut self, element: &str, child: Self) {
        self.removed.below.add(element.to_owned(), child.removed);
        self.modified.below.add(element.to_owned(), child.modified);
        self.added.below.add(element.to_owned(), child.added);
    }
}

fn is_bare(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// Compares two values of which one may be missing.
pub(super) fn compare(node: Type<'_>, old: Option<&Value>, new: Option<&Value>) -> Difference {
    let mut difference = Difference::default();
    if old == new {
        return difference;
    }
    match shape(node, both(old, new)) {
        Shape::Map(node) if !(is_bare(old) && is_bare(new)) => {
            let empty = Map::new();
            let [old, new] = [old, new].map(|v| v.and_then(Value::as_object).unwrap_or(&empty));
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let child = compare(node.child(key), old.get(key), new.get(key));
                difference.put(&fieldset::field(key), child);
            }
        }
        Shape::List(list) if !(is_bare(old) && is_bare(new)) => {
            compare_lists(list, old, new, &mut difference)
        }
        _ if old.is_some() && new.is_some() => difference.modified.member = true,
        _ => {}
    }
    difference.added.member = old.is_none();
    difference.removed.member = new.is_none();
    difference
}

fn compare_lists(list: NodeRef<'_>, old: Option<&Value>, new: Option<&Value>, difference: &mut Difference) {
    let mut items: BTreeMap<String, [Vec<&Value>; 2]> = BTreeMap::new();
    for (side, value) in [old, new].into_iter().enumerate() {
        for item in value.and_then(Value::as_array).into_iter().flatten() {
            if let Ok(element) = element(list, item) {
                items.entry(element).or_default()[side].push(item);
            }
        }
    }
    for (element, [old, new]) in items {
        let child = match (old.as_slice(), new.as_slice()) {
            (old, new) if old.len() <= 1 && new.len() <= 1 => {
                compare(list.item(), old.first().copied(), new.first().copied())
            }
            // Items that are there twice are compared as one value.
            (old, new) if old.len() >= 2 && new.len() >= 2 => {
                let changed = old != new;
                Difference {
                    modified: Entry { member: changed, ..Entry::default() },
                    ..Difference::default()
                }
            }
            (old, new) if old.len() >= 2 => {
                let mut child = new.first().map(|n| compare(list.item(), None, Some(n))).unwrap_or_default();
                child.removed.member = true;
                child
            }
            (old, _) => {
                let mut child = old.first().map(|o| compare(list.item(), Some(o), None)).unwrap_or_default();
                child.added.member = true;
                child
            }
        };
        difference.put(&element, child);
    }
}

/// The value without the fields of a set; `None` if nothing remains.
pub(super) fn without(node: Type<'_>, value: &Value, remove: &Set) -> Option<Value> {
    match (shape(node, Some(value)), value) {
        (Shape::Map(node), Value::Object(fields)) if !fields.is_empty() => {
            let mut kept = Map::new();
            for (key, value) in fields {
                let value = match remove.get(&fieldset::field(key)) {
                    Some(entry) if entry.member => None,
                    Some(entry) => without(node.child(key), value, &entry.below),
                    None => Some(value.clone()),
                };
                kept.extend(value.map(|value| (key.clone(), value)));
            }
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        (Shape::List(list), Value::Array(items)) if !items.is_empty() => {
            let kept = items.iter().filter_map(|item| {
                let element = element(list, item).unwrap_or_default();
                match remove.get(&element) {
                    Some(entry) if entry.member => None,
                    Some(entry) => without(list.item(), item, &entry.below),
                    None => Some(item.clone()),
                }
            });
            let kept: Vec<Value> = kept.collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        (Shape::Leaf, Value::Object(_) | Value::Array(_)) => None,
        (Shape::Leaf, scalar) => Some(scalar.clone()),
        _ => None,
    }
}

/// The set with every object's field that leads to a member made a member too.
pub(super) fn with_named_fields(node: Type<'_>, set: &Set) -> Set {
    let mut result = Set::default();
    for (element, entry) in set.entries() {
        let (child, named) = match (node, element.strip_prefix("f:")) {
            (Some(node), Some(name)) => (node.child(name), node.field(name).is_some()),
            (Some(node), None) => (node.item(), false),
            (None, _) => (None, false),
        };
        let member = entry.member || (named && !entry.below.is_empty());
        result.add(element.to_owned(), Entry { member, below: with_named_fields(child, &entry.below) });
    }
    result
}

/// Merges an applied configuration into a live value. Items of its lists come in its order.
pub(super) fn merge(
    node: Type<'_>,
    live: Option<&Value>,
    config: Option<&Value>,
    path: &str,
) -> Result<Option<Value>, Error> {
    match shape(node, both(live, config)) {
        Shape::Map(node) if !(is_bare(live) && is_bare(config)) => {
            let empty = Map::new();
            let [live, config] = [live, config].map(|v| v.and_then(Value::as_object).unwrap_or(&empty));
            let keys: BTreeSet<&String> = live.keys().chain(config.keys()).collect();
            let mut merged = Map::new();
            for key in keys {
                let value = merge(node.child(key), live.get(key), config.get(key), &format!("{path}.{key}"))?;
                merged.extend(value.map(|value| (key.clone(), value)));
            }
            Ok((!merged.is_empty()).then_some(Value::Object(merged)))
        }
        Shape::List(list) if !(is_bare(live) && is_bare(config)) => {
            let [live, config] =
                [live, config].map(|v| v.and_then(Value::as_array).map_or(&[][..], Vec::as_slice));
            let merged = merge_lists(list, live, config, path)?;
            Ok((!merged.is_empty()).then_some(Value::Array(merged)))
        }
        _ => Ok(config.or(live).cloned()),
    }
}

fn merge_lists(list: NodeRef<'_>, live: &[Value], config: &[Value], path: &str) -> Result<Vec<Value>, Error> {
    let fail = |problem: String| Error { path: path.to_owned(), problem };
    let mut wanted: Vec<String> = Vec::with_capacity(config.len());
    for (index, item) in config.iter().enumerate() {
        let element = element(list, item).map_err(|problem| fail(format!("element {index}: {problem}")))?;
        if wanted.contains(&element) {
            return Err(fail(format!("duplicate entries for key {}", fieldset::show(&element))));
        }
        wanted.push(element);
    }
    let present: Vec<String> = live.iter().map(|item| element(list, item).unwrap_or_default()).collect();
    let merged_item = |r: usize| -> Result<Option<Value>, Error> {
        let mut same = present.iter().enumerate().filter(|(_, e)| **e == wanted[r]).map(|(at, _)| &live[at]);
        // Items that are there twice are replaced, not merged.
        let live = same.next().filter(|_| same.next().is_none());
        merge(list.item(), live, Some(&config[r]), &format!("{path}{}", fieldset::show(&wanted[r])))
    };
    let mut shared = wanted.iter().filter(|e| present.contains(e));
    let mut next_shared = shared.next();
    let (mut merged, mut done) = (Vec::new(), BTreeSet::new());
    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < config.len() {
        if l < live.len() && r < config.len() {
            if present[l] == wanted[r] {
                done.insert(&wanted[r]);
                merged.extend(merged_item(r)?);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if wanted.contains(&present[l]) && next_shared.is_some_and(|next| *next != present[l]) {
                // Shared, but not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if l < live.len() {
            if !wanted.contains(&present[l]) {
                merged.push(live[l].clone());
                l += 1;
                continue;
            }
            if done.contains(&present[l]) {
                l += 1;
            }
        }
        if r < config.len() {
            done.insert(&wanted[r]);
            merged.extend(merged_item(r)?);
            if next_shared == Some(&wanted[r]) {
                next_shared = shared.next();
            }
            r += 1;
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests;
