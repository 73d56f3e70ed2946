//! The node API as people and monitoring use it: statistics, logs, streams. The real executable, real containers,
//! every kubectl at hand. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;

#[path = "agent_api/logs.rs"]
mod logs;
#[path = "agent_api/stats.rs"]
mod stats;
#[path = "agent_api/streams.rs"]
mod streams;

use std::path::PathBuf;
use std::process::Command;

use harness::{Cluster, PATIENCE, wait_until};

#[test]
fn statistics_of_node_pods_and_containers() {
    let cluster = Cluster::start("api-stats", &["--kubelet-arg", "container-log-max-files=3"]);
    cluster.import_test_images();
    stats::all(&cluster);
}

#[test]
fn logs_on_disk_and_over_the_wire() {
    let cluster = Cluster::start(
        "api-logs",
        &[
            "--kubelet-arg",
            "container-log-max-size=100Ki",
            "--kubelet-arg",
            "container-log-max-files=100",
            "--kubelet-arg",
            "streaming-connection-idle-timeout=3s",
        ],
    );
    cluster.import_test_images();
    logs::all(&cluster);
    streams::an_idle_stream_is_closed(&cluster);
    logs::killall_removes_logs_of_its_own_pods(&cluster);
}

#[test]
fn streams_into_containers() {
    let cluster = Cluster::start("api-streams", &[]);
    cluster.import_test_images();
    streams::all(&cluster);
}

/// Makes a pod of one container `c` with this shell line, and more of its specification.
fn pod(cluster: &Cluster, namespace: &str, name: &str, line: &str, more: &str) {
    let line = serde_json::Value::from(line);
    let pod = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"{name}"}}}},
        "spec":{{"terminationGracePeriodSeconds":1,"containers":[{{"name":"c","image":"busybox:1.36",
        "command":["sh","-c",{line}]{more}}}]}}}}"#
    );
    cluster.apply(namespace, &pod);
}

/// kubectl with these arguments until its output is as wanted; gives the output.
fn until(cluster: &Cluster, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    let done = wait_until(PATIENCE, || {
        let output = cluster.kubectl_command(arguments).output().expect("kubectl runs");
        last = harness::show(&output);
        output.status.success() && {
            last = String::from_utf8_lossy(&output.stdout).into_owned();
            wanted(&last)
        }
    });
    assert!(done, "kubectl {}\n{last}\n{}", arguments.join(" "), cluster.tail());
    last
}

/// The kubectl of every version at hand, by name.
fn kubectls() -> Vec<(String, PathBuf)> {
    let found =
        Command::new("sh").args(["-c", "readlink -f \"$(command -v kubectl)\""]).output().expect("sh runs");
    let path = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim().to_owned());
    let beside = std::fs::read_dir(path.parent().expect("has a directory")).into_iter().flatten().flatten();
    let name = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut all: Vec<(String, PathBuf)> = beside
        .map(|entry| entry.path())
        .map(|path| (name(&path), path))
        .filter(|(name, _)| name.starts_with("kubectl.1."))
        .collect();
    if let Some(newest) = std::env::var_os("KEDGE_TEST_KUBECTL") {
        all.push(("newest".into(), newest.into()));
    }
    all.push(("kubectl".into(), path));
    all.sort();
    all
}

/// A command of one kubectl on the cluster.
fn with_kubectl(cluster: &Cluster, program: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = cluster.host.command(program);
    command
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("KUBECACHEDIR", cluster.host.directory.path().join("cache"))
        .args(arguments);
    command
}
