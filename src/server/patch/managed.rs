//! Managed fields of creates, updates and patches: who changed which field.

use serde_json::{Value, json};

use super::managers::{Identity, Manager, Managers, unmanaged};
use super::typed::{self, Difference};
use crate::api::{Meta, MetaMut, Schema};

/// Records in `new` the fields that a create, update or patch by `manager` changed since `old`.
///
/// `api_version` is that of the request, `subresource` is empty for the object itself, `now` as
/// [`crate::api::meta::now`]. Entries in `new` count as the client's wish for the object itself, an empty list
/// resets them; for subresources, and where `new` has none or malformed ones, those of `old` count.
pub fn track_update(
    schema: &Schema,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    api_version: &str,
    subresource: &str,
    now: &str,
) {
    let mut managers = wanted(old, new, subresource);
    MetaMut::of(new).remove("managedFields");
    // An object that was stored without entries stays without.
    if !(managers.is_empty() && old.is_some()) {
        let identity = Identity::updater(manager, api_version, subresource);
        let old = old.map(without_entries);
        update(schema, old.as_ref(), new, &mut managers, identity, api_version, now);
        managers.cap();
    }
    MetaMut::of(new).set_managed_fields(managers.to_entries());
}

/// The entries to start from.
fn wanted(old: Option<&Value>, new: &Value, subresource: &str) -> Managers {
    let live =
        || old.and_then(|old| Managers::from_entries(Meta::of(old).managed_fields())).unwrap_or_default();
    let entries = new.pointer("/metadata/managedFields").and_then(Value::as_array);
    match entries.filter(|_| subresource.is_empty()) {
        Some(entries) if entries.is_empty() || *entries == [json!({})] => Managers::default(),
        Some(entries) => Managers::from_entries(entries).unwrap_or_else(live),
        None => live(),
    }
}

pub(super) fn without_entries(object: &Value) -> Value {
    let mut object = object.clone();
    if object.get("metadata").is_some() {
        MetaMut::of(&mut object).remove("managedFields");
    }
    object
}

/// Gives the changed fields to a manager and takes them from the others.
pub(super) fn update(
    schema: &Schema,
    old: Option<&Value>,
    new: &Value,
    managers: &mut Managers,
    identity: Identity,
    api_version: &str,
    now: &str,
) {
    let empty = json!({});
    let difference = typed::compare(Some(schema.root()), Some(old.unwrap_or(&empty)), Some(new));
    take(managers, &difference, None);
    let Difference { modified, added, .. } = difference;
    let mine = modified.below.union(&added.below).difference(&unmanaged());
    if !mine.is_empty() {
        let before = managers.get(&identity).map(|m| m.fields.clone()).unwrap_or_default();
        managers.put(Manager {
            identity,
            api_version: api_version.to_owned(),
            time: Some(now.to_owned()),
            fields: mine.union(&before),
        });
    }
    managers.drop_empty();
}

/// Takes the changed and removed fields from all managers but one.
pub(super) fn take(managers: &mut Managers, difference: &Difference, except: Option<&Identity>) {
    let gone = difference.modified.below.union(&difference.added.below).union(&difference.removed.below);
    for manager in managers.iter_mut().filter(|m| Some(&m.identity) != except) {
        manager.fields = manager.fields.difference(&gone);
    }
}
