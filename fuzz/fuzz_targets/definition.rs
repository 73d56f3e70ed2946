//! Any schema of a definition, and any object: refused or compiled; what is pruned and defaulted stays so.
#![no_main]

use kedge::api::GroupVersionKind;
use kedge::server::crd::schema::{CustomSchema, check_definition};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

// The input: a schema, a zero byte, an object.
fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let (Some(schema), Some(object)) = (parts.next(), parts.next()) else { return };
    let Ok(schema) = serde_json::from_slice::<Value>(schema) else { return };
    let spec = json!({"group": "example.com", "scope": "Namespaced", "preserveUnknownFields": false,
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]});
    if !check_definition(&spec, None).is_empty() {
        return;
    }
    let kind = GroupVersionKind::new("example.com", "v1", "Thing");
    let schema = &spec["versions"][0]["schema"]["openAPIV3Schema"];
    let Ok(compiled) = CustomSchema::compile(&kind, Some(schema), false) else { return };
    let Ok(mut object) = serde_json::from_slice::<Value>(object) else { return };
    if !object.is_object() {
        return;
    }
    compiled.prune(&mut object);
    let pruned = object.clone();
    compiled.prune(&mut object);
    assert_eq!(object, pruned, "pruned once");
    compiled.default(&mut object);
    let defaulted = object.clone();
    compiled.default(&mut object);
    assert_eq!(object, defaulted, "defaulted once");
    let errors = compiled.validate(&object, None);
    // What has not changed is not looked at again, but for rules about changes.
    if errors.is_empty() {
        compiled.validate(&object, Some(&object));
    }
});
