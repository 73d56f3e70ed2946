//! Request bodies in any encoding that is understood, to values.

use serde_json::Value;

use crate::api::decode::{self, Decoded};
use crate::api::{FieldValidation, Schema, Status};

/// Decodes a body.
///
/// # Errors
/// 400 for what cannot be read, 415 for other encodings.
pub(super) fn decode(content_type: &str, body: &[u8]) -> Result<Decoded, Status> {
    decode::decode(content_type, body)
}

/// Decodes a body and checks it against a schema. Answers the object and warnings.
///
/// # Errors
/// As [`decode`], and 400 or 422 for what the schema does not allow.
pub(super) fn checked(
    schema: &Schema,
    content_type: &str,
    body: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    schema.decode(content_type, body, validation)
}
