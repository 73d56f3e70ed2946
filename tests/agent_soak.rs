//! 300 pods come and go and leave nothing. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;
#[path = "cluster/inventory.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod inventory;

use std::time::Instant;

use harness::{Cluster, wait_for};
use inventory::{Inventory, assert_as_before};

const CYCLES: usize = 300;
const AT_ONCE: usize = 30;
/// The server may not grow by more while all these pods come and go: its events and its log of changes stay
/// for a while.
const GROWTH_KIB: u64 = 48 << 10;

#[test]
fn three_hundred_pods_come_and_go_and_leave_nothing() {
    let cluster = Cluster::start("soak", &[]);
    cluster.import_test_images();
    let ns = &format!("soak-{}", cluster.mark());
    cluster.kubectl(&["create", "namespace", ns]);
    let shared = cluster.host.directory.path().join("shared");
    std::fs::create_dir(&shared).expect("directory");
    cluster.apply(ns, &objects(ns, &shared.display().to_string()));
    let bound = r#"{"status":{"phase":"Bound"}}"#;
    cluster.kubectl(&["patch", "pv", ns, "--subresource=status", "--type=merge", "-p", bound]);
    cluster.kubectl(&["patch", "pvc", "data", "-n", ns, "--subresource=status", "--type=merge", "-p", bound]);

    // What comes with the first pods and stays is no leak.
    batch(&cluster, ns, 0);
    batch(&cluster, ns, AT_ONCE);
    wait_for("the last pod's end", || cluster.kubectl(&["get", "pods", "-n", ns, "-o", "name"]).is_empty());
    let before = Inventory::of(&cluster);
    let memory = resident_kib(cluster.server_pid());
    let started = Instant::now();
    for first in (0..CYCLES).step_by(AT_ONCE) {
        batch(&cluster, ns, first);
    }
    println!("{CYCLES} cycles: {:.0} s", started.elapsed().as_secs_f32());
    assert_as_before(&cluster, &before);
    let grown = resident_kib(cluster.server_pid()).saturating_sub(memory);
    println!("the server holds {memory} KiB, and {grown} more after it");
    assert!(grown < GROWTH_KIB, "{memory} KiB before, {grown} KiB more now");
    assert_eq!(std::fs::read_dir(&shared).expect("there").count(), 2, "what pods wrote to the node stays");
}

/// Pods made in one request, seen to be what they should, deleted in one.
fn batch(cluster: &Cluster, ns: &str, first: usize) {
    let shared = cluster.host.directory.path().join("shared").display().to_string();
    let pods: Vec<_> = (first..first + AT_ONCE).map(|n| pod(n, n - first, &shared)).collect();
    cluster.apply(ns, &pods.join("---\n"));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "kind=full", "-n", ns, "--timeout=90s"]);
    let phase = "--for=jsonpath={.status.phase}=Failed";
    cluster.kubectl(&["wait", phase, "pod", "-l", "kind=failing", "-n", ns, "--timeout=90s"]);
    // Those that wait for what is not there, and those that pull it, are deleted while they do.
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns, "--timeout=90s"]);
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// What the pods refer to.
fn objects(ns: &str, shared: &str) -> String {
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: conf}}
data: {{a: '1', b: '2'}}
---
apiVersion: v1
kind: Secret
metadata: {{name: key}}
stringData: {{password: secret}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {ns}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteMany]
  storageClassName: by-hand
  claimRef: {{namespace: {ns}, name: data}}
  hostPath: {{path: {shared}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: by-hand
  volumeName: {ns}
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: all}}
spec: {{selector: {{soak: 'yes'}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

/// Of three, one has everything a pod can have, one ends by itself, one never starts.
fn pod(number: usize, slot: usize, shared: &str) -> String {
    match number % 3 {
        0 => full(number, 20_000 + slot, shared),
        1 => format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: failing-{number}, labels: {{kind: failing}}}}
spec:
  restartPolicy: Never
  volumes: [{{name: e, emptyDir: {{medium: Memory}}}}]
  containers:
  - {{name: main, image: 'busybox:1.35', command: [sh, -c, 'echo x > /e/x; exit 3'], volumeMounts: [{{name: e, mountPath: /e}}]}}
"
        ),
        _ => {
            let (image, volume) = match number % 2 {
                0 => ("busybox:1.35", "configMap: {name: none}"),
                _ => ("127.0.0.1:9/none:1", "configMap: {name: conf}"),
            };
            format!(
                "apiVersion: v1
kind: Pod
metadata: {{name: waiting-{number}, labels: {{kind: waiting}}}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: v, {volume}}}]
  containers: [{{name: main, image: '{image}', volumeMounts: [{{name: v, mountPath: /v}}]}}]
"
            )
        }
    }
}

fn full(number: usize, host_port: usize, shared: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: full-{number}, labels: {{kind: full, soak: 'yes'}}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{fsGroup: 1000}}
  initContainers:
  - {{name: prepare, image: 'busybox:1.35', command: [sh, -c, 'echo page > /work/index.html; touch /data/a'], volumeMounts: [{{name: work, mountPath: /work}}, {{name: data, mountPath: /data}}]}}
  - {{name: sidecar, image: 'busybox:1.35', restartPolicy: Always, command: [sleep, '1000000']}}
  containers:
  - name: main
    image: busybox:1.35
    command: [sh, -c, 'touch /host/b; exec httpd -f -p 8080 -h /work']
    ports: [{{containerPort: 8080, hostPort: {host_port}}}, {{containerPort: 9, hostPort: {host_port}, protocol: UDP}}]
    envFrom: [{{configMapRef: {{name: conf}}}}]
    resources: {{requests: {{cpu: 10m, memory: 8Mi}}, limits: {{memory: 64Mi}}}}
    lifecycle: {{postStart: {{exec: {{command: ['true']}}}}, preStop: {{exec: {{command: ['true']}}}}}}
    startupProbe: {{exec: {{command: ['true']}}, periodSeconds: 1}}
    readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
    livenessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
    volumeMounts:
    - {{name: work, mountPath: /work}}
    - {{name: memory, mountPath: /memory}}
    - {{name: memory, mountPath: /part, subPath: x/y}}
    - {{name: conf, mountPath: /conf}}
    - {{name: conf, mountPath: /one, subPath: a}}
    - {{name: key, mountPath: /key}}
    - {{name: who, mountPath: /who}}
    - {{name: all, mountPath: /all}}
    - {{name: host, mountPath: /host}}
    - {{name: data, mountPath: /data}}
  volumes:
  - {{name: work, emptyDir: {{}}}}
  - {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 8Mi}}}}
  - {{name: conf, configMap: {{name: conf}}}}
  - {{name: key, secret: {{secretName: key}}}}
  - {{name: who, downwardAPI: {{items: [{{path: name, fieldRef: {{fieldPath: metadata.name}}}}]}}}}
  - name: all
    projected: {{sources: [{{serviceAccountToken: {{path: token}}}}, {{configMap: {{name: conf}}}}, {{secret: {{name: key}}}}]}}
  - {{name: host, hostPath: {{path: {shared}, type: Directory}}}}
  - {{name: data, persistentVolumeClaim: {{claimName: data}}}}
"
    )
}
