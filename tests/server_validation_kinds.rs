//! Wrong objects of every kind but workloads: the causes a client is told, as upstream tells them.

mod server_support;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kedge::server::auth::User;
use serde_json::{Value, json};
use server_support::TestServer;
use tower::ServiceExt;

async fn ask(server: &TestServer, method: &str, uri: &str, body: &Value) -> (StatusCode, Vec<String>, Value) {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    let request = request.body(kube::client::Body::from(body)).unwrap();
    let response = server.server.service_as(User::loopback()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let warnings = parts.headers.get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, warnings, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Field, reason and message of each cause.
fn causes(status: &Value) -> Vec<[&str; 3]> {
    let causes = status["details"]["causes"].as_array();
    causes
        .into_iter()
        .flatten()
        .map(|c| ["field", "reason", "message"].map(|f| c[f].as_str().unwrap_or("")))
        .collect()
}

const CORE: &str = "/api/v1/namespaces/default";
const REQUIRED: &str = "FieldValueRequired";
const INVALID: &str = "FieldValueInvalid";
const FORBIDDEN: &str = "FieldValueForbidden";
const UNSUPPORTED: &str = "FieldValueNotSupported";
const DUPLICATE: &str = "FieldValueDuplicate";

struct Row {
    uri: String,
    object: Value,
    causes: Vec<[&'static str; 3]>,
}

fn row(uri: impl Into<String>, object: Value, causes: &[[&'static str; 3]]) -> Row {
    Row { uri: uri.into(), object, causes: causes.to_vec() }
}

fn with_name(mut object: Value) -> Value {
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = json!("x");
    }
    object
}

fn core_rows() -> Vec<Row> {
    vec![
        row(
            format!("{CORE}/services"),
            json!({"spec": {"ports": [{"port": 80}, {"port": 80, "name": "a"}]}}),
            &[
                ["spec.ports[0].name", REQUIRED, "Required value"],
                ["spec.ports[1]", DUPLICATE, "Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}"],
            ],
        ),
        row(
            format!("{CORE}/services"),
            json!({"spec": {"type": "ExternalName", "externalName": "a", "clusterIP": "10.43.0.9"}}),
            &[["spec.clusterIPs", FORBIDDEN, "Forbidden: may not be set for ExternalName services"]],
        ),
        row(
            format!("{CORE}/configmaps"),
            json!({"data": {"a b": "x"}}),
            &[[
                "data[a b]",
                INVALID,
                "Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            ]],
        ),
        row(
            format!("{CORE}/secrets"),
            json!({"type": "kubernetes.io/tls", "stringData": {"tls.key": "x"}}),
            &[["data[tls.crt]", REQUIRED, "Required value"]],
        ),
        row(
            format!("{CORE}/persistentvolumeclaims"),
            json!({"spec": {"accessModes": ["ReadWriteOnce"]}}),
            &[["spec.resources[storage]", REQUIRED, "Required value"]],
        ),
        row(
            "/api/v1/persistentvolumes",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}}),
            &[["spec", REQUIRED, "Required value: must specify a volume type"]],
        ),
        row(
            "/api/v1/nodes",
            json!({"spec": {"taints": [{"key": "a", "effect": "No"}], "podCIDR": "10.42.0.1/24"}}),
            &[
                [
                    "metadata.taints[0].effect",
                    UNSUPPORTED,
                    "Unsupported value: \"No\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
                ],
                [
                    "spec.podCIDRs[0]",
                    INVALID,
                    "Invalid value: \"10.42.0.1/24\": must not have bits set beyond the prefix length",
                ],
            ],
        ),
        row(
            "/api/v1/namespaces",
            json!({"metadata": {"name": "a.b"}}),
            &[["metadata.name", INVALID, "Invalid value: \"a.b\": must not contain dots"]],
        ),
        row(
            format!("{CORE}/endpoints"),
            json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}]}),
            &[[
                "subsets[0].addresses[0].ip",
                INVALID,
                "Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ]],
        ),
        row(
            format!("{CORE}/events"),
            json!({"involvedObject": {"namespace": "other"}}),
            &[[
                "involvedObject.namespace",
                INVALID,
                "Invalid value: \"other\": does not match event.namespace",
            ]],
        ),
        row(
            format!("{CORE}/configmaps"),
            json!({"metadata": {"labels": {"a": "b c"}, "finalizers": ["a b"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]}}),
            &[
                [
                    "metadata.labels",
                    INVALID,
                    "Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                ],
                [
                    "metadata.finalizers",
                    INVALID,
                    "Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ],
                [
                    "metadata.ownerReferences",
                    INVALID,
                    "Invalid value: {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"e\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from being an owner",
                ],
            ],
        ),
    ]
}

fn group_rows() -> Vec<Row> {
    let networking = "/apis/networking.k8s.io/v1";
    let here = format!("{networking}/namespaces/default");
    let storage = "/apis/storage.k8s.io/v1";
    vec![
        row(
            format!("{here}/ingresses"),
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}},
            "spec": {"ingressClassName": "b", "defaultBackend": {}}}),
            &[
                [
                    "spec.defaultBackend",
                    INVALID,
                    "Invalid value: \"\": resource or service backend is required",
                ],
                [
                    "annotations.kubernetes.io/ingress.class",
                    INVALID,
                    "Invalid value: \"a\": must match `ingressClassName` when both are specified",
                ],
            ],
        ),
        row(
            format!("{here}/networkpolicies"),
            json!({"spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}}),
            &[["spec.ingress[0].from[0]", REQUIRED, "Required value: must specify a peer"]],
        ),
        row(
            format!("{networking}/ingressclasses"),
            json!({"spec": {}}),
            &[["spec.controller", REQUIRED, "Required value"]],
        ),
        row(
            format!("{networking}/ipaddresses"),
            json!({"metadata": {"name": "2001:DB8::1"}, "spec": {}}),
            &[
                [
                    "metadata.name",
                    INVALID,
                    "Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")",
                ],
                ["spec.parentRef", REQUIRED, "Required value"],
            ],
        ),
        row(
            format!("{networking}/servicecidrs"),
            json!({"spec": {"cidrs": ["10.0.0.0/8", "a"]}}),
            &[[
                "spec.cidrs[1]",
                INVALID,
                "Invalid value: \"a\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ]],
        ),
        row(
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": []}]}),
            &[["endpoints[0].addresses", REQUIRED, "Required value: must contain at least 1 address"]],
        ),
        row(
            format!("{storage}/storageclasses"),
            json!({"provisioner": "a b", "reclaimPolicy": "Recycle"}),
            &[
                [
                    "provisioner",
                    INVALID,
                    "Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ],
                [
                    "reclaimPolicy",
                    UNSUPPORTED,
                    "Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                ],
            ],
        ),
        row(
            format!("{storage}/csidrivers"),
            json!({"spec": {"volumeLifecycleModes": ["X"]}}),
            &[[
                "spec.volumeLifecycleModes",
                UNSUPPORTED,
                "Unsupported value: \"X\": supported values: \"Persistent\", \"Ephemeral\"",
            ]],
        ),
        row(
            format!("{storage}/volumeattachments"),
            json!({"spec": {"attacher": "a", "nodeName": "n", "source": {}}}),
            &[[
                "spec.source",
                REQUIRED,
                "Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ]],
        ),
        row(
            format!("{storage}/volumeattributesclasses"),
            json!({"driverName": "d"}),
            &[["parameters", REQUIRED, "Required value: must contain at least one key/value pair"]],
        ),
        row(
            "/apis/node.k8s.io/v1/runtimeclasses",
            json!({"handler": "a.b"}),
            &[["handler", INVALID, "Invalid value: \"a.b\": must not contain dots"]],
        ),
        row(
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            json!({"value": 1_000_000_001}),
            &[[
                "value",
                FORBIDDEN,
                "Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ]],
        ),
        row(
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            json!({"spec": {"leaseDurationSeconds": 0}}),
            &[["spec.leaseDurationSeconds", INVALID, "Invalid value: 0: must be greater than 0"]],
        ),
        row(
            "/apis/events.k8s.io/v1/namespaces/default/events",
            json!({"eventTime": "2026-01-01T00:00:00.000000Z", "type": "Odd", "reason": "R",
            "reportingInstance": "i", "regarding": {"namespace": "default"}, "action": "A"}),
            &[
                ["reportingController", REQUIRED, "Required value"],
                ["reportingController", INVALID, "Invalid value: \"\": name part must be non-empty"],
                [
                    "reportingController",
                    INVALID,
                    "Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ],
                ["type", INVALID, "Invalid value: \"\": has invalid value: Odd"],
            ],
        ),
        row(
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
            json!({"spec": {"policyName": "p"}}),
            &[[
                "spec.validationActions",
                REQUIRED,
                "Required value: at least one validation action is required",
            ]],
        ),
    ]
}

#[tokio::test]
async fn wrong_objects_are_told_as_upstream_tells_them() {
    let server = TestServer::start().await;
    let mut wrong = Vec::new();
    for Row { uri, object, causes: wanted } in core_rows().into_iter().chain(group_rows()) {
        let (code, _, status) = ask(&server, "POST", &uri, &with_name(object)).await;
        if code != 422 || causes(&status) != wanted {
            wrong.push(format!("{uri}: {code} {:#?}\n{}", causes(&status), status["message"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_immutable_stays() {
    let server = TestServer::start().await;
    let table = [
        (
            format!("{CORE}/configmaps"),
            json!({"immutable": true, "data": {"a": "b"}}),
            "/data/a",
            json!("c"),
            ["data", FORBIDDEN, "Forbidden: field is immutable when `immutable` is set"],
        ),
        (
            format!("{CORE}/secrets"),
            json!({"type": "Opaque"}),
            "/type",
            json!("other"),
            ["type", INVALID, "Invalid value: \"other\": field is immutable"],
        ),
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses".to_owned(),
            json!({"value": 5}),
            "/value",
            json!(6),
            ["value", FORBIDDEN, "Forbidden: may not be changed in an update."],
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses".to_owned(),
            json!({"provisioner": "a"}),
            "/provisioner",
            json!("b"),
            ["provisioner", FORBIDDEN, "Forbidden: updates to provisioner are forbidden."],
        ),
        (
            "/apis/networking.k8s.io/v1/ingressclasses".to_owned(),
            json!({"spec": {"controller": "a.b/c"}}),
            "/spec/controller",
            json!("a.b/d"),
            ["spec.controller", INVALID, "Invalid value: \"a.b/d\": field is immutable"],
        ),
        (
            "/apis/node.k8s.io/v1/runtimeclasses".to_owned(),
            json!({"handler": "a"}),
            "/handler",
            json!("b"),
            ["handler", INVALID, "Invalid value: \"b\": field is immutable"],
        ),
    ];
    for (uri, object, pointer, value, wanted) in table {
        let (code, _, mut made) = ask(&server, "POST", &uri, &with_name(object)).await;
        assert_eq!(code, 201, "{uri}: {made}");
        *made.pointer_mut(pointer).unwrap() = value;
        let (code, _, status) = ask(&server, "PUT", &format!("{uri}/x"), &made).await;
        assert_eq!((code.as_u16(), causes(&status)), (422, vec![wanted]), "{uri}");
    }
}

#[tokio::test]
async fn what_users_should_not_do_any_more_is_warned_of() {
    let server = TestServer::start().await;
    let (code, warnings, _) = ask(&server, "GET", &format!("{CORE}/endpoints"), &Value::Null).await;
    let text = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    assert_eq!((code.as_u16(), warnings), (200, vec![text.to_owned()]));
    let service = json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "externalName": "x", "ports": [{"port": 1}]}});
    let (code, warnings, answer) = ask(&server, "POST", &format!("{CORE}/services"), &service).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(
        warnings,
        ["299 - \"spec.externalName is ignored when spec.type is not \\\"ExternalName\\\"\""]
    );
    let (_, warnings, _) = ask(&server, "GET", &format!("{CORE}/services"), &Value::Null).await;
    assert!(warnings.is_empty());
}
