//! Custom kinds as kubectl sees them: discovery, explanations, validation. Without a kubectl on this machine there is
//! nothing to test.

mod server_support;

use std::io::Write;
use std::process::{Command, Stdio};

use server_support::TestServer;

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What runs when.
            required: [cronSpec]
            properties:
              cronSpec: {type: string, description: The schedule in cron's form., pattern: '^(\S+\s+){4}\S+$'}
              image: {type: string, default: busybox}
              replicas: {type: integer, minimum: 0, maximum: 10}
              any: {type: object, x-kubernetes-preserve-unknown-fields: true}
          status:
            type: object
            properties: {replicas: {type: integer}}
"#;

const TAB: &str = r#"
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: tab}
spec:
  cronSpec: "* * * * */5"
  replicas: 3
  any: {x: 1}
"#;

struct Kubectl(TestServer);

impl Kubectl {
    async fn start() -> Option<Self> {
        if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
            eprintln!("kubectl is not installed: nothing is tested here");
            return None;
        }
        Some(Self(TestServer::start().await))
    }

    /// Exit status and all output of a command line whose words are apart by spaces.
    async fn run(&self, line: &str, stdin: &str) -> (bool, String) {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.0.kubeconfig());
        command.arg("--cache-dir").arg(self.0.dir.path().join("cache"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
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

    async fn ok(&self, line: &str, stdin: &str) -> String {
        let (ok, text) = self.run(line, stdin).await;
        assert!(ok, "kubectl {line}: {text}");
        text
    }

    async fn err(&self, line: &str, stdin: &str) -> String {
        let (ok, text) = self.run(line, stdin).await;
        assert!(!ok, "kubectl {line} was to fail: {text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_kind_is_used_like_any_other() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("apply -f -", DEFINITION).await;
    kubectl.ok("wait --for condition=established --timeout=10s crd/crontabs.stable.example.com", "").await;
    kubectl.ok("apply -f -", TAB).await;
    let resources = kubectl.ok("api-resources --api-group=stable.example.com", "").await;
    assert!(resources.contains("ct") && resources.contains("CronTab"), "{resources}");
    let shown = kubectl.ok("get ct", "").await;
    assert!(
        shown.starts_with("NAME   SPEC          REPLICAS   AGE\ntab    * * * * */5   3          "),
        "{shown}"
    );
    assert!(kubectl.ok("get all", "").await.contains("crontab.stable.example.com/tab"));
    let explained = kubectl.ok("explain crontab.spec --recursive", "").await;
    assert!(
        explained.contains("What runs when.") && explained.contains("cronSpec\t<string> -required-"),
        "{explained}"
    );
    assert!(kubectl.ok("explain ct.spec.cronSpec", "").await.contains("The schedule in cron's form."));
    kubectl.ok("scale --replicas=5 crontab/tab", "").await;
    let line = "get ct tab -o jsonpath={.spec.replicas}/{.spec.image}/{.metadata.generation}";
    assert_eq!(kubectl.ok(line, "").await, "5/busybox/2");
    kubectl.ok("patch ct tab --type=merge -p {\"spec\":{\"replicas\":4}}", "").await;
    kubectl.ok("label ct tab tier=front", "").await;
    assert!(kubectl.ok("get ct -l tier=front -o name", "").await.contains("crontab.stable.example.com/tab"));
    assert!(
        kubectl.ok("apply -f - --server-side --force-conflicts", TAB).await.contains("serverside-applied")
    );
    kubectl.ok("delete ct tab", "").await;
    kubectl.ok("delete crd crontabs.stable.example.com --timeout=20s", "").await;
    let gone = kubectl.err("get ct", "").await;
    assert!(
        gone.contains("doesn't have a resource type") || gone.contains("could not find the requested"),
        "{gone}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_objects_are_validated() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("apply -f -", DEFINITION).await;
    kubectl.ok("wait --for condition=established --timeout=10s crd/crontabs.stable.example.com", "").await;
    let unknown = format!("{TAB}  foo: 1\n");
    let refused = kubectl.err("create -f -", &unknown).await;
    assert!(refused.contains("strict decoding error: unknown field \"spec.foo\""), "{refused}");
    let refused = kubectl.err("create -f -", &TAB.replace("replicas: 3", "replicas: 30")).await;
    assert!(refused.contains("spec.replicas in body should be less than or equal to 10"), "{refused}");
    let refused = kubectl.err("create -f -", &TAB.replace("cronSpec: \"* * * * */5\"", "image: x")).await;
    assert!(refused.contains("spec.cronSpec: Required value"), "{refused}");
    let refused = kubectl.err("apply --server-side -f -", &unknown).await;
    assert!(refused.contains(".spec.foo: field not declared in schema"), "{refused}");
    let warned = kubectl.ok("create --validate=warn -f -", &unknown).await;
    assert!(warned.contains("Warning: unknown field \"spec.foo\""), "{warned}");
    let stored = kubectl.ok("get ct tab -o json", "").await;
    assert!(stored.contains("\"x\": 1") && !stored.contains("foo\""), "{stored}");
    let refused = kubectl.err("apply -f -", &DEFINITION.replace("scope: Namespaced", "scope: Cluster")).await;
    assert!(refused.contains("spec.scope: Invalid value: \"Cluster\": field is immutable"), "{refused}");
}
