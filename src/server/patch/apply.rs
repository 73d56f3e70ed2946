//! Server-side apply.

use serde_json::Value;

use crate::api::{Schema, Status};

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
    Err(Status::internal("not there yet"))
}
