use super::*;
use crate::server::auth::testing::Fake;
use crate::server::auth::user::User;
use base64::Engine;
use rcgen::{CertificateParams, DnType, KeyPair};

fn pem(organization: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, "jane");
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn csr(signer: &str) -> Value {
    json!({"metadata": {"name": "r"}, "spec": {
        "request": base64(pem("dev")), "signerName": signer, "usages": ["client auth"]}})
}

fn context<'a>(user: &'a User, reader: &'a Fake) -> Context<'a> {
    Context { user, namespace: None, reader, dry_run: false }
}

fn created(mut object: Value, user: &User) -> (Value, Vec<String>) {
    let fake = Fake::default();
    SigningRequestStrategy.prepare_create(&context(user, &fake), &mut object).unwrap();
    let errors = SigningRequestStrategy.validate_create(&context(user, &fake), &object);
    (object, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn a_signing_request_says_who_asks() {
    let mut request = csr("example.com/a");
    request["spec"]["username"] = json!("admin");
    request["spec"]["uid"] = json!("x");
    request["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
    let (made, errors) = created(request, &User::node("n"));
    assert_eq!(errors, [] as [&str; 0]);
    assert_eq!(made["spec"]["username"], "system:node:n");
    assert_eq!(made["spec"]["groups"], json!(["system:nodes", "system:authenticated"]));
    assert!(made["spec"].get("uid").is_none());
    assert_eq!(made["status"], json!({}));
}

#[test]
fn what_a_new_request_lacks_is_told_as_upstream_tells_it() {
    let changed = |field: &str, value: Value| {
        let mut request = csr("example.com/a");
        request["spec"][field] = value;
        created(request, &User::loopback()).1
    };
    assert!(
        changed("request", json!(base64("x")))[0].ends_with("PEM block type must be CERTIFICATE REQUEST")
    );
    assert_eq!(changed("usages", json!([])), ["spec.usages: Required value"]);
    assert!(changed("usages", json!(["flying"]))[0].starts_with(
        "spec.usages[0]: Unsupported value: \"flying\": supported values: \"any\", \"cert sign\""
    ));
    assert_eq!(changed("usages", json!(["any", "any"])), ["spec.usages[1]: Duplicate value: \"any\""]);
    for (signer, error) in [
        ("", "Required value"),
        (
            "a",
            "Invalid value: \"a\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        ("a/b", "Invalid value: \"a\": should be a domain with at least two segments separated by dots"),
        (
            "kubernetes.io/legacy-unknown",
            "Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version",
        ),
    ] {
        assert_eq!(changed("signerName", json!(signer)), [format!("spec.signerName: {error}")]);
    }
    assert!(changed("signerName", json!("exa_mple.com/a"))[0].contains("validating label \"exa_mple\": "));
    assert_eq!(
        changed("expirationSeconds", json!(599)),
        [
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"
        ]
    );
}

#[test]
fn nobody_asks_for_masters() {
    let mut request = csr(CLIENT_SIGNER);
    request["spec"]["request"] = json!(base64(pem("system:masters")));
    let fake = Fake::default();
    let user = User::new("jane", &[]);
    let refused = SigningRequestStrategy.prepare_create(&context(&user, &fake), &mut request).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            403,
            "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
        )
    );
}

fn with_signer_role(verb: &str, name: &str) -> Fake {
    let fake = Fake::default();
    let rules =
        json!([{"verbs": [verb], "apiGroups": [GROUP], "resources": ["signers"], "resourceNames": [name]}]);
    fake.put("clusterroles.rbac.authorization.k8s.io", json!({"metadata": {"name": "r"}, "rules": rules}));
    let binding = json!({"metadata": {"name": "r"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "User", "name": "jane"}]});
    fake.put("clusterrolebindings.rbac.authorization.k8s.io", binding);
    fake
}

#[test]
fn approving_and_signing_need_the_verb_on_the_signer() {
    let jane = User::new("jane", &[]);
    let old = csr("example.com/a");
    let mut new = old.clone();
    new["status"]["conditions"] = json!([{"type": "Approved", "status": "True"}]);
    let ask = |fake: &Fake, sub: &str| {
        SigningRequestStrategy.prepare_subresource(&context(&jane, fake), sub, &mut new.clone(), &old)
    };
    let refused = ask(&Fake::default(), "approval").unwrap_err();
    assert!(
        refused.message.ends_with(
            "is forbidden: user not permitted to approve requests with signerName \"example.com/a\""
        ),
        "{refused}"
    );
    assert!(ask(&with_signer_role("approve", "example.com/a"), "approval").is_ok());
    assert!(ask(&with_signer_role("approve", "example.com/*"), "approval").is_ok());
    assert!(ask(&with_signer_role("approve", "example.com/b"), "approval").is_err());
    let refused = ask(&with_signer_role("approve", "example.com/*"), "status").unwrap_err();
    assert!(refused.message.contains("user not permitted to sign requests"), "{refused}");
    assert!(ask(&with_signer_role("sign", "example.com/*"), "status").is_ok());
}

fn changed(sub: &str, old: &Value, status: Value) -> (Value, Vec<String>) {
    let (fake, user) = (Fake::default(), User::loopback());
    let cx = context(&user, &fake);
    let mut new = old.clone();
    new["status"] = status;
    new["spec"]["usages"] = json!(["any"]);
    SigningRequestStrategy.prepare_subresource(&cx, sub, &mut new, old).unwrap();
    assert_eq!(new["spec"], old["spec"], "the spec stays");
    let errors = SigningRequestStrategy.validate_subresource(&cx, sub, &new, old);
    (new, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn approval_sets_conditions_and_status_the_certificate() {
    let old = csr("example.com/a");
    let approved = json!({"type": "Approved", "status": "True", "reason": "r"});
    let (done, errors) = changed("approval", &old, json!({"conditions": [approved], "certificate": "AAAA"}));
    assert_eq!(errors, [] as [&str; 0]);
    assert!(done["status"].get("certificate").is_none());
    let condition = &done["status"]["conditions"][0];
    assert!(condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string());
    let (_, errors) = changed("approval", &done, json!({}));
    assert_eq!(
        errors,
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
    let denied = json!({"type": "Denied", "status": "True"});
    let (_, errors) = changed("approval", &done, json!({"conditions": [condition, denied]}));
    assert_eq!(
        errors,
        [
            "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
        ]
    );
    let (_, errors) =
        changed("approval", &old, json!({"conditions": [{"type": "Failed", "status": "False"}]}));
    assert_eq!(
        errors,
        ["status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""]
    );
    let (_, errors) = changed("status", &old, json!({"conditions": [approved]}));
    assert_eq!(
        errors,
        ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
    );
    let (_, errors) =
        changed("status", &done, json!({"conditions": [condition], "certificate": base64("x")}));
    assert_eq!(
        errors,
        [
            "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block"
        ]
    );
    let key = KeyPair::generate().unwrap();
    let signed = CertificateParams::default().self_signed(&key).unwrap().pem();
    let certificate = base64(&signed);
    let (signed, errors) =
        changed("status", &done, json!({"conditions": [condition], "certificate": certificate}));
    assert_eq!(errors, [] as [&str; 0]);
    let other = base64(CertificateParams::default().self_signed(&key).unwrap().pem());
    let (_, errors) = changed("status", &signed, json!({"conditions": [condition], "certificate": other}));
    assert_eq!(
        errors,
        ["status.certificate: Forbidden: updates may not modify existing certificate content"]
    );
}
