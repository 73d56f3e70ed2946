//! `kubectl auth`, `certificate`, `create token` and `--as`. Without a kubectl on this machine there is
//! nothing to test.

use std::process::{Command, Stdio};

use serde_json::json;

use super::{ACCOUNTS, REQUESTS, base64, forged, owner};
use crate::server_support::TestServer;

struct Kubectl(std::sync::Arc<TestServer>);

impl Kubectl {
    async fn start() -> Option<Self> {
        if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
            eprintln!("kubectl is not installed: nothing is tested here");
            return None;
        }
        Some(Self(std::sync::Arc::new(TestServer::start().await)))
    }

    /// Exit status and all output of a command line whose words are apart by spaces.
    async fn run(&self, line: &str, stdin: &str) -> (bool, String) {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.0.kubeconfig());
        command.arg("--cache-dir").arg(self.0.dir.path().join("cache")).args(line.split(' '));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let stdin = stdin.to_owned();
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        })
        .await
        .unwrap()
    }

    async fn ok(&self, line: &str) -> String {
        let (ok, text) = self.run(line, "").await;
        assert!(ok, "kubectl {line}: {text}");
        text
    }

    async fn no(&self, line: &str) -> String {
        let (ok, text) = self.run(line, "").await;
        assert!(!ok, "kubectl {line}: {text}");
        text
    }
}

fn has_line(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == words)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoami_and_can_i() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let who = kubectl.ok("auth whoami").await;
    assert!(has_line(&who, &["Username", "system:admin"]), "{who}");
    assert!(has_line(&who, &["Groups", "[system:masters", "system:authenticated]"]), "{who}");
    assert!(
        who.contains("authentication.kubernetes.io/credential-id") && who.contains("X509SHA256="),
        "{who}"
    );
    let who = kubectl.ok("auth whoami --as jane --as-group dev --as-uid 7").await;
    assert!(has_line(&who, &["Username", "jane"]) && has_line(&who, &["UID", "7"]), "{who}");
    assert!(has_line(&who, &["Groups", "[dev", "system:authenticated]"]), "{who}");
    let who = kubectl.ok("auth whoami --as system:serviceaccount:default:sa").await;
    assert!(
        who.contains("[system:serviceaccounts system:serviceaccounts:default system:authenticated]"),
        "{who}"
    );

    assert!(kubectl.ok("auth can-i delete nodes").await.starts_with("yes\n"));
    assert!(kubectl.no("auth can-i list pods --as jane").await.starts_with("no"));
    kubectl.ok("create rolebinding readers --clusterrole=view --user=jane").await;
    assert_eq!(kubectl.ok("auth can-i list pods --as jane").await, "yes\n");
    assert!(kubectl.no("auth can-i list pods -n kube-system --as jane").await.starts_with("no"));
    assert_eq!(kubectl.ok("auth can-i get pods/log --as jane").await, "yes\n");
    assert!(kubectl.no("auth can-i get secrets --as jane").await.starts_with("no"));
    assert_eq!(kubectl.ok("auth can-i get /version --as jane").await, "yes\n");
    assert!(kubectl.no("auth can-i get /metrics --as jane").await.starts_with("no"));
    let list = kubectl.ok("auth can-i --list --as jane").await;
    let reviews = "selfsubjectaccessreviews.authorization.k8s.io";
    assert!(has_line(&list, &[reviews, "[]", "[]", "[create]"]), "{list}");
    assert!(has_line(&list, &["pods", "[]", "[]", "[get", "list", "watch]"]), "{list}");
    assert!(has_line(&list, &["[/api/*]", "[]", "[get]"]), "{list}");
    let list = kubectl.ok("auth can-i --list").await;
    assert!(has_line(&list, &["*.*", "[]", "[]", "[*]"]), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_away_what_they_do_not_have() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create rolebinding admins --clusterrole=admin --user=jane").await;
    let told = kubectl.no("create role all --verb=* --resource=* --as jane").await;
    let text = concat!(
        "Error from server (Forbidden): roles.rbac.authorization.k8s.io \"all\" is forbidden: ",
        "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n",
        "{APIGroups:[\"\"], Resources:[\"*\"], Verbs:[\"*\"]}"
    );
    assert_eq!(told.trim_end(), text);
    kubectl.ok("create role some --verb=get,list --resource=pods,secrets --as jane").await;
    kubectl.ok("create rolebinding some --role=some --user=joe --as jane").await;
    kubectl.ok("create rolebinding view --clusterrole=view --user=joe --as jane").await;
    let told = kubectl.no("create rolebinding up --clusterrole=cluster-admin --user=jane --as jane").await;
    assert!(
        told.contains("rolebindings.rbac.authorization.k8s.io \"up\" is forbidden: user \"jane\""),
        "{told}"
    );
    // Acting as somebody needs the right, too.
    let account = "system:serviceaccount:default:robot";
    kubectl.ok("create serviceaccount robot").await;
    let token = kubectl.ok("create token robot --duration=20m").await;
    let with = format!("--token={} --as jane get pods", token.trim());
    // Certificates of the kubeconfig come first: without them the token speaks.
    let config = kubectl.0.dir.path().join("by-token");
    let text = std::fs::read_to_string(kubectl.0.kubeconfig()).unwrap();
    let kept: Vec<&str> =
        text.lines().filter(|l| !l.contains("client-certificate") && !l.contains("client-key")).collect();
    let text = format!("{}\n", kept.join("\n")).replace("user:\n", "user: {}\n");
    std::fs::write(&config, text).unwrap();
    let line = format!("--kubeconfig={} {with}", config.display());
    let told = kubectl.no(&line).await;
    assert!(
        told.contains(&format!(
            "users \"jane\" is forbidden: User \"{account}\" cannot impersonate resource \"users\""
        )),
        "{told}"
    );
}

const ROLES: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: mine}
rules:
- {apiGroups: [''], resources: [pods], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: mine}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: mine}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}
";

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_adds_what_is_missing() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let (ok, text) = kubectl.run("auth reconcile -f -", ROLES).await;
    assert!(ok && text.contains("clusterrole.rbac.authorization.k8s.io/mine reconciled"), "{text}");
    assert!(text.contains("clusterrolebinding.rbac.authorization.k8s.io/mine reconciled"), "{text}");
    assert_eq!(kubectl.ok("auth can-i get pods --as jane").await, "yes\n");
    let more = ROLES.replace("verbs: [get]", "verbs: [list]").replace("name: jane", "name: joe");
    let (ok, text) = kubectl.run("auth reconcile -f -", &more).await;
    assert!(ok, "{text}");
    for who in ["jane", "joe"] {
        assert_eq!(kubectl.ok(&format!("auth can-i list pods --as {who}")).await, "yes\n");
        assert_eq!(kubectl.ok(&format!("auth can-i get pods --as {who}")).await, "yes\n", "rules are kept");
    }
    let (ok, text) = kubectl.run("auth reconcile --remove-extra-permissions -f -", &more).await;
    assert!(ok, "{text}");
    assert!(kubectl.no("auth can-i get pods --as joe").await.starts_with("no"));
    // Another role cannot be bound by an update: the binding is made anew.
    let other = ROLES.replace("kind: ClusterRole, name: mine", "kind: ClusterRole, name: view");
    let told = kubectl.run("apply -f -", &other).await.1;
    assert!(told.contains("cannot change roleRef"), "{told}");
    let (ok, text) = kubectl.run("auth reconcile -f -", &other).await;
    assert!(ok, "{text}");
    assert_eq!(kubectl.ok("get clusterrolebinding mine -o jsonpath={.roleRef.name}").await, "view");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_requests_are_approved_and_denied() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let (_, pem) = forged::request("dev", "jane", &[]);
    for name in ["good", "bad"] {
        let spec =
            json!({"request": base64(&pem), "usages": ["client auth"], "signerName": "example.com/mine"});
        owner(&kubectl.0.server, "POST", REQUESTS, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    let text = kubectl.ok("get csr good").await;
    assert!(text.contains("example.com/mine") && text.contains("Pending"), "{text}");
    let text = kubectl.ok("certificate approve good").await;
    assert_eq!(text, "certificatesigningrequest.certificates.k8s.io/good approved\n");
    assert!(kubectl.ok("get csr good").await.contains("Approved"));
    let text = kubectl.ok("certificate deny bad").await;
    assert_eq!(text, "certificatesigningrequest.certificates.k8s.io/bad denied\n");
    assert!(kubectl.ok("get csr bad").await.contains("Denied"));
    let told = kubectl.no("certificate deny good").await;
    assert!(told.contains("\"good\" is already Approved"), "{told}");
    let told = kubectl.no("certificate approve good --as jane").await;
    assert!(told.contains("(Forbidden)"), "{told}");
    owner(&kubectl.0.server, "POST", ACCOUNTS, json!({"metadata": {"name": "sa"}})).await;
    let told = kubectl.no("create token sa --duration=5m").await;
    assert!(told.contains("may not specify a duration less than 10 minutes"), "{told}");
    let told = kubectl.no("create token none").await;
    assert!(told.contains("serviceaccounts \"none\" not found"), "{told}");
}
