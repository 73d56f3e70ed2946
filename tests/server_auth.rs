//! Who may pass the door: every path of the API over TLS, with no credentials, with ones that ended and
//! with forged ones; and what good ones are for.

#[path = "server_auth/door.rs"]
mod door;
#[path = "server_auth/forged.rs"]
mod forged;
#[path = "server_auth/kubectl.rs"]
mod kubectl;
#[path = "server_auth/paths.rs"]
mod paths;
mod server_support;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use door::{Credentials, Door};
use kedge::config::Authentication;
use kedge::server::Server;
use kedge::server::auth::User;
use kedge::supervisor::Supervisor;
use serde_json::{Value, json};
use server_support::{TestServer, settings};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// Asks as the API's owner, and wants success.
async fn owner(server: &Server, method: &str, uri: &str, body: Value) -> Value {
    let (code, answer) = door::in_process(server, User::loopback(), method, uri, body).await;
    assert!((200..300).contains(&code), "{method} {uri}: {answer}");
    answer
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// A bootstrap token's Secret.
fn bootstrap_token(id: &str, more: &[(&str, &str)]) -> Value {
    let mut data = json!({"token-id": base64(id), "token-secret": base64("0123456789abcdef"),
        "usage-bootstrap-authentication": base64("true")});
    for (key, value) in more {
        data[*key] = json!(base64(value));
    }
    json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": "bootstrap.kubernetes.io/token", "data": data})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_is_shut_to_bad_credentials() {
    let server = TestServer::start().await;
    let wrong = forged::all(&server).await;
    let paths = paths::walk(&server.server).await;
    assert!(paths.len() > 600, "{}", paths.len());
    let before = paths::state(&server.server, &paths).await;
    let mut tasks = tokio::task::JoinSet::new();
    let paths = std::sync::Arc::new(paths);
    for (what, credentials) in wrong {
        let (paths, mut door) =
            (std::sync::Arc::clone(&paths), Door::open(&server.server, &server, credentials));
        tasks.spawn(async move {
            for path in paths.iter() {
                let (code, answer) = door.ask(&path.method, &path.uri, path.body.clone()).await;
                assert_eq!(code, 401, "{what}: {} {}: {answer}", path.method, path.uri);
                assert_eq!(answer["reason"], "Unauthorized", "{what}: {} {}", path.method, path.uri);
            }
        });
    }
    let mut nobody = Door::open(&server.server, &server, Credentials::None);
    for path in paths.iter() {
        let (code, answer) = nobody.ask(&path.method, &path.uri, path.body.clone()).await;
        let expected = if path.is_public() { 200 } else { 403 };
        assert_eq!(code, expected, "anonymous: {} {}: {answer}", path.method, path.uri);
    }
    tasks.join_all().await;
    assert_eq!(paths::state(&server.server, &paths).await, before, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_roles_only_learns_about_itself() {
    let server = TestServer::start().await;
    owner(&server.server, "POST", ACCOUNTS, json!({"metadata": {"name": "poor"}})).await;
    let token = forged::token(&server.server, "poor", json!({})).await;
    let mut door = Door::open(&server.server, &server, Credentials::Token(token));
    let paths = paths::walk(&server.server).await;
    let before = paths::state(&server.server, &paths).await;
    for path in &paths {
        let (code, answer) = door.ask(&path.method, &path.uri, path.body.clone()).await;
        let ok = if path.is_about_oneself() || path.is_discovery() {
            code != 403 && code != 401
        } else {
            code == 403
        };
        assert!(ok, "{} {}: {code} {answer}", path.method, path.uri);
    }
    assert_eq!(paths::state(&server.server, &paths).await, before, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_requests_can_be_refused_and_tokens_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.csv");
    std::fs::write(&file, "letmein,jane,42,\"dev,system:masters\"\n").unwrap();
    let mut wanted = settings(dir.path());
    wanted.authentication = Authentication { anonymous: false, token_file: Some(file.clone()) };
    let supervisor = Supervisor::new();
    let server = Server::bind(wanted.clone(), supervisor.clone()).await.unwrap();
    server.run_api();
    let test = TestServer { server, supervisor, dir };
    let ask = async |credentials: Credentials, uri: &str| {
        Door::open(&test.server, &test, credentials).ask("GET", uri, Value::Null).await
    };
    assert_eq!(ask(Credentials::None, "/readyz").await.0, 401);
    assert_eq!(ask(Credentials::Token("wrong".into()), "/readyz").await.0, 401);
    let jane = || Credentials::Token("letmein".into());
    assert_eq!(ask(jane(), "/api/v1/secrets").await.0, 200);
    let mut door = Door::open(&test.server, &test, jane());
    let (code, who) = door.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await;
    assert_eq!(code, 201, "{who}");
    assert_eq!(
        who["status"]["userInfo"],
        json!({"username": "jane", "uid": "42", "groups": ["dev", "system:masters", "system:authenticated"]})
    );
    let other = tempfile::tempdir().unwrap();
    std::fs::write(&file, "letmein,jane\n").unwrap();
    let mut broken = settings(other.path());
    broken.authentication.token_file = Some(file);
    let error = Server::bind(broken, Supervisor::new()).await.unwrap_err().to_string();
    assert!(error.contains("line 1: must have at least 3 columns"), "{error}");
}

/// A server with its controllers.
async fn running() -> TestServer {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new();
    let server = Server::bind(settings(dir.path()), supervisor.clone()).await.unwrap();
    server.run();
    TestServer { server, supervisor, dir }
}

/// Asks until the answer is as wanted, each time something was changed.
async fn eventually(server: &Server, uri: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let started = std::time::Instant::now();
    loop {
        let (code, answer) = door::in_process(server, User::loopback(), "GET", uri, Value::Null).await;
        if wanted(code, &answer) {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{uri}: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_token_becomes_a_node_and_ends() {
    let test = running().await;
    let groups = ("auth-extra-groups", "system:bootstrappers:kedge:default-node-token");
    owner(&test.server, "POST", SECRETS, bootstrap_token("joins0", &[groups])).await;
    let soon = (jiff::Timestamp::now() + Duration::from_secs(2)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    owner(&test.server, "POST", SECRETS, bootstrap_token("ending", &[("expiration", &soon)])).await;

    let (key, pem) = forged::request("system:nodes", "system:node:n7", &[]);
    let mut joining = Door::open(&test.server, &test, Credentials::Token("joins0.0123456789abcdef".into()));
    let usages = ["digital signature", "client auth"];
    let spec = json!({"request": base64(&pem), "usages": usages,
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet"});
    let (code, made) =
        joining.ask("POST", REQUESTS, json!({"metadata": {"name": "node-csr-A_b"}, "spec": spec})).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["username"], "system:bootstrap:joins0");
    assert_eq!(joining.ask("GET", "/api/v1/nodes", Value::Null).await.0, 403);
    let signed = eventually(&test.server, &format!("{REQUESTS}/node-csr-A_b"), |_, csr| {
        csr["status"]["certificate"].is_string()
    })
    .await;
    let approved = &signed["status"]["conditions"][0];
    assert_eq!((&approved["type"], &approved["reason"]), (&json!("Approved"), &json!("AutoApproved")));
    let certificate = STANDARD.decode(signed["status"]["certificate"].as_str().unwrap()).unwrap();
    let identity = Credentials::Certificate(String::from_utf8(certificate).unwrap(), key);
    let mut node = Door::open(&test.server, &test, identity);
    let (code, made) = node.ask("POST", "/api/v1/nodes", json!({"metadata": {"name": "n7"}})).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = node.ask("POST", "/api/v1/nodes", json!({"metadata": {"name": "n8"}})).await;
    assert_eq!(code, 403);
    assert!(
        refused["message"].as_str().unwrap().ends_with("node \"n7\" is not allowed to modify node \"n8\"")
    );
    assert_eq!(node.ask("GET", &format!("{SECRETS}/bootstrap-token-joins0"), Value::Null).await.0, 403);

    // A group that is for nothing, and a token that ended, bring no node in.
    owner(&test.server, "POST", SECRETS, bootstrap_token("plain0", &[])).await;
    let mut plain = Door::open(&test.server, &test, Credentials::Token("plain0.0123456789abcdef".into()));
    let (code, _) = plain.ask("POST", REQUESTS, json!({"metadata": {"name": "x"}, "spec": spec})).await;
    assert_eq!(code, 403);
    eventually(&test.server, &format!("{SECRETS}/bootstrap-token-ending"), |code, _| code == 404).await;
    assert!(test.supervisor.shutdown(Duration::from_secs(10)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_approved_is_who_it_says() {
    let test = running().await;
    let (key, pem) = forged::request("dev", "jane", &[]);
    let spec = |signer: &str| json!({"request": base64(&pem), "usages": ["client auth"], "signerName": signer, "expirationSeconds": 3600});
    let request = |name: &str, signer: &str| json!({"metadata": {"name": name}, "spec": spec(signer)});
    let client = "kubernetes.io/kube-apiserver-client";
    owner(&test.server, "POST", REQUESTS, request("jane", client)).await;
    // Whoever may write approvals needs the signer's verb too.
    let role = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([{"apiGroups": ["certificates.k8s.io"], "verbs": ["get", "update"],
        "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"]}]);
    owner(
        &test.server,
        "POST",
        &format!("{role}/clusterroles"),
        json!({"metadata": {"name": "ra"}, "rules": rules}),
    )
    .await;
    let bind = |name: &str, role: &str| {
        json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ra"}]})
    };
    owner(&test.server, "POST", &format!("{role}/clusterrolebindings"), bind("ra", "ra")).await;
    let uri = format!("{REQUESTS}/jane");
    let mut approved = owner(&test.server, "GET", &uri, Value::Null).await;
    approved["status"]["conditions"] =
        json!([{"type": "Approved", "status": "True", "reason": "Test", "message": "m"}]);
    let put = async |body: &Value| {
        door::in_process(&test.server, User::new("ra", &[]), "PUT", &format!("{uri}/approval"), body.clone())
            .await
    };
    let (code, refused) = put(&approved).await;
    assert_eq!(code, 403, "{refused}");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("user not permitted to approve requests with signerName")
    );
    let approver = "system:certificates.k8s.io:kube-apiserver-client-approver";
    owner(&test.server, "POST", &format!("{role}/clusterrolebindings"), bind("ra-signer", approver)).await;
    let (code, done) = put(&approved).await;
    assert_eq!(code, 200, "{done}");
    let signed = eventually(&test.server, &uri, |_, csr| csr["status"]["certificate"].is_string()).await;
    let certificate = STANDARD.decode(signed["status"]["certificate"].as_str().unwrap()).unwrap();
    let identity = Credentials::Certificate(String::from_utf8(certificate).unwrap(), key);
    let mut jane = Door::open(&test.server, &test, identity);
    let (_, who) = jane.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await;
    assert_eq!(who["status"]["userInfo"]["username"], "jane", "{who}");
    assert_eq!(who["status"]["userInfo"]["groups"], json!(["dev", "system:authenticated"]));
    // What its signer does not grant fails, and what is nobody's here waits.
    owner(&test.server, "POST", REQUESTS, request("odd", "kubernetes.io/kubelet-serving")).await;
    let odd = format!("{REQUESTS}/odd");
    let mut csr = owner(&test.server, "GET", &odd, Value::Null).await;
    csr["status"]["conditions"] = approved["status"]["conditions"].clone();
    owner(&test.server, "PUT", &format!("{odd}/approval"), csr).await;
    let failed =
        eventually(&test.server, &odd, |_, csr| csr["status"]["conditions"][1]["type"] == "Failed").await;
    assert_eq!(failed["status"]["conditions"][1]["message"], "subject organization is not system:nodes");
    assert!(test.supervisor.shutdown(Duration::from_secs(10)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuers_documents_verify_its_tokens() {
    let server = TestServer::start().await;
    owner(&server.server, "POST", ACCOUNTS, json!({"metadata": {"name": "sa"}})).await;
    let token = forged::token(&server.server, "sa", json!({"audiences": ["vault"]})).await;
    let own = forged::token(&server.server, "sa", json!({})).await;
    let mut door = Door::open(&server.server, &server, Credentials::Token(own));
    let (code, document) = door.ask("GET", "/.well-known/openid-configuration", Value::Null).await;
    assert_eq!(code, 200, "{document}");
    assert!(document["jwks_uri"].as_str().unwrap().ends_with("/openid/v1/jwks"));
    let (_, keys) = door.ask("GET", "/openid/v1/jwks", Value::Null).await;
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(keys["keys"][0].clone()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&["vault"]);
    validation.set_issuer(&[document["issuer"].as_str().unwrap()]);
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
    assert_eq!(claims["sub"], "system:serviceaccount:default:sa");
    // Whoever reviews it names its audience, and learns that it is good for that.
    let review = async |audiences: Value| {
        let spec = json!({"token": token, "audiences": audiences});
        let uri = "/apis/authentication.k8s.io/v1/tokenreviews";
        owner(&server.server, "POST", uri, json!({"spec": spec})).await["status"].clone()
    };
    assert_eq!(review(json!(["vault", "x"])).await["audiences"], json!(["vault"]));
    assert_ne!(review(json!([])).await["authenticated"], true);
}

/// The lines of the metrics that count refused requests.
async fn refusals(server: &Server) -> Vec<String> {
    let (_, metrics) = door::raw(server, User::loopback(), "GET", "/metrics", Value::Null).await;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains("code=\"201\""), "answers are counted");
    metrics.lines().filter(|l| l.contains("code=\"403\"")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_ask_for_nothing_their_roles_refuse() {
    let test = running().await;
    let core = "/api/v1/namespaces/work";
    owner(&test.server, "POST", "/api/v1/namespaces", json!({"metadata": {"name": "work"}})).await;
    let node = json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "100"}, "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "100"}}});
    owner(&test.server, "POST", "/api/v1/nodes", node).await;
    let template = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let of = |name: &str, more: Value| {
        let mut object = json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
        for (key, value) in more.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        object
    };
    let apps = "/apis/apps/v1/namespaces/work";
    owner(&test.server, "POST", &format!("{apps}/deployments"), of("d", json!({"replicas": 2}))).await;
    owner(&test.server, "POST", &format!("{apps}/daemonsets"), of("ds", json!({}))).await;
    owner(&test.server, "POST", &format!("{apps}/statefulsets"), of("ss", json!({"serviceName": "s"}))).await;
    let mut job = of("j", json!({}));
    job["spec"].as_object_mut().unwrap().remove("selector");
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    owner(&test.server, "POST", "/apis/batch/v1/namespaces/work/jobs", job).await;
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    owner(&test.server, "POST", &format!("{core}/services"), service).await;
    let ready = |uri: String, field: &'static str| {
        let test = &test;
        async move { eventually(&test.server, &uri, |_, o| !o["status"][field].is_null()).await }
    };
    ready(format!("{apps}/deployments/d"), "observedGeneration").await;
    ready(format!("{apps}/daemonsets/ds"), "observedGeneration").await;
    ready(format!("{apps}/statefulsets/ss"), "observedGeneration").await;
    ready("/apis/batch/v1/namespaces/work/jobs/j".to_owned(), "active").await;
    eventually(&test.server, &format!("{core}/pods"), |_, pods| {
        let items = pods["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.len() >= 5 && items.iter().all(|p| p["spec"]["nodeName"] == "n")
    })
    .await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/work/endpointslices";
    eventually(&test.server, slices, |_, list| list["items"].as_array().is_some_and(|l| !l.is_empty())).await;
    owner(&test.server, "DELETE", &format!("{apps}/deployments/d"), Value::Null).await;
    eventually(&test.server, &format!("{apps}/replicasets"), |_, list| list["items"] == json!([])).await;
    owner(&test.server, "DELETE", "/api/v1/nodes/n", Value::Null).await;
    assert_eq!(refusals(&test.server).await, [""; 0]);
    owner(&test.server, "DELETE", "/api/v1/namespaces/work", Value::Null).await;
    // Its pods stay: there is no agent that ends them.
    eventually(&test.server, "/api/v1/namespaces/work", |_, namespace| {
        namespace["status"]["conditions"].to_string().contains("Some resources are remaining: pods.")
    })
    .await;
    // Nothing can be made in a namespace that goes, whoever tries.
    let refused = refusals(&test.server).await;
    assert!(
        refused.iter().all(|line| line.to_lowercase().contains("verb=\"create\"") || line.contains("POST")),
        "{refused:?}"
    );
    assert!(test.supervisor.shutdown(Duration::from_secs(10)).await.is_empty());
}
