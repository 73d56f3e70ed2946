//! Writing back: only what changed, as a JSON merge patch (RFC 7386) bound to the version it was
//! computed from. What a controller's cached copy does not hold is thus never lost.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Error;

/// The merge patch that turns `old` into `new`; `None` when they are equal.
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        _ if old == new => None,
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for (key, value) in new {
                let change = match old.get(key) {
                    Some(before) => difference(before, value),
                    None => Some(value.clone()),
                };
                if let Some(change) = change {
                    patch.insert(key.clone(), change);
                }
            }
            for key in old.keys().filter(|k| !new.contains_key(*k)) {
                patch.insert(key.clone(), Value::Null);
            }
            Some(Value::Object(patch))
        }
        _ => Some(new.clone()),
    }
}

fn encode(object: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|e| Error::Invalid(format!("an object cannot be encoded: {e}")))
}

/// Writes what changed from `old` to `new`, in the object itself or (`"status"`) in a subresource.
/// Fails with a conflict when the stored object is no longer `old`. Gives the stored object, or
/// `None` when nothing had to be written.
pub async fn write<K>(api: &Api<K>, old: &K, new: &K, subresource: Option<&str>) -> Result<Option<K>, Error>
where
    K: Resource + Serialize + Clone + DeserializeOwned + Debug,
{
    let Some(mut patch) = difference(&encode(old)?, &encode(new)?) else { return Ok(None) };
    if let Some(version) = &old.meta().resource_version {
        patch["metadata"]["resourceVersion"] = Value::String(version.clone());
    }
    let name = old.meta().name.as_deref().unwrap_or_default();
    let params = PatchParams::default();
    let patch = Patch::Merge(&patch);
    let written = match subresource {
        Some(subresource) => api.patch_subresource(subresource, name, &params, &patch).await,
        None => api.patch(name, &params, &patch).await,
    };
    written.map(Some).map_err(Error::api("writing an object back"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_applied_to_the_old_gives_the_new() {
        let cases = [
            (json!({"a": 1}), json!({"a": 2, "b": [1]})),
            (json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 1}})),
            (json!({"a": [1, 2]}), json!({"a": [2]})),
            (json!({"a": 1}), json!({})),
            (json!({"a": {"b": {}}}), json!({"a": "text"})),
        ];
        for (old, new) in cases {
            let patch = difference(&old, &new).expect("they differ");
            let mut merged = old.clone();
            json_patch::merge(&mut merged, &patch);
            assert_eq!(merged, new, "patch {patch}");
        }
        assert_eq!(difference(&json!({"a": [1]}), &json!({"a": [1]})), None);
    }

    #[test]
    fn unchanged_siblings_are_not_in_the_patch() {
        let old = json!({"spec": {"a": 1}, "status": {"n": 1, "m": 2}});
        let new = json!({"spec": {"a": 1}, "status": {"n": 3, "m": 2}});
        assert_eq!(difference(&old, &new), Some(json!({"status": {"n": 3}})));
    }
}
