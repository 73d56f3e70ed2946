//! JSON patch (RFC 6902) and merge patch (RFC 7386).

use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde_json::Value;

use crate::api::field::quote;
use crate::api::{Reason, Status};

/// The most operations that one JSON patch may have.
const MAX_OPERATIONS: usize = 10_000;

/// Applies a JSON patch (RFC 6902). 400 for what is no patch, 422 for one that does not fit the object.
pub fn json(current: &Value, patch: &[u8]) -> Result<Value, Status> {
    let patch: Patch = serde_json::from_slice(patch)
        .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    if patch.0.len() > MAX_OPERATIONS {
        let message = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            patch.0.len()
        );
        return Err(Status::new(413, Reason::RequestEntityTooLarge, message));
    }
    let mut patched = current.clone();
    json_patch::patch(&mut patched, &patch).map_err(|error| {
        let operation = patch.0.get(error.operation);
        let path = error.path.to_string();
        unprocessable(match (&error.kind, operation) {
            (PatchErrorKind::TestFailed, _) => format!("testing value {path} failed: test failed"),
            (_, Some(operation)) => {
                let name = name(operation);
                format!(
                    "{name} operation does not apply: doc is missing path: {}: missing value",
                    quote(&path)
                )
            }
            (kind, None) => kind.to_string(),
        })
    })?;
    Ok(patched)
}

fn name(operation: &PatchOperation) -> &'static str {
    match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    }
}

/// 422 with reason Invalid and no kind, as upstream answers a JSON patch that does not apply.
fn unprocessable(why: String) -> Status {
    let message = format!("the server rejected our request due to an error in our request: {why}");
    Status::new(422, Reason::Invalid, message)
}

/// Applies a merge patch (RFC 7386).
pub fn merge(current: &Value, patch: &Value) -> Value {
    let mut patched = current.clone();
    json_patch::merge(&mut patched, patch);
    patched
}
