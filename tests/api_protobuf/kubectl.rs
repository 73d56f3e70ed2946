//! The installed kubectl sends messages where it makes objects itself, and JSON where it reads them from a file.
//! Both ways lead to the same object. Without a kubectl there is nothing to test.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::server_support::TestServer;

struct Kubectl {
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    /// The output of a command that must succeed.
    async fn run(&self, line: &str, stdin: String) -> String {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache);
        command.args(line.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || {
            use std::io::Write as _;
            let mut child = command.spawn().expect("kubectl runs");
            let mut input = child.stdin.take().expect("it has an input");
            // A command that reads no input may end before all of it is written.
            let _ = input.write_all(stdin.as_bytes());
            drop(input);
            child.wait_with_output().expect("it ends")
        });
        let output = output.await.expect("no panic");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {line}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn get(&self, namespace: &str, name: &str) -> Value {
        let text = self
            .run(&format!("-n {namespace} get {name} -o json --show-managed-fields"), String::new())
            .await;
        serde_json::from_str(&text).expect("JSON")
    }
}

/// An object without what no two objects share.
fn comparable(mut object: Value) -> Value {
    let uid = object["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    for field in ["uid", "resourceVersion", "creationTimestamp", "namespace"] {
        metadata.remove(field);
    }
    for entry in metadata["managedFields"].as_array_mut().expect("a list") {
        entry.as_object_mut().expect("an object").remove("time");
    }
    serde_json::from_str(&object.to_string().replace(&uid, "uid")).expect("JSON still")
}

const MADE: [(&str, &str); 11] = [
    ("deployment/web", "create deployment web --image=nginx:1.27 --replicas=0 --port=80 -- sleep 1"),
    ("configmap/c", "create configmap c --from-literal=a=b --from-literal=empty="),
    ("secret/s", "create secret generic s --from-literal=a=b"),
    ("service/headless", "create service clusterip headless --clusterip=None --tcp=80:8080"),
    ("service/out", "create service externalname out --external-name=example.com"),
    ("job/j", "create job j --image=busybox -- true"),
    ("cronjob/cj", "create cronjob cj --image=busybox --schedule=@daily -- true"),
    ("role/r", "create role r --verb=get,list --resource=pods,deployments.apps"),
    ("rolebinding/rb", "create rolebinding rb --role=r --serviceaccount=default:sa --user=u"),
    ("poddisruptionbudget/p", "create poddisruptionbudget p --selector=app=web --min-available=50%"),
    ("ingress/i", "create ingress i --rule=foo.com/bar*=svc1:8080,tls=my-cert"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_kubectl_creates_is_what_it_would_have_created_from_a_file() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        eprintln!("kubectl is not installed: nothing is tested here");
        return;
    }
    let server = TestServer::start().await;
    let kubectl = Kubectl { kubeconfig: server.kubeconfig(), cache: server.dir.path().join("cache") };
    kubectl.run("create namespace json", String::new()).await;
    for (name, line) in MADE {
        kubectl.run(line, String::new()).await;
        let (create, rest) = line.split_once(' ').expect("words");
        let object = kubectl.run(&format!("{create} -o json --dry-run=client {rest}"), String::new()).await;
        let object = object.replace("\"namespace\": \"default\"", "\"namespace\": \"json\"");
        kubectl.run("-n json create -f -", object).await;
        let (message, json) = (kubectl.get("default", name).await, kubectl.get("json", name).await);
        let text = |object: Value| serde_json::to_string_pretty(&comparable(object)).expect("JSON");
        let json = text(json).replace("\"namespace\": \"json\"", "\"namespace\": \"default\"");
        assert_eq!(text(message), json, "{line}");
    }
    kubectl.run("scale deployment web --replicas=3", String::new()).await;
    assert_eq!(kubectl.get("default", "deployment/web").await["spec"]["replicas"], 3);
    kubectl.run("create serviceaccount sa", String::new()).await;
    let token = kubectl.run("create token sa --duration=1h", String::new()).await;
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
}
