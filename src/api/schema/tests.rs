use serde_json::json;

use super::*;

fn schema(api_version: &str, kind: &str) -> Schema {
    let id = GroupVersionKind::from_api_version(api_version, kind);
    Schemas::builtin().get(&id).unwrap_or_else(|| panic!("{id} is built in"))
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}, "creationTimestamp": null},
        "spec": {
            "containers": [{
                "name": "c", "image": "nginx:1", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
                "env": [{"name": "A", "value": "b"}],
            }],
            "nodeSelector": {},
        },
        "status": {},
    })
}

#[test]
fn what_is_right_passes_and_becomes_canonical() {
    let mut value = pod();
    let checked = schema("v1", "Pod").check(&mut value, FieldValidation::Strict);
    assert_eq!(checked, Checked::default());
    let limits = &value["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(*limits, json!({"cpu": "1", "memory": "1Gi"}));
    assert_eq!(value["metadata"].get("creationTimestamp"), None);
    assert_eq!(value["spec"].get("nodeSelector"), None);
    assert_eq!(value["status"], json!({}));
}

fn pod_with(path: &str, value: Value) -> Value {
    let mut pod = pod();
    let (parent, field) = path.rsplit_once('/').expect("a pointer");
    match pod.pointer_mut(parent).expect("it has the parent") {
        Value::Array(items) => items[field.parse::<usize>().expect("an index")] = value,
        parent => parent[field] = value,
    }
    pod
}

#[test]
fn what_cannot_be_read_is_told_in_gos_words() {
    let schema = schema("v1", "Pod");
    let table = [
        (
            "/spec/hostNetwork",
            json!("yes"),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            "/spec/containers",
            json!({}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "/spec/containers/0/env/0",
            json!({"name": "A", "value": 1}),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            "/metadata/labels",
            json!({"a": 1}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "/spec/priority",
            json!(99999999999_i64),
            "json: cannot unmarshal number 99999999999 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            "/spec/priority",
            json!(1.5),
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
        ),
        ("/spec", json!([]), "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        (
            "/spec/containers/0/resources/limits",
            json!({"cpu": "lots"}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "/metadata/creationTimestamp",
            json!("today"),
            r#"parsing time "today" as "2006-01-02T15:04:05Z07:00": cannot parse "today" as "2006""#,
        ),
    ];
    for (path, bad, expected) in table {
        let error = schema.accept(pod_with(path, bad).into(), FieldValidation::Warn).expect_err(path);
        assert_eq!(error.message, format!("Pod in version \"v1\" cannot be handled as a Pod: {expected}"));
        assert_eq!(error.code, 400);
    }
}

#[test]
fn unknown_and_duplicate_fields_follow_the_validation_asked_for() {
    let schema = schema("v1", "Pod");
    let body = br#"{"kind":"Pod","spec":{"foo":1,"containers":[{"name":"a","name":"b","bar":2}]}}"#;
    let decode = |validation| schema.decode("application/json", body, validation);
    let (value, warnings) = decode(FieldValidation::Ignore).expect("dropped");
    assert!(warnings.is_empty());
    assert_eq!(value, json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "b"}]}}));
    let (_, warnings) = decode(FieldValidation::Warn).expect("dropped");
    let expected = [
        r#"duplicate field "spec.containers[0].name""#,
        r#"unknown field "spec.containers[0].bar""#,
        r#"unknown field "spec.foo""#,
    ];
    assert_eq!(warnings, expected);
    let error = decode(FieldValidation::Strict).expect_err("refused");
    let text = expected.join(", ");
    assert_eq!(
        error.message,
        format!("Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: {text}")
    );
}

#[test]
fn identity_must_fit() {
    let schema = schema("apps/v1", "Deployment");
    let accept = |value: Value| schema.accept(value.into(), FieldValidation::Strict);
    let (value, _) = accept(json!({})).expect("filled in");
    assert_eq!(value, json!({"apiVersion": "apps/v1", "kind": "Deployment"}));
    let error =
        accept(json!({"apiVersion": "apps/v1beta1", "kind": "Deployment"})).expect_err("another version");
    assert_eq!(
        error.message,
        "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
    );
    let error = accept(json!({"apiVersion": "apps/v1", "kind": "StatefulSet"})).expect_err("another kind");
    assert!(error.message.starts_with("StatefulSet in version \"v1\" cannot be handled as a Deployment"));
    assert_eq!(accept(json!([])).expect_err("a list").code, 400);
    let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    assert!(self::schema("v1", "DeleteOptions").accept(options.into(), FieldValidation::Strict).is_ok());
}

#[test]
fn nulls_read_as_gos_decoder_reads_them() {
    let schema = schema("v1", "ConfigMap");
    let mut value = json!({"data": {"a": null}, "metadata": null, "binaryData": {}});
    assert_eq!(schema.check(&mut value, FieldValidation::Strict), Checked::default());
    assert_eq!(value, json!({"data": {"a": ""}}));
}

#[test]
fn special_types() {
    let mut service =
        json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81.0, "targetPort": 8080}]}});
    assert_eq!(schema("v1", "Service").check(&mut service, FieldValidation::Strict), Checked::default());
    assert_eq!(service["spec"]["ports"][1]["port"], json!(81));
    let mut secret = json!({"data": {"a": "?"}});
    assert_eq!(
        schema("v1", "Secret").check(&mut secret, FieldValidation::Strict).errors,
        ["illegal base64 data at input byte 0"]
    );
    let mut crd = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
        "type": "object", "default": {"any": ["thing"]}, "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"a": {"items": {"type": "string"}, "additionalProperties": false}}}}}]}});
    let same = crd.clone();
    let id = schema("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    assert_eq!(id.check(&mut crd, FieldValidation::Strict), Checked::default());
    assert_eq!(crd, same);
    let mut event = json!({"eventTime": "2024-01-01T00:00:00.123456Z", "involvedObject": {"name": "x"}});
    assert_eq!(schema("v1", "Event").check(&mut event, FieldValidation::Strict), Checked::default());
    let mut revision = json!({"data": {"spec": {"x": 1}}, "revision": 1});
    assert_eq!(
        schema("apps/v1", "ControllerRevision").check(&mut revision, FieldValidation::Strict),
        Checked::default()
    );
    assert_eq!(revision["data"]["spec"]["x"], 1);
}

#[test]
fn lists_have_upstreams_keys() {
    let node = |api_version: &str, kind: &str, path: &str| {
        let schema = schema(api_version, kind);
        let mut at = schema.root();
        for step in path.split('.') {
            at = match at.item() {
                Some(item) => item.child(step),
                None => at.child(step),
            }
            .unwrap_or_else(|| panic!("{kind} has {path}"));
        }
        let keys: Vec<String> = at.list_keys().map(str::to_owned).collect();
        (at.list_kind(), keys.join(","), at.merges(), at.merge_key().unwrap_or_default().to_owned())
    };
    let row = |kind, keys: &str, merges, key: &str| (Some(kind), keys.to_owned(), merges, key.to_owned());
    use ListKind::{Atomic, Map, Set};
    assert_eq!(node("v1", "Pod", "spec.containers"), row(Map, "name", true, "name"));
    assert_eq!(
        node("v1", "Pod", "spec.containers.ports"),
        row(Map, "containerPort,protocol", true, "containerPort")
    );
    assert_eq!(node("v1", "Service", "spec.ports"), row(Map, "port,protocol", true, "port"));
    assert_eq!(node("v1", "Pod", "spec.tolerations"), row(Atomic, "", false, ""));
    assert_eq!(node("v1", "Pod", "metadata.finalizers"), row(Set, "", true, ""));
    assert_eq!(node("v1", "Pod", "metadata.ownerReferences"), row(Map, "uid", true, "uid"));
    assert_eq!(node("v1", "Node", "status.conditions"), row(Map, "type", true, "type"));
    assert_eq!(node("v1", "Pod", "spec.containers.args"), row(Atomic, "", false, ""));
    assert_eq!(node("apps/v1", "StatefulSet", "spec.volumeClaimTemplates"), row(Atomic, "", false, ""));
    assert_eq!(node("batch/v1", "Job", "status.conditions"), row(Atomic, "", true, "type"));
    assert_eq!(node("v1", "Pod", "spec.volumes"), row(Map, "name", true, "name"));
    assert_eq!(
        node("v1", "Pod", "spec.topologySpreadConstraints"),
        row(Map, "topologyKey,whenUnsatisfiable", true, "topologyKey")
    );
    assert_eq!(
        node("resource.k8s.io/v1", "ResourceClaim", "status.devices"),
        row(Map, "driver,device,pool,shareID", false, "")
    );
    let pod = schema("v1", "Pod");
    let spec = pod.root().child("spec").expect("a spec");
    assert!(spec.child("nodeSelector").expect("a field").is_atomic());
    assert!(spec.field("volumes").expect("a field").retains_keys());
    let port = spec
        .child("containers")
        .and_then(NodeRef::item)
        .and_then(|c| c.child("ports"))
        .and_then(NodeRef::item);
    assert_eq!(port.and_then(|p| p.field("protocol")).and_then(Field::default), Some(json!("TCP")));
    let service = schema("v1", "Service");
    assert!(service.root().child("spec").and_then(|s| s.child("selector")).expect("a field").is_atomic());
}

#[test]
fn descriptions_belong_to_their_fields() {
    let schema = schema("v1", "Pod");
    let tree = schema.tree();
    let docs = Docs::builtin(tree);
    let pod = tree.definitions().find(|d| d.name() == "io.k8s.api.core.v1.Pod").expect("defined");
    assert!(docs.definition(pod).starts_with("Pod is a collection of containers"));
    let spec = schema.root().child("spec").expect("a spec");
    let field = spec.field("restartPolicy").expect("a field");
    assert!(docs.field(field).starts_with("Restart policy for all containers within the pod."));
}

#[test]
fn every_field_can_be_found() {
    for schema in Schemas::builtin().kinds() {
        for field in schema.root().fields() {
            assert!(schema.root().field(field.name()).is_some(), "{schema:?}.{}", field.name());
        }
    }
    assert!(Schemas::builtin().kinds().count() >= 70);
}
