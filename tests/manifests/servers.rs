//! Servers people run, and what must not happen to their data.

use crate::harness::{Cluster, wait_for};

fn run(cluster: &Cluster, ns: &str, pod: &str, line: &str) -> String {
    cluster.kubectl(&["exec", "-n", ns, pod, "-c", "main", "--", "sh", "-c", line])
}

fn configuration(text: &str) -> String {
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: site}}
data:
  default.conf: |
    server {{ listen 80; location / {{ return 200 '{text}'; }} }}
"
    )
}

/// A site served through a Service, its configuration a ConfigMap: a sidecar that shares the pod's processes
/// tells nginx of a change.
pub fn nginx_follows_its_configuration(cluster: &Cluster, ns: &str) {
    cluster.apply(ns, &configuration("first"));
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: site, labels: {app: site}}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 2
  initContainers:
  - name: reloader
    image: busybox:1.35
    restartPolicy: Always
    command:
    - sh
    - -c
    - |
      cp /conf/default.conf /tmp/now
      while sleep 1; do
        cmp -s /conf/default.conf /tmp/now && continue
        cp /conf/default.conf /tmp/now && kill -HUP $(pidof nginx | tr ' ' '\\n' | sort -n | head -n 1)
      done
    volumeMounts: [{name: conf, mountPath: /conf}]
  containers:
  - name: main
    image: nginx:1.24
    volumeMounts: [{name: conf, mountPath: /etc/nginx/conf.d}]
    readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
  volumes: [{name: conf, configMap: {name: site}}]
---
apiVersion: v1
kind: Service
metadata: {name: site}
spec: {selector: {app: site}, ports: [{port: 80}]}
",
    );
    cluster.wait_pod_ready(ns, "site");
    let address = cluster.kubectl(&["get", "service", "site", "-n", ns, "-o", "jsonpath={.spec.clusterIP}"]);
    let page = || cluster.host.sh(&format!("curl -s --max-time 5 http://{address}/ || true"));
    wait_for("the first page", || page() == "first");
    cluster.apply(ns, &configuration("second"));
    wait_for("the second page", || page() == "second");
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(cluster.kubectl(&["get", "pod", "site", "-n", ns, "-o", restarts]), "0", "it was no restart");
}

/// redis told to keep its data in an emptyDir has it again after the container ended.
pub fn redis_keeps_its_keys_over_a_restart(cluster: &Cluster, ns: &str) {
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Pod
metadata: {name: redis}
spec:
  containers:
  - name: main
    image: redis:7
    args: [redis-server, --dir, /data/redis, --appendonly, 'yes', --appendfsync, always]
    readinessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 1}
    volumeMounts: [{name: storage, mountPath: /data/redis}]
  volumes: [{name: storage, emptyDir: {}}]
",
    );
    cluster.wait_pod_ready(ns, "redis");
    assert_eq!(run(cluster, ns, "redis", "redis-cli set answer 42"), "OK\n");
    let old = "jsonpath={.status.containerStatuses[0].containerID}";
    let id = || cluster.kubectl(&["get", "pod", "redis", "-n", ns, "-o", old]);
    let before = id();
    // It writes nothing when it goes: what it has again is what it had appended to its file.
    let line = ["exec", "-n", ns, "redis", "--", "redis-cli", "shutdown", "nosave"];
    cluster.kubectl_command(&line).output().expect("kubectl runs");
    wait_for("another container", || !id().is_empty() && id() != before);
    cluster.wait_pod_ready(ns, "redis");
    assert_eq!(run(cluster, ns, "redis", "redis-cli get answer"), "42\n");
    let last = "jsonpath={.status.containerStatuses[0].lastState.terminated.reason}";
    assert_eq!(cluster.kubectl(&["get", "pod", "redis", "-n", ns, "-o", last]), "Completed");
}

/// postgres on a claim bound by hand to a directory of the node, as user 999 with its group: the tables are
/// there for the next pod.
pub fn postgres_keeps_its_tables_over_its_pod(cluster: &Cluster, ns: &str) {
    let directory = cluster.host.directory.path().join("postgres");
    std::fs::create_dir(&directory).expect("directory");
    claim(cluster, ns, "database", &directory.display().to_string());
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: db}
spec:
  securityContext: {runAsUser: 999, runAsGroup: 999, runAsNonRoot: true, fsGroup: 999, fsGroupChangePolicy: OnRootMismatch}
  containers:
  - name: main
    image: postgres:15
    env:
    - {name: POSTGRES_PASSWORD, value: secret}
    - {name: PGDATA, value: /var/lib/postgresql/data/pgdata}
    readinessProbe: {exec: {command: [pg_isready, -U, postgres, -h, 127.0.0.1]}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /var/lib/postgresql/data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: database}}]
";
    let sql = |statement: &str| {
        run(cluster, ns, "db", &format!("psql -U postgres -h /var/run/postgresql -tAc \"{statement}\""))
    };
    cluster.apply(ns, pod);
    cluster.wait_pod_ready(ns, "db");
    assert_eq!(run(cluster, ns, "db", "id -u; id -g"), "999\n999\n");
    assert_eq!(
        run(cluster, ns, "db", "stat -c '%g %a' /var/lib/postgresql/data"),
        "999 2775\n",
        "the group's volume"
    );
    sql("create table kept (answer int)");
    sql("insert into kept values (42)");
    let uid = "jsonpath={.metadata.uid}";
    let first = cluster.kubectl(&["get", "pod", "db", "-n", ns, "-o", uid]);
    cluster.kubectl(&["delete", "pod", "db", "-n", ns]);
    cluster.apply(ns, pod);
    cluster.wait_pod_ready(ns, "db");
    assert_ne!(cluster.kubectl(&["get", "pod", "db", "-n", ns, "-o", uid]), first);
    assert_eq!(sql("select answer from kept"), "42\n");
    // It was stopped as its image wants to be (SIGINT) and had nothing to recover.
    let log = cluster.kubectl(&["logs", "db", "-n", ns]);
    assert!(!log.contains("was not properly shut down"), "{log}");
}

/// A claim and the volume for it, a directory of the node, bound to each other by hand.
fn claim(cluster: &Cluster, ns: &str, name: &str, path: &str) {
    cluster.apply(
        ns,
        &format!(
            "apiVersion: v1
kind: PersistentVolume
metadata: {{name: {ns}-{name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: by-hand
  claimRef: {{namespace: {ns}, name: {name}}}
  local: {{path: {path}}}
  nodeAffinity:
    required:
      nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [node-1]}}]}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: by-hand
  volumeName: {ns}-{name}
  resources: {{requests: {{storage: 1Gi}}}}
"
        ),
    );
    let bound = r#"{"status":{"phase":"Bound"}}"#;
    cluster.kubectl(&[
        "patch",
        "pv",
        &format!("{ns}-{name}"),
        "--subresource=status",
        "--type=merge",
        "-p",
        bound,
    ]);
    cluster.kubectl(&["patch", "pvc", name, "-n", ns, "--subresource=status", "--type=merge", "-p", bound]);
}
