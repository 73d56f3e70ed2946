//! AdmissionReview: what a webhook is asked.

use serde_json::{Value, json};

use super::hook::ReviewVersion;

/// The review of one version.
pub(super) fn review(
    version: ReviewVersion,
    uid: &str,
    mut request: Value,
    object: Option<Value>,
    old: Option<Value>,
) -> Value {
    request["uid"] = json!(uid);
    request["object"] = object.unwrap_or_default();
    request["oldObject"] = old.unwrap_or_default();
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": request})
}
