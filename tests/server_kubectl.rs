//! The API as kubectl sees it: the installed kubectl against a real listener. Without a kubectl on
//! this machine there is nothing to test.

mod server_support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use server_support::TestServer;

struct Kubectl(Arc<TestServer>);

impl Kubectl {
    async fn start() -> Option<Self> {
        if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
            eprintln!("kubectl is not installed: nothing is tested here");
            return None;
        }
        Some(Self(Arc::new(TestServer::start().await)))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.0.kubeconfig());
        command.arg("--cache-dir").arg(self.0.dir.path().join("cache"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit status and all output of a command line whose words are apart by spaces.
    async fn run(&self, line: &str, stdin: &str) -> (bool, String) {
        let mut command = self.command();
        command.args(line.split(' '));
        let stdin = stdin.to_owned();
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        })
        .await
        .unwrap()
    }

    /// The output of a command that must succeed.
    async fn ok(&self, line: &str) -> String {
        let (ok, text) = self.run(line, "").await;
        assert!(ok, "kubectl {line}: {text}");
        text
    }

    async fn apply(&self, manifest: &str) -> String {
        let (ok, text) = self.run("apply -f -", manifest).await;
        assert!(ok, "{text}");
        text
    }
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: 'nginx:1', ports: [{containerPort: 80}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn discovery_and_explanations() {
    let Some(kubectl) = Kubectl::start().await else { return };
    assert!(kubectl.ok("version").await.contains("Server Version: v1.36.0+kedge"));
    let resources = kubectl.ok("api-resources -o wide").await;
    for kind in ["Deployment", "EndpointSlice", "CustomResourceDefinition", "ClusterRole"] {
        assert!(resources.contains(kind), "{kind} in {resources}");
    }
    let explained = kubectl.ok("explain pod.spec.containers.image").await;
    assert!(explained.contains("FIELD: image <string>"), "{explained}");
    assert!(kubectl.ok("explain deployments --recursive").await.contains("progressDeadlineSeconds"));
    assert_eq!(kubectl.ok("auth can-i create pods").await.trim(), "yes");
    assert!(kubectl.ok("auth whoami").await.contains("system:admin"));
    assert!(kubectl.ok("get --raw /readyz?verbose").await.contains("readyz check passed"));
    assert!(kubectl.ok("get --raw /openapi/v2").await.contains("io.k8s.api.core.v1.Pod"));
    assert!(kubectl.ok("cluster-info").await.contains("is running at"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_has_its_first_objects() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let namespaces = kubectl.ok("get namespaces").await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert!(namespaces.contains(name), "{namespaces}");
    }
    let service = kubectl.ok("get svc kubernetes -o wide").await;
    assert!(service.contains("10.43.0.1") && service.contains("443/TCP"), "{service}");
    assert!(kubectl.ok("get endpointslices kubernetes").await.contains("10.0.0.1"));
    assert!(kubectl.ok("get nodes").await.contains("No resources found"));
    assert!(kubectl.ok("get clusterroles").await.contains("cluster-admin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn imperative_commands() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create configmap a --from-literal=x=y").await;
    kubectl.ok("create secret generic s --from-literal=x=y").await;
    kubectl.ok("create serviceaccount sa").await;
    kubectl.ok("create namespace other").await;
    kubectl.ok("create deployment web --image=nginx --replicas=2 -- sleep 1").await;
    kubectl.ok("create job j --image=busybox -- true").await;
    kubectl.ok("create role r --verb=get --resource=pods").await;
    kubectl.ok("create rolebinding rb --role=r --serviceaccount=default:sa").await;
    kubectl.ok("create clusterrolebinding crb --clusterrole=view --user=someone").await;
    kubectl.ok("create service nodeport np --tcp=80:8080").await;
    kubectl.ok("expose deployment web --port=80").await;
    kubectl.ok("create quota q --hard=pods=5").await;
    kubectl.ok("create poddisruptionbudget p --selector=app=web --min-available=1").await;
    kubectl.ok("create ingress i --rule=a.b/*=web:80").await;
    kubectl.ok("create cronjob c --image=busybox --schedule=@daily -- true").await;
    assert_eq!(kubectl.ok("get cm a -o jsonpath={.data.x}").await, "y");
    assert_eq!(kubectl.ok("get secret s -o jsonpath={.data.x}").await, "eQ==");
    let token = kubectl.ok("create token sa").await;
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    let (ok, text) = kubectl.run(&format!("--token {} auth whoami", token.trim()), "").await;
    assert!(
        ok && text.contains("system:admin") || text.contains("system:serviceaccount:default:sa"),
        "{text}"
    );
    kubectl.ok("scale deployment web --replicas=5").await;
    kubectl.ok("set image deployment/web nginx=nginx:2").await;
    kubectl.ok("label deployment web tier=front").await;
    kubectl.ok("annotate deployment web note=here").await;
    let line = "get deployment web -o jsonpath={.spec.replicas}/{.spec.template.spec.containers[0].image}/{.metadata.labels.tier}";
    assert_eq!(kubectl.ok(line).await, "5/nginx:2/front");
    let (ok, text) = kubectl.run("create configmap a --from-literal=x=y", "").await;
    assert!(!ok && text.contains("configmaps \"a\" already exists"), "{text}");
    kubectl.ok("delete configmap a").await;
    let (ok, text) = kubectl.run("get configmap a", "").await;
    assert!(!ok && text.contains("Error from server (NotFound): configmaps \"a\" not found"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_and_its_variants() {
    let Some(kubectl) = Kubectl::start().await else { return };
    assert!(kubectl.apply(DEPLOYMENT).await.contains("deployment.apps/web created"));
    assert!(kubectl.apply(DEPLOYMENT).await.contains("unchanged"));
    let changed = DEPLOYMENT.replace("nginx:1", "nginx:2");
    let (differs, text) = kubectl.run("diff -f -", &changed).await;
    assert!(!differs && text.contains("nginx:2"), "{text}");
    assert!(kubectl.apply(&changed).await.contains("configured"));
    let (ok, text) = kubectl
        .run("apply --server-side --field-manager=other -f -", &DEPLOYMENT.replace("nginx:1", "nginx:3"))
        .await;
    assert!(!ok && text.contains("conflict"), "{text}");
    let (ok, text) = kubectl
        .run(
            "apply --server-side --field-manager=other --force-conflicts -f -",
            &DEPLOYMENT.replace("nginx:1", "nginx:3"),
        )
        .await;
    assert!(ok, "{text}");
    let image = "get deployment web -o jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(kubectl.ok(image).await, "nginx:3");
    kubectl.ok("patch deployment web --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":7}]").await;
    kubectl.ok("patch deployment web --type=merge -p {\"spec\":{\"minReadySeconds\":3}}").await;
    assert_eq!(
        kubectl.ok("get deployment web -o jsonpath={.spec.replicas}{.spec.minReadySeconds}").await,
        "73"
    );
    let wide = kubectl.ok("get deployments -o wide").await;
    assert!(wide.contains("0/7") && wide.contains("nginx:3") && wide.contains("app=web"), "{wide}");
    let (ok, text) = kubectl.run("apply -f -", &DEPLOYMENT.replace("replicas", "replicsa")).await;
    assert!(!ok && text.contains("unknown field \"spec.replicsa\""), "{text}");
    let (ok, text) =
        kubectl.run("apply -f -", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 'A_B'}\n").await;
    assert!(
        !ok && text.contains("metadata.name: Invalid value: \"A_B\": a lowercase RFC 1123 subdomain"),
        "{text}"
    );
    kubectl.ok("delete deployment web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let mut command = kubectl.command();
    let mut watch = command.args(["get", "configmaps", "-w", "--no-headers"]).spawn().unwrap();
    let output = watch.stdout.take().unwrap();
    let lines = tokio::task::spawn_blocking(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.take(2).collect::<Vec<_>>()
    });
    kubectl.ok("create configmap one --from-literal=x=y").await;
    kubectl.ok("create configmap two --from-literal=x=y --from-literal=z=y").await;
    let lines = tokio::time::timeout(Duration::from_secs(20), lines).await.unwrap().unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    let words: Vec<Vec<&str>> = lines.iter().map(|l| l.split_whitespace().take(2).collect()).collect();
    assert_eq!(words, [["one", "1"], ["two", "2"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create serviceaccount default").await;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{name: c, image: i}]\n";
    kubectl.apply(pod).await;
    let wide = kubectl.ok("get pods -o wide").await;
    assert!(wide.contains("0/1") && wide.contains("Pending") && wide.contains("<none>"), "{wide}");
    assert!(kubectl.ok("get pods -A --field-selector status.phase=Pending").await.contains('p'));
    assert!(
        kubectl.ok("get pods --field-selector status.phase=Running").await.contains("No resources found")
    );
    assert!(kubectl.ok("describe pod p").await.contains("Status:"));
    assert_eq!(kubectl.ok("logs p").await, "");
    let (ok, text) = kubectl.run("exec p -- true", "").await;
    assert!(!ok && text.contains("pod p does not have a host assigned"), "{text}");
    kubectl.ok("delete pod p").await;
    assert!(kubectl.ok("get pods").await.contains("No resources found"));
}

/// The kubectl of every version beside the installed one.
fn versions() -> Vec<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|file| file.exists());
    let Some(dir) = found.and_then(|file| file.canonicalize().ok()?.parent().map(ToOwned::to_owned)) else {
        return Vec::new();
    };
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |file: &std::path::Path| {
        file.file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n == "kubectl" || n.starts_with("kubectl.1."))
    };
    files.filter(|file| named(file)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_shows_what_is_wrong_with_an_object() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create serviceaccount default").await;
    let pod =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{name: c, image: i}]}\n";
    for (i, version) in versions().into_iter().enumerate() {
        for verb in ["create", "apply"] {
            let mut command = Command::new(&version);
            command.arg("--kubeconfig").arg(kubectl.0.kubeconfig());
            command.arg("--cache-dir").arg(kubectl.0.dir.path().join(format!("cache{i}")));
            command
                .args([verb, "-f", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let (bad, good) =
                (pod.replace("NAME", "Bad_Name"), pod.replace("NAME", &format!("p-{i}-{verb}")));
            let (bad, good) = tokio::task::spawn_blocking(move || {
                let mut run = |text: String| {
                    let mut child = command.spawn().unwrap();
                    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
                    let output = child.wait_with_output().unwrap();
                    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
                };
                (run(bad), run(good))
            })
            .await
            .unwrap();
            let text = "The Pod \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": ";
            assert!(bad.contains(text), "{} {verb}: {bad}", version.display());
            assert!(good.contains("created"), "{} {verb}: {good}", version.display());
        }
    }
}
