//! Security contexts of pods: the real executable, real containers, real kubectl. Needs root.
//!
//! What confines a container confines what is executed in it, by people and by probes alike: each is asked
//! for its own `/proc/self`.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
#[allow(dead_code, reason = "the images serve other tests too")]
mod images;
#[path = "agent_support/mod.rs"]
mod support;

use std::fs;

use harness::Cluster;
use serde_json::{Value, json};
use support::{Place, one, with};

#[test]
fn security_contexts() {
    let cluster = Cluster::start(
        "security",
        &["--kubelet-arg=seccomp-default=true", "--kubelet-arg=eviction-hard=nodefs.available<1Mi"],
    );
    cluster.import_test_images();
    let profiles = cluster.data_dir().join("agent/seccomp/mine");
    fs::create_dir_all(&profiles).expect("directory");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    fs::write(profiles.join("nodirs.json"), profile).expect("written");
    let place = Place::new(&cluster, "security");
    place.pods(&pods());
    confined_alike(&place);
    users_and_groups(&place);
    nobody_becomes_root(&place);
    capabilities_and_privileges(&place);
    system_calls(&place);
    parameters_of_the_kernel(&place);
    what_this_node_cannot_enforce(&place);
}

/// A container with this security context, in a pod with that one.
fn secured(container: Value, pod: Value) -> Value {
    with(one(json!({"securityContext": container})), json!({"securityContext": pod}))
}

fn of_image(image: &str, context: Value) -> Value {
    with(one(json!({"image": image})), json!({"securityContext": context}))
}

fn pods() -> Vec<(&'static str, Value)> {
    let probe = json!({"exec": {"command": ["sh", "-c", SELF_TO_FILE]}, "periodSeconds": 1});
    let mut confined = one(
        json!({"readinessProbe": probe, "volumeMounts": [{"name": "t", "mountPath": "/tmp"}],
        "securityContext": {"runAsUser": 1234, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "seccompProfile": {"type": "RuntimeDefault"}}}),
    );
    confined["securityContext"] = json!({"runAsUser": 1, "runAsGroup": 2345, "supplementalGroups": [3456], "fsGroup": 4567,
        "runAsNonRoot": true});
    confined["volumes"] = json!([{"name": "t", "emptyDir": {}}]);
    let local = |file: &str| {
        secured(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": file}}), json!({}))
    };
    let sysctls = json!([{"name": "kernel.shm_rmid_forced", "value": "1"}, {"name": "net.ipv4.ip_local_port_range", "value": "2000 3000"}]);
    vec![
        ("confined", confined),
        ("plain", one(json!({}))),
        ("free", secured(json!({"seccompProfile": {"type": "Unconfined"}}), json!({}))),
        ("byname", of_image("busybox:web", json!({}))),
        (
            "strict",
            of_image(
                "busybox:web",
                json!({"supplementalGroupsPolicy": "Strict", "supplementalGroups": [77]}),
            ),
        ),
        (
            "merge",
            of_image("busybox:web", json!({"supplementalGroupsPolicy": "Merge", "supplementalGroups": [77]})),
        ),
        ("byuid", secured(json!({"runAsUser": 1000}), json!({}))),
        ("bygroup", secured(json!({"runAsUser": 1000, "runAsGroup": 5}), json!({}))),
        ("root", secured(json!({}), json!({"runAsNonRoot": true}))),
        ("rootuser", secured(json!({"runAsUser": 0}), json!({"runAsNonRoot": true}))),
        ("nonumber", of_image("busybox:web", json!({"runAsNonRoot": true}))),
        ("number", of_image("busybox:1000", json!({"runAsNonRoot": true}))),
        (
            "caps",
            secured(
                json!({"capabilities": {"add": ["NET_ADMIN", "CAP_SYS_TIME"], "drop": ["CHOWN"]}}),
                json!({}),
            ),
        ),
        ("privileged", secured(json!({"privileged": true}), json!({}))),
        ("local", local("mine/nodirs.json")),
        ("nolocal", local("mine/none.json")),
        ("sysctls", secured(json!({}), json!({"sysctls": sysctls}))),
        ("unconfined", secured(json!({"appArmorProfile": {"type": "Unconfined"}}), json!({}))),
        ("apparmor", secured(json!({"appArmorProfile": {"type": "RuntimeDefault"}}), json!({}))),
        ("users", with(one(json!({})), json!({"hostUsers": false}))),
    ]
}

/// All that confines the process that runs it.
const SELF: &str = "busybox egrep '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|SigIgn|SigBlk):' /proc/self/status; \
    cat /proc/self/cgroup /proc/self/limits /proc/self/oom_score_adj; pwd; env | busybox sort; \
    for n in mnt net pid ipc uts cgroup; do readlink /proc/self/ns/$n; done";
const SELF_TO_FILE: &str = "busybox egrep '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|SigIgn|SigBlk):' /proc/self/status > /tmp/new; \
    cat /proc/self/cgroup /proc/self/limits /proc/self/oom_score_adj >> /tmp/new; pwd >> /tmp/new; env | busybox sort >> /tmp/new; \
    for n in mnt net pid ipc uts cgroup; do readlink /proc/self/ns/$n >> /tmp/new; done; busybox mv /tmp/new /tmp/probe";

fn status(place: &Place, pod: &str, key: &str) -> String {
    let line = place.exec(pod, &format!("busybox grep ^{key}: /proc/self/status"));
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

fn confined_alike(place: &Place) {
    place.ready("confined");
    let own = place.exec("confined", SELF);
    for line in [
        "Uid:\t1234\t1234\t1234\t1234",
        "Gid:\t2345\t2345\t2345\t2345",
        "Groups:\t2345 3456 4567",
        "CapBnd:\t0000000000000400",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(own.lines().any(|l| l.trim_end() == line), "{line}: {own}");
    }
    // Process 1 is the container's own; variables of shells apart, all are the same.
    let of_first =
        place.exec("confined", &SELF.replace("self", "1").replace("; pwd; env | busybox sort", ""));
    let without_shell = |text: &str| -> Vec<String> {
        let lines =
            text.lines().filter(|l| !["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|v| l.starts_with(v)));
        lines.map(str::to_owned).collect()
    };
    let own = without_shell(&own);
    for line in without_shell(&of_first) {
        assert!(own.contains(&line), "{line} of the container is not of what is executed in it: {own:?}");
    }
    let probed = without_shell(&place.exec("confined", "cat /tmp/probe"));
    assert_eq!(probed, own, "a probe is confined as an exec is");
    let written = place.exec("confined", "touch /x 2>&1; touch /tmp/y && busybox stat -c %g /tmp/y");
    assert_eq!(written, "touch: /x: Read-only file system\n4567\n");
}

fn users_and_groups(place: &Place) {
    for (pod, expected) in [
        ("byname", "uid=1000(web) gid=1000(web) groups=4(logs),1000(web)"),
        ("strict", "uid=1000(web) gid=1000(web) groups=77,1000(web)"),
        ("merge", "uid=1000(web) gid=1000(web) groups=4(logs),77,1000(web)"),
        ("byuid", "uid=1000(web) gid=1000(web) groups=4(logs),1000(web)"),
        ("bygroup", "uid=1000(web) gid=5 groups=4(logs),5"),
        ("number", "uid=1000(web) gid=1000(web) groups=4(logs),1000(web)"),
        ("plain", "uid=0(root) gid=0(root) groups=0(root)"),
    ] {
        place.ready(pod);
        assert_eq!(place.exec(pod, "id").trim_end(), expected, "{pod}");
    }
}

fn nobody_becomes_root(place: &Place) {
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}: {.status.containerStatuses[0].state.waiting.message}";
    for (pod, problem) in [
        ("root", "container has runAsNonRoot and image will run as root"),
        ("rootuser", "container's runAsUser breaks non-root policy"),
        (
            "nonumber",
            "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root",
        ),
    ] {
        let full = format!("{pod}_{}({})", place.ns, place.get(pod, "{.metadata.uid}"));
        let problem = format!("{problem} (pod: \"{full}\", container: c)");
        place.wait(pod, waiting, &format!("CreateContainerConfigError: {problem}"));
        place.event(pod, &format!("Failed: Error: {problem}"));
    }
}

fn capabilities_and_privileges(place: &Place) {
    place.ready("caps");
    // The default less CHOWN (0), with NET_ADMIN (12) and SYS_TIME (25).
    assert_eq!(status(place, "caps", "CapEff"), "00000000aa0435fa");
    assert_eq!(status(place, "plain", "CapEff"), "00000000a80425fb");
    let look = "echo 1 > /proc/sys/vm/overcommit_ratio; touch /sys/x; busybox wc -c < /proc/timer_list; ls /sys/firmware";
    let seen =
        place.cluster.kubectl_command(&["exec", "plain", "-n", &place.ns, "--", "sh", "-c", look]).output();
    let seen = seen.expect("kubectl runs");
    assert!(
        String::from_utf8_lossy(&seen.stderr).matches("Read-only file system").count() >= 2,
        "{}",
        harness::show(&seen)
    );
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "0\n", "what is masked is empty");
    place.ready("privileged");
    let all = fs::read_to_string("/proc/self/status").expect("readable");
    let all = all.lines().find_map(|l| l.strip_prefix("CapBnd:")).expect("a line").trim().to_owned();
    assert_eq!(status(place, "privileged", "CapEff"), all);
    assert_eq!(status(place, "privileged", "Seccomp"), "0", "privileged containers are not filtered");
    let seen = place
        .exec("privileged", "test -w /sys/fs/cgroup && mount -t tmpfs x /tmp && ls /dev | busybox wc -l");
    let devices = fs::read_dir("/dev").expect("readable").count();
    assert!(seen.trim().parse::<usize>().is_ok_and(|n| n > devices / 2), "{seen} of {devices}");
}

fn system_calls(place: &Place) {
    for (pod, expected) in [("plain", "2"), ("free", "0"), ("local", "2")] {
        place.ready(pod);
        assert_eq!(status(place, pod, "Seccomp"), expected, "{pod}");
    }
    let denied = place.exec("local", "mkdir /tmp/x 2>&1 || true");
    assert!(denied.contains("No space left on device"), "{denied}");
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    place.wait("nolocal", waiting, "CreateContainerError");
    let message = place.get("nolocal", "{.status.containerStatuses[0].state.waiting.message}");
    assert!(message.contains("agent/seccomp/mine/none.json"), "{message}");
}

fn parameters_of_the_kernel(place: &Place) {
    place.ready("sysctls");
    let read = "cat /proc/sys/kernel/shm_rmid_forced; busybox tr -s '\\t' ' ' < /proc/sys/net/ipv4/ip_local_port_range";
    assert_eq!(place.exec("sysctls", read), "1\n2000 3000\n");
    assert_ne!(place.exec("plain", read), "1\n2000 3000\n");
}

fn what_this_node_cannot_enforce(place: &Place) {
    place.ready("unconfined");
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if enabled.is_ok_and(|text| text.starts_with('Y')) {
        place.ready("apparmor");
    } else {
        let seen = "{.status.message}{.status.containerStatuses[0].state.waiting.message}";
        let text = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        place.until("apparmor", seen, |message| message.contains(text));
    }
    place.event("users", "can't set `spec.hostUsers: false`, runtime does not support user namespaces");
}
