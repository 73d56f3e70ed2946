use serde_json::{Value, json};

use crate::api::{GroupVersionKind, Schema, Schemas};

mod apply;
mod json_merge;
mod managed;
mod strategic;

fn schema(api_version: &str, kind: &str) -> Schema {
    let id = GroupVersionKind::from_api_version(api_version, kind);
    Schemas::builtin().get(&id).unwrap_or_else(|| panic!("{id} is built in"))
}

/// The Deployment of "Update API Objects in Place Using kubectl patch".
fn patch_demo() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "patch-demo"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "nginx"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "30%", "maxUnavailable": "30%"}},
        "template": {"metadata": {"labels": {"app": "nginx"}}, "spec": {
            "containers": [{"name": "patch-demo-ctr", "image": "nginx"}],
            "tolerations": [{"effect": "NoSchedule", "key": "dedicated", "value": "test-team"}]}}}})
}
