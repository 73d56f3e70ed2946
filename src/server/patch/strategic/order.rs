//! The order of merged lists: the patch's, with the server's own items where they were relative to their
//! neighbours.

use serde_json::Value;

use super::{
    DIRECTIVE, Error, Fields, Meta, NodeRef, SET_ORDER, key_of, merge_lists, type_name, without_directives,
};

/// Merges the lists for which the patch has `$setElementOrder`, and takes both out of the patch.
pub(super) fn set_orders(
    original: &mut Fields,
    patch: &mut Fields,
    node: Option<NodeRef<'_>>,
) -> Result<(), Error> {
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let key =
            directive.strip_prefix(SET_ORDER).and_then(|k| k.strip_prefix('/')).ok_or(Error::SetOrder)?;
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(Error::SetOrder);
        };
        let live = list(original.get(key).cloned())?;
        let patched = match patch.get(key) {
            // A null deletes the list: there is nothing to order.
            Some(Value::Null) => continue,
            value => list(value.cloned())?,
        };
        let meta = Meta::of(node, key)?;
        if let Some(patched) = &patched {
            verify(patched, &order, meta.merge_key())?;
        }
        let merged = match (live.clone(), patched) {
            (None, None) => continue,
            (Some(live), None) => live,
            (None, Some(patched)) => patched.into_iter().filter_map(without_directives).collect(),
            (Some(live), Some(patched)) if meta.merges() => merge_lists(live, patched, meta)?,
            (Some(_), Some(patched)) => patched,
        };
        let merged = by(merged, &order, &live.unwrap_or_default(), meta.merge_key());
        original.insert(key.to_owned(), Value::Array(merged));
        patch.remove(key);
    }
    Ok(())
}

fn list(value: Option<Value>) -> Result<Option<Vec<Value>>, Error> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(Error::WrongType("list", type_name(&other))),
    }
}

/// Items of the patch must come in the order that the directive says.
fn verify(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut ordered = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let found = match key {
            Some(key) => {
                let wanted = key_of(item, key)?;
                ordered.any(|o| o.get(key) == Some(wanted))
            }
            None => ordered.any(|o| o == item),
        };
        if !found {
            let show = |items: &[Value]| Value::from(items.to_vec()).to_string();
            return Err(Error::Order(show(patch), show(order)));
        }
    }
    Ok(())
}

/// Orders `merged`: items that are in `order` follow it; the others follow `live` and stay behind the items of
/// `order` that preceded them there.
pub(super) fn by(merged: Vec<Value>, order: &[Value], live: &[Value], key: Option<&str>) -> Vec<Value> {
    let place = |item: &Value, list: &[Value]| match key {
        Some(key) => list.iter().position(|other| other.get(key) == item.get(key)),
        None => list.iter().position(|other| other == item),
    };
    let (mut patched, mut server): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(item, order).is_some());
    patched.sort_by_key(|item| place(item, order));
    server.sort_by_key(|item| place(item, live).unwrap_or(usize::MAX));
    // Each of the two has its order; which comes first is as in the live list, where both are.
    let mut result = Vec::with_capacity(patched.len() + server.len());
    let (mut patched, mut server) = (patched.into_iter().peekable(), server.into_iter().peekable());
    loop {
        let server_first = match (patched.peek(), server.peek()) {
            (None, None) => return result,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(p), Some(s)) => match (place(p, live), place(s, live)) {
                (Some(p), Some(s)) => s < p,
                _ => false,
            },
        };
        result.extend(if server_first { server.next() } else { patched.next() });
    }
}
