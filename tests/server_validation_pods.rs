//! What the API says of pods and workloads that are wrong: fields, reasons and messages, through the whole way of
//! a request.

mod server_support;

use http::Request;
use kube::{Client, Error};
use serde_json::{Value, json};
use server_support::TestServer;

/// Sends an object, and answers the object or the Status.
async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    match client.request::<Value>(request.body(body.to_string().into_bytes()).unwrap()).await {
        Ok(value) => Ok(value),
        Err(Error::Api(status)) => Err(serde_json::to_value(*status).unwrap()),
        Err(other) => panic!("{other}"),
    }
}

/// The causes of a refusal as lines of field, reason and message.
fn causes(status: &Value) -> Vec<String> {
    assert_eq!((&status["code"], &status["reason"]), (&json!(422), &json!("Invalid")), "{status}");
    let causes = status["details"]["causes"].as_array().unwrap();
    let part = |cause: &Value, field: &str| cause[field].as_str().unwrap_or_default().to_owned();
    causes
        .iter()
        .map(|c| format!("{} {} {}", part(c, "field"), part(c, "reason"), part(c, "message")))
        .collect()
}

fn path(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap();
    let root = if version.contains('/') { "/apis" } else { "/api" };
    format!("{root}/{version}/namespaces/default/{}", plural(object["kind"].as_str().unwrap()))
}

fn plural(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}

/// A server with the account that pods run as, which a controller makes elsewhere.
async fn start() -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = server.admin();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    send(&client, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await.unwrap();
    (server, client)
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn wrong_objects_are_refused_with_causes() {
    let (_server, client) = start().await;
    let selector = json!({"matchLabels": {"app": "web"}});
    let workload = |kind: &str, spec: Value| json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "w"}, "spec": spec});
    let table: Vec<(Value, &str, Vec<&str>)> = vec![
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"restartPolicy": "Once", "containers": [{"name": "c"}, {"name": "c", "image": "i"}]}}),
            "Pod \"p\" is invalid: [spec.containers[0].image: Required value, spec.containers[1].name: Duplicate value: \"c\", spec.restartPolicy: Unsupported value: \"Once\": supported values: \"Always\", \"OnFailure\", \"Never\"]",
            vec![
                "spec.containers[0].image FieldValueRequired Required value",
                "spec.containers[1].name FieldValueDuplicate Duplicate value: \"c\"",
                "spec.restartPolicy FieldValueNotSupported Unsupported value: \"Once\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        ),
        (
            workload(
                "Deployment",
                json!({"selector": {"matchLabels": {"app": "x"}}, "template": template()}),
            ),
            "Deployment.apps \"w\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            vec![
                "spec.template.metadata.labels FieldValueInvalid Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            workload(
                "DaemonSet",
                json!({"selector": selector, "template": template(), "minReadySeconds": -1}),
            ),
            "DaemonSet.apps \"w\" is invalid: spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
            vec![
                "spec.minReadySeconds FieldValueInvalid Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": template()}}),
            "Job.batch \"j\" is invalid: spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            vec![
                "spec.template.spec.restartPolicy FieldValueRequired Required value: valid values: \"OnFailure\", \"Never\"",
            ],
        ),
        (
            json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": {"maxReplicas": 0, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
            "HorizontalPodAutoscaler.autoscaling \"h\" is invalid: [spec.maxReplicas: Invalid value: 0: must be greater than 0, spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`]",
            vec![
                "spec.maxReplicas FieldValueInvalid Invalid value: 0: must be greater than 0",
                "spec.maxReplicas FieldValueInvalid Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        ),
    ];
    for (object, message, wanted) in table {
        let status = send(&client, "POST", &path(&object), &object).await.unwrap_err();
        assert_eq!(status["message"], message);
        assert_eq!(causes(&status), wanted);
    }
}

#[tokio::test]
async fn a_pods_subresources_change_their_part_alone() {
    let (_server, client) = start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let made = send(&client, "POST", pods, &pod("p")).await.unwrap();
    assert_eq!(
        (&made["metadata"]["generation"], &made["status"]["qosClass"]),
        (&json!(1), &json!("BestEffort"))
    );
    let debugger = json!({"spec": {"nodeName": "other", "ephemeralContainers": [{"name": "d", "image": "i", "targetContainerName": "c"}]}});
    let debugged = send(&client, "PATCH", &format!("{pods}/p/ephemeralcontainers"), &debugger).await.unwrap();
    assert_eq!(debugged["metadata"]["generation"], 2);
    assert!(debugged["spec"].get("nodeName").is_none());
    let status = send(
        &client,
        "PATCH",
        &format!("{pods}/p/ephemeralcontainers"),
        &json!({"spec": {"ephemeralContainers": null}}),
    )
    .await;
    assert_eq!(
        causes(&status.unwrap_err()),
        [
            "spec.ephemeralContainers FieldValueForbidden Forbidden: existing ephemeral containers \"d\" may not be removed\n"
        ]
    );
    let resize = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}});
    let status = send(&client, "PATCH", &format!("{pods}/p/resize"), &resize).await.unwrap_err();
    assert_eq!(
        causes(&status),
        [
            "spec FieldValueInvalid Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing"
        ]
    );
    let part =
        json!({"metadata": {"annotations": {"patched": "true"}}, "status": {"message": "m", "qosClass": ""}});
    let patched = send(&client, "PATCH", &format!("{pods}/p/status"), &part).await.unwrap();
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    assert_eq!(
        (&patched["status"]["message"], &patched["status"]["qosClass"]),
        (&json!("m"), &json!("BestEffort"))
    );
    let command = json!({"spec": {"containers": [{"name": "c", "image": "i", "command": ["x"]}]}});
    let status = send(&client, "PATCH", &format!("{pods}/p"), &command).await.unwrap_err();
    assert!(
        causes(&status)[0]
            .starts_with("spec FieldValueForbidden Forbidden: pod updates may not change fields other than")
    );
    let scheduled = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    send(&client, "POST", &format!("{pods}/p/binding"), &scheduled).await.unwrap();
    let again = send(&client, "POST", &format!("{pods}/p/binding"), &scheduled).await.unwrap_err();
    assert_eq!(again["code"], 409);
}

#[tokio::test]
async fn autoscalers_keep_all_through_version_1() {
    let (_server, client) = start().await;
    let v2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": {
        "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "metrics": [{"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "10"}}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}});
    let made = send(&client, "POST", v2, &object).await.unwrap();
    assert_eq!(
        made["spec"]["behavior"]["scaleDown"]["policies"],
        json!([{"type": "Percent", "value": 100, "periodSeconds": 15}])
    );
    let v1 = v2.replace("/v2/", "/v1/");
    let get = |path: String| {
        let client = client.clone();
        async move { send(&client, "GET", &path, &Value::Null).await.unwrap() }
    };
    let mut old = get(format!("{v1}/h")).await;
    assert!(old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"].is_string(), "{old}");
    old["spec"]["maxReplicas"] = json!(5);
    send(&client, "PUT", &format!("{v1}/h"), &old).await.unwrap();
    let new = get(format!("{v2}/h")).await;
    let mut wanted = made["spec"].clone();
    wanted["maxReplicas"] = json!(5);
    assert_eq!(new["spec"], wanted);
    assert!(new["metadata"].get("annotations").is_none(), "{new}");
}

#[tokio::test]
async fn what_users_apply_is_good() {
    let (_server, client) = start().await;
    let good: Vec<Value> = vec![
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
            "serviceName": "db", "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}}),
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ds"}, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()}}),
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"}, "spec": {"schedule": "*/1 * * * *", "jobTemplate": {"spec": {
            "template": {"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]}}}}}}),
        json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"}, "template": template()}),
    ];
    for object in good {
        let made = send(&client, "POST", &path(&object), &object).await.unwrap();
        let generation = &made["metadata"]["generation"];
        assert_eq!(*generation, 1, "{made}");
    }
}

#[tokio::test]
async fn warnings_come_with_the_answer() {
    let (_server, client) = start().await;
    let mut object = pod("w");
    object["spec"]["terminationGracePeriodSeconds"] = json!(-1);
    let request = Request::builder().method("POST").uri("/api/v1/namespaces/default/pods");
    let request =
        request.header("content-type", "application/json").body(object.to_string().into_bytes()).unwrap();
    let response = client.send(request.map(kube::client::Body::from)).await.unwrap();
    let warnings: Vec<&str> =
        response.headers().get_all("warning").iter().map(|w| w.to_str().unwrap()).collect();
    assert_eq!(
        warnings,
        [
            "299 - \"spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1\""
        ]
    );
}
