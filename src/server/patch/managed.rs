//! Managed fields: who owns which field.

use serde_json::Value;

use crate::api::Schema;

/// Records in `new` the fields that a create, update or patch by `manager` changed since `old`.
pub fn track_update(
    schema: &Schema,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    api_version: &str,
    subresource: &str,
    now: &str,
) {
    let _ = (schema, old, new, manager, api_version, subresource, now);
    todo!()
}
