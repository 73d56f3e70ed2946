//! Credentials that ended, were taken back, are for something else or were made by somebody else.

use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kedge::server::Server;
use kedge::server::auth::tokens::{Claims, Private, Reference, TokenSigner};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::{Value, json};

use super::{ACCOUNTS, SECRETS, bootstrap_token, owner};
use crate::door::Credentials;
use crate::server_support::TestServer;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A token for a service account of `default`.
pub async fn token(server: &Server, account: &str, spec: Value) -> String {
    let answer = owner(server, "POST", &format!("{ACCOUNTS}/{account}/token"), json!({"spec": spec})).await;
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// Key and request (PEM) for a certificate.
pub fn request(organization: &str, common_name: &str, names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = subject(organization, common_name);
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    (key.serialize_pem(), pem)
}

fn subject(organization: &str, common_name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, organization);
    subject.push(DnType::CommonName, common_name);
    subject
}

/// A certificate of the admin, as `issuer` would make it.
fn admin(
    issuer: &Issuer<'_, KeyPair>,
    usage: ExtendedKeyUsagePurpose,
    life: (SystemTime, SystemTime),
) -> Credentials {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("system:masters", "system:admin");
    params.extended_key_usages = vec![usage];
    (params.not_before, params.not_after) = (life.0.into(), life.1.into());
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    Credentials::Certificate(cert.pem(), key.serialize_pem())
}

fn authority(dir: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let read = |end: &str| std::fs::read_to_string(dir.join(format!("{name}.{end}"))).unwrap();
    Issuer::from_ca_cert_pem(&read("crt"), KeyPair::from_pem(&read("key")).unwrap()).unwrap()
}

fn certificates(dir: &Path) -> Vec<(&'static str, Credentials)> {
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let good = (now - hour, now + hour);
    let client = authority(dir, "client-ca");
    let use_client = ExtendedKeyUsagePurpose::ClientAuth;
    let mut other = CertificateParams::default();
    other.distinguished_name = subject("kedge", "kedge-client-ca");
    other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let other = Issuer::new(other, KeyPair::generate().unwrap());
    vec![
        ("a certificate that ended", admin(&client, use_client.clone(), (now - 2 * hour, now - hour))),
        ("a certificate of tomorrow", admin(&client, use_client.clone(), (now + hour, now + 2 * hour))),
        ("a certificate of another CA", admin(&other, use_client.clone(), good)),
        ("a certificate of the servers' CA", admin(&authority(dir, "server-ca"), use_client, good)),
        ("a server's certificate", admin(&client, ExtendedKeyUsagePurpose::ServerAuth, good)),
    ]
}

fn claims(uid: &str) -> Claims {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    Claims {
        aud: vec![ISSUER.into()],
        exp: now + 3600,
        iat: now,
        iss: ISSUER.into(),
        jti: "j".into(),
        kubernetes: Private {
            namespace: "default".into(),
            service_account: Reference { name: "strong".into(), uid: uid.into() },
            ..Private::default()
        },
        nbf: now,
        sub: "system:serviceaccount:default:strong".into(),
    }
}

/// Tokens of an account that may do everything, each with one thing wrong.
fn tokens(dir: &Path, uid: &str) -> Vec<(&'static str, String)> {
    let signer = TokenSigner::ensure(&dir.join("service.key"), ISSUER).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = TokenSigner::ensure(&elsewhere.path().join("service.key"), ISSUER).unwrap();
    let sign = |change: &dyn Fn(&mut Claims)| {
        let mut claims = claims(uid);
        change(&mut claims);
        signer.sign(&claims).unwrap()
    };
    let good = sign(&|_| {});
    let parts: Vec<&str> = good.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let hmac = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    vec![
        ("a token that ended", sign(&|c| c.exp = c.iat - 3600)),
        ("a token of tomorrow", sign(&|c| c.nbf = c.iat + 3600)),
        ("a token for another audience", sign(&|c| c.aud = vec!["vault".into()])),
        ("a token of another issuer", sign(&|c| c.iss = "https://example.org".into())),
        ("a token of another account of the name", sign(&|c| c.kubernetes.service_account.uid = "x".into())),
        ("a token whose subject is another", sign(&|c| c.sub = "system:serviceaccount:default:x".into())),
        ("a token signed by another key", other.sign(&claims(uid)).unwrap()),
        ("an unsigned token", format!("{none}.{}.", parts[1])),
        ("a token whose algorithm was changed", format!("{hmac}.{}.{}", parts[1], parts[2])),
        ("half a token", parts[..2].join(".")),
        ("nonsense", "nonsense".to_owned()),
    ]
}

/// All of them. What they would be good for, were they good, is everything.
pub async fn all(test: &TestServer) -> Vec<(&'static str, Credentials)> {
    let (server, dir) = (&test.server, test.dir.path().join("server/tls"));
    for name in ["strong", "gone"] {
        owner(server, "POST", ACCOUNTS, json!({"metadata": {"name": name}})).await;
    }
    let subjects = json!([{"kind": "ServiceAccount", "name": "strong", "namespace": "default"},
        {"kind": "ServiceAccount", "name": "gone", "namespace": "default"},
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers"}]);
    let role =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let binding = json!({"metadata": {"name": "strong"}, "roleRef": role, "subjects": subjects});
    let uri = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    owner(server, "POST", uri, binding).await;
    let account = owner(server, "GET", &format!("{ACCOUNTS}/strong"), Value::Null).await;

    let mut found = certificates(&dir);
    let token_list = tokens(&dir, account["metadata"]["uid"].as_str().unwrap());
    found.extend(token_list.into_iter().map(|(what, token)| (what, Credentials::Token(token))));
    let revoked = token(server, "gone", json!({})).await;
    owner(server, "DELETE", &format!("{ACCOUNTS}/gone"), Value::Null).await;
    found.push(("a token whose account is gone", Credentials::Token(revoked)));
    let secrets = "/api/v1/namespaces/default/secrets";
    owner(server, "POST", secrets, json!({"metadata": {"name": "s"}})).await;
    let bound = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "s"}});
    let bound = token(server, "strong", bound).await;
    owner(server, "DELETE", &format!("{secrets}/s"), Value::Null).await;
    found.push(("a token whose secret is gone", Credentials::Token(bound)));
    let ended = [("expiration", "2020-01-01T00:00:00Z")];
    owner(server, "POST", SECRETS, bootstrap_token("ended0", &ended)).await;
    owner(server, "POST", SECRETS, bootstrap_token("good00", &[])).await;
    for (what, token) in [
        ("a bootstrap token that ended", "ended0.0123456789abcdef"),
        ("a bootstrap token with another secret", "good00.fedcba9876543210"),
        ("a bootstrap token nobody knows", "nobody.0123456789abcdef"),
    ] {
        found.push((what, Credentials::Token(token.to_owned())));
    }
    found
}
