//! ValidatingAdmissionPolicies, and the match conditions of webhooks: expressions about requests.

mod server_support;
mod webhook_support;

use kedge::server::Server;
use kedge::server::auth::User;
use serde_json::{Value, json};
use server_support::TestServer;
use webhook_support::*;

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// A policy about ConfigMaps, changed by a merge patch of its spec, and a binding of it.
async fn policy(server: &Server, name: &str, spec: Value, binding: Value) {
    let mut policy = json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": [rule(&["CREATE", "UPDATE"], "", "v1", &["configmaps"])]}}});
    json_patch::merge(&mut policy["spec"], &spec);
    done(server, "POST", POLICIES, policy).await;
    let mut bound =
        json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    json_patch::merge(&mut bound["spec"], &binding);
    done(server, "POST", BINDINGS, bound).await;
}

async fn forget(server: &Server, name: &str) {
    done(server, "DELETE", &format!("{POLICIES}/{name}"), Value::Null).await;
    done(server, "DELETE", &format!("{BINDINGS}/{name}"), Value::Null).await;
}

fn deployment(name: &str, replicas: i64) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn a_deployment_is_validated() {
    let test = TestServer::start().await;
    let server = &test.server;
    let spec = json!({
        "matchConstraints": {"resourceRules": [rule(&["CREATE", "UPDATE"], "apps", "v1", &["deployments"])]},
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"}],
        "validations": [
            {"expression": "variables.replicas > 1", "message": "wants replicas > 1", "reason": "Forbidden"},
            {"expression": "variables.oddReplicas"}],
    });
    policy(server, "p", spec, json!({})).await;
    let made = done(server, "GET", &format!("{POLICIES}/p"), Value::Null).await;
    assert_eq!(made["status"], json!({"observedGeneration": 1, "typeChecking": {}}));
    assert_eq!(made["spec"]["failurePolicy"], "Fail");
    assert_eq!(made["spec"]["matchConstraints"]["matchPolicy"], "Equivalent");
    let denied = "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: ";
    for (replicas, code, why) in
        [(1, 403, "wants replicas > 1"), (2, 422, "failed expression: variables.oddReplicas")]
    {
        let (got, status) = admin(server, "POST", DEPLOYMENTS, deployment("d", replicas)).await;
        assert_eq!(
            (got, status["message"].as_str().unwrap()),
            (code, &*format!("{denied}{why}")),
            "{status}"
        );
        let reason = if code == 403 { "Forbidden" } else { "Invalid" };
        assert_eq!(
            (&status["reason"], &status["details"]["causes"][0]["message"]),
            (
                &json!(reason),
                &json!(format!("ValidatingAdmissionPolicy 'p' with binding 'p' denied request: {why}"))
            )
        );
    }
    done(server, "POST", DEPLOYMENTS, deployment("d", 3)).await;
    // A policy without a binding does nothing.
    done(server, "DELETE", &format!("{BINDINGS}/p"), Value::Null).await;
    done(server, "POST", DEPLOYMENTS, deployment("e", 1)).await;
}

#[tokio::test]
async fn bindings_say_what_is_done() {
    let test = TestServer::start().await;
    let server = &test.server;
    let spec = json!({"validations": [{"expression": "false", "message": "no", "messageExpression": "'no ' + object.metadata.name"}]});
    policy(server, "p", spec, json!({"validationActions": ["Warn", "Audit"]})).await;
    let user = User::new("admin", &["system:masters"]);
    let (code, warnings, _) = ask(server, user, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
    let warning = "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p': no m\"";
    assert_eq!((code, warnings), (201, vec![warning.to_owned()]));
    // Policies and webhooks are never about themselves.
    forget(server, "p").await;
}

#[tokio::test]
async fn parameters_are_objects_of_any_kind() {
    let test = TestServer::start().await;
    let server = &test.server;
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-param", "expression": "!object.metadata.name.startsWith('param')"}],
        "validations": [{"expression": "size(object.data) <= int(params.data.most)", "messageExpression": "'at most ' + params.data.most"}],
    });
    let named =
        json!({"paramRef": {"name": "param", "namespace": "default", "parameterNotFoundAction": "Deny"}});
    policy(server, "p", spec.clone(), named).await;
    let create = async |name: &str, data: Value| {
        let (code, status) = admin(server, "POST", CONFIG_MAPS, config_map(name, data)).await;
        (code, status["message"].as_str().unwrap_or_default().to_owned())
    };
    let denied =
        "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: ";
    let (code, message) = create("m", json!({})).await;
    let missing =
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!((code, message), (422, format!("{denied}{missing}")));
    done(server, "DELETE", &format!("{BINDINGS}/p"), Value::Null).await;
    assert_eq!(create("param", json!({"most": "1"})).await.0, 201);
    let bound = json!({"metadata": {"name": "p", "labels": {}}, "spec": {"policyName": "p", "validationActions": ["Deny"],
        "paramRef": {"name": "param", "parameterNotFoundAction": "Deny"}}});
    done(server, "POST", BINDINGS, bound.clone()).await;
    assert_eq!(create("m", json!({"a": "1", "b": "2"})).await, (422, format!("{denied}at most 1")));
    assert_eq!(create("m", json!({"a": "1"})).await.0, 201);
    // All that a selector chooses are asked; if there are none, and none are needed, nobody is.
    done(server, "DELETE", &format!("{BINDINGS}/p"), Value::Null).await;
    let mut selecting = bound;
    selecting["spec"]["paramRef"] =
        json!({"selector": {"matchLabels": {"x": "y"}}, "parameterNotFoundAction": "Allow"});
    done(server, "POST", BINDINGS, selecting).await;
    assert_eq!(create("n", json!({"a": "1", "b": "2"})).await.0, 201);
    done(server, "PATCH", &format!("{CONFIG_MAPS}/param"), json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(create("o", json!({"a": "1", "b": "2"})).await.0, 422);
    forget(server, "p").await;
    let mut unknown = spec;
    unknown["paramKind"]["kind"] = json!("Nothing");
    policy(server, "u", unknown, json!({"paramRef": {"name": "param", "parameterNotFoundAction": "Allow"}}))
        .await;
    let (code, message) = create("q", json!({})).await;
    assert_eq!(code, 422);
    assert!(
        message.ends_with(
            "failed to configure binding: paramKind kind `&ParamKind{APIVersion:v1,Kind:Nothing,}` not known"
        ),
        "{message}"
    );
}

#[tokio::test]
async fn failures_of_expressions_follow_the_policy() {
    let test = TestServer::start().await;
    let server = &test.server;
    let spec = |failure: &str| {
        json!({"failurePolicy": failure,
            "variables": [{"name": "gone", "expression": "object.data.gone"}, {"name": "there", "expression": "'x'"}],
            "validations": [{"expression": "variables.there == 'x'"}, {"expression": "!has(object.data.use) || variables.gone == ''"}]})
    };
    policy(server, "p", spec("Fail"), json!({})).await;
    done(server, "POST", CONFIG_MAPS, config_map("m", json!({"a": "b"}))).await;
    let (code, status) = admin(server, "POST", CONFIG_MAPS, config_map("n", json!({"use": "b"}))).await;
    let message = status["message"].as_str().unwrap();
    assert_eq!(code, 422);
    assert!(
        message.contains("resulted in error: composited variable \"gone\" fails to evaluate: ")
            && message.ends_with("no such key: gone"),
        "{message}"
    );
    forget(server, "p").await;
    policy(server, "p", spec("Ignore"), json!({})).await;
    done(server, "POST", CONFIG_MAPS, config_map("n", json!({"use": "b"}))).await;
}

#[tokio::test]
async fn policies_see_the_request_its_namespace_and_who_may_what() {
    let test = TestServer::start().await;
    let server = &test.server;
    let spec = json!({"validations": [
        {"expression": "request.operation == 'CREATE' && request.namespace == 'default' && request.userInfo.username == 'admin'", "message": "request"},
        {"expression": "namespaceObject.metadata.labels['kubernetes.io/metadata.name'] == 'default'", "message": "namespace"},
        {"expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()", "message": "authorizer"},
        {"expression": "authorizer.requestResource.check('delete').allowed()", "message": "resource"},
        {"expression": "oldObject == null && object.kind == 'ConfigMap'", "message": "objects"}]});
    let narrow = json!({"matchResources": {"resourceRules": [{"resourceNames": ["m"], "operations": ["CREATE"], "apiGroups": [""],
        "apiVersions": ["v1"], "resources": ["configmaps"]}]}});
    policy(server, "p", spec, narrow).await;
    done(server, "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
    done(server, "DELETE", &format!("{CONFIG_MAPS}/m"), Value::Null).await;
    let (code, _, status) =
        ask(server, User::loopback(), "POST", CONFIG_MAPS, config_map("m", json!({}))).await;
    assert!(code == 422 && status["message"].as_str().unwrap().ends_with(": request"), "{status}");
    // The binding is about this name alone.
    assert_eq!(ask(server, User::loopback(), "POST", CONFIG_MAPS, config_map("n", json!({}))).await.0, 201);
}

#[tokio::test]
async fn wrong_expressions_are_refused_when_they_are_written() {
    let test = TestServer::start().await;
    let server = &test.server;
    let constraints = json!({"resourceRules": [rule(&["*"], "", "v1", &["configmaps"])]});
    for (validation, texts) in [
        (
            json!({"expression": "object.x =="}),
            vec![
                "spec.validations[0].expression: Invalid value",
                "compilation failed: ERROR: <input>:1:",
                "Syntax error",
            ],
        ),
        (json!({"expression": "nothing"}), vec!["undeclared reference to 'nothing'"]),
        (json!({"expression": "'text'"}), vec!["must evaluate to bool but got string"]),
        (
            json!({"expression": "true", "messageExpression": "1"}),
            vec!["spec.validations[0].messageExpression", "must evaluate to string but got int"],
        ),
        (json!({"expression": "params.x"}), vec!["undeclared reference to 'params'"]),
    ] {
        let policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": constraints, "validations": [validation]}});
        let (code, status) = admin(server, "POST", POLICIES, policy).await;
        let message = status["message"].as_str().unwrap();
        assert_eq!(code, 422, "{status}");
        for text in texts {
            assert!(message.contains(text), "{text}: {message}");
        }
    }
    let hook = Hook::start(|_, _| allow()).await;
    let change = json!({"matchConditions": [{"name": "c", "expression": "object.x +"}]});
    let webhooks = [hook.webhook("a.example.com", "/", change)];
    let (code, status) =
        admin(server, "POST", VALIDATING, json!({"metadata": {"name": "a"}, "webhooks": webhooks})).await;
    let message = status["message"].as_str().unwrap();
    assert!(code == 422 && message.contains("webhooks[0].matchConditions[0].expression: Invalid value: \"object.x +\": compilation failed: "), "{message}");
}

#[tokio::test]
async fn match_conditions_spare_webhooks() {
    let test = TestServer::start().await;
    let server = &test.server;
    let hook = Hook::start(|_, _| deny("no")).await;
    let condition = |name: &str, expression: &str| json!({"name": name, "expression": expression});
    let change = json!({"matchConditions": [
        condition("not-admin", "request.userInfo.username != 'admin'"),
        condition("marked", "object.data.mark == 'yes'")]});
    register(server, VALIDATING, "a", &[hook.webhook("a.example.com", "/", change.clone())]).await;
    let create = async |user: &str, name: &str, data: Value| {
        let user = User::new(user, &["system:masters"]);
        let (code, _, status) = ask(server, user, "POST", CONFIG_MAPS, config_map(name, data)).await;
        (code, status["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(create("admin", "a", json!({"mark": "yes"})).await.0, 201);
    assert_eq!(create("jane", "b", json!({"mark": "no"})).await.0, 201);
    assert_eq!(create("jane", "c", json!({"mark": "yes"})).await.0, 400);
    // One that is false decides even if another fails.
    assert_eq!(create("admin", "d", json!({})).await.0, 201);
    let (code, message) = create("jane", "e", json!({})).await;
    assert_eq!(
        (code, &*message),
        (
            403,
            "configmaps \"e\" is forbidden: expression 'object.data.mark == 'yes'' resulted in error: no such key: data"
        )
    );
    assert_eq!(hook.take().len(), 1);
    let mut ignoring = hook.webhook("a.example.com", "/", change);
    ignoring["failurePolicy"] = json!("Ignore");
    done(server, "PATCH", &format!("{VALIDATING}/a"), json!({"webhooks": [ignoring]})).await;
    assert_eq!(create("jane", "e", json!({})).await.0, 201);
    assert_eq!(hook.take(), [Value::Null; 0]);
}
