use super::*;
use crate::server::auth::pki::PkiParams;
use crate::server::auth::testing::Fake;
use crate::server::auth::tokens::{Claims, Private, Reference};
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::time::Duration;

struct Setup {
    _dir: tempfile::TempDir,
    pki: Pki,
    reader: Arc<Fake>,
    authenticator: Authenticator,
}

fn setup() -> Setup {
    setup_with(Options::default())
}

fn setup_with(options: Options) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let params = PkiParams {
        sans: Vec::new(),
        node_name: "n".into(),
        node_ips: Vec::new(),
        cluster_domain: "cluster.local".into(),
        service_ip: "10.43.0.1".parse().unwrap(),
    };
    let pki = Pki::ensure(dir.path(), &params).unwrap();
    let reader = Arc::new(Fake::default());
    reader.put("serviceaccounts", json!({"metadata": {"name": "sa", "namespace": "a", "uid": "su"}}));
    reader.put("pods", json!({"metadata": {"name": "p", "namespace": "a", "uid": "pu"}}));
    let authenticator = Authenticator::new(pki.clone(), reader.clone(), options);
    Setup { _dir: dir, pki, reader, authenticator }
}

impl Setup {
    fn ask(&self, token: Option<&str>, chain: Option<&str>, now: SystemTime) -> Result<User, u16> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let chain: Option<Vec<CertificateDer<'static>>> =
            chain.map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect());
        self.authenticator
            .authenticate_at(&headers, &Uri::from_static("/api"), chain.as_deref(), now)
            .map_err(|status| status.code)
    }

    fn token(&self, pod_uid: Option<&str>) -> String {
        let signer = self.pki.token_signer();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let pod = pod_uid.map(|uid| Reference { name: "p".into(), uid: uid.into() });
        let service_account = Reference { name: "sa".into(), uid: "su".into() };
        let kubernetes = Private { namespace: "a".into(), pod, service_account, ..Private::default() };
        let sub = "system:serviceaccount:a:sa".into();
        let (iss, aud) = (signer.issuer().to_owned(), vec![signer.issuer().to_owned()]);
        signer
            .sign(&Claims { aud, exp: now + 600, iat: now, iss, jti: "j".into(), kubernetes, nbf: now, sub })
            .unwrap()
    }
}

#[test]
fn a_certificate_is_its_common_name_and_organizations() {
    let setup = setup();
    let now = SystemTime::now();
    let node = setup.pki.node_credentials("n", &[]).unwrap();
    let user = setup.ask(None, Some(&node.client.cert_pem), now).unwrap();
    assert_eq!(
        (user.name.as_str(), user.groups.as_slice()),
        ("system:node:n", User::node("n").groups.as_slice())
    );
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
    assert_eq!(setup.ask(None, Some(&node.client.cert_pem), now).unwrap(), user, "remembered");
    assert_eq!(setup.ask(None, Some(&node.serving.cert_pem), now), Err(401));
    let late = now + Duration::from_secs(400 * 24 * 3600);
    assert_eq!(setup.ask(None, Some(&node.client.cert_pem), late), Err(401));
}

#[test]
fn no_credentials_are_anonymous_and_wrong_ones_are_not() {
    let setup = setup();
    let now = SystemTime::now();
    assert_eq!(setup.ask(None, None, now).unwrap(), User::anonymous());
    assert_eq!(setup.ask(Some("nonsense"), None, now), Err(401));
    assert_eq!(setup.ask(Some("K10abc::server:secret"), None, now), Err(401));
}

#[test]
fn a_token_ends_with_its_service_account_and_its_pod() {
    let setup = setup();
    let now = SystemTime::now();
    let token = setup.token(Some("pu"));
    let user = setup.ask(Some(&token), None, now).unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:a:sa", "su"));
    assert_eq!(user.groups, User::service_account("a", "sa").groups);
    assert_eq!(setup.ask(Some(&setup.token(Some("another"))), None, now), Err(401));
    assert_eq!(setup.ask(Some(&token), None, now + Duration::from_secs(700)), Err(401));
    let leaving = json!({"metadata": {"name": "p", "namespace": "a", "uid": "pu", "deletionTimestamp": crate::api::meta::now()}});
    setup.reader.put("pods", leaving);
    assert!(setup.ask(Some(&token), None, now).is_ok(), "a pod may use its token while it is stopped");
    assert_eq!(setup.ask(Some(&token), None, now + Duration::from_secs(90)), Err(401));
    setup.reader.remove("pods", "a", "p");
    assert_eq!(setup.ask(Some(&token), None, now), Err(401));
    let unbound = setup.token(None);
    assert!(setup.ask(Some(&unbound), None, now).is_ok());
    setup.reader.put("serviceaccounts", json!({"metadata": {"name": "sa", "namespace": "a", "uid": "new"}}));
    assert_eq!(setup.ask(Some(&unbound), None, now), Err(401));
}

#[test]
fn token_reviews_tell_the_user_or_the_error() {
    let setup = setup();
    let review = |token: &str, audiences: &[&str]| {
        let review = json!({"kind": "TokenReview", "spec": {"token": token, "audiences": audiences}});
        setup.authenticator.token_review(review).unwrap()["status"].clone()
    };
    let good = review(&setup.token(None), &[]);
    assert_eq!(good["authenticated"], true);
    assert_eq!(good["user"]["username"], "system:serviceaccount:a:sa");
    assert_eq!(good["audiences"], json!(["https://kubernetes.default.svc.cluster.local"]));
    assert_eq!(review(&setup.token(None), &["vault"])["authenticated"], json!(null));
    assert_eq!(review("x", &[])["error"], "invalid bearer token");
    assert_eq!(
        review(&setup.token(None), &["a", "b"])["error"],
        "[invalid bearer token, token audiences [\"https://kubernetes.default.svc.cluster.local\"] is invalid \
         for the target audiences [\"a\" \"b\"]]"
    );
    assert_eq!(setup.authenticator.token_review(json!({"spec": {}})).unwrap_err().code, 400);
}

#[test]
fn anonymous_requests_can_be_switched_off() {
    let setup = setup_with(Options { anonymous: false, ..Options::default() });
    let now = SystemTime::now();
    assert_eq!(setup.ask(None, None, now), Err(401));
    assert!(setup.ask(Some(&setup.token(None)), None, now).is_ok());
}

#[test]
fn static_and_bootstrap_tokens_are_for_the_api_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.csv");
    std::fs::write(&path, "secret,jane,7,\"dev,ops\"\n").unwrap();
    let setup = setup_with(Options { token_file: TokenFile::read(&path).unwrap(), ..Options::default() });
    let now = SystemTime::now();
    let jane = setup.ask(Some("secret"), None, now).unwrap();
    assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane", "7"));
    assert_eq!(jane.groups, ["dev", "ops", "system:authenticated"]);
    let data = json!({"token-id": "YWJjZGVm", "token-secret": "MDEyMzQ1Njc4OWFiY2RlZg==",
        "usage-bootstrap-authentication": "dHJ1ZQ=="});
    let metadata = json!({"name": "bootstrap-token-abcdef", "namespace": "kube-system"});
    let secret = json!({"metadata": metadata, "type": bootstrap::SECRET_TYPE, "data": data});
    setup.reader.put("secrets", secret);
    let token = "abcdef.0123456789abcdef";
    let user = setup.ask(Some(token), None, now).unwrap();
    assert_eq!(user.name, "system:bootstrap:abcdef");
    assert_eq!(user.groups, ["system:bootstrappers", "system:authenticated"]);
    assert_eq!(setup.ask(Some("abcdef.0123456789abcdeX"), None, now), Err(401));
    for token in ["secret", token] {
        let ask = |audiences: &[&str]| {
            let review = json!({"spec": {"token": token, "audiences": audiences}});
            setup.authenticator.token_review(review).unwrap()["status"]["authenticated"] == true
        };
        assert!(ask(&[]) && !ask(&["vault"]), "{token}");
    }
    setup.reader.remove("secrets", "kube-system", "bootstrap-token-abcdef");
    assert_eq!(setup.ask(Some(token), None, now), Err(401));
}

#[test]
fn a_token_in_a_secret_is_good_as_long_as_it_lies_there() {
    let setup = setup();
    let now = SystemTime::now();
    let account = Reference { name: "sa".into(), uid: "su".into() };
    let in_secret = Reference { name: "s".into(), uid: String::new() };
    let token = setup.pki.token_signer().secret_token("a", account, in_secret).unwrap();
    assert_eq!(setup.ask(Some(&token), None, now), Err(401), "it is in no Secret");
    let put = |token: &str, labels: Value| {
        use base64::Engine;
        let data = json!({"token": base64::engine::general_purpose::STANDARD.encode(token)});
        let metadata = json!({"name": "s", "namespace": "a", "labels": labels});
        setup.reader.put("secrets", json!({"metadata": metadata, "data": data}));
    };
    put(&token, json!({}));
    assert!(setup.ask(Some(&token), None, now).is_ok());
    put("another", json!({}));
    assert_eq!(setup.ask(Some(&token), None, now), Err(401));
    put(&token, json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}));
    assert_eq!(setup.ask(Some(&token), None, now), Err(401));
    setup.reader.remove("secrets", "a", "s");
    assert_eq!(setup.ask(Some(&token), None, now), Err(401));
}
