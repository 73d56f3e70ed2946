//! An AdmissionRequest without its objects.

use serde_json::{Map, Value, json};

use super::Asking;
use crate::api::GroupVersionKind;
use crate::server::auth::authn::review::user_info;
use crate::server::registry::Resource;

fn kind_of(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn resource_of(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "resource": resource.plural})
}

/// The request without its objects and uid, as expressions see it; `resource` is the one the rules name.
pub(in crate::server::admission) fn request(asking: &Asking<'_>, resource: &Resource) -> Value {
    let mut request = Map::new();
    let mut set = |field: &str, value: Value| drop(request.insert(field.to_owned(), value));
    set("kind", kind_of(&asking.kind_for(resource)));
    set("resource", resource_of(resource));
    set("requestKind", kind_of(&asking.kind_for(asking.entry)));
    set("requestResource", resource_of(asking.entry));
    let texts = [
        ("subResource", asking.subresource),
        ("requestSubResource", asking.subresource),
        ("name", asking.name),
        ("namespace", asking.namespace),
    ];
    for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        set(field, json!(text));
    }
    set("operation", json!(asking.operation_name()));
    set("userInfo", user_info(asking.user));
    set("dryRun", json!(asking.dry_run));
    set("options", asking.sent.options());
    Value::Object(request)
}
