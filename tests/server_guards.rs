//! What guards the API and the cluster: limits, disruption budgets, readiness, default objects that
//! come back, answers that any client can read.

mod server_support;

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kedge::server::Server;
use kedge::server::auth::User;
use kedge::supervisor::{OnFailure, Stage, Supervisor};
use kube::Client;
use serde_json::{Value, json};
use server_support::{TestServer, settings};
use tower::ServiceExt;

/// Code, headers and JSON of an answer, whatever it is; null for text.
async fn ask(
    server: &Server,
    user: User,
    method: &str,
    uri: &str,
    accept: &str,
    body: Value,
) -> (StatusCode, http::HeaderMap, Value) {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(uri).header("accept", accept);
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = request.header("content-type", kind).body(kube::client::Body::from(body)).unwrap();
    let response = server.service_as(user).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn admin(server: &TestServer, method: &str, uri: &str, body: Value) -> (StatusCode, Value) {
    let (code, _, value) = ask(&server.server, User::loopback(), method, uri, "application/json", body).await;
    (code, value)
}

/// The account of pods, which a controller would make.
async fn account(server: &TestServer) {
    let account = json!({"metadata": {"name": "default"}});
    let (code, status) = admin(server, "POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    assert!(code.is_success(), "{status}");
}

#[tokio::test]
async fn errors_are_json_whatever_is_accepted() {
    let server = TestServer::start().await;
    let pod =
        json!({"metadata": {"name": "Bad_Name"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    account(&server).await;
    let uri = "/api/v1/namespaces/default/pods";
    for accept in ["application/json", "*/*", "application/vnd.kubernetes.protobuf,application/json", ""] {
        let (code, headers, status) =
            ask(&server.server, User::loopback(), "POST", uri, accept, pod.clone()).await;
        assert_eq!((code.as_u16(), headers["content-type"].to_str().unwrap()), (422, "application/json"));
        let text = status["message"].as_str().unwrap();
        assert!(text.starts_with("Pod \"Bad_Name\" is invalid: metadata.name: Invalid value: "), "{text}");
    }
    // What cannot be read by the client is refused before anything is done, in JSON.
    let uri = "/api/v1/namespaces/default/configmaps";
    for accept in ["application/vnd.kubernetes.protobuf", "image/png", "application/json;as=Nothing;v=v1;g=x"]
    {
        let map = json!({"metadata": {"name": "a"}});
        let (code, headers, status) = ask(&server.server, User::loopback(), "POST", uri, accept, map).await;
        assert_eq!((code.as_u16(), headers["content-type"].to_str().unwrap()), (406, "application/json"));
        assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!("NotAcceptable")));
    }
    assert_eq!(admin(&server, "GET", &format!("{uri}/a"), Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn default_objects_come_back_at_start() {
    let server = TestServer::start().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let (_, class) = admin(&server, "GET", &format!("{classes}/system-node-critical"), Value::Null).await;
    assert_eq!(class["value"], 2_000_001_000);
    assert!(
        admin(&server, "GET", &format!("{classes}/system-cluster-critical"), Value::Null)
            .await
            .0
            .is_success()
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let (basic, view) =
        (format!("{rbac}/clusterroles/system:basic-user"), format!("{rbac}/clusterroles/view"));
    let binding = format!("{rbac}/clusterrolebindings/system:basic-user");
    let discovery = format!("{rbac}/clusterroles/system:discovery");
    let (_, before) = admin(&server, "GET", &basic, Value::Null).await;
    let own = json!([{"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]}]);
    for (uri, patch) in [
        (&basic, json!({"rules": own})),
        (&view, json!({"rules": own})),
        (&binding, json!({"subjects": null})),
        (
            &discovery,
            json!({"rules": null,
            "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}}),
        ),
    ] {
        let (code, status) = admin(&server, "PATCH", uri, patch).await;
        assert!(code.is_success(), "{uri}: {status}");
    }
    let server = server.restart().await;
    let (_, after) = admin(&server, "GET", &basic, Value::Null).await;
    assert_eq!(after["rules"][0], own[0]);
    assert!(after["rules"].as_array().unwrap().len() > before["rules"].as_array().unwrap().len());
    assert_eq!(admin(&server, "GET", &view, Value::Null).await.1["rules"], own);
    let (_, bound) = admin(&server, "GET", &binding, Value::Null).await;
    assert_eq!(bound["subjects"][0]["name"], "system:authenticated");
    assert_eq!(admin(&server, "GET", &discovery, Value::Null).await.1["rules"], Value::Null);
    let version = after["metadata"]["resourceVersion"].clone();
    let server = server.restart().await;
    // What has all it needs is not written again.
    assert_eq!(admin(&server, "GET", &basic, Value::Null).await.1["metadata"]["resourceVersion"], version);
}

#[tokio::test]
async fn a_user_with_too_many_requests_is_told_to_wait() {
    let server = TestServer::start().await;
    let binding = json!({"metadata": {"name": "u"}, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}});
    let uri = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    assert!(admin(&server, "POST", uri, binding).await.0.is_success());
    let user = User::new("u", &["system:authenticated"]);
    let uri = "/api/v1/namespaces/default/configmaps";
    // Requests whose bodies do not come: half of the slots, and all the user may have waiting.
    let mut waiting: std::collections::VecDeque<_> = (0..200)
        .map(|_| {
            let body = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
            let request = Request::post(uri).body(body).unwrap();
            under_way(server.server.service_as(user.clone()).oneshot(request))
        })
        .collect();
    let map = |name: &str| json!({"metadata": {"name": name}});
    let (code, headers, status) = ask(&server.server, user.clone(), "POST", uri, "*/*", map("a")).await;
    assert_eq!((code.as_u16(), headers["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!("TooManyRequests")));
    let metrics = text(&server, "/metrics").await;
    assert!(
        metrics.contains("apiserver_current_inflight_requests{request_kind=\"mutating\"} 100\n"),
        "{metrics}"
    );
    assert!(metrics.contains("kedge_task_up{task=\"api\"} 1\n"), "{metrics}");
    // Reads, other users and the cluster's own parts go on.
    assert_eq!(ask(&server.server, user.clone(), "GET", uri, "*/*", Value::Null).await.0.as_u16(), 200);
    assert_eq!(admin(&server, "POST", uri, map("b")).await.0.as_u16(), 201);
    // Who waits gets what becomes free: as many as were in flight go, and those that waited are.
    waiting.drain(..100);
    assert!(text(&server, "/metrics").await.contains("request_kind=\"mutating\"} 100\n"));
    drop(waiting);
    assert_eq!(ask(&server.server, user, "POST", uri, "*/*", map("a")).await.0.as_u16(), 201);
}

/// A future that was polled once, and is under way for as long as it is kept.
fn under_way<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(future.as_mut().now_or_never().is_none());
    future
}

async fn text(server: &TestServer, uri: &str) -> String {
    let request = Request::get(uri).body(kube::client::Body::empty()).unwrap();
    let response = server.server.service_as(User::loopback()).oneshot(request).await.unwrap();
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn running_pod(server: &TestServer, name: &str) {
    let uri = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": name, "labels": {"a": "x"}}, "spec": {"serviceAccountName": "default",
        "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "i"}]}});
    let (code, status) = admin(server, "POST", uri, pod).await;
    assert!(code.is_success(), "{status}");
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let (code, status) = admin(server, "PATCH", &format!("{uri}/{name}/status"), ready).await;
    assert!(code.is_success(), "{status}");
}

async fn evict(server: &TestServer, name: &str) -> (u16, Value) {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let uri = format!("/api/v1/namespaces/default/pods/{name}/eviction");
    let (code, value) = admin(server, "POST", &uri, eviction).await;
    (code.as_u16(), value)
}

#[tokio::test]
async fn evictions_ask_the_disruption_budget() {
    let server = TestServer::start().await;
    account(&server).await;
    for name in ["p", "q"] {
        running_pod(&server, name).await;
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "x"}}}});
    assert!(admin(&server, "POST", budgets, budget).await.0.is_success());
    let (code, status) = evict(&server, "p").await;
    assert_eq!((code, &status["details"]["retryAfterSeconds"]), (429, &json!(10)));
    let state = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2}});
    let (code, status) = admin(&server, "PATCH", &format!("{budgets}/b/status"), state).await;
    assert!(code.is_success(), "{status}");
    assert_eq!(evict(&server, "p").await.0, 201);
    let pod = "/api/v1/namespaces/default/pods/p";
    assert_eq!(admin(&server, "GET", pod, Value::Null).await.0, StatusCode::NOT_FOUND);
    let (_, budget) = admin(&server, "GET", &format!("{budgets}/b"), Value::Null).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["p"].is_string(), "{budget}");
    let (code, status) = evict(&server, "q").await;
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert_eq!((code, &status["message"], &status["reason"]), (429, &json!(text), &json!("TooManyRequests")));
    assert_eq!(
        status["details"]["causes"][0]["message"],
        "The disruption budget b needs 1 healthy pods and has 2 currently"
    );
    assert!(admin(&server, "DELETE", &format!("{budgets}/b"), Value::Null).await.0.is_success());
    assert_eq!(evict(&server, "q").await.0, 201);
}

#[tokio::test]
async fn readiness_ends_with_the_store_and_with_vital_tasks() {
    let server = TestServer::start().await;
    let code = |uri: &'static str| {
        let server = server.server.clone();
        async move { ask(&server, User::loopback(), "GET", uri, "*/*", Value::Null).await.0.as_u16() }
    };
    assert_eq!((code("/readyz").await, code("/readyz/etcd").await), (200, 200));
    server
        .supervisor
        .spawn("vital", Stage::Controller, OnFailure::StopProcess, |_| async { Err("broken".into()) });
    server.supervisor.failed().await;
    assert_eq!((code("/readyz").await, code("/readyz/vital").await, code("/livez").await), (500, 500, 200));
    assert!(server.supervisor.shutdown(Duration::from_secs(10)).await.is_empty());
    assert_eq!((code("/readyz/etcd").await, code("/readyz").await), (500, 500));
    let map = json!({"metadata": {"name": "late"}});
    let (refused, status) = admin(&server, "POST", "/api/v1/namespaces/default/configmaps", map).await;
    assert_eq!((refused.as_u16(), &status["reason"]), (503, &json!("ServiceUnavailable")));
}

#[tokio::test]
async fn a_secret_of_a_service_account_is_filled_with_a_token_that_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new();
    let server = Server::bind(settings(dir.path()), supervisor.clone()).await.unwrap();
    server.run();
    let client: Client = kedge::client::in_process(server.service_as(User::loopback()));
    let accounts =
        kube::Api::<k8s_openapi::api::core::v1::ServiceAccount>::default_namespaced(client.clone());
    let params = kube::api::PostParams::default();
    let bot = serde_json::from_value(json!({"metadata": {"name": "bot"}})).unwrap();
    accounts.create(&params, &bot).await.unwrap();
    let secrets = kube::Api::<k8s_openapi::api::core::v1::Secret>::default_namespaced(client);
    let secret = json!({"metadata": {"name": "s", "annotations": {"kubernetes.io/service-account.name": "bot"}},
        "type": "kubernetes.io/service-account-token"});
    secrets.create(&params, &serde_json::from_value(secret).unwrap()).await.unwrap();
    let filled = kube::runtime::wait::await_condition(
        secrets.clone(),
        "s",
        |s: Option<&k8s_openapi::api::core::v1::Secret>| {
            s.and_then(|s| s.data.as_ref()).is_some_and(|d| d.contains_key("token"))
        },
    );
    let secret = tokio::time::timeout(Duration::from_secs(20), filled).await.unwrap().unwrap().unwrap();
    let data = secret.data.unwrap();
    assert_eq!(data["namespace"].0, b"default");
    assert!(data["ca.crt"].0.starts_with(b"-----BEGIN CERTIFICATE"));
    let token = String::from_utf8(data["token"].0.clone()).unwrap();
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let uri = "/apis/authentication.k8s.io/v1/tokenreviews";
    let asked = ask(&server, User::loopback(), "POST", uri, "*/*", review.clone()).await.2;
    assert_eq!(asked["status"]["user"]["username"], "system:serviceaccount:default:bot", "{asked}");
    // It ends with its Secret.
    secrets.delete("s", &Default::default()).await.unwrap();
    let asked = ask(&server, User::loopback(), "POST", uri, "*/*", review).await.2;
    assert_ne!(asked["status"]["authenticated"], json!(true), "{asked}");
    assert!(supervisor.shutdown(Duration::from_secs(10)).await.is_empty());
}
