//! A request body of any kind and content type: decoded, checked, defaulted, stored, read again.
#![no_main]

use kedge::api::object::{self, Object};
use kedge::api::{FieldValidation, GroupVersionKind, Schemas, decode};
use libfuzzer_sys::fuzz_target;

const KINDS: [(&str, &str); 10] = [
    ("v1", "ReplicationController"),
    ("v1", "Secret"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "Event"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io/v1", "Ingress"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
];
const TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

fuzz_target!(|input: &[u8]| {
    let [kind, how, body @ ..] = input else { return };
    let (api_version, kind) = KINDS[usize::from(*kind) % KINDS.len()];
    let id = GroupVersionKind::from_api_version(api_version, kind);
    let schema = Schemas::builtin().get(&id).expect("built in");
    let validation = [FieldValidation::Ignore, FieldValidation::Warn, FieldValidation::Strict];
    let validation = validation[usize::from(*how / 3) % 3];
    let Ok((mut value, _)) = schema.decode(TYPES[usize::from(*how) % 3], body, validation) else { return };
    schema.default(&mut value);
    let once = value.clone();
    schema.default(&mut value);
    assert_eq!(value, once, "defaults are filled in once");
    // What was accepted is a good body, whoever sends it back.
    let text = value.to_string();
    let (again, warnings) = schema
        .decode("application/json", text.as_bytes(), FieldValidation::Strict)
        .unwrap_or_else(|status| panic!("{}: {text}", status.message));
    assert_eq!((&again, warnings.len()), (&value, 0));
    let read = decode::read("application/json", text.as_bytes()).expect("our own JSON").value;
    assert_eq!(read, value);
    let stored = object::serialize(value).at(1);
    Object::from_stored(stored, 1, &[]).expect("what was written can be read");
});
