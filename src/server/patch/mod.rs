//! The ways to change an object: JSON patch, merge patch, strategic merge patch, server-side apply; and who owns
//! which field.

pub mod managed;

use serde_json::Value;

use crate::api::{Schema, Status};

/// Applies a JSON patch (RFC 6902).
pub fn json(current: &Value, patch: &[u8]) -> Result<Value, Status> {
    let _ = (current, patch);
    todo!()
}

/// Applies a merge patch (RFC 7386).
pub fn merge(current: &Value, patch: &Value) -> Value {
    let _ = (current, patch);
    todo!()
}

/// Applies a strategic merge patch with its directives.
pub fn strategic(schema: &Schema, current: &Value, patch: &Value) -> Result<Value, Status> {
    let _ = (schema, current, patch);
    todo!()
}

/// Server-side apply: `live` is the stored object, `config` the applied configuration (checked, without defaults).
/// The result has its managed fields; it equals `live` if nothing changes. Conflicts are a 409 unless `force`.
/// `subresource` is empty for the object itself; `now` as [`crate::api::meta::now`].
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    subresource: &str,
    now: &str,
) -> Result<Value, Status> {
    let _ = (schema, live, config, manager, force, subresource, now);
    todo!()
}
