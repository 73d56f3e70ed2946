//! Restarts lose nothing: neither a killed server nor a rebooted host.

use std::collections::BTreeMap;

use crate::Alone;
use crate::harness::{Cluster, wait_for};

pub const ALONE: &[(&str, Alone)] = &[
    ("restart_kill_9_keeps_containers_and_writes", kill_9),
    ("restart_kill_9_while_pods_start", kill_while_starting),
    ("restart_after_a_reboot_everything_runs_again", reboot),
    ("restart_stop_is_orderly", orderly_stop),
];

fn deployment(cluster: &Cluster, replicas: u32) {
    cluster.import_test_images();
    cluster.apply(
        "default",
        &format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: busybox:1.35
        command: [sh, -c, 'date +%s%N; exec httpd -f -p 8080 -h /www -r {realm}']
",
            realm = realm(cluster)
        ),
    );
}

fn rollout(cluster: &Cluster) {
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
}

/// Pod → container id and restart count.
fn containers(cluster: &Cluster) -> BTreeMap<String, String> {
    let path = "jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[0].containerID},\
                {.status.containerStatuses[0].restartCount},{.status.podIP}{\"\\n\"}{end}";
    let text = cluster.kubectl(&["get", "pods", "-o", path]);
    text.lines().filter_map(|l| l.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

/// A word by which this cluster's web servers are told from others on the machine.
fn realm(cluster: &Cluster) -> String {
    let name = cluster.host.directory.path().file_name().expect("has a name");
    name.to_string_lossy().into_owned()
}

/// Host process ids of the pods' own processes.
fn processes(cluster: &Cluster) -> Vec<String> {
    let line = format!("pgrep -f '^httpd .* -r {}' || true", realm(cluster));
    let mut pids: Vec<_> = cluster.host.sh(&line).lines().map(str::to_owned).collect();
    pids.sort();
    pids
}

fn kill_9() {
    let cluster = Cluster::start("kill9", &[]);
    deployment(&cluster, 3);
    rollout(&cluster);
    let (before, pids) = (containers(&cluster), processes(&cluster));
    assert_eq!((before.len(), pids.len()), (3, 3));
    for round in 0..3 {
        cluster.kubectl(&["create", "configmap", &format!("acknowledged-{round}"), "--from-literal=a=b"]);
        cluster.kill_server();
        assert_eq!(processes(&cluster), pids, "containers run on without kedge");
        cluster.launch();
        cluster.wait_ready();
        cluster.kubectl(&["get", "configmap", &format!("acknowledged-{round}")]);
    }
    rollout(&cluster);
    assert_eq!(containers(&cluster), before, "the same containers, addresses and restart counts");
    assert_eq!(processes(&cluster), pids);
    // The adopted pods are in good hands: exec, logs and deletion work.
    let pod = before.keys().next().expect("three pods").clone();
    assert_eq!(cluster.kubectl(&["exec", &pod, "--", "echo", "here"]), "here\n");
    assert!(!cluster.kubectl(&["logs", &pod]).is_empty());
    cluster.kubectl(&["delete", "pod", &pod]);
    rollout(&cluster);
}

fn kill_while_starting() {
    let cluster = Cluster::start("killstart", &[]);
    deployment(&cluster, 6);
    for round in 0..3 {
        wait_for("some pod to appear", || !cluster.kubectl(&["get", "pods", "-o", "name"]).is_empty());
        cluster.kill_server();
        cluster.launch();
        cluster.wait_ready();
        cluster.kubectl(&["set", "env", "deployment/web", &format!("ROUND={round}")]);
    }
    rollout(&cluster);
    wait_for("six pods and no more", || {
        let pods = containers(&cluster);
        pods.len() == 6 && processes(&cluster).len() == 6
    });
}

/// What a power cut takes: every process at once, mounts, namespaces, interfaces, control groups and what lies
/// below `/run`; files elsewhere stay.
fn power_cut(cluster: &Cluster) {
    let instance = kedge::config::Instance::of(&cluster.data_dir());
    let (run, data) = (instance.run_dir(), cluster.data_dir());
    let (name, run, data) = (&instance.name, run.display(), data.display());
    let groups = format!("ls -d /sys/fs/cgroup/*/{name} /sys/fs/cgroup/{name} 2>/dev/null || true");
    let members = format!(
        "for g in $({groups}); do find $g -name cgroup.procs -exec cat {{}} +; done; pgrep -f '^kedge.shim.{run}' || true"
    );
    let pids = |line: &str| cluster.host.sh(line).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut all = pids(&members);
    all.push(cluster.server_pid().to_string());
    assert!(all.len() > 6, "server, shims and containers: {all:?}");
    cluster.host.sh(&format!("kill -9 {} 2>/dev/null || true", all.join(" ")));
    cluster.kill_server();
    wait_for("the end of all processes", || pids(&members).is_empty());
    cluster.host.sh(&format!(
        "awk '{{print $5}}' /proc/self/mountinfo | grep -e '^{run}/' -e '^{data}/' | sort -r | xargs -r umount -l
        rm -rf {run}; ip link delete {}; nft delete table ip {name} 2>/dev/null; nft delete table inet {name} 2>/dev/null
        for g in $({groups}); do find $g -depth -type d -exec rmdir {{}} +; done",
        instance.bridge
    ));
    assert_eq!(cluster.host.sh(&groups), "");
}

fn reboot() {
    let cluster = Cluster::start("reboot", &[]);
    deployment(&cluster, 2);
    cluster.apply(
        "default",
        "apiVersion: v1
kind: Pod
metadata: {name: kept}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.35
    command: [sh, -c, 'for d in /disk /memory; do echo run >> $d/runs; done; cat /disk/runs; exec sleep 9999']
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]
  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}]
",
    );
    rollout(&cluster);
    cluster.wait_pod_ready("default", "kept");
    let uids = || cluster.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"]);
    let before = uids();
    power_cut(&cluster);
    cluster.launch();
    cluster.wait_ready();
    wait_for("each to be restarted once", || {
        containers(&cluster).values().all(|c| c.split(',').nth(1) == Some("1"))
    });
    rollout(&cluster);
    cluster.wait_pod_ready("default", "kept");
    assert_eq!(uids(), before, "the same pods run again");
    assert_eq!(processes(&cluster).len(), 2);
    let of = |path: &str| cluster.kubectl(&["get", "pod", "kept", "-o", &format!("jsonpath={path}")]);
    let last = "{.status.containerStatuses[0].lastState.terminated";
    assert_eq!(of(&format!("{last}.reason}} {last}.exitCode}}")), "Unknown 255");
    wait_for("the event of the new sandbox", || {
        let events =
            ["get", "events", "--field-selector", "involvedObject.name=kept", "-o", "jsonpath={..reason}"];
        cluster.kubectl(&events).contains("SandboxChanged")
    });
    let runs = |place: &str| cluster.kubectl(&["exec", "kept", "--", "cat", &format!("/{place}/runs")]);
    assert_eq!((runs("disk").as_str(), runs("memory").as_str()), ("run\nrun\n", "run\n"));
    assert_eq!(cluster.kubectl(&["logs", "kept"]), "run\nrun\n");
    assert_eq!(cluster.kubectl(&["logs", "kept", "--previous"]), "run\n");
}

fn orderly_stop() {
    let cluster = Cluster::start("stop", &[]);
    deployment(&cluster, 1);
    rollout(&cluster);
    let pids = processes(&cluster);
    let status = cluster.stop_server();
    assert!(status.success(), "{status}\n{}", cluster.tail());
    assert_eq!(processes(&cluster), pids, "stopping the server stops no container");
    let output = cluster.kedge(&["killall"]).output().expect("kedge runs");
    assert!(output.status.success());
    assert!(processes(&cluster).is_empty());
    let instance = kedge::config::Instance::of(&cluster.data_dir());
    assert!(!instance.run_dir().exists(), "the run-time directory is removed");
    assert_eq!(
        cluster
            .host
            .sh(&format!("ls -d /sys/fs/cgroup/*/{0} /sys/fs/cgroup/{0} 2>/dev/null || true", instance.name)),
        ""
    );
    for (what, line) in [
        ("interfaces", "ip -o link | grep -v -e ' lo:' -e eth0 -e uplink || true"),
        ("rules", "nft list tables | grep kedge || true"),
        ("mounts", "grep kedge-test-stop /proc/self/mountinfo || true"),
    ] {
        assert_eq!(cluster.host.sh(line).trim(), "", "{what} are left");
    }
}
