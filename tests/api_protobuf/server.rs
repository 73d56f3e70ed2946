//! Messages over HTTP, to a server in this process.

use http::Request;
use kedge::api::protobuf::MEDIA_TYPE;
use kedge::api::{GroupVersionKind, Schemas};
use kube::Client;
use serde_json::{Value, json};

use crate::encode;
use crate::server_support::TestServer;

/// Sends an object as a message. Answers the status code and the body.
async fn send(client: &Client, method: &str, uri: &str, object: &Value) -> (u16, Value) {
    let text = |field: &str| object[field].as_str().expect("it says what it is").to_owned();
    let kind = GroupVersionKind::from_api_version(&text("apiVersion"), &text("kind"));
    let schema = Schemas::builtin().get(&kind).expect("built in");
    bytes(
        client,
        method,
        uri,
        encode::body(&schema, object),
        "application/vnd.kubernetes.protobuf,application/json",
    )
    .await
}

async fn bytes(client: &Client, method: &str, uri: &str, body: Vec<u8>, accept: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(uri).header("accept", accept);
    let request = request.header("content-type", format!("{MEDIA_TYPE}; charset=utf-8")).body(body).unwrap();
    match client.request::<Value>(request).await {
        Ok(value) => (200, value),
        Err(kube::Error::Api(status)) => (status.code, serde_json::to_value(&*status).unwrap()),
        Err(other) => panic!("{method} {uri}: {other}"),
    }
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]},
        }},
    })
}

#[tokio::test]
async fn objects_and_their_subresources() {
    let server = TestServer::start().await;
    let client = server.admin();
    let all = "/apis/apps/v1/namespaces/default/deployments";
    let (code, made) = send(&client, "POST", all, &deployment()).await;
    assert_eq!((code, &made["spec"]["replicas"]), (200, &json!(0)), "{made}");
    assert_eq!(made["spec"]["strategy"]["type"], "RollingUpdate");
    let one = format!("{all}/web");
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 3}});
    let (code, scaled) = send(&client, "PUT", &format!("{one}/scale"), &scale).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(3)), "{scaled}");
    // A scale without replicas is one to none: the message of a zero is empty.
    let none = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": "web", "namespace": "default"}, "spec": {}});
    let (code, scaled) = send(&client, "PUT", &format!("{one}/scale"), &none).await;
    assert_eq!((code, scaled["spec"]["replicas"].as_i64().unwrap_or(0)), (200, 0), "{scaled}");
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
        "preconditions": {"uid": "another"}});
    assert_eq!(send(&client, "DELETE", &one, &options).await.0, 409);
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
    assert_eq!(send(&client, "DELETE", &one, &options).await.0, 200);
}

#[tokio::test]
async fn pods_are_bound_and_evicted() {
    let server = TestServer::start().await;
    let client = server.admin();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    assert_eq!(send(&client, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await.0, 200);
    let all = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    let (code, made) = send(&client, "POST", all, &pod).await;
    assert_eq!(code, 200, "{made}");
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n"}});
    let (code, answer) = send(&client, "POST", &format!("{all}/p/binding"), &binding).await;
    assert_eq!(code, 200, "{answer}");
    let bound: Value =
        client.request(Request::get(format!("{all}/p")).body(Vec::new()).unwrap()).await.unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
        "deleteOptions": {"gracePeriodSeconds": 0}});
    let (code, answer) = send(&client, "POST", &format!("{all}/p/eviction"), &eviction).await;
    assert_eq!(code, 200, "{answer}");
}

#[tokio::test]
async fn reviews_and_tokens() {
    let server = TestServer::start().await;
    let client = server.admin();
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600, "audiences": []}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa"}});
    assert_eq!(send(&client, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await.0, 200);
    let uri = "/api/v1/namespaces/default/serviceaccounts/sa/token";
    let (code, token) = send(&client, "POST", uri, &request).await;
    let token = token["status"]["token"].as_str().unwrap_or_else(|| panic!("{code}: {token}"));
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let (_, answer) = send(&client, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:sa", "{answer}");
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": "u", "groups": ["system:masters"], "extra": {"k": ["a", "b"]},
        "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let (_, answer) =
        send(&client, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await;
    assert_eq!(
        (&answer["status"]["allowed"], &answer["spec"]["extra"]),
        (&json!(true), &json!({"k": ["a", "b"]}))
    );
}

#[tokio::test]
async fn what_cannot_be_read_or_answered() {
    let server = TestServer::start().await;
    let client = server.admin();
    let maps = "/api/v1/namespaces/default/configmaps";
    let json = "application/json";
    let (code, status) = bytes(&client, "POST", maps, b"k8s\0\x0a".to_vec(), json).await;
    let message = status["message"].as_str().unwrap_or_default();
    assert_eq!(code, 400);
    assert!(message.contains("must be of type ConfigMap): unexpected EOF at byte 5"), "{message}");
    let (code, status) =
        bytes(&client, "POST", maps, encode::envelope("v1", "ConfigMap", &[0x0a, 9]), json).await;
    let message = status["message"].as_str().unwrap_or_default();
    assert_eq!(code, 400);
    let start = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: unexpected EOF at byte ";
    assert!(message.starts_with(start), "{message}");
    // Answers are JSON: to who takes nothing else, none can be given.
    assert_eq!(bytes(&client, "GET", maps, Vec::new(), MEDIA_TYPE).await.0, 406);
}
