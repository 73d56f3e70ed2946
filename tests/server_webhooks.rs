//! Admission webhooks, with real HTTPS servers that are asked.

mod server_support;
mod webhook_support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kedge::server::auth::User;
use serde_json::{Value, json};
use server_support::TestServer;
use webhook_support::*;

/// Adds a key if another one is there, as upstream's conformance test has it.
fn stages(path: &str, request: &Value) -> Reply {
    let data = &request["object"]["data"];
    let has = |key: &str| data.get(key).is_some();
    match path {
        "/one" if has("start") => patch(json!([{"op": "add", "path": "/data/stage-1", "value": "yes"}])),
        "/two" if has("stage-1") => patch(json!([{"op": "add", "path": "/data/stage-2", "value": "yes"}])),
        _ => allow(),
    }
}

#[tokio::test]
async fn mutating_webhooks_see_what_those_before_them_did() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(stages).await;
    // In the order of the configurations' names, not of their creation.
    register(server, MUTATING, "b", &[hook.webhook("two.example.com", "/two", json!({}))]).await;
    register(server, MUTATING, "a", &[hook.webhook("one.example.com", "/one", json!({}))]).await;
    let made = done(server, "POST", CONFIG_MAPS, config_map("m", json!({"start": "yes"}))).await;
    assert_eq!(made["data"], json!({"start": "yes", "stage-1": "yes", "stage-2": "yes"}));
    assert_eq!(done(server, "GET", &format!("{CONFIG_MAPS}/m"), Value::Null).await["data"], made["data"]);
    let paths: Vec<String> = hook.seen.lock().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, ["/one?timeout=10s", "/two?timeout=10s"]);
    let headers = hook.headers.lock()[0].clone();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["host"], hook.address.to_string());
    // The next requests go over the connections there are.
    let connections = hook.connections.load(Ordering::SeqCst);
    for n in 0..3 {
        done(server, "POST", CONFIG_MAPS, config_map(&format!("n{n}"), json!({}))).await;
    }
    assert_eq!(hook.connections.load(Ordering::SeqCst), connections);
    // What is not concerned is not asked.
    hook.take();
    done(server, "PUT", &format!("{CONFIG_MAPS}/m"), config_map("m", json!({"start": "no"}))).await;
    done(server, "DELETE", &format!("{CONFIG_MAPS}/m"), Value::Null).await;
    assert_eq!(hook.take(), [Value::Null; 0]);
}

#[tokio::test]
async fn a_review_has_everything_of_the_request() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::self_signed(|_, _| allow()).await;
    let rules = json!({"rules": [rule(&["*"], "*", "*", &["configmaps"])]});
    register(server, VALIDATING, "a", &[hook.webhook("a.example.com", "/", rules)]).await;
    let mut user = User::new("jane", &["system:masters", "system:authenticated"]);
    user.uid = "7".to_owned();
    user.extra.insert("scope".to_owned(), vec!["x".to_owned()]);
    let uri = format!("{CONFIG_MAPS}?fieldManager=me&fieldValidation=Strict");
    let (code, ..) = ask(server, user.clone(), "POST", &uri, config_map("m", json!({"a": "b"}))).await;
    assert_eq!(code, 201);
    let (path, review) = hook.seen.lock()[0].clone();
    assert_eq!(path, "/?timeout=10s");
    assert_eq!(
        (&review["kind"], &review["apiVersion"]),
        (&json!("AdmissionReview"), &json!("admission.k8s.io/v1"))
    );
    let mut request = hook.take().remove(0);
    assert_eq!(request["uid"].as_str().unwrap().len(), 36);
    let object = request["object"].take();
    assert_eq!(
        (&object["apiVersion"], &object["kind"], &object["data"]),
        (&json!("v1"), &json!("ConfigMap"), &json!({"a": "b"}))
    );
    assert!(object["metadata"]["uid"].is_string() && object["metadata"]["creationTimestamp"].is_string());
    request["uid"].take();
    let gvk = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let gvr = json!({"group": "", "version": "v1", "resource": "configmaps"});
    assert_eq!(
        request,
        json!({
            "uid": null, "kind": gvk, "requestKind": gvk, "resource": gvr, "requestResource": gvr,
            "name": "m", "namespace": "default", "operation": "CREATE",
            "userInfo": {"username": "jane", "uid": "7", "groups": ["system:masters", "system:authenticated"], "extra": {"scope": ["x"]}},
            "object": null, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me", "fieldValidation": "Strict"},
        })
    );
    let uri = format!("{CONFIG_MAPS}/m");
    done(server, "PATCH", &format!("{uri}?dryRun=All"), json!({"data": {"a": "c"}})).await;
    let request = hook.take().remove(0);
    assert_eq!((&request["operation"], &request["dryRun"]), (&json!("UPDATE"), &json!(true)));
    assert_eq!(
        (&request["object"]["data"]["a"], &request["oldObject"]["data"]["a"]),
        (&json!("c"), &json!("b"))
    );
    assert_eq!(
        request["options"],
        json!({"kind": "PatchOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"]})
    );
    done(server, "DELETE", &uri, json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"})).await;
    let request = hook.take().remove(0);
    assert_eq!((&request["operation"], &request["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(request["oldObject"]["data"]["a"], "b");
    assert_eq!(
        request["options"],
        json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 0, "propagationPolicy": "Background"})
    );
    // A name that is to be generated is not known to mutating webhooks, but to validating ones.
    register(server, MUTATING, "m", &[hook.webhook("m.example.com", "/m", json!({}))]).await;
    let generated = json!({"metadata": {"generateName": "g-"}});
    let name = done(server, "POST", CONFIG_MAPS, generated).await["metadata"]["name"].clone();
    let requests = hook.take();
    assert_eq!((requests[0].get("name"), requests[0]["object"]["metadata"].get("name")), (None, None));
    assert_eq!((&requests[1]["name"], &requests[1]["object"]["metadata"]["name"]), (&name, &name));
}

#[tokio::test]
async fn a_webhook_refuses_in_its_own_words() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|path, _| match path {
        "/silent" => Reply::Response(json!({"allowed": false})),
        "/forbidden" => Reply::Response(json!({"allowed": false, "status":
            {"code": 403, "reason": "Forbidden", "message": "no", "details": {"causes": [{"message": "why", "field": "f"}]}}})),
        _ => deny("this is not wanted"),
    })
    .await;
    let by = "admission webhook \"a.example.com\" denied the request";
    for (kind, path, code, message) in [
        (VALIDATING, "/", 400, format!("{by}: this is not wanted")),
        (MUTATING, "/silent", 400, format!("{by} without explanation")),
        (VALIDATING, "/forbidden", 403, format!("{by}: no")),
    ] {
        register(server, kind, "a", &[hook.webhook("a.example.com", path, json!({}))]).await;
        let (got, status) = admin(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
        assert_eq!((got, status["message"].as_str().unwrap()), (code, &*message), "{status}");
        if path == "/forbidden" {
            assert_eq!(
                (&status["reason"], &status["details"]["causes"][0]["field"]),
                (&json!("Forbidden"), &json!("f"))
            );
        }
        let (gone, _) = admin(server, "GET", &format!("{CONFIG_MAPS}/m"), Value::Null).await;
        assert_eq!(gone, 404);
        done(server, "DELETE", &format!("{kind}/a"), Value::Null).await;
    }
    done(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
}

#[tokio::test]
async fn a_changed_configuration_counts_at_once() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|_, _| deny("no")).await;
    let update = json!({"rules": [rule(&["UPDATE"], "", "v1", &["configmaps"])]});
    for kind in [VALIDATING, MUTATING] {
        let uri = format!("{kind}/a");
        register(server, kind, "a", &[hook.webhook("a.example.com", "/", json!({}))]).await;
        let before = done(server, "GET", &uri, Value::Null).await;
        assert_eq!(before["metadata"]["generation"], 1);
        assert_eq!(admin(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await.0, 400);
        let mut changed = before.clone();
        changed["webhooks"][0]["rules"] = update["rules"].clone();
        assert_eq!(done(server, "PUT", &uri, changed).await["metadata"]["generation"], 2);
        done(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
        assert_eq!(
            admin(server, "PATCH", &format!("{CONFIG_MAPS}/m"), json!({"data": {"a": "b"}})).await.0,
            400
        );
        done(server, "PATCH", &uri, json!({"webhooks": before["webhooks"]})).await;
        assert_eq!(admin(server, "POST", CONFIG_MAPS, config_map("n", json!({}))).await.0, 400);
        done(server, "DELETE", &uri, Value::Null).await;
        done(server, "DELETE", &format!("{CONFIG_MAPS}/m"), Value::Null).await;
    }
}

#[tokio::test]
async fn configurations_are_listed_and_deleted_by_label_and_never_intercepted() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|_, request| match request["operation"].as_str() {
        Some("DELETE") => deny("no"),
        _ => patch(json!([{"op": "add", "path": "/metadata/labels", "value": {"changed": "yes"}}])),
    })
    .await;
    let all = json!({"rules": [rule(&["*"], "*", "*", &["*/*"])]});
    register(server, MUTATING, "all", &[hook.webhook("all.example.com", "/", all.clone())]).await;
    register(server, VALIDATING, "all", &[hook.webhook("all.example.com", "/", all)]).await;
    for kind in [MUTATING, VALIDATING] {
        for n in 0..10 {
            let dummy = json!({"metadata": {"name": format!("d{n}"), "labels": {"dummy": "yes"}}});
            let made = done(server, "POST", kind, dummy).await;
            assert_eq!(made["metadata"]["labels"], json!({"dummy": "yes"}));
        }
        let selected = format!("{kind}?labelSelector=dummy%3Dyes");
        let listed = done(server, "GET", &selected, Value::Null).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), 10);
        done(server, "DELETE", &selected, Value::Null).await;
        let listed = done(server, "GET", kind, Value::Null).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    }
    assert_eq!(hook.take(), [Value::Null; 0]);
    // All else is.
    assert_eq!(admin(server, "DELETE", "/api/v1/namespaces/default", Value::Null).await.0, 403);
    let (_, status) = admin(server, "POST", "/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
    assert!(
        status["message"].as_str().unwrap().contains("validating webhook may not return response.patch"),
        "{status}"
    );
    assert_eq!(hook.take()[0]["namespace"], "n");
}

#[tokio::test]
async fn failures_follow_the_policy_and_are_told_as_upstream_does() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|path, request| match path {
        "/hang" => Reply::Hang,
        "/close" => Reply::Close,
        "/garbage" => Reply::Raw(200, "<html>".into()),
        "/error" => Reply::Raw(500, "boom".into()),
        "/missing" => Reply::Raw(404, String::new()),
        "/uid" => Reply::Response(json!({"uid": "other", "allowed": true})),
        "/undecodable" => {
            Reply::Response(json!({"allowed": true, "patchType": "JSONPatch", "patch": "e30="}))
        }
        "/untyped" => {
            Reply::Raw(200, json!({"response": {"uid": request["uid"], "allowed": true}}).to_string())
        }
        _ => allow(),
    })
    .await;
    let (plain, plain_task) = plain_server().await;
    let port = hook.address.port();
    let url = |path: &str| format!("https://127.0.0.1:{port}{path}");
    let post = |path: &str, seconds: u64, why: &str| {
        format!("failed to call webhook: Post \"{}?timeout={seconds}s\": {why}", url(path))
    };
    let closed = "https://127.0.0.1:1/x";
    for (change, why) in [
        (json!({"clientConfig": hook.client("/hang"), "timeoutSeconds": 1}), post("/hang", 1, "context deadline exceeded")),
        (json!({"clientConfig": hook.client("/close")}), post("/close", 10, "EOF")),
        (json!({"clientConfig": hook.client("/error")}), "failed to call webhook: an error on the server (\"boom\") has prevented the request from succeeding".into()),
        (json!({"clientConfig": hook.client("/missing")}), "failed to call webhook: the server could not find the requested resource".into()),
        (json!({"clientConfig": hook.client("/untyped")}), "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=".into()),
        (json!({"clientConfig": {"url": closed}}), "failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused".into()),
        (json!({"clientConfig": {"caBundle": null}}), post("/", 10, "tls: failed to verify certificate: x509: certificate signed by unknown authority")),
        (json!({"clientConfig": {"caBundle": "eA=="}}), "could not get REST client: unable to load root certificates: unable to parse bytes as PEM block".into()),
        (json!({"clientConfig": {"url": format!("https://127.0.0.2:{port}/")}}), format!("failed to call webhook: Post \"https://127.0.0.2:{port}/?timeout=10s\": tls: failed to verify certificate: x509: certificate is valid for localhost, 127.0.0.1, hook.default.svc, not 127.0.0.2")),
        (json!({"clientConfig": {"url": format!("https://{plain}/")}}), format!("failed to call webhook: Post \"https://{plain}/?timeout=10s\": tls: first record does not look like a TLS handshake")),
        (json!({"clientConfig": {"url": null, "caBundle": null, "service": {"namespace": "default", "name": "s", "path": "/p"}}}), "failed to call webhook: Post \"https://s.default.svc:443/p?timeout=10s\": service \"s\" not found".into()),
        (json!({"clientConfig": hook.client("/undecodable")}), "received undecodable patch in webhook response: ".into()),
        (json!({"clientConfig": hook.client("/garbage")}), "failed to call webhook: couldn't get version/kind; json parse error: ".into()),
        (json!({"clientConfig": hook.client("/uid")}), "received invalid webhook response: expected response.uid=".into()),
    ] {
        let kind = if why.contains("undecodable") { MUTATING } else { VALIDATING };
        register(server, kind, "a", &[hook.webhook("a.example.com", "/", change.clone())]).await;
        let (code, status) = admin(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
        let wanted = format!("Internal error occurred: failed calling webhook \"a.example.com\": {why}");
        let message = status["message"].as_str().unwrap();
        assert_eq!((code, &status["reason"]), (500, &json!("InternalError")), "{status}");
        assert!(message == wanted || why.ends_with([' ', '=']) && message.starts_with(&wanted), "{message}\n{wanted}");
        let ignore = json!({"webhooks": [hook.webhook("a.example.com", "/", {
            let mut change = change;
            change["failurePolicy"] = json!("Ignore");
            change
        })]});
        done(server, "PATCH", &format!("{kind}/a"), ignore).await;
        done(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
        done(server, "DELETE", &format!("{CONFIG_MAPS}/m"), Value::Null).await;
        done(server, "DELETE", &format!("{kind}/a"), Value::Null).await;
    }
    plain_task.abort();
}

#[tokio::test]
async fn validating_webhooks_are_asked_at_once() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|path, _| if path == "/hang" { Reply::Hang } else { deny("no") }).await;
    let slow = json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"});
    let hooks: Vec<Value> =
        (0..5).map(|n| hook.webhook(&format!("h{n}.example.com"), "/hang", slow.clone())).collect();
    register(server, VALIDATING, "a", &hooks).await;
    let start = Instant::now();
    done(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
    assert_eq!(hook.take().len(), 5);
}

#[tokio::test]
async fn selectors_choose_namespaces_and_objects() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|_, _| deny("no")).await;
    done(
        server,
        "POST",
        "/api/v1/namespaces",
        json!({"metadata": {"name": "other", "labels": {"hooks": "off"}}}),
    )
    .await;
    let off = json!({"matchExpressions": [{"key": "hooks", "operator": "NotIn", "values": ["off"]}]});
    let rules = [rule(&["*"], "", "v1", &["configmaps", "namespaces", "nodes"])];
    let by_namespace = json!({"rules": rules, "namespaceSelector": off});
    let code = async |method: &str, uri: &str, body: Value| admin(server, method, uri, body).await.0;
    register(server, VALIDATING, "a", &[hook.webhook("a.example.com", "/", by_namespace)]).await;
    assert_eq!(code("POST", CONFIG_MAPS, config_map("m", json!({}))).await, 400);
    assert_eq!(code("POST", "/api/v1/namespaces/other/configmaps", config_map("m", json!({}))).await, 201);
    // A namespace is judged by its own labels: as they will be, or as they are when it goes.
    let namespace = |labels: Value| json!({"metadata": {"name": "new", "labels": labels}});
    assert_eq!(code("POST", "/api/v1/namespaces", namespace(json!({}))).await, 400);
    assert_eq!(code("POST", "/api/v1/namespaces", namespace(json!({"hooks": "off"}))).await, 201);
    assert_eq!(
        code("PATCH", "/api/v1/namespaces/new", json!({"metadata": {"labels": {"hooks": null}}})).await,
        400
    );
    assert_eq!(code("DELETE", "/api/v1/namespaces/new", Value::Null).await, 200);
    // Objects without a namespace are never exempted.
    assert_eq!(code("POST", "/api/v1/nodes", json!({"metadata": {"name": "n"}})).await, 400);
    done(server, "DELETE", &format!("{VALIDATING}/a"), Value::Null).await;

    let by_label = json!({"rules": rules, "objectSelector": {"matchLabels": {"guarded": "yes"}}});
    register(server, VALIDATING, "b", &[hook.webhook("b.example.com", "/", by_label)]).await;
    let labelled = json!({"metadata": {"name": "l", "labels": {"guarded": "yes"}}});
    assert_eq!(code("POST", CONFIG_MAPS, labelled).await, 400);
    assert_eq!(code("POST", CONFIG_MAPS, config_map("l", json!({}))).await, 201);
    let uri = format!("{CONFIG_MAPS}/l");
    assert_eq!(code("PATCH", &uri, json!({"metadata": {"labels": {"guarded": "yes"}}})).await, 400);
    done(server, "DELETE", &format!("{VALIDATING}/b"), Value::Null).await;
    done(server, "PATCH", &uri, json!({"metadata": {"labels": {"guarded": "yes"}}})).await;
    let by_label = json!({"rules": rules, "objectSelector": {"matchLabels": {"guarded": "yes"}}});
    register(server, VALIDATING, "b", &[hook.webhook("b.example.com", "/", by_label)]).await;
    // The old object counts as well as the new one.
    assert_eq!(code("PATCH", &uri, json!({"metadata": {"labels": {"guarded": null}}})).await, 400);
    assert_eq!(code("DELETE", &uri, Value::Null).await, 400);
}

#[tokio::test]
async fn rules_name_resources_subresources_and_scopes() {
    let test = TestServer::start().await;
    let server = &test.server;
    account(server).await;
    let hook = Hook::start(|_, _| allow()).await;
    let pods = "/api/v1/namespaces/default/pods";
    for (resources, scope, seen) in [
        (json!(["pods"]), "*", "CREATE pods,UPDATE pods,DELETE pods"),
        (json!(["pods/status"]), "*", "UPDATE pods/status"),
        (json!(["pods/*"]), "*", "CREATE pods,UPDATE pods,UPDATE pods/status,DELETE pods"),
        (json!(["*/status"]), "*", "UPDATE pods/status,UPDATE namespaces/status"),
        (json!(["*"]), "Namespaced", "CREATE pods,UPDATE pods,DELETE pods"),
        (json!(["*/*"]), "Cluster", "UPDATE namespaces/status"),
        (json!(["pods", "pods/status"]), "Cluster", ""),
    ] {
        let rules = json!([{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": ["*"], "apiVersions": ["*"],
            "resources": resources, "scope": scope}]);
        register(server, VALIDATING, "a", &[hook.webhook("a.example.com", "/", json!({"rules": rules}))])
            .await;
        done(server, "POST", pods, pod("p")).await;
        done(server, "PATCH", &format!("{pods}/p"), json!({"metadata": {"labels": {"a": "b"}}})).await;
        done(server, "PATCH", &format!("{pods}/p/status"), json!({"status": {"message": "m"}})).await;
        done(server, "PATCH", "/api/v1/namespaces/default/status", json!({"status": {"phase": "Active"}}))
            .await;
        done(server, "DELETE", &format!("{pods}/p?gracePeriodSeconds=0"), Value::Null).await;
        let text = |r: &Value| {
            let sub = r["subResource"].as_str().map(|s| format!("/{s}")).unwrap_or_default();
            format!(
                "{} {}{sub}",
                r["operation"].as_str().unwrap(),
                r["resource"]["resource"].as_str().unwrap()
            )
        };
        let got: Vec<String> = hook.take().iter().map(text).collect();
        assert_eq!(got.join(","), seen, "{resources} {scope}");
        done(server, "DELETE", &format!("{VALIDATING}/a"), Value::Null).await;
    }
}

#[tokio::test]
async fn other_versions_of_a_resource_are_converted() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|path, request| match path {
        "/v1" => {
            assert_eq!(request["object"]["apiVersion"], "autoscaling/v1");
            patch(json!([{"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 70}]))
        }
        _ => allow(),
    })
    .await;
    let v1 = json!({"rules": [rule(&["CREATE"], "autoscaling", "v1", &["horizontalpodautoscalers"])]});
    register(server, MUTATING, "a", &[hook.webhook("a.example.com", "/v1", v1.clone())]).await;
    let scaler = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
    let uri = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let made = done(server, "POST", uri, scaler.clone()).await;
    assert_eq!(made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
    let request = hook.take().remove(0);
    assert_eq!(
        (&request["kind"]["version"], &request["requestKind"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(
        (&request["resource"]["version"], &request["requestResource"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    // Exact rules are about their own version alone.
    let mut exact = v1;
    exact["matchPolicy"] = json!("Exact");
    done(
        server,
        "PATCH",
        &format!("{MUTATING}/a"),
        json!({"webhooks": [hook.webhook("a.example.com", "/v1", exact)]}),
    )
    .await;
    done(server, "DELETE", &format!("{uri}/h"), Value::Null).await;
    done(server, "POST", uri, scaler).await;
    assert_eq!(hook.take(), [Value::Null; 0]);
    // Events are in two groups.
    let events = json!({"rules": [rule(&["CREATE"], "events.k8s.io", "v1", &["events"])]});
    register(server, VALIDATING, "e", &[hook.webhook("e.example.com", "/", events)]).await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "message": "m", "reason": "R", "type": "Normal"});
    done(server, "POST", "/api/v1/namespaces/default/events", event).await;
    let request = hook.take().remove(0);
    assert_eq!(
        (&request["object"]["note"], &request["object"]["apiVersion"]),
        (&json!("m"), &json!("events.k8s.io/v1"))
    );
}

#[tokio::test]
async fn what_webhooks_add_is_checked_and_defaulted() {
    let test = TestServer::start().await;
    let server = &test.server;
    account(server).await;
    let hook = Hook::start(|path, request| {
        let containers = request["object"]["spec"]["containers"].as_array().unwrap();
        match path {
            "/sidecar" => patch(json!([
                {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "i:latest", "unknown": 1}},
                {"op": "add", "path": "/metadata/creationTimestamp", "value": null},
                {"op": "add", "path": "/metadata/uid", "value": "mine"}])),
            "/defaults" => {
                // The sidecar is complete already when the next one looks.
                assert_eq!(containers[1]["imagePullPolicy"], "Always");
                assert_eq!(containers[1].get("unknown"), None);
                allow()
            }
            "/type" => patch(json!([{"op": "add", "path": "/spec/containers", "value": "x"}])),
            "/nowhere" => patch(json!([{"op": "replace", "path": "/spec/nothing/there", "value": "x"}])),
            _ => patch(json!([{"op": "replace", "path": "/kind", "value": "Node"}])),
        }
    })
    .await;
    let rules = json!({"rules": [rule(&["CREATE"], "", "v1", &["pods"])]});
    let hooks = ["/sidecar", "/defaults"]
        .map(|p| hook.webhook(&format!("{}.example.com", &p[1..]), p, rules.clone()));
    register(server, MUTATING, "a", &hooks).await;
    let uri = "/api/v1/namespaces/default/pods";
    let made = done(server, "POST", uri, pod("p")).await;
    let side = &made["spec"]["containers"][1];
    assert_eq!(
        (&side["name"], &side["terminationMessagePath"]),
        (&json!("side"), &json!("/dev/termination-log"))
    );
    assert_ne!(made["metadata"]["uid"], "mine");
    assert!(made["metadata"]["creationTimestamp"].is_string());
    // Plugins looked at it again: the sidecar has the account's token too.
    let mounts = |i: usize| made["spec"]["containers"][i]["volumeMounts"].as_array().map(Vec::len);
    assert_eq!((mounts(0), mounts(1)), (Some(1), Some(1)));
    done(server, "DELETE", &format!("{MUTATING}/a"), Value::Null).await;
    for (path, why) in [
        ("/type", "Internal error occurred: "),
        (
            "/nowhere",
            "Internal error occurred: jsonpatch replace operation does not apply: doc is missing path: \"/spec/nothing/there\": missing value",
        ),
        ("/kind", "Internal error occurred: webhook \"a.example.com\" made another kind of a v1, Kind=Pod"),
    ] {
        register(server, MUTATING, "a", &[hook.webhook("a.example.com", path, rules.clone())]).await;
        let (code, status) = admin(server, "POST", uri, pod("q")).await;
        assert_eq!(code, 500, "{status}");
        assert!(status["message"].as_str().unwrap().starts_with(why), "{status}");
        done(server, "DELETE", &format!("{MUTATING}/a"), Value::Null).await;
    }
}

#[tokio::test]
async fn a_webhook_is_asked_again_when_others_changed_the_object_after_it() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|path, request| {
        let has = |key: &str| request["object"]["data"].get(key).is_some();
        let add = |key: &str| patch(json!([{"op": "add", "path": format!("/data/{key}"), "value": "yes"}]));
        match path {
            // Reacts to what the second adds.
            "/first" if has("second") && !has("first") => add("first"),
            "/second" if !has("second") => add("second"),
            _ => allow(),
        }
    })
    .await;
    let paths = || -> Vec<String> {
        std::mem::take(&mut *hook.seen.lock())
            .into_iter()
            .map(|(p, _)| p.replace("?timeout=10s", ""))
            .collect()
    };
    for (policy, data, seen) in [
        ("Never", json!({"a": "b", "second": "yes"}), vec!["/first", "/second"]),
        ("IfNeeded", json!({"a": "b", "first": "yes", "second": "yes"}), vec!["/first", "/second", "/first"]),
    ] {
        let change = json!({"reinvocationPolicy": policy});
        let hooks = [
            hook.webhook("first.example.com", "/first", change),
            hook.webhook("second.example.com", "/second", json!({})),
        ];
        register(server, MUTATING, "a", &hooks).await;
        let made = done(server, "POST", CONFIG_MAPS, config_map("m", json!({"a": "b"}))).await;
        assert_eq!((&made["data"], paths()), (&data, seen.into_iter().map(String::from).collect()));
        done(server, "DELETE", &format!("{MUTATING}/a"), Value::Null).await;
        done(server, "DELETE", &format!("{CONFIG_MAPS}/m"), Value::Null).await;
    }
}

#[tokio::test]
async fn dry_runs_are_shown_to_those_without_effects_only() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|_, request| {
        assert_eq!(request["dryRun"], true);
        patch(json!([{"op": "add", "path": "/data", "value": {"dry": "yes"}}]))
    })
    .await;
    register(
        server,
        MUTATING,
        "a",
        &[hook.webhook("a.example.com", "/", json!({"sideEffects": "NoneOnDryRun"}))],
    )
    .await;
    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    let made = done(server, "POST", &dry, config_map("m", json!({}))).await;
    assert_eq!(made["data"], json!({"dry": "yes"}));
    assert_eq!(admin(server, "GET", &format!("{CONFIG_MAPS}/m"), Value::Null).await.0, 404);
}

#[tokio::test]
async fn warnings_reach_the_client_once() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|path, _| {
        Reply::Response(json!({"allowed": path != "/deny", "warnings": ["old \"style\"", "shared"]}))
    })
    .await;
    register(server, MUTATING, "a", &[hook.webhook("a.example.com", "/", json!({}))]).await;
    register(server, VALIDATING, "a", &[hook.webhook("a.example.com", "/", json!({}))]).await;
    let user = || User::new("admin", &["system:masters"]);
    let wanted = ["299 - \"old \\\"style\\\"\"", "299 - \"shared\""];
    let (code, warnings, _) = ask(server, user(), "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
    assert_eq!((code, warnings), (201, wanted.map(String::from).to_vec()));
}

#[tokio::test]
async fn connections_can_be_refused() {
    let test = TestServer::start().await;
    let server = &test.server;
    account(server).await;
    let hook = Hook::start(|_, _| deny("attaching to pod 'p' is not allowed")).await;
    let rules =
        json!({"rules": [rule(&["CONNECT"], "", "v1", &["pods/attach", "pods/exec", "pods/portforward"])]});
    register(server, VALIDATING, "a", &[hook.webhook("a.example.com", "/", rules)]).await;
    done(server, "POST", "/api/v1/namespaces/default/pods", pod("p")).await;
    for (sub, query, options) in [
        (
            "attach",
            "stdin=true&container=c",
            json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": true, "container": "c"}),
        ),
        (
            "exec",
            "command=sh&command=-c&stdout=1",
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "command": ["sh", "-c"]}),
        ),
        (
            "portforward",
            "ports=80",
            json!({"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [80]}),
        ),
    ] {
        let uri = format!("/api/v1/namespaces/default/pods/p/{sub}?{query}");
        let (code, status) = admin(server, "POST", &uri, Value::Null).await;
        assert_eq!(code, 400, "{status}");
        assert!(
            status["message"]
                .as_str()
                .unwrap()
                .ends_with("denied the request: attaching to pod 'p' is not allowed")
        );
        let request = hook.take().remove(0);
        assert_eq!((&request["object"], &request["options"]), (&options, &Value::Null));
        assert_eq!((&request["kind"]["kind"], &request["subResource"]), (&options["kind"], &json!(sub)));
        assert_eq!((&request["operation"], &request["name"]), (&json!("CONNECT"), &json!("p")));
    }
}

#[tokio::test]
async fn subresources_of_other_kinds_are_shown_as_those() {
    let test = TestServer::start().await;
    let server = &test.server;
    account(server).await;
    let hook = Hook::start(|path, request| match (path, request["kind"]["kind"].as_str()) {
        ("/m", Some("Scale")) => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 7}])),
        _ => allow(),
    })
    .await;
    let parts = ["pods/binding", "pods/eviction", "serviceaccounts/token", "replicationcontrollers/scale"];
    let rules = json!({"rules": [rule(&["*"], "", "v1", &parts)]});
    register(server, MUTATING, "a", &[hook.webhook("a.example.com", "/m", rules)]).await;
    done(server, "POST", "/api/v1/namespaces/default/pods", pod("p")).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    done(server, "POST", "/api/v1/namespaces/default/pods/p/binding", binding).await;
    let eviction = json!({"metadata": {"name": "p"}});
    done(server, "POST", "/api/v1/namespaces/default/pods/p/eviction", eviction).await;
    done(
        server,
        "POST",
        "/api/v1/namespaces/default/serviceaccounts/default/token",
        json!({"spec": {"audiences": []}}),
    )
    .await;
    let seen: Vec<(Value, Value, Value)> = hook
        .take()
        .into_iter()
        .map(|r| (r["operation"].clone(), r["kind"]["kind"].clone(), r["object"]["kind"].clone()))
        .collect();
    let create = |kind: &str| (json!("CREATE"), json!(kind), json!(kind));
    assert_eq!(seen, [create("Binding"), create("Eviction"), create("TokenRequest")]);
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]});
    let controller = json!({"metadata": {"name": "r"}, "spec": {"replicas": 1, "selector": {"a": "b"}, "template": template}});
    done(server, "POST", controllers, controller).await;
    let scale =
        done(server, "PATCH", &format!("{controllers}/r/scale"), json!({"spec": {"replicas": 3}})).await;
    assert_eq!(scale["spec"]["replicas"], 7);
    let request = hook.take().remove(0);
    assert_eq!(
        (&request["object"]["spec"]["replicas"], &request["oldObject"]["spec"]["replicas"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(request["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!(done(server, "GET", &format!("{controllers}/r"), Value::Null).await["spec"]["replicas"], 7);
}

#[tokio::test]
async fn a_patch_of_what_is_deleted_is_an_error() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|_, _| patch(json!([{"op": "add", "path": "/data", "value": {}}]))).await;
    done(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
    let rules = json!({"rules": [rule(&["DELETE"], "", "v1", &["configmaps"])]});
    register(server, MUTATING, "a", &[hook.webhook("a.example.com", "/", rules)]).await;
    let (code, status) = admin(server, "DELETE", &format!("{CONFIG_MAPS}/m"), Value::Null).await;
    let why = "Internal error occurred: admission webhook \"a.example.com\" attempted to modify the object, which is not supported for this operation";
    assert_eq!((code, status["message"].as_str().unwrap()), (500, why));
}

#[tokio::test]
async fn a_service_is_called_at_its_endpoints() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(stages).await;
    let service = json!({"url": null, "service": {"namespace": "default", "name": "hook", "path": "/one", "port": 8443}});
    let change = json!({"clientConfig": service});
    register(server, MUTATING, "a", &[hook.webhook("a.example.com", "/", change)]).await;
    let why = async || {
        admin(server, "POST", CONFIG_MAPS, config_map("m", json!({"start": "yes"}))).await.1["message"]
            .clone()
    };
    let failed = |why: &str| {
        json!(format!(
            "Internal error occurred: failed calling webhook \"a.example.com\": failed to call webhook: Post \"https://hook.default.svc:8443/one?timeout=10s\": {why}"
        ))
    };
    assert_eq!(why().await, failed("service \"hook\" not found"));
    let services = "/api/v1/namespaces/default/services";
    let spec = |port: u16| json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": port, "targetPort": 1}]}});
    done(server, "POST", services, spec(443)).await;
    assert_eq!(why().await, failed("no service port 8443 found for service \"hook\""));
    done(
        server,
        "PATCH",
        &format!("{services}/hook"),
        json!({"spec": {"ports": [{"port": 8443, "targetPort": 1}]}}),
    )
    .await;
    assert_eq!(why().await, failed("no endpoints available for service \"hook\""));
    let slice = json!({"metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [own_address().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "", "port": hook.address.port()}]});
    done(server, "POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice).await;
    let made = done(server, "POST", CONFIG_MAPS, config_map("m", json!({"start": "yes"}))).await;
    assert_eq!(made["data"]["stage-1"], "yes");
    assert_eq!(hook.headers.lock()[0]["host"], "hook.default.svc:8443");
}

#[tokio::test]
async fn old_reviews_are_spoken_to_those_who_know_no_other() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|_, _| patch(json!([{"op": "add", "path": "/data", "value": {"a": "b"}}]))).await;
    let change = json!({"admissionReviewVersions": ["v2", "v1beta1"]});
    register(server, MUTATING, "a", &[hook.webhook("a.example.com", "/", change)]).await;
    let made = done(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
    assert_eq!(made["data"]["a"], "b");
    assert_eq!(hook.seen.lock()[0].1["apiVersion"], "admission.k8s.io/v1beta1");
}

#[tokio::test]
async fn configurations_get_defaults_and_are_checked() {
    let test = TestServer::start().await;
    let server = &test.server;
    let webhook = json!({"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "n"}}, "rules": [rule(&["*"], "*", "*", &["*"])]});
    register(server, MUTATING, "a", std::slice::from_ref(&webhook)).await;
    let made = done(server, "GET", &format!("{MUTATING}/a"), Value::Null).await["webhooks"][0].clone();
    for (field, value) in [
        ("failurePolicy", json!("Fail")),
        ("matchPolicy", json!("Equivalent")),
        ("reinvocationPolicy", json!("Never")),
        ("timeoutSeconds", json!(10)),
        ("namespaceSelector", json!({})),
        ("objectSelector", json!({})),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(
        (&made["rules"][0]["scope"], &made["clientConfig"]["service"]["port"]),
        (&json!("*"), &json!(443))
    );
    let mut wrong = webhook;
    (wrong["name"], wrong["timeoutSeconds"]) = (json!("short"), json!(0));
    let (code, status) =
        admin(server, "POST", VALIDATING, json!({"metadata": {"name": "b"}, "webhooks": [wrong]})).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "ValidatingWebhookConfiguration.admissionregistration.k8s.io \"b\" is invalid: \
         [webhooks[0].name: Invalid value: \"short\": should be a domain with at least three segments separated by dots, \
         webhooks[0].timeoutSeconds: Invalid value: 0: the timeout value must be between 1 and 30 seconds]"
    );
}

#[tokio::test]
async fn applies_and_collections_are_shown_as_what_they_do() {
    let test = TestServer::start().await;
    let server = &test.server;
    let add = json!([{"op": "add", "path": "/metadata/annotations", "value": {"seen": "yes"}}]);
    let hook = Hook::start(move |_, request| {
        let done = request["object"]["metadata"].get("annotations").is_some();
        if done || request["object"].is_null() { allow() } else { patch(add.clone()) }
    })
    .await;
    let rules = json!({"rules": [rule(&["*"], "", "v1", &["configmaps"])]});
    register(server, MUTATING, "a", &[hook.webhook("a.example.com", "/", rules)]).await;
    let uri = format!("{CONFIG_MAPS}/m?fieldManager=me");
    let made = done(server, "APPLY", &uri, config_map("m", json!({"a": "b"}))).await;
    assert_eq!(made["metadata"]["annotations"]["seen"], "yes");
    // The webhook's change is nobody's, so that the same again changes nothing.
    let again = done(server, "APPLY", &uri, config_map("m", json!({"a": "b"}))).await;
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    done(server, "APPLY", &format!("{uri}&force=true"), config_map("m", json!({"a": "c"}))).await;
    let options = |kind: &str| json!({"kind": kind, "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"});
    let mut forced = options("PatchOptions");
    forced["force"] = json!(true);
    let seen: Vec<(Value, Value)> =
        hook.take().into_iter().map(|r| (r["operation"].clone(), r["options"].clone())).collect();
    assert_eq!(
        seen,
        [
            (json!("CREATE"), options("CreateOptions")),
            (json!("UPDATE"), options("PatchOptions")),
            (json!("UPDATE"), forced)
        ]
    );
    done(server, "POST", CONFIG_MAPS, config_map("n", json!({}))).await;
    hook.take();
    done(server, "DELETE", CONFIG_MAPS, Value::Null).await;
    let mut names: Vec<Value> = hook.take().into_iter().map(|r| r["name"].clone()).collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, [json!("m"), json!("n")]);
    let metrics = metrics(server).await;
    let counted = "apiserver_admission_webhook_admission_duration_seconds_count{name=\"a.example.com\",type=\"admit\",operation=\"DELETE\",rejected=\"false\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition() -> Value {
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"data": {"type": "object", "properties": {"start": {"type": "string"}, "stage-1": {"type": "string"}}}}}}})
    };
    json!({"metadata": {"name": "tabs.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "tabs", "singular": "tab", "kind": "Tab", "listKind": "TabList"},
        "versions": [version("v1", true), version("v2", false)]}})
}

/// Waits until a custom kind is served.
async fn established(server: &kedge::server::Server, uri: &str) {
    for _ in 0..500 {
        let definition = done(server, "GET", uri, Value::Null).await;
        let mut conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
        if conditions.any(|c| c["type"] == "Established" && c["status"] == "True") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{uri} is not established");
}

#[tokio::test]
async fn custom_resources_are_changed_pruned_and_refused() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|path, request| match path {
        "/deny" if request["oldObject"].is_null() && request["object"]["data"]["start"] != "no" => allow(),
        "/deny" => deny("the custom resource is not to be touched"),
        path => stages(path, request),
    })
    .await;
    // A definition may be refused as any object.
    let on_definitions =
        json!({"rules": [rule(&["CREATE"], "apiextensions.k8s.io", "*", &["customresourcedefinitions"])]});
    let mut refusing = hook.webhook("d.example.com", "/deny", on_definitions);
    refusing["matchConditions"] = json!([{"name": "n", "expression": "object.spec.group == 'other.com'"}]);
    register(server, VALIDATING, "d", &[refusing]).await;
    let mut other = definition();
    (other["metadata"]["name"], other["spec"]["group"]) = (json!("tabs.other.com"), json!("other.com"));
    other["data"] = json!({"start": "no"});
    other["metadata"]["annotations"] = json!({"x": "y"});
    done(server, "POST", DEFINITIONS, other).await;
    assert_eq!(hook.take().len(), 1);
    done(server, "POST", DEFINITIONS, definition()).await;
    assert_eq!(hook.take().len(), 0);
    established(server, &format!("{DEFINITIONS}/tabs.example.com")).await;
    // Both webhooks know the second version, objects are stored in the first.
    let rules = json!({"rules": [rule(&["*"], "example.com", "v2", &["tabs"])]});
    let hooks = ["/one", "/two"].map(|p| hook.webhook(&format!("{}.example.com", &p[1..]), p, rules.clone()));
    register(server, MUTATING, "m", &hooks).await;
    let uri = "/apis/example.com/v1/namespaces/default/tabs";
    let tab = |name: &str, start: &str| json!({"apiVersion": "example.com/v1", "kind": "Tab", "metadata": {"name": name}, "data": {"start": start}});
    let made = done(server, "POST", uri, tab("a", "yes")).await;
    // What the second adds is not in the schema.
    assert_eq!(
        (&made["data"], &made["apiVersion"]),
        (&json!({"start": "yes", "stage-1": "yes"}), &json!("example.com/v1"))
    );
    let request = hook.take().remove(0);
    assert_eq!(
        (&request["object"]["apiVersion"], &request["requestResource"]["version"]),
        (&json!("example.com/v2"), &json!("v1"))
    );
    done(server, "DELETE", &format!("{MUTATING}/m"), Value::Null).await;
    register(server, VALIDATING, "v", &[hook.webhook("v.example.com", "/deny", rules)]).await;
    let by =
        "admission webhook \"v.example.com\" denied the request: the custom resource is not to be touched";
    for (method, uri, body) in [
        ("POST", uri.to_owned(), tab("b", "no")),
        ("PATCH", format!("{uri}/a"), json!({"data": {"start": "x"}})),
        ("DELETE", format!("{uri}/a"), Value::Null),
    ] {
        let (code, status) = admin(server, method, &uri, body).await;
        assert_eq!((code, status["message"].as_str().unwrap()), (400, by), "{method}");
    }
    done(server, "POST", uri, tab("c", "yes")).await;
}
