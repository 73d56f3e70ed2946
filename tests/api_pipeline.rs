//! The way of a body through the api room, from the bytes of a client to a stored object and back.

use std::time::Instant;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, PersistentVolume, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kedge::api::object::{self, Object, SelectableField};
use kedge::api::{FieldValidation, GroupVersionKind, Meta, Schema, Schemas};
use kedge::server::patch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const NOW: &str = "2024-01-01T00:00:00Z";

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web, tier: front}
  annotations: {team: checkout}
spec:
  serviceAccountName: web
  initContainers:
  - name: migrate
    image: registry.example/shop/migrate:1.4
    command: [migrate, --wait]
    envFrom: [{secretRef: {name: database}}]
  containers:
  - name: web
    image: registry.example/shop/web:1.4
    ports: [{name: http, containerPort: 8080}]
    env:
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: LOG, value: info}
    resources:
      requests: {cpu: 100m, memory: 128Mi}
      limits: {memory: 256Mi}
    readinessProbe: {httpGet: {path: /ready, port: http}}
    livenessProbe: {httpGet: {path: /live, port: http}, initialDelaySeconds: 10}
    volumeMounts:
    - {name: config, mountPath: /etc/web, readOnly: true}
    - {name: tmp, mountPath: /tmp}
  volumes:
  - {name: config, configMap: {name: web}}
  - {name: tmp}
  tolerations: [{key: edge, operator: Exists}]
"#;

fn schema(api_version: &str, kind: &str) -> Schema {
    let id = GroupVersionKind::from_api_version(api_version, kind);
    Schemas::builtin().get(&id).unwrap_or_else(|| panic!("{id} is built in"))
}

fn fields() -> Vec<SelectableField> {
    vec![SelectableField::new("spec.nodeName"), SelectableField::new("status.phase")]
}

/// What the server does with a create, short of authorisation and admission.
fn create(schema: &Schema, content_type: &str, body: &[u8], revision: u64) -> Object {
    let (mut value, warnings) =
        schema.decode(content_type, body, FieldValidation::Strict).expect("a good body");
    assert!(warnings.is_empty());
    schema.default(&mut value);
    patch::managed::track_update(schema, None, &mut value, "test", &schema.kind().api_version(), "", NOW);
    let bytes = object::serialize(value).at(revision);
    Object::from_stored(bytes, revision, &fields()).expect("what was written is read")
}

#[test]
fn a_pod_goes_in_as_yaml_and_comes_back_as_json() {
    let schema = schema("v1", "Pod");
    let object = create(&schema, "application/yaml", POD.as_bytes(), 17);
    assert_eq!((object.namespace(), object.name(), object.revision()), ("shop", "web", 17));
    assert_eq!(object.label("tier"), Some("front"));
    assert_eq!(object.field_at(0), Some(""));
    let value = object.value();
    assert_eq!(Meta::of(&value).resource_version(), "17");
    assert_eq!(Meta::of(&value).managed_fields().len(), 1);
    let pod = object.typed::<Pod>().expect("a pod");
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!(spec.service_account.as_deref(), Some("web"));
    assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("IfNotPresent"));
    // A client that sends back what it was given changes nothing.
    let again = create(&schema, "application/json", object.bytes(), 17);
    let mut old = object.value();
    let mut new = again.value();
    for value in [&mut old, &mut new] {
        value["metadata"].as_object_mut().expect("metadata").remove("managedFields");
    }
    assert_eq!(old, new);
}

#[test]
fn a_patch_of_what_is_stored_is_a_good_body() {
    let schema = schema("v1", "Pod");
    let object = create(&schema, "application/yaml", POD.as_bytes(), 1);
    let live = object.value();
    let change = json!({"metadata": {"labels": {"tier": null}}, "spec": {"containers": [{"name": "web", "image": "web:2"}]}});
    let patched = patch::strategic(&schema, &live, &change).expect("a good patch");
    let (mut value, _) = schema.accept(patched.into(), FieldValidation::Strict).expect("a good object");
    schema.default(&mut value);
    patch::managed::track_update(&schema, Some(&live), &mut value, "patcher", "v1", "", NOW);
    assert_eq!(value["spec"]["containers"][0]["image"], "web:2");
    assert_eq!(value["metadata"]["labels"], json!({"app": "web"}));
    let entries = Meta::of(&value).managed_fields();
    let patcher = entries.iter().find(|e| e["manager"] == "patcher").expect("an entry");
    let item = "k:{\"name\":\"web\"}";
    assert_eq!(patcher["fieldsV1"], json!({"f:spec": {"f:containers": {item: {"f:image": {}}}}}));
}

/// What the schema accepts and defaults, the typed form reads without loss.
fn reads_as<T: DeserializeOwned + Serialize>(api_version: &str, kind: &str, spec: Value) {
    let schema = schema(api_version, kind);
    let mut body = spec;
    body["metadata"] = json!({"name": "x"});
    let (mut value, _) = schema.accept(body.into(), FieldValidation::Strict).expect(kind);
    schema.default(&mut value);
    let typed: T = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{kind}: {e}"));
    let back = serde_json::to_value(&typed).expect("typed forms are JSON");
    assert_eq!(without_nulls(back), without_nulls(value), "{kind}");
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        scalar => scalar,
    }
}

#[test]
fn typed_forms_read_what_the_schema_accepts() {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    let workload = json!({"spec": {"selector": selector, "template": template}});
    reads_as::<Deployment>("apps/v1", "Deployment", workload.clone());
    reads_as::<DaemonSet>("apps/v1", "DaemonSet", workload);
    reads_as::<StatefulSet>(
        "apps/v1",
        "StatefulSet",
        json!({"spec": {"selector": selector, "template": template, "serviceName": "s"}}),
    );
    reads_as::<Job>("batch/v1", "Job", json!({"spec": {"template": template}}));
    let cron = json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}});
    reads_as::<CronJob>("batch/v1", "CronJob", cron);
    reads_as::<Service>("v1", "Service", json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}]}}));
    reads_as::<ConfigMap>("v1", "ConfigMap", json!({"data": {"a": "b"}, "binaryData": {"c": "AAEC"}}));
    reads_as::<Secret>("v1", "Secret", json!({"stringData": {"a": "b"}}));
    reads_as::<Namespace>("v1", "Namespace", json!({}));
    reads_as::<Node>(
        "v1",
        "Node",
        json!({"spec": {"podCIDR": "10.42.0.0/24"}, "status": {"capacity": {"cpu": 4}}}),
    );
    reads_as::<PersistentVolume>(
        "v1",
        "PersistentVolume",
        json!({"spec": {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}, "accessModes": ["ReadWriteOnce"]}}),
    );
    reads_as::<Ingress>(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
    );
    reads_as::<NetworkPolicy>("networking.k8s.io/v1", "NetworkPolicy", json!({"spec": {"podSelector": {}}}));
    reads_as::<ClusterRole>(
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        json!({"rules": [{"verbs": ["get"], "resources": ["pods"]}]}),
    );
    reads_as::<RoleBinding>(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"apiGroup": "", "kind": "Role", "name": "r"}}),
    );
}

#[test]
fn the_schemas_of_all_kinds_survive_an_empty_object() {
    for schema in Schemas::builtin().kinds() {
        let mut value = json!({});
        schema.default(&mut value);
        let checked = schema.check(&mut value, FieldValidation::Strict);
        assert!(checked.errors.is_empty(), "{schema:?}: {:?}", checked.errors);
    }
}

/// Figures for a look with `--nocapture`; the bounds only catch what is an order of magnitude off.
#[test]
fn the_price_of_a_pod() {
    let start = Instant::now();
    let schema = schema("v1", "Pod");
    println!("loading the schemas: {:?}", start.elapsed());
    let object = create(&schema, "application/yaml", POD.as_bytes(), 1);
    let body = object.bytes().clone();
    let rounds = 200;
    let start = Instant::now();
    for _ in 0..rounds {
        let (mut value, _) =
            schema.decode("application/json", &body, FieldValidation::Strict).expect("a good body");
        schema.default(&mut value);
        let bytes = object::serialize(value).at(1);
        assert!(!bytes.is_empty());
    }
    let each = start.elapsed() / rounds;
    println!("decode, check, default, encode a pod of {} bytes: {each:?}", body.len());
    let start = Instant::now();
    for _ in 0..rounds {
        Object::from_stored(body.clone(), 1, &fields()).expect("an object");
    }
    println!("an object from its bytes: {:?}", start.elapsed() / rounds);
    assert!(each.as_millis() < 50, "{each:?}");
}
