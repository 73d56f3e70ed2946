//! The path of a pod, from manifest to process and back.

use crate::Shared;
use crate::harness::{Cluster, wait_for};

pub const SHARED: &[(&str, Shared)] = &[
    ("pod_runs_with_its_own_namespaces_and_limits", own_namespaces),
    ("pod_has_its_service_account", service_account),
    ("pod_that_ends_keeps_its_exit_code_and_log", exit_code),
    ("pod_that_crashes_is_restarted_with_back_off", crash_loop),
    ("pod_environment_comes_from_everywhere", environment),
    ("pod_configuration_volumes_follow_their_source", configuration_volumes),
    ("pod_deletion_is_graceful", graceful_deletion),
    ("pod_init_containers_run_in_order", init_containers),
];

fn own_namespaces(cluster: &Cluster) {
    let ns = &cluster.namespace("own");
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: main
    image: busybox:1.35
    command: [sleep, '1000000']
    resources: {limits: {memory: 64Mi, cpu: 500m}}
",
    );
    cluster.wait_pod_ready(ns, "p");
    let exec = |command: &[&str]| cluster.kubectl(&[&["exec", "-n", ns, "p", "--"], command].concat());
    assert_eq!(exec(&["hostname"]).trim(), "p");
    assert!(exec(&["cat", "/proc/1/cmdline"]).starts_with("sleep"), "the container's process is number 1");
    for namespace in ["net", "ipc", "uts", "pid", "mnt"] {
        let inside = exec(&["readlink", &format!("/proc/1/ns/{namespace}")]);
        let outside = cluster.host.sh(&format!("readlink /proc/self/ns/{namespace}"));
        assert_ne!(inside, outside, "the {namespace} namespace is the pod's own");
    }
    let cgroup = exec(&["cat", "/proc/1/cgroup"]);
    assert!(cgroup.contains("kedge-"), "below this installation's cgroup: {cgroup}");
    let address = cluster.kubectl(&["get", "pod", "p", "-n", ns, "-o", "jsonpath={.status.podIP}"]);
    assert!(address.starts_with("10.42."), "{address}");
    assert!(exec(&["ip", "addr"]).contains(&address));
    assert_eq!(
        cluster.kubectl(&["get", "pod", "p", "-n", ns, "-o", "jsonpath={.status.qosClass}"]),
        "Guaranteed"
    );
    let limit = memory_limit(cluster, ns, "p");
    assert_eq!(limit.trim(), (64 << 20).to_string());
}

/// The memory limit the kernel holds the pod's container to, on cgroup v1 or v2.
fn memory_limit(cluster: &Cluster, namespace: &str, pod: &str) -> String {
    let path = "jsonpath={.status.containerStatuses[0].containerID}".to_string();
    let id = cluster.kubectl(&["get", "pod", pod, "-n", namespace, "-o", &path]);
    let id = id.rsplit('/').next().unwrap_or_default().to_owned();
    cluster.host.sh(&format!(
        "find /sys/fs/cgroup -type d -name '*{id}*' | while read -r d; do \
         cat $d/memory.max 2>/dev/null || cat $d/memory.limit_in_bytes 2>/dev/null; done | head -n 1"
    ))
}

fn service_account(cluster: &Cluster) {
    let ns = &cluster.namespace("account");
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers: [{name: main, image: 'busybox:1.35', command: [sleep, '1000000']}]
",
    );
    cluster.wait_pod_ready(ns, "p");
    let directory = "/var/run/secrets/kubernetes.io/serviceaccount";
    let read =
        |file: &str| cluster.kubectl(&["exec", "-n", ns, "p", "--", "cat", &format!("{directory}/{file}")]);
    assert_eq!(read("namespace"), *ns);
    assert!(read("ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(read("token").split('.').count(), 3, "a JSON web token");
    // The token is worth something: the API answers it by name.
    let token = read("token");
    let body = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let who = cluster.host.sh(&format!(
        "curl -sk -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{body}' \
         https://127.0.0.1:6443/apis/authentication.k8s.io/v1/selfsubjectreviews"
    ));
    assert!(who.contains(&format!("\"system:serviceaccount:{ns}:default\"")), "{who}");
}

fn exit_code(cluster: &Cluster) {
    let ns = &cluster.namespace("exit");
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  containers: [{name: main, image: 'busybox:1.35', command: [sh, -c, 'echo out; echo err >&2; exit 3']}]
",
    );
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], "{.status.phase}", "Failed");
    let state = "{.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].state.terminated.reason}";
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], state, "3 Error");
    let log = cluster.kubectl(&["logs", "-n", ns, "p"]);
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
}

fn crash_loop(cluster: &Cluster) {
    let ns = &cluster.namespace("crash");
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: main, image: 'busybox:1.35', command: ['false']}]}
",
    );
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], reason, "CrashLoopBackOff");
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], "{.status.phase}", "Running");
    let last = "{.status.containerStatuses[0].lastState.terminated.exitCode}";
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], last, "1");
    wait_for("a second restart", || {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        let count = cluster.kubectl(&["get", "pod", "p", "-n", ns, "-o", path]);
        count.parse::<u32>().is_ok_and(|n| n >= 2)
    });
}

fn environment(cluster: &Cluster) {
    let ns = &cluster.namespace("env");
    cluster.kubectl(&[
        "create",
        "configmap",
        "c",
        "-n",
        ns,
        "--from-literal=KEY=from-map",
        "--from-literal=OTHER=o",
    ]);
    cluster.kubectl(&["create", "secret", "generic", "s", "-n", ns, "--from-literal=password=hidden"]);
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: x}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: busybox:1.35
    command: [sh, -c, 'env; echo arg=$0', '$(A)-$(NONE)']
    envFrom: [{prefix: P_, configMapRef: {name: c}}]
    env:
    - {name: A, value: one}
    - {name: B, value: '$(A)-two'}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: s, key: password}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    resources: {limits: {memory: 32Mi}}
",
    );
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], "{.status.phase}", "Succeeded");
    let log = cluster.kubectl(&["logs", "-n", ns, "p"]);
    for line in [
        "VERSION=1.35",
        "P_KEY=from-map",
        "P_OTHER=o",
        "B=one-two",
        "NAME=p",
        "NODE=node-1",
        "PASSWORD=hidden",
        "LIMIT=33554432",
        "HOSTNAME=p",
        "KUBERNETES_SERVICE_HOST=10.43.0.1",
        "arg=one-$(NONE)",
    ] {
        assert!(log.lines().any(|l| l == line), "{line} is missing in\n{log}");
    }
}

fn configuration_volumes(cluster: &Cluster) {
    let ns = &cluster.namespace("volumes");
    cluster.kubectl(&["create", "configmap", "c", "-n", ns, "--from-literal=key=one"]);
    cluster.kubectl(&["create", "secret", "generic", "s", "-n", ns, "--from-literal=k=v"]);
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: x}}
spec:
  containers:
  - name: main
    image: busybox:1.35
    command: [sleep, '1000000']
    volumeMounts:
    - {name: c, mountPath: /c}
    - {name: s, mountPath: /s, readOnly: true}
    - {name: d, mountPath: /d}
    - {name: e, mountPath: /e}
  volumes:
  - {name: c, configMap: {name: c}}
  - {name: s, secret: {secretName: s, defaultMode: 0400}}
  - {name: d, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: e, emptyDir: {}}
",
    );
    cluster.wait_pod_ready(ns, "p");
    let sh = |line: &str| cluster.kubectl(&["exec", "-n", ns, "p", "--", "sh", "-c", line]);
    assert_eq!(sh("cat /c/key"), "one");
    assert_eq!(sh("cat /s/k"), "v");
    assert_eq!(sh("cat /d/labels").trim(), "app=\"x\"");
    assert_eq!(sh("echo hello > /e/f; cat /e/f"), "hello\n");
    assert!(sh("touch /s/new 2>&1 || true").contains("Read-only"), "a secret is mounted read-only");
    cluster.kubectl(&["create", "configmap", "d", "-n", ns, "--from-literal=x=y"]);
    cluster.kubectl(&["patch", "configmap", "c", "-n", ns, "-p", "{\"data\":{\"key\":\"two\"}}"]);
    wait_for("the new value in the running pod", || sh("cat /c/key") == "two");
}

fn graceful_deletion(cluster: &Cluster) {
    let ns = &cluster.namespace("delete");
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 20
  containers:
  - name: main
    image: busybox:1.35
    command: [sh, -c, \"trap 'echo bye; sleep 2; exit 0' TERM; echo up; while :; do sleep 0.1; done\"]
",
    );
    cluster.wait_pod_ready(ns, "p");
    wait_for("the container's first line", || cluster.kubectl(&["logs", "-n", ns, "p"]).contains("up"));
    let follow =
        cluster.kubectl_command(&["logs", "-f", "-n", ns, "p"]).stdout(std::process::Stdio::piped()).spawn();
    let follow = follow.expect("kubectl runs");
    cluster.kubectl(&["delete", "pod", "p", "-n", ns, "--wait=false"]);
    let pods = cluster.kubectl(&["get", "pods", "-n", ns]);
    assert!(pods.contains("Terminating"), "{pods}");
    cluster.kubectl(&["wait", "--for=delete", "pod/p", "-n", ns, "--timeout=60s"]);
    let log = follow.wait_with_output().expect("kubectl ends").stdout;
    assert!(String::from_utf8_lossy(&log).contains("bye"), "SIGTERM came before the end");
}

fn init_containers(cluster: &Cluster) {
    let ns = &cluster.namespace("init");
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  initContainers:
  - {name: a, image: 'busybox:1.35', command: [sh, -c, 'echo a >> /w/log'], volumeMounts: [{name: w, mountPath: /w}]}
  - {name: b, image: 'busybox:1.35', command: [sh, -c, 'echo b >> /w/log'], volumeMounts: [{name: w, mountPath: /w}]}
  containers:
  - {name: main, image: 'busybox:1.35', command: [cat, /w/log], volumeMounts: [{name: w, mountPath: /w}]}
  volumes: [{name: w, emptyDir: {}}]
",
    );
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], "{.status.phase}", "Succeeded");
    assert_eq!(cluster.kubectl(&["logs", "-n", ns, "p"]), "a\nb\n");
}
