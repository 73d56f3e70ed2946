use super::*;
use crate::server::auth::pki::PkiParams;
use crate::server::auth::testing::Fake;
use crate::server::auth::tokens::{Claims, Private, Reference};
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use std::time::Duration;

struct Setup {
    _dir: tempfile::TempDir,
    pki: Pki,
    reader: Arc<Fake>,
    authenticator: Authenticator,
}

fn setup() -> Setup {
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
    let authenticator = Authenticator::new(pki.clone(), reader.clone());
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
    assert_eq!(user, User::node("n"));
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
    assert!(review("x", &[])["error"].as_str().unwrap().contains("invalid bearer token"));
    assert_eq!(setup.authenticator.token_review(json!({"spec": {}})).unwrap_err().code, 400);
}
