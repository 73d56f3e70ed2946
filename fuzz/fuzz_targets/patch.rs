//! A patch of any sort to an object of any kind: answered, and what is applied twice changes nothing.
#![no_main]

use kedge::api::{FieldValidation, GroupVersionKind, Schema, Schemas};
use kedge::server::patch;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const KINDS: [(&str, &str); 6] = [
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("apps/v1", "Deployment"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
];
const NOW: &str = "2024-01-01T00:00:00Z";

fn object(schema: &Schema, text: &[u8]) -> Option<Value> {
    let (mut object, _) = schema.decode("application/json", text, FieldValidation::Ignore).ok()?;
    object["apiVersion"] = schema.kind().api_version().into();
    object["kind"] = schema.kind().kind.as_ref().into();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Some(object)
}

// The input: a byte for the kind, the live object, a zero byte, the patch.
fuzz_target!(|input: &[u8]| {
    let [kind, rest @ ..] = input else { return };
    let (api_version, kind) = KINDS[usize::from(*kind) % KINDS.len()];
    let id = GroupVersionKind::from_api_version(api_version, kind);
    let schema = Schemas::builtin().get(&id).expect("built in");
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (Some(live), Some(change)) = (parts.next(), parts.next()) else { return };
    let Some(live) = object(&schema, live) else { return };
    let _ = patch::json(&live, change);
    let Ok(change) = serde_json::from_slice::<Value>(change) else { return };
    let mut merged = patch::merge(&live, &change);
    assert_eq!(patch::merge(&merged, &change), merged, "a merge patch twice is the patch once");
    if merged.is_object() && merged["metadata"].is_object() {
        patch::managed::track_update(&schema, Some(&live), &mut merged, "m", api_version, "", NOW);
    }
    if let Err(status) = patch::strategic(&schema, &live, &change) {
        assert_eq!(status.code, 400, "{}", status.message);
    }
    let Some(config) = object(&schema, change.to_string().as_bytes()) else { return };
    let apply = |live: &Value| patch::apply(&schema, Some(live), &config, "m", true, "", NOW);
    if let Ok(once) = apply(&live) {
        assert_eq!(apply(&once).expect("applied before"), once, "an apply twice changes nothing");
    }
});
