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
    let text = |w: &str| Some(w.strip_prefix("299 - \"")?.strip_suffix('"')?.replace("\\\"", "\""));
    let warnings = warnings.filter_map(text).collect();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presets_are_merged_into_new_pods() {
    let cluster = Cluster::start().await;
    account(&cluster).await;
    let presets = "/apis/settings.k8s.io/v1alpha1/namespaces/default/podpresets";
    let preset = json!({"apiVersion": "settings.k8s.io/v1alpha1", "kind": "PodPreset", "metadata": {"name": "allow-database"},
        "spec": {"selector": {"matchLabels": {"role": "frontend"}}, "env": [{"name": "DB_PORT", "value": "6379"}],
            "volumeMounts": [{"mountPath": "/cache", "name": "cache-volume"}],
            "volumes": [{"name": "cache-volume", "emptyDir": {}}]}});
    let stored = done(&cluster, "POST", presets, preset).await;
    let version = stored["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let website = |name: &str, port: Value| {
        let env = if port.is_null() { json!([]) } else { json!([{"name": "DB_PORT", "value": port}]) };
        json!({"metadata": {"name": name, "labels": {"role": "frontend"}},
            "spec": {"containers": [{"name": "website", "image": "nginx:1.24", "env": env}]}})
    };
    let pod = done(&cluster, "POST", &core("pods"), website("website", Value::Null)).await;
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["env"], json!([{"name": "DB_PORT", "value": "6379"}]));
    assert_eq!(container["volumeMounts"][0], json!({"mountPath": "/cache", "name": "cache-volume"}));
    assert_eq!(pod["spec"]["volumes"][0], json!({"name": "cache-volume", "emptyDir": {}}));
    let annotation = "podpreset.admission.kubernetes.io/podpreset-allow-database";
    assert_eq!(pod["metadata"]["annotations"][annotation], version);
    // Another value for the same variable: the pod is made as it is, and an event says why.
    let own = done(&cluster, "POST", &core("pods"), website("own", json!("1"))).await;
    assert_eq!(own["spec"]["containers"][0]["env"], json!([{"name": "DB_PORT", "value": "1"}]));
    let (source, message) = cluster.event("own", "PodPresetConflict").await;
    assert_eq!(source, "podpreset");
    assert!(message.contains("merging env for allow-database has a conflict on DB_PORT"), "{message}");
    let wrong =
        ask(&cluster, "POST", presets, json!({"metadata": {"name": "x"}, "spec": {"selector": {}}})).await;
    assert_eq!(wrong.code, StatusCode::UNPROCESSABLE_ENTITY);
    let discovered = done(&cluster, "GET", "/apis/settings.k8s.io/v1alpha1", Value::Null).await;
    assert_eq!(discovered["resources"][0]["name"], "podpresets");
    let document = done(&cluster, "GET", "/openapi/v3/apis/settings.k8s.io/v1alpha1", Value::Null).await;
    let spec = &document["components"]["schemas"]["io.k8s.api.settings.v1alpha1.PodPresetSpec"];
    assert_eq!(
        spec["properties"]["env"]["description"],
        "Env defines the collection of EnvVar to inject into containers."
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pod_security_refuses_and_warns() {
    let cluster = Cluster::start().await;
    account(&cluster).await;
    let host = json!({"metadata": {"name": "host"}, "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}});
    done(&cluster, "POST", &core("pods"), host.clone()).await;
    let label = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let stricter = ask(&cluster, "PATCH", "/api/v1/namespaces/default", label("baseline")).await;
    assert_eq!(
        stricter.warnings,
        [
            "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "host: host namespaces"
        ]
    );
    assert_eq!(
        ask(&cluster, "PATCH", "/api/v1/namespaces/default", label("none")).await.code,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let mut again = host.clone();
    again["metadata"]["name"] = json!("again");
    let refused = ask(&cluster, "POST", &core("pods"), again).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(
        refused.message(),
        "pods \"again\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": host["spec"]}}});
    let warned = ask(&cluster, "POST", "/apis/apps/v1/namespaces/default/deployments", deployment).await;
    assert_eq!(warned.code, StatusCode::CREATED);
    assert_eq!(
        warned.warnings,
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_volumes_stay_while_they_are_in_use() {
    let cluster = Cluster::start().await;
    account(&cluster).await;
    let storage = json!({"requests": {"storage": "1Gi"}});
    let claim = |name: &str| json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": storage}});
    for name in ["used", "free"] {
        let made = done(&cluster, "POST", &core("persistentvolumeclaims"), claim(name)).await;
        assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    }
    let mut user = pod("user", "1m");
    user["spec"]["nodeName"] = json!("n");
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}]);
    done(&cluster, "POST", &core("pods"), user).await;
    let claims = core("persistentvolumeclaims");
    for name in ["used", "free"] {
        done(&cluster, "DELETE", &format!("{claims}/{name}"), Value::Null).await;
    }
    let gone = async |name: &str| {
        ask(&cluster, "GET", &format!("{claims}/{name}"), Value::Null).await.code == StatusCode::NOT_FOUND
    };
    eventually("the claim that nothing uses is gone", async || gone("free").await.then_some(())).await;
    assert!(!gone("used").await);
    done(&cluster, "DELETE", &format!("{}/user?gracePeriodSeconds=0", core("pods")), Value::Null).await;
    eventually("the other is gone with its pod", async || gone("used").await.then_some(())).await;
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/v"}, "persistentVolumeReclaimPolicy": "Retain"}});
    let made = done(&cluster, "POST", "/api/v1/persistentvolumes", volume).await;
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    done(&cluster, "DELETE", "/api/v1/persistentvolumes/v", Value::Null).await;
    eventually("the volume is gone", async || {
        let code = ask(&cluster, "GET", "/api/v1/persistentvolumes/v", Value::Null).await.code;
        (code == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classes_give_pods_and_ingresses_what_they_lack() {
    let cluster = Cluster::start().await;
    account(&cluster).await;
    let class = json!({"metadata": {"name": "kata"}, "handler": "kata", "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {"nodeSelector": {"kata": "yes"}}});
    done(&cluster, "POST", "/apis/node.k8s.io/v1/runtimeclasses", class).await;
    let mut with_class = pod("p", "1m");
    with_class["spec"]["runtimeClassName"] = json!("kata");
    let made = done(&cluster, "POST", &core("pods"), with_class.clone()).await;
    assert_eq!(
        (&made["spec"]["overhead"], &made["spec"]["nodeSelector"]),
        (&json!({"cpu": "100m"}), &json!({"kata": "yes"}))
    );
    with_class["metadata"]["name"] = json!("q");
    with_class["spec"]["runtimeClassName"] = json!("gvisor");
    let refused = ask(&cluster, "POST", &core("pods"), with_class).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(refused.message(), "pods \"q\" is forbidden: pod rejected: RuntimeClass \"gvisor\" not found");
    let annotations = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
    let class = json!({"metadata": {"name": "own", "annotations": annotations}, "spec": {"controller": "kedge.local/ingress"}});
    done(&cluster, "POST", "/apis/networking.k8s.io/v1/ingressclasses", class).await;
    let ingress = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    let made =
        done(&cluster, "POST", "/apis/networking.k8s.io/v1/namespaces/default/ingresses", ingress).await;
    assert_eq!(made["spec"]["ingressClassName"], "own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_ranges_fill_in_and_bound() {
    let cluster = Cluster::start().await;
    account(&cluster).await;
    let limits = json!([{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "50m"}, "defaultRequest": {"memory": "64Mi"}}]);
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": limits}});
    let stored = done(&cluster, "POST", &core("limitranges"), range).await;
    assert_eq!(stored["spec"]["limits"][0]["default"], json!({"cpu": "1"}));
    assert_eq!(stored["spec"]["limits"][0]["defaultRequest"], json!({"cpu": "1", "memory": "64Mi"}));
    let plain = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = done(&cluster, "POST", &core("pods"), plain).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1", "memory": "64Mi"}})
    );
    let small = ask(&cluster, "POST", &core("pods"), pod("q", "10m")).await;
    assert_eq!(
        small.message(),
        "pods \"q\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m"
    );
    let wrong =
        json!({"metadata": {"name": "w"}, "spec": {"limits": [{"type": "Pod", "default": {"cpu": "1"}}]}});
    assert_eq!(
        ask(&cluster, "POST", &core("limitranges"), wrong).await.code,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}
