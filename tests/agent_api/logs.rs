//! Logs on disk and over the wire.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::{Cluster, wait_for};
use crate::{pod, until};

/// All cases.
pub fn all(cluster: &Cluster) {
    let ns = cluster.namespace("logs");
    pod(cluster, &ns, "crash", "echo attempt; exit 1", "");
    nothing_is_lost_while_logs_rotate(cluster, &ns);
    which_part_of_a_log(cluster, &ns);
    lines_of_all_kinds(cluster, &ns);
    containers_of_all_kinds(cluster, &ns);
    dead_containers_are_collected(cluster, &ns);
    links_and_logs_go_with_their_pod(cluster, &ns);
}

fn log(cluster: &Cluster, ns: &str, arguments: &[&str]) -> String {
    cluster.kubectl(&[&["logs", "-n", ns], arguments].concat())
}

fn nothing_is_lost_while_logs_rotate(cluster: &Cluster, ns: &str) {
    let count = 30_000;
    let line = format!(
        "echo ready; until [ -e /tmp/go ]; do sleep 0.1; done; \
         i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo $i; done; echo last; sleep 9999"
    );
    pod(cluster, ns, "writer", &line, "");
    cluster.wait_pod_ready(ns, "writer");
    let mut follower = cluster
        .kubectl_command(&["logs", "-f", "writer", "-n", ns])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut lines =
        BufReader::new(follower.stdout.take().expect("piped")).lines().map(|l| l.expect("a line"));
    assert_eq!(lines.next().as_deref(), Some("ready"));
    cluster.kubectl(&["exec", "writer", "-n", ns, "--", "touch", "/tmp/go"]);
    let mut expected = 0;
    for line in lines.by_ref() {
        if line == "last" {
            break;
        }
        expected += 1;
        assert_eq!(line, expected.to_string(), "a line is missing or comes twice");
    }
    assert_eq!(expected, count);
    let rotated = cluster.host.sh(&format!("ls /var/log/pods/{ns}_writer_*/c | grep -c '^0.log.'"));
    assert!(
        rotated.trim().parse::<u32>().is_ok_and(|n| n > 5),
        "it was rotated while it was read: {rotated}"
    );
    wait_for("all rotated logs but the newest to be compressed", || {
        let files = cluster.host.sh(&format!("ls /var/log/pods/{ns}_writer_*/c"));
        let plain = files.lines().filter(|f| f.starts_with("0.log.") && !f.ends_with(".gz"));
        plain.count() == 1 && files.lines().last().is_some_and(|f| !f.ends_with(".gz"))
    });
    let oldest = cluster
        .host
        .sh(&format!("zcat $(ls /var/log/pods/{ns}_writer_*/c/0.log.*.gz | head -n 1) | head -n 2"));
    assert!(oldest.ends_with(" stdout F 1\n"), "{oldest}");
    let size = cluster.host.sh(&format!("stat -c %s /var/log/pods/{ns}_writer_*/c/0.log"));
    assert!(size.trim().parse::<u32>().is_ok_and(|n| n <= 100 << 10), "{size}");
    cluster.kubectl(&["delete", "pod", "writer", "-n", ns]);
    let mut rest = String::new();
    for line in lines {
        rest.push_str(&line);
    }
    assert!(follower.wait().expect("it ends with its container").success() && rest.is_empty(), "{rest}");
}

fn which_part_of_a_log(cluster: &Cluster, ns: &str) {
    pod(cluster, ns, "part", "echo one; echo two >&2; sleep 2; echo three; sleep 9999", "");
    until(cluster, &["logs", "part", "-n", ns], |text| text == "one\ntwo\nthree\n");
    assert_eq!(log(cluster, ns, &["part", "--tail=1"]), "three\n");
    assert_eq!(log(cluster, ns, &["part", "--tail=0"]), "");
    assert_eq!(log(cluster, ns, &["part", "--limit-bytes=5"]), "one\nt");
    let stamped = log(cluster, ns, &["part", "--timestamps"]);
    let (time, text) = stamped.lines().last().and_then(|l| l.split_once(' ')).expect("a time");
    assert_eq!((text, time.len()), ("three", "2026-01-01T00:00:00.000000000Z".len()));
    assert_eq!(log(cluster, ns, &["part", &format!("--since-time={}Z", &time[..19])]), "three\n");
    assert_eq!(log(cluster, ns, &["part", "--since=1h"]), "one\ntwo\nthree\n");
    assert_eq!(log(cluster, ns, &["part", "--insecure-skip-tls-verify-backend"]), "one\ntwo\nthree\n");
    let raw = |query: &str| format!("/api/v1/namespaces/{ns}/pods/part/log?{query}");
    assert_eq!(cluster.kubectl(&["get", "--raw", &raw("stream=Stderr")]), "two\n");
    assert_eq!(cluster.kubectl(&["get", "--raw", &raw("stream=Stdout")]), "one\nthree\n");
    let wrong = cluster.kubectl_fails(&["get", "--raw", &raw("stream=Stdout&tailLines=1")]);
    assert!(wrong.contains("mutually exclusive for now"), "{wrong}");
}

fn lines_of_all_kinds(cluster: &Cluster, ns: &str) {
    let line = "head -c 50000 /dev/zero; echo; printf 'a\\000b\\377c\\n'; printf 'no end'";
    pod(cluster, ns, "lines", line, "");
    until(
        cluster,
        &["get", "pod", "lines", "-n", ns, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"],
        |n| !n.is_empty() && n != "0",
    );
    let output =
        cluster.kubectl_command(&["logs", "lines", "-n", ns, "--previous"]).output().expect("kubectl runs");
    let wanted = [&[0; 50_000][..], b"\na\0b\xffc\nno end"].concat();
    assert!(output.status.success() && output.stdout == wanted, "{} bytes", output.stdout.len());
    cluster.kubectl(&["delete", "pod", "lines", "-n", ns]);
}

fn containers_of_all_kinds(cluster: &Cluster, ns: &str) {
    let manifest = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"many"},"spec":{
        "terminationGracePeriodSeconds":1,
        "initContainers":[{"name":"i","image":"busybox:1.36","command":["echo","prepared"]}],
        "containers":[{"name":"a","image":"busybox:1.36","command":["sh","-c","echo from a; sleep 9999"]},
        {"name":"b","image":"busybox:1.36","command":["sh","-c","echo from b; sleep 9999"]},
        {"name":"w","image":"none.invalid/none:1","imagePullPolicy":"Never"}]}}"#;
    cluster.apply(ns, manifest);
    let waiting = "jsonpath={.status.containerStatuses[2].state.waiting.reason}";
    until(cluster, &["get", "pod", "many", "-n", ns, "-o", waiting], |reason| reason == "ErrImageNeverPull");
    until(cluster, &["logs", "many", "-c", "b", "-n", ns], |text| text == "from b\n");
    assert_eq!(log(cluster, ns, &["many", "-c", "i"]), "prepared\n");
    until(cluster, &["logs", "many", "-c", "a", "-n", ns], |text| text == "from a\n");
    let waits = cluster.kubectl_fails(&["logs", "many", "-c", "w", "-n", ns]);
    let wanted = "container \"w\" in pod \"many\" is waiting to start: ErrImageNeverPull";
    assert!(waits.contains(wanted), "{waits}");
    let previous = cluster.kubectl_fails(&["logs", "many", "-c", "a", "-p", "-n", ns]);
    assert!(previous.contains("previous terminated container \"a\" in pod \"many\" not found"), "{previous}");
    let raw = cluster.kubectl_fails(&["get", "--raw", &format!("/api/v1/namespaces/{ns}/pods/many/log")]);
    assert!(raw.contains("a container name must be specified for pod many, choose one of: [a b w]"), "{raw}");
    cluster.kubectl(&["delete", "pod", "many", "-n", ns]);
}

/// `crash` was made first, so that it has been restarted often by now.
fn dead_containers_are_collected(cluster: &Cluster, ns: &str) {
    let count = "jsonpath={.status.containerStatuses[0].restartCount}";
    let restarts = until(cluster, &["get", "pod", "crash", "-n", ns, "-o", count], |n| {
        n.parse().is_ok_and(|n: u32| n >= 2)
    });
    let newest: u32 = restarts.parse().expect("a number");
    assert_eq!(log(cluster, ns, &["crash", "--previous"]), "attempt\n");
    let files = cluster.host.sh(&format!("ls /var/log/pods/{ns}_crash_*/c"));
    let numbers: Vec<u32> =
        files.lines().map(|f| f.trim_end_matches(".log").parse().expect("a number")).collect();
    assert!(numbers.len() == 2 && numbers[0] + 1 == numbers[1] && numbers[1] >= newest, "{files}");
    let links = cluster.host.sh(&format!("ls /var/log/containers | grep -c '^crash_{ns}_c-'"));
    assert_eq!(links.trim(), "2");
    let id = cluster.kubectl(&["get", "pod", "crash", "-n", ns, "-o", "jsonpath={.metadata.uid}"]);
    let groups = cluster
        .host
        .sh(&format!("find /sys/fs/cgroup -path '*pod{id}/*' -type d -printf '%f\\n' | sort -u | wc -l"));
    assert!(groups.trim().parse::<u32>().is_ok_and(|n| n <= 2), "{groups}");
    cluster.kubectl(&["delete", "pod", "crash", "-n", ns]);
}

/// The last of all: it ends the node.
pub fn killall_removes_logs_of_its_own_pods(cluster: &Cluster) {
    let ns = cluster.namespace("killed");
    pod(cluster, &ns, "left", "echo here; sleep 9999", "");
    until(cluster, &["logs", "left", "-n", &ns], |text| text == "here\n");
    let foreign = format!("/var/log/pods/{ns}_foreign_{}", cluster.mark());
    std::fs::create_dir_all(&foreign).expect("made");
    let left = || {
        let list = format!("ls -d /var/log/containers/*_{ns}_* /var/log/pods/{ns}_* 2>/dev/null || true");
        cluster.host.sh(&list)
    };
    cluster.stop_server();
    assert_eq!(left().lines().count(), 3, "a link and two directories: {}", left());
    let output = cluster.kedge(&["killall"]).output().expect("kedge runs");
    assert!(output.status.success(), "{}", crate::harness::show(&output));
    let after = left();
    std::fs::remove_dir(&foreign).expect("removed");
    assert_eq!(after.trim(), foreign);
}

fn links_and_logs_go_with_their_pod(cluster: &Cluster, ns: &str) {
    let link = format!("/var/log/containers/part_{ns}_c-*.log");
    let text = cluster.host.sh(&format!("cat {link}"));
    assert!(text.lines().any(|l| l.ends_with(" stderr F two")), "{text}");
    cluster.kubectl(&["delete", "pod", "part", "-n", ns]);
    wait_for("the logs of a deleted pod to be gone", || {
        let left = format!("ls -d /var/log/containers/*_{ns}_* /var/log/pods/{ns}_* 2>/dev/null | wc -l");
        cluster.host.sh(&left).trim() == "0"
    });
}
