//! What needs a machine of one's own: its clock is set, its memory runs out. The test runs itself again inside
//! a guest, whose clock is nobody else's.

use std::time::SystemTime;

use serde_json::json;

use crate::harness::{Cluster, show, wait_for};
use crate::support::{Place, container, one, with};
use crate::vm;

/// Set inside the guest.
const INSIDE: &str = "KEDGE_TEST_OWN_MACHINE";

/// Runs `test` in a guest: this executable again, with the test of this name alone.
pub fn alone(name: &str, test: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let executable = std::env::current_exe().expect("this test");
    let output = vm::run_test_with(&executable, &["--exact", name], &[(INSIDE, "1")], crate::PATIENCE);
    assert_eq!(vm::passed(&output), 1);
}

fn set_clock(words: &str) {
    let output = std::process::Command::new("date").args(["-s", words]).output().expect("date runs");
    assert!(output.status.success(), "{}", show(&output));
}

pub fn clock() {
    let truth = SystemTime::now();
    set_clock("@100");
    let cluster = Cluster::launched("clock", &[]);
    wait_for("the word about the clock", || {
        cluster.log().contains("the clock of this machine says 1970-01-01")
    });
    let status = cluster.kedge(&["status"]).output().expect("kedge runs");
    assert!(show(&status).contains("waiting until it is set, by NTP, by hand"), "{}", show(&status));
    let seconds = truth.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs();
    set_clock(&format!("@{seconds}"));
    cluster.wait_ready();
    assert!(cluster.log().contains("the clock of this machine has been set"), "{}", cluster.tail());
    cluster.import_test_images();

    let place = Place::new(&cluster, "clock");
    pods(&place);
    let before = Before::of(&place);
    for words in ["+3 hours", "-3 hours"] {
        set_clock(words);
        undisturbed(&place, &before, words);
    }
    // Those that were told to end after a time do so when that has passed, and not before.
    place.wait("deadline", "{.status.phase} {.status.reason}", "Failed DeadlineExceeded");
    assert!(uptime() - began(&place) >= f64::from(DEADLINE), "{} s of {DEADLINE}", uptime() - began(&place));
    out_of_memory(&place);
}

/// Seconds a pod may be active; in the guest everything before takes less.
const DEADLINE: u32 = 90;

fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").expect("read");
    text.split(' ').next().expect("a number").parse().expect("a number")
}

fn pods(place: &Place) {
    let spec = json!({"activeDeadlineSeconds": DEADLINE, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [container(json!({}))]});
    let metadata = json!({"name": "deadline", "labels": {"began": uptime().to_string()}});
    place.make("Pod", "deadline", json!({"metadata": metadata, "spec": spec}));
    let exec = |command: &str| json!({"exec": {"command": ["sh", "-c", command]}, "periodSeconds": 2, "timeoutSeconds": 30});
    let probed =
        one(json!({"livenessProbe": exec("true"), "readinessProbe": exec("test -e /www/index.html")}));
    let token = json!({"volumes": [{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}]});
    let tokens = with(one(json!({"volumeMounts": [{"name": "t", "mountPath": "/t"}]})), token);
    let crashing = json!({"containers": [container(json!({"command": ["false"]}))]});
    place.pods(&[("probed", probed), ("tokens", tokens), ("crashing", crashing)]);
    for pod in ["probed", "tokens", "deadline"] {
        place.ready(pod);
    }
    place.wait("crashing", "{.status.containerStatuses[0].restartCount}", "2");
}

/// What a clock that is set must not change.
struct Before {
    token: String,
    ready_since: String,
    containers: String,
}

impl Before {
    fn of(place: &Place) -> Self {
        Self { token: token(place), ready_since: ready_since(place), containers: containers(place) }
    }
}

fn token(place: &Place) -> String {
    place.exec("tokens", "cat /t/token")
}

fn ready_since(place: &Place) -> String {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")]['status','lastTransitionTime']}";
    place.cluster.kubectl(&["get", "node", "node-1", "-o", path])
}

/// The containers that are to live on, and how often they were started again.
fn containers(place: &Place) -> String {
    let path = "jsonpath={range .items[?(@.metadata.name!=\"crashing\")]}{.status.containerStatuses[0].containerID} \
                {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}\n{end}";
    place.cluster.kubectl(&["get", "pods", "-n", &place.ns, "-o", path])
}

fn undisturbed(place: &Place, before: &Before, words: &str) {
    let cluster = place.cluster;
    back_off_holds(place, words);
    wait_for("a new token", || token(place) != before.token);
    let new = token(place);
    let who = cluster.kubectl(&[
        "auth",
        "whoami",
        "--kubeconfig",
        "/dev/null",
        "--insecure-skip-tls-verify",
        "--server",
        "https://127.0.0.1:6443",
        "--token",
        &new,
        "-o",
        "jsonpath={.status.userInfo.username}",
    ]);
    assert_eq!(who, format!("system:serviceaccount:{}:default", place.ns), "{words}");
    let lease = || {
        cluster.kubectl(&[
            "get",
            "lease",
            "node-1",
            "-n",
            "kube-node-lease",
            "-o",
            "jsonpath={.spec.renewTime}",
        ])
    };
    for _ in 0..2 {
        let last = lease();
        wait_for("the next heartbeat", || lease() != last);
    }
    back_off_holds(place, words);
    assert_eq!(ready_since(place), before.ready_since, "{words}");
    assert_eq!(containers(place), before.containers, "{words}");
    assert_eq!(place.get("deadline", "{.status.phase}"), "Running", "{words}");
    let reasons = cluster.kubectl(&["get", "events", "-A", "-o", "jsonpath={..reason}"]);
    for bad in ["NodeNotReady", "Evicted", "Unhealthy", "TaintManagerEviction"] {
        assert!(!reasons.split(' ').any(|r| r == bad), "{words}: {bad} in {reasons}");
    }
}

/// The first restart comes at once; pauses of 10, 20, 40 s and so on lie before the others.
fn back_off_holds(place: &Place, words: &str) {
    let passed = uptime() - began(place);
    let restarts = place.get("crashing", "{.status.containerStatuses[0].restartCount}");
    let restarts: i32 = restarts.parse().expect("a number");
    let pauses = 10.0 * (2f64.powi(restarts - 1) - 1.0);
    assert!(pauses <= passed, "{words}: {restarts} restarts in {passed} s");
}

/// When the pods were made.
fn began(place: &Place) -> f64 {
    place.get("deadline", "{.metadata.labels.began}").parse().expect("a number")
}

/// The kernel is told to end somebody for want of memory: the pod that asked for nothing is it.
fn out_of_memory(place: &Place) {
    std::fs::write("/proc/sysrq-trigger", "f").expect("the kernel is told");
    let mut told = String::new();
    wait_for("the event", || {
        told = place.cluster.kubectl(&[
            "get",
            "events",
            "--field-selector",
            "reason=SystemOOM",
            "-o",
            "jsonpath={.items[*].type} {.items[*].involvedObject.kind} {.items[*].message}",
        ]);
        told.trim() != ""
    });
    let pid = told.strip_prefix("Warning Node System OOM encountered, victim process: sleep, pid: ");
    assert!(pid.is_some_and(|pid| pid.parse::<u32>().is_ok()), "{told}");
}
