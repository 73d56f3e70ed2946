//! Tests of runtime, network and agent once more, under a kernel with pure cgroup v2 and nothing loaded by
//! others: the same executables, in a virtual machine. Needs no root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;
#[path = "vm/machine.rs"]
mod machine;
#[path = "agent_support/mod.rs"]
mod support;
#[path = "vm/mod.rs"]
mod vm;

use std::sync::LazyLock;
use std::time::Duration;

/// A guest has one processor, its system calls are slow, and tests/run.sh lets others go first.
const PATIENCE: Duration = Duration::from_secs(900);

/// Integration tests that run in a guest, and which of their tests (none named: all).
const TABLE: &[(&str, &[&str])] = &[
    ("runtime_containers", &[]),
    ("runtime_sandboxes", &[]),
    ("runtime_security", &[]),
    ("agent_pods", &[]),
    ("agent_api", &["statistics_of_node_pods_and_containers"]),
    ("agent_volumes", &["mounts_and_devices"]),
    ("agent_eviction", &["memory"]),
    ("agent_resources", &[]),
    ("agent_life", &["statuses_reasons_and_events", "static_pods"]),
    ("agent_probes", &[]),
    ("agent_env", &[]),
    ("agent_security", &[]),
    ("network_pods", &[]),
    ("network_services", &[]),
];

static EXECUTABLES: LazyLock<Vec<std::path::PathBuf>> = LazyLock::new(|| {
    let names: Vec<_> = TABLE.iter().map(|(name, _)| *name).collect();
    vm::executables(&names)
});

fn in_a_guest(name: &str) {
    let row = TABLE.iter().position(|(n, _)| *n == name).expect("a row of the table");
    let output = vm::run_test(&EXECUTABLES[row], TABLE[row].1, PATIENCE);
    println!("{name}: {} passed", vm::passed(&output));
}

#[test]
fn the_guest_has_cgroup_v2_alone_and_tells_how_a_job_ended() {
    let script =
        "cat /proc/self/cgroup; stat -f -c %T /sys/fs/cgroup; cat /sys/fs/cgroup/cgroup.controllers; exit 3";
    let output = vm::run(script, PATIENCE);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("0::/init.scope\ncgroup2fs\n"), "{text}");
    for controller in ["cpu", "io", "memory", "pids"] {
        assert!(text.split_whitespace().any(|word| word == controller), "{controller}: {text}");
    }
    assert_eq!(
        vm::run("sleep 99", Duration::from_secs(3)).status.code(),
        Some(97),
        "a guest that hangs ends"
    );
}

#[test]
fn containers() {
    in_a_guest("runtime_containers");
}

#[test]
fn sandboxes() {
    in_a_guest("runtime_sandboxes");
}

#[test]
fn security() {
    in_a_guest("runtime_security");
}

#[test]
fn pods() {
    in_a_guest("agent_pods");
}

#[test]
fn statistics() {
    in_a_guest("agent_api");
}

#[test]
fn volumes() {
    in_a_guest("agent_volumes");
}

#[test]
fn eviction() {
    in_a_guest("agent_eviction");
}

#[test]
fn resources() {
    in_a_guest("agent_resources");
}

#[test]
fn life() {
    in_a_guest("agent_life");
}

#[test]
fn probes() {
    in_a_guest("agent_probes");
}

#[test]
fn environment() {
    in_a_guest("agent_env");
}

#[test]
fn security_of_pods() {
    in_a_guest("agent_security");
}

#[test]
fn network() {
    in_a_guest("network_pods");
}

#[test]
fn services() {
    in_a_guest("network_services");
}

#[test]
fn a_clock_that_is_set_disturbs_nothing() {
    machine::alone("a_clock_that_is_set_disturbs_nothing", machine::clock);
}
