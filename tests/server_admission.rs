//! The built-in admission that users rely on, against a server with its controllers in this process.

mod controllers_support;

use controllers_support::{Cluster, eventually};
use futures::future::join_all;
use http::{Request, StatusCode};
use kedge::server::auth::User;
use serde_json::{Value, json};

/// Code, warnings and JSON of an answer.
struct Answer {
    code: StatusCode,
    warnings: Vec<String>,
    body: Value,
}

impl Answer {
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

async fn ask(cluster: &Cluster, method: &str, uri: &str, body: Value) -> Answer {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(uri).header("content-type", kind);
    let request = request.body(kube::client::Body::from(bytes)).expect("a request");
    let (parts, body) = cluster.answer(User::loopback(), request).await;
    let warnings = parts.headers.get_all("warning").into_iter().filter_map(|w| w.to_str().ok());
    let warnings =
        warnings.map(|w| w.trim_start_matches("299 - ").trim_matches('"').replace("\\\"", "\"")).collect();
    Answer { code: parts.status, warnings, body: serde_json::from_slice(&body).unwrap_or_default() }
}

/// Asks for what must succeed.
async fn done(cluster: &Cluster, method: &str, uri: &str, body: Value) -> Value {
    let answer = ask(cluster, method, uri, body).await;
    assert!(answer.code.is_success(), "{method} {uri}: {}", answer.body);
    answer.body
}

fn core(plural: &str) -> String {
    format!("/api/v1/namespaces/default/{plural}")
}

fn pod(name: &str, cpu: &str) -> Value {
    let resources = json!({"requests": {"cpu": cpu, "memory": "1Mi"}});
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

/// Waits until the quota's status is measured and as expected.
async fn used(cluster: &Cluster, name: &str, expected: Value) {
    let uri = format!("{}/{name}", core("resourcequotas"));
    let mut last = Value::Null;
    for _ in 0..100 {
        last = done(cluster, "GET", &uri, Value::Null).await;
        if last["status"]["used"] == expected && last["status"]["hard"] == last["spec"]["hard"] {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{name} uses {} and not {expected}", last["status"]);
}

async fn account(cluster: &Cluster) {
    eventually("the default account", async || {
        let uri = format!("{}/default", core("serviceaccounts"));
        ask(cluster, "GET", &uri, Value::Null).await.code.is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_measured_enforced_and_given_back() {
    let cluster = Cluster::start().await;
    account(&cluster).await;
    done(&cluster, "POST", &core("pods"), pod("before", "100m")).await;
    let hard = json!({"pods": "3", "requests.cpu": "1", "count/deployments.apps": "1", "secrets": "2", "services.nodeports": "1"});
    done(
        &cluster,
        "POST",
        &core("resourcequotas"),
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}),
    )
    .await;
    let state = |pods: &str, cpu: &str, secrets: &str| json!({"pods": pods, "requests.cpu": cpu, "count/deployments.apps": "0", "secrets": secrets, "services.nodeports": "0"});
    used(&cluster, "q", state("1", "100m", "0")).await;
    // The ledger is kept with the write: no waiting from here on.
    done(&cluster, "POST", &core("pods"), pod("a", "600m")).await;
    let quota = format!("{}/q", core("resourcequotas"));
    let now = async || done(&cluster, "GET", &quota, Value::Null).await["status"]["used"].clone();
    assert_eq!(now().await, state("2", "700m", "0"));
    let over = ask(&cluster, "POST", &core("pods"), pod("b", "500m")).await;
    assert_eq!(over.code, StatusCode::FORBIDDEN);
    assert_eq!(
        over.message(),
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=700m, \
         limited: requests.cpu=1"
    );
    let dry = ask(&cluster, "POST", &format!("{}?dryRun=All", core("pods")), pod("b", "500m")).await;
    assert_eq!(dry.code, StatusCode::FORBIDDEN);
    // A name that is taken costs nothing.
    assert_eq!(ask(&cluster, "POST", &core("pods"), pod("a", "100m")).await.code, StatusCode::CONFLICT);
    assert_eq!(now().await, state("2", "700m", "0"));
    done(&cluster, "DELETE", &format!("{}/a?gracePeriodSeconds=0", core("pods")), Value::Null).await;
    assert_eq!(now().await, state("1", "100m", "0"));
    // A pod that ended is not counted any more.
    let ended = json!({"status": {"phase": "Succeeded"}});
    done(&cluster, "PATCH", &format!("{}/before/status", core("pods")), ended).await;
    assert_eq!(now().await, state("0", "0", "0"));
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]}});
    assert!(
        ask(&cluster, "POST", &core("services"), service).await.message().contains("services.nodeports=2")
    );
    // A changed quota is measured anew.
    done(&cluster, "PATCH", &quota, json!({"spec": {"hard": {"configmaps": "5", "pods": "10"}}})).await;
    let mut more = state("0", "0", "0");
    more["configmaps"] = json!("1");
    used(&cluster, "q", more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn creates_at_once_never_exceed_a_quota() {
    let cluster = Cluster::start().await;
    account(&cluster).await;
    let hard = json!({"secrets": "10", "count/secrets": "10"});
    done(
        &cluster,
        "POST",
        &core("resourcequotas"),
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}),
    )
    .await;
    used(&cluster, "q", json!({"secrets": "0", "count/secrets": "0"})).await;
    let secrets = core("secrets");
    let make = |i: usize| ask(&cluster, "POST", &secrets, json!({"metadata": {"name": format!("s{i}")}}));
    let answers = join_all((0..40).map(make)).await;
    let made = answers.iter().filter(|a| a.code == StatusCode::CREATED).count();
    let refused = answers.iter().filter(|a| a.code == StatusCode::FORBIDDEN).count();
    assert_eq!((made, refused), (10, 30));
    used(&cluster, "q", json!({"secrets": "10", "count/secrets": "10"})).await;
    done(&cluster, "DELETE", &secrets, Value::Null).await;
    used(&cluster, "q", json!({"secrets": "0", "count/secrets": "0"})).await;
}
