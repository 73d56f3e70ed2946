//! Strategic merge patch: a merge patch that knows which lists to merge, and by which key.
//!
//! Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/<list>` and
//! `$setElementOrder/<list>`, as `apimachinery/pkg/util/strategicpatch` reads them.

mod order;

use serde_json::{Map, Value};

use crate::api::schema::{Field, Node, NodeRef};
use crate::api::{Schema, Status};

type Fields = Map<String, Value>;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Why a patch cannot be applied.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    SetOrder,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoMergeKey(String, String),
    #[error("unknown patch type: {0} in map: {1}")]
    UnknownDirective(String, String),
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("expected a {0}, but received a {1}")]
    WrongType(&'static str, &'static str),
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    #[error("The order in patch list:\n{0}\n doesn't match {SET_ORDER} list:\n{1}\n")]
    Order(String, String),
    #[error("unable to find api field in struct {0} for the json field {1}")]
    UnknownField(String, String),
}

/// Applies a strategic merge patch with its directives. 400 for a patch that is malformed.
pub fn strategic(schema: &Schema, current: &Value, patch: &Value) -> Result<Value, Status> {
    let (Some(current), Some(patch)) = (current.as_object(), patch.as_object()) else {
        return Err(Status::bad_request("error decoding patch: invalid JSON document"));
    };
    let merged = merge_objects(current.clone(), patch.clone(), Some(schema.root()));
    merged.map(Value::Object).map_err(|e| Status::bad_request(e.to_string()))
}

/// The type of a field, and how patches treat it.
#[derive(Clone, Copy, Default)]
struct Meta<'s> {
    node: Option<NodeRef<'s>>,
    field: Option<Field<'s>>,
}

impl<'s> Meta<'s> {
    /// What the schema says of a key; an error if the type has no such field.
    fn of(parent: Option<NodeRef<'s>>, key: &str) -> Result<Self, Error> {
        let Some(parent) = parent else {
            return Ok(Self::default());
        };
        match parent.node() {
            Node::Object(_) => {
                let field = parent.field(key).ok_or_else(|| {
                    let name = parent.definition().rsplit('.').next().unwrap_or_default();
                    Error::UnknownField(name.to_owned(), key.to_owned())
                })?;
                Ok(Self { node: Some(field.node()), field: Some(field) })
            }
            _ => Ok(Self { node: parent.child(key), field: None }),
        }
    }

    fn merges(self) -> bool {
        self.node.is_some_and(NodeRef::merges)
    }

    fn merge_key(self) -> Option<&'s str> {
        self.node.and_then(NodeRef::merge_key)
    }

    fn item(self) -> Option<NodeRef<'s>> {
        self.node.and_then(NodeRef::item)
    }
}

fn merge_objects(
    mut original: Fields,
    mut patch: Fields,
    node: Option<NodeRef<'_>>,
) -> Result<Fields, Error> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Fields::new()),
            _ => Err(Error::UnknownDirective(plain(&directive), Value::Object(patch).to_string())),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::set_orders(&mut original, &mut patch, node)?;
    for (key, value) in patch {
        if let Some(key) = key.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(&mut original, key.strip_prefix('/').ok_or(Error::PrimitiveList)?, value)?;
        } else if value.is_null() {
            original.remove(&key);
        } else {
            let merged = merge_value(original.remove(&key), value, &key, node)?;
            original.extend(merged.map(|value| (key, value)));
        }
    }
    Ok(original)
}

/// Merges the value of one key; `None` removes the key.
fn merge_value(
    original: Option<Value>,
    patch: Value,
    key: &str,
    parent: Option<NodeRef<'_>>,
) -> Result<Option<Value>, Error> {
    match (original, patch) {
        (Some(Value::Object(original)), Value::Object(patch)) => {
            let meta = Meta::of(parent, key)?;
            if meta.field.is_some_and(Field::is_replaced) {
                return Ok(Some(Value::Object(patch)));
            }
            merge_objects(original, patch, meta.node).map(|fields| Some(Value::Object(fields)))
        }
        (Some(Value::Array(original)), Value::Array(patch)) => {
            let meta = Meta::of(parent, key)?;
            if !meta.merges() {
                return Ok(Some(Value::Array(patch)));
            }
            merge_lists(original, patch, meta).map(|items| Some(Value::Array(items)))
        }
        (_, mut patch) => {
            discard_nulls(&mut patch);
            Ok(without_directives(patch))
        }
    }
}

/// Keys of the original that `$retainKeys` does not name go.
fn retain_keys(original: &mut Fields, patch: &mut Fields) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys = keys.as_array().ok_or(Error::RetainKeys)?;
    let named = |key: &String| keys.iter().any(|k| k.as_str() == Some(key));
    let directive = |key: &String| key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !named(key)) {
        return Err(Error::RetainKeys);
    }
    original.retain(|key, _| named(key));
    Ok(())
}

fn delete_from_list(original: &mut Fields, key: &str, delete: Value) -> Result<(), Error> {
    let Value::Array(delete) = delete else {
        return Err(Error::PrimitiveList);
    };
    if let Some(Value::Array(items)) = original.get_mut(key) {
        items.retain(|item| !delete.contains(item));
    }
    Ok(())
}

/// Merges lists whose items are scalars, or objects with a key. Items of the patch keep their order.
fn merge_lists(original: Vec<Value>, patch: Vec<Value>, meta: Meta<'_>) -> Result<Vec<Value>, Error> {
    let Some(key) = kind_of_items(&original, &patch)?.then(|| meta.merge_key()).flatten() else {
        if original.iter().chain(&patch).any(Value::is_object) {
            return Err(Error::WrongType("list with a merge key", "list of maps"));
        }
        let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
        for item in original.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(order::by(merged, &patch, &original, None));
    };
    let (mut merged, replaced, patch) = special_items(original, patch, key)?;
    if replaced {
        return Ok(patch.into_iter().filter_map(without_directives).collect());
    }
    let live = merged.clone();
    for item in &patch {
        let wanted = key_of(item, key)?;
        let Value::Object(fields) = item.clone() else {
            continue;
        };
        let place = merged.iter().position(|i| i.get(key) == Some(wanted));
        match place.map(|at| (at, merged[at].take())) {
            Some((at, Value::Object(original))) => {
                merged[at] = Value::Object(merge_objects(original, fields, meta.item())?);
            }
            _ => {
                let mut added = Value::Object(fields);
                discard_nulls(&mut added);
                merged.extend(without_directives(added));
            }
        }
    }
    Ok(order::by(merged, &patch, &live, Some(key)))
}

/// Carries out the items that are directives. Answers the list, whether the patch replaces it, and the patch's
/// ordinary items.
fn special_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, bool, Vec<Value>), Error> {
    let (mut ordinary, mut replace) = (Vec::new(), false);
    for item in patch {
        match item.get(DIRECTIVE) {
            None => ordinary.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    let gone = key_of(&item, key)?;
                    original.retain(|i| i.get(key) != Some(gone));
                }
                Some("replace") => replace = true,
                Some("merge") => return Err(Error::MergeDirective),
                _ => return Err(Error::UnknownDirective(plain(directive), item.to_string())),
            },
        }
    }
    Ok((original, replace, ordinary))
}

fn key_of<'v>(item: &'v Value, key: &str) -> Result<&'v Value, Error> {
    item.get(key).ok_or_else(|| Error::NoMergeKey(item.to_string(), key.to_owned()))
}

/// Whether the items are objects. All must be of one type, and no lists.
fn kind_of_items(original: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let mut kinds = original.iter().chain(patch).map(type_name);
    let Some(first) = kinds.next() else {
        return Ok(false);
    };
    if first == "list" {
        return Err(Error::ListOfLists);
    }
    if kinds.any(|kind| kind != first) {
        return Err(Error::MixedList(Value::from([original, patch].concat()).to_string()));
    }
    Ok(first == "map")
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Nulls in a patch delete; where there is nothing to delete they say nothing.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// What a patch means where there is nothing to be patched; `None` if it is only a directive.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(key, _)| {
                key != RETAIN_KEYS && !key.starts_with(DELETE_FROM_LIST) && !key.starts_with(SET_ORDER)
            });
            Some(Value::Object(fields.filter_map(|(k, v)| Some((k, without_directives(v)?))).collect()))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        scalar => Some(scalar),
    }
}
