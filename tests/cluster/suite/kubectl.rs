//! What people type: the commands of a day with kubectl.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use crate::Shared;
use crate::harness::{Cluster, NODE_IP, PATIENCE, show, wait_for, wait_until};

pub const SHARED: &[(&str, Shared)] = &[
    ("kubectl_get_nodes_and_everything", get_everything),
    ("kubectl_apply_is_idempotent_and_merges", apply),
    ("kubectl_describe_shows_the_story_of_a_pod", describe),
    ("kubectl_get_watch_follows_a_pod", watch),
    ("kubectl_logs_follow_previous_and_tail", logs),
    ("kubectl_exec_with_input_and_exit_code", exec),
    ("kubectl_exec_on_a_terminal", exec_terminal),
    ("kubectl_run_interactive_and_remove", run_interactive),
    ("kubectl_port_forward", port_forward),
    ("kubectl_rollout_update_history_undo", rollout),
    ("kubectl_scale_and_delete_cascade", scale_and_delete),
    ("kubectl_api_resources_and_explain", explain),
    ("kubectl_namespace_deletion_removes_its_content", namespace_deletion),
    ("kubectl_of_every_version_at_hand", every_version),
];

const SLEEPER: &str = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: 'busybox:1.35', command: [sleep, '1000000']}]
";

/// Idles as well as `sleep`, and ends when asked to.
const IDLE: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"];

fn sleeper(cluster: &Cluster, prefix: &str) -> String {
    let ns = cluster.namespace(prefix);
    cluster.apply(&ns, SLEEPER);
    cluster.wait_pod_ready(&ns, "p");
    ns
}

fn get_everything(cluster: &Cluster) {
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "wide"]);
    let row = nodes.lines().nth(1).unwrap_or_default();
    for part in ["node-1", "Ready", NODE_IP, "kedge://", "v1.36"] {
        assert!(row.contains(part), "{part} is missing in\n{nodes}");
    }
    let all = cluster.kubectl(&["get", "all", "-A"]);
    assert!(all.contains("service/kubernetes") && all.contains("service/kube-dns"), "{all}");
    let namespaces = cluster.kubectl(&["get", "namespaces"]);
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert!(namespaces.contains(name), "{namespaces}");
    }
    let lease = cluster.kubectl(&["get", "lease", "-n", "kube-node-lease", "node-1"]);
    assert!(lease.contains("node-1"), "{lease}");
    let described = cluster.kubectl(&["describe", "node", "node-1"]);
    assert!(described.contains("KubeletReady"), "{described}");
}

fn apply(cluster: &Cluster) {
    let ns = &cluster.namespace("apply");
    let manifest = "apiVersion: v1
kind: ConfigMap
metadata: {name: c, labels: {a: one}}
data: {x: '1', y: '2'}
";
    assert_eq!(cluster.apply(ns, manifest), "configmap/c created\n");
    let revision =
        || cluster.kubectl(&["get", "cm", "c", "-n", ns, "-o", "jsonpath={.metadata.resourceVersion}"]);
    let first = revision();
    assert_eq!(cluster.apply(ns, manifest), "configmap/c unchanged\n");
    assert_eq!(revision(), first, "an apply that changes nothing writes nothing");
    cluster.kubectl(&["annotate", "configmap", "c", "-n", ns, "other=kept"]);
    let changed = manifest.replace("y: '2'", "z: '3'");
    assert_eq!(cluster.apply(ns, &changed), "configmap/c configured\n");
    let data = cluster.kubectl(&[
        "get",
        "cm",
        "c",
        "-n",
        ns,
        "-o",
        "jsonpath={.data} {.metadata.annotations.other}",
    ]);
    assert_eq!(data, "{\"x\":\"1\",\"z\":\"3\"} kept");
    cluster.kubectl(&["patch", "configmap", "c", "-n", ns, "-p", "{\"data\":{\"z\":\"patched\"}}"]);
    let server_side = ["apply", "--server-side", "-n", ns, "-f", "-"];
    let output = cluster.try_stdin(&server_side, &changed.replace("z: '3'", "z: '4'"));
    let text = show(&output);
    assert!(text.contains("conflict with \"kubectl-patch\""), "{text}");
    let forced = [&server_side[..], &["--force-conflicts"]].concat();
    let output = cluster.try_stdin(&forced, &changed.replace("z: '3'", "z: '4'"));
    assert!(output.status.success(), "{}", show(&output));
}

fn describe(cluster: &Cluster) {
    let ns = &sleeper(cluster, "describe");
    let mut described = String::new();
    let complete = wait_until(PATIENCE, || {
        described = cluster.kubectl(&["describe", "pod", "p", "-n", ns]);
        ["Scheduled", "Pulled", "Created", "Started"].iter().all(|e| described.contains(e))
    });
    assert!(complete, "{described}");
    for part in [
        "Successfully assigned",
        "already present on machine",
        "Status:           Running",
        "QoS Class:                   BestEffort",
        "kube-api-access-",
        "node.kubernetes.io/not-ready:NoExecute op=Exists for 300s",
    ] {
        assert!(described.contains(part), "{part:?} is missing in\n{described}");
    }
}

fn watch(cluster: &Cluster) {
    let ns = &cluster.namespace("watch");
    let mut watch = cluster
        .kubectl_command(&["get", "pods", "-n", ns, "-o", "wide", "-w"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("kubectl runs");
    cluster.apply(ns, SLEEPER);
    let stdout = BufReader::new(watch.stdout.take().expect("piped"));
    let mut states = Vec::new();
    for line in stdout.lines() {
        let line = line.expect("reads");
        states.push(line.split_whitespace().nth(2).unwrap_or_default().to_owned());
        if line.contains("Running") {
            break;
        }
    }
    watch.kill().expect("ends");
    watch.wait().expect("ends");
    assert!(states.contains(&"Pending".into()) || states.contains(&"ContainerCreating".into()), "{states:?}");
}

fn logs(cluster: &Cluster) {
    let ns = &cluster.namespace("logs");
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: busybox:1.35
    command: [sh, -c, 'for i in 1 2 3 4 5 6; do echo line $i; sleep 0.5; done']
",
    );
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], "{.status.containerStatuses[0].started}", "true");
    let followed = cluster.kubectl(&["logs", "-f", "-n", ns, "p"]);
    assert_eq!(followed.lines().count(), 6, "{followed}");
    assert_eq!(cluster.kubectl(&["logs", "-n", ns, "p", "--tail=2"]), "line 5\nline 6\n");
    let stamped = cluster.kubectl(&["logs", "-n", ns, "p", "--timestamps", "--tail=1"]);
    assert!(stamped.starts_with("20") && stamped.contains("Z line 6"), "{stamped}");
    assert_eq!(cluster.kubectl(&["logs", "-n", ns, "p", "--limit-bytes=6"]), "line 1");
    let error = cluster.kubectl_fails(&["logs", "-n", ns, "p", "--previous"]);
    assert!(error.contains("previous terminated container \"main\" in pod \"p\" not found"), "{error}");
    let error = cluster.kubectl_fails(&["logs", "-n", ns, "p", "-c", "nope"]);
    assert!(error.contains("container nope is not valid for pod p"), "{error}");
}

fn exec(cluster: &Cluster) {
    let ns = &sleeper(cluster, "exec");
    let output = cluster.try_stdin(&["exec", "-i", "-n", ns, "p", "--", "cat"], "through and back");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "through and back", "{}", show(&output));
    let mut failing =
        cluster.kubectl_command(&["exec", "-n", ns, "p", "--", "sh", "-c", "echo oops >&2; exit 42"]);
    let output = failing.output().expect("kubectl runs");
    assert_eq!(output.status.code(), Some(42), "{}", show(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("oops"));
    let big = cluster.kubectl(&[
        "exec",
        "-n",
        ns,
        "p",
        "--",
        "sh",
        "-c",
        "dd if=/dev/zero bs=1024 count=4096 2>/dev/null",
    ]);
    assert_eq!(big.len(), 4 << 20, "four megabytes come through whole");
    let error = cluster.kubectl_fails(&["exec", "-n", ns, "p", "--", "no-such-program"]);
    assert!(error.contains("no-such-program"), "{error}");
}

/// Runs kubectl on a pseudo-terminal made by script(1).
fn on_terminal(cluster: &Cluster, arguments: &[&str]) -> Command {
    let kubectl = cluster.kubectl_command(arguments);
    let mut line = String::new();
    for word in std::iter::once(kubectl.get_program()).chain(kubectl.get_args()) {
        line.push_str(&format!("'{}' ", word.to_string_lossy()));
    }
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    for (name, value) in kubectl.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
}

fn exec_terminal(cluster: &Cluster) {
    let ns = &sleeper(cluster, "terminal");
    let mut shell =
        on_terminal(cluster, &["exec", "-it", "-n", ns, "p", "--", "sh"]).spawn().expect("script runs");
    let mut input = shell.stdin.take().expect("piped");
    input.write_all(b"test -t 0 && echo a-$((40+2))-terminal\nexit 5\n").expect("types");
    let mut output = String::new();
    shell.stdout.take().expect("piped").read_to_string(&mut output).expect("reads");
    let status = shell.wait().expect("ends");
    assert!(output.contains("a-42-terminal"), "{output}");
    assert_eq!(status.code(), Some(5), "{output}");
}

fn run_interactive(cluster: &Cluster) {
    let ns = &cluster.namespace("run");
    let arguments = ["run", "-i", "--rm", "--restart=Never", "once", "-n", ns, "--image=busybox:1.35", "--"];
    let output = cluster.try_stdin(&[&arguments[..], &["sh", "-c", "cat; echo done"]].concat(), "typed\n");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("typed") && text.contains("done"), "{}", show(&output));
    let arguments =
        ["run", "-it", "--rm", "--restart=Never", "shell", "-n", ns, "--image=busybox:1.35", "--", "sh"];
    let mut shell = on_terminal(cluster, &arguments).spawn().expect("script runs");
    let mut input = shell.stdin.take().expect("piped");
    input.write_all(b"test -t 0 && echo a-$((40+2))-terminal\nexit\n").expect("types");
    let mut text = String::new();
    shell.stdout.take().expect("piped").read_to_string(&mut text).expect("reads");
    shell.wait().expect("ends");
    assert!(text.contains("a-42-terminal"), "{text}");
    wait_for("the pod to be removed", || {
        cluster.kubectl(&["get", "pods", "-n", ns, "-o", "name"]).trim().is_empty()
    });
}

fn port_forward(cluster: &Cluster) {
    let ns = &cluster.namespace("forward");
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: main, image: 'busybox:1.35', command: [httpd, -f, -p, '8080', -h, /www]}
",
    );
    cluster.wait_pod_ready(ns, "p");
    let mut forward = cluster
        .kubectl_command(&["port-forward", "-n", ns, "pod/p", ":8080"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut line = String::new();
    BufReader::new(forward.stdout.as_mut().expect("piped")).read_line(&mut line).expect("reads");
    let port = line.split([':', ' ']).find_map(|w| w.parse::<u16>().ok()).unwrap_or_else(|| panic!("{line}"));
    for _ in 0..3 {
        assert_eq!(
            cluster.host.sh(&format!("curl -sf --max-time 10 http://127.0.0.1:{port}/")),
            "it works\n"
        );
    }
    forward.kill().expect("ends");
    forward.wait().expect("ends");
}

fn rollout(cluster: &Cluster) {
    let ns = &cluster.namespace("rollout");
    let create = ["create", "deployment", "web", "-n", ns, "--image=busybox:1.35", "--replicas=2", "--"];
    cluster.kubectl(&[&create[..], IDLE].concat());
    let status = || cluster.kubectl(&["rollout", "status", "deployment/web", "-n", ns, "--timeout=90s"]);
    assert!(status().contains("successfully rolled out"));
    cluster.kubectl(&["set", "image", "deployment/web", "-n", ns, "*=busybox:1.36"]);
    assert!(status().contains("successfully rolled out"));
    let image = || {
        let path = "jsonpath={.items[*].spec.containers[0].image}";
        cluster.kubectl(&["get", "pods", "-n", ns, "--field-selector=status.phase=Running", "-o", path])
    };
    wait_for("only pods of the new image", || image() == "busybox:1.36 busybox:1.36");
    let history = cluster.kubectl(&["rollout", "history", "deployment/web", "-n", ns]);
    let revisions: Vec<_> =
        history.lines().filter_map(|l| l.split_whitespace().next()?.parse::<u32>().ok()).collect();
    assert_eq!(revisions, [1, 2], "{history}");
    cluster.kubectl(&["rollout", "undo", "deployment/web", "-n", ns]);
    assert!(status().contains("successfully rolled out"));
    wait_for("pods of the old image again", || image() == "busybox:1.35 busybox:1.35");
    let history = cluster.kubectl(&["rollout", "history", "deployment/web", "-n", ns, "--revision=3"]);
    assert!(history.contains("busybox:1.35"), "{history}");
}

fn scale_and_delete(cluster: &Cluster) {
    let ns = &cluster.namespace("scale");
    let create = ["create", "deployment", "web", "-n", ns, "--image=busybox:1.35", "--"];
    cluster.kubectl(&[&create[..], IDLE].concat());
    cluster.kubectl(&["scale", "deployment/web", "-n", ns, "--replicas=3"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "-n", ns, "--timeout=90s"]);
    assert_eq!(cluster.kubectl(&["get", "pods", "-n", ns, "-o", "name"]).lines().count(), 3);
    cluster.kubectl(&["scale", "deployment/web", "-n", ns, "--replicas=1"]);
    wait_for("two pods to go", || {
        cluster.kubectl(&["get", "pods", "-n", ns, "-o", "name"]).lines().count() == 1
    });
    cluster.kubectl(&["delete", "deployment", "web", "-n", ns]);
    wait_for("replica sets and pods to go with their deployment", || {
        cluster.kubectl(&["get", "replicasets,pods", "-n", ns, "-o", "name"]).trim().is_empty()
    });
}

fn explain(cluster: &Cluster) {
    let resources = cluster.kubectl(&["api-resources"]);
    for row in ["pods                                po", "deployments                         deploy"] {
        let (name, short) = row.split_once("  ").expect("two columns");
        let found = resources.lines().any(|l| {
            let mut words = l.split_whitespace();
            words.next() == Some(name) && words.next() == Some(short.trim())
        });
        assert!(found, "{name} ({}) is missing in\n{resources}", short.trim());
    }
    let spec = cluster.kubectl(&["explain", "pod.spec"]);
    for part in ["KIND:       Pod", "containers", "-required-", "List of containers belonging to the pod."] {
        assert!(spec.contains(part), "{part} is missing in\n{spec}");
    }
    let recursive = cluster.kubectl(&["explain", "deployment", "--recursive"]);
    assert!(recursive.contains("maxSurge"), "{recursive}");
    let versions = cluster.kubectl(&["api-versions"]);
    assert!(versions.lines().any(|l| l == "apps/v1"), "{versions}");
}

fn namespace_deletion(cluster: &Cluster) {
    let ns = &sleeper(cluster, "gone");
    cluster.kubectl(&["create", "configmap", "c", "-n", ns, "--from-literal=a=b"]);
    cluster.kubectl(&["delete", "namespace", ns, "--wait=false"]);
    let error = cluster.kubectl_fails(&["create", "configmap", "late", "-n", ns, "--from-literal=a=b"]);
    assert!(error.contains("being terminated") || error.contains("not found"), "{error}");
    cluster.kubectl(&["wait", "--for=delete", &format!("namespace/{ns}"), "--timeout=90s"]);
}

/// `kubectl`, and any `kubectl.1.NN` in the directory its link leads to.
fn every_version(cluster: &Cluster) {
    let ns = &sleeper(cluster, "versions");
    let found =
        Command::new("sh").args(["-c", "readlink -f \"$(command -v kubectl)\""]).output().expect("sh runs");
    let program = std::path::PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let mut programs = vec![program.clone()];
    let beside = std::fs::read_dir(program.parent().expect("has a directory")).expect("readable");
    programs.extend(beside.filter_map(|e| {
        let path = e.ok()?.path();
        path.file_name()?.to_str()?.starts_with("kubectl.1.").then_some(path)
    }));
    for program in programs {
        for arguments in [
            &["get", "pods", "-o", "wide"][..],
            &["exec", "p", "--", "true"],
            &["logs", "p"],
            &["describe", "pod", "p"],
            &["explain", "pod.spec"],
            &["api-resources"],
            &["label", "pod", "p", "seen=yes", "--overwrite"],
        ] {
            let mut command = cluster.host.command(&program);
            command.env("KUBECONFIG", cluster.kubeconfig()).args(["-n", ns]).args(arguments);
            let output = command.output().expect("kubectl runs");
            assert!(output.status.success(), "{} {arguments:?}\n{}", program.display(), show(&output));
        }
    }
}
