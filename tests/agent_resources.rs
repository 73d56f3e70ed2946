//! What pods may use of a node: control groups, limits, who pays when memory or disk run out. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use harness::{Cluster, wait_for};

/// The shares, weights and limits of one group, by the names of version 1.
struct Group {
    name: String,
}

impl Group {
    fn unified() -> bool {
        Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
    }

    fn directory(&self, controller: &str) -> PathBuf {
        let root =
            if Self::unified() { "/sys/fs/cgroup".into() } else { format!("/sys/fs/cgroup/{controller}") };
        Path::new(&root).join(&self.name)
    }

    fn read(&self, controller: &str, version_1: &str, version_2: &str) -> String {
        let file = if Self::unified() { version_2 } else { version_1 };
        let path = self.directory(controller).join(file);
        let text = std::fs::read_to_string(&path);
        text.unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
    }

    fn below(&self, name: &str) -> Self {
        Self { name: format!("{}/{name}", self.name) }
    }

    /// CPU shares, or the weight that they make.
    fn shares(&self, version_1: &str, version_2: &str) {
        let expected = if Self::unified() { version_2 } else { version_1 };
        assert_eq!(self.read("cpu", "cpu.shares", "cpu.weight"), expected, "{}", self.name);
    }

    fn memory_limit(&self) -> String {
        self.read("memory", "memory.limit_in_bytes", "memory.max")
    }

    /// CPU time a period of 100 ms in microseconds; `-1` without limit.
    fn quota(&self) -> String {
        let text = self.read("cpu", "cpu.cfs_quota_us", "cpu.max");
        text.split(' ').next().unwrap_or_default().replace("max", "-1")
    }
}

/// The group of all pods of a cluster's node.
fn pods_group(cluster: &Cluster) -> Group {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(cluster.data_dir().as_os_str().as_encoded_bytes());
    Group { name: format!("kedge-{}/kubepods", hex::encode(&digest[..4])) }
}

fn pod(cluster: &Cluster, namespace: &str, name: &str, spec: &str) {
    let pod = format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{spec}}}"#);
    cluster.apply(namespace, &pod);
}

fn get(cluster: &Cluster, namespace: &str, pod: &str, path: &str) -> String {
    cluster.kubectl(&["get", "pod", pod, "-n", namespace, "-o", &format!("jsonpath={path}")])
}

fn wait(cluster: &Cluster, namespace: &str, pod: &str, path: &str, expected: &str) {
    cluster.wait_jsonpath(&["pod", pod, "-n", namespace], path, expected);
}

/// A pod's specification with one container that runs `command` with these resources.
fn spec(command: &str, resources: &str) -> String {
    format!(
        r#"{{"terminationGracePeriodSeconds":0,"restartPolicy":"Never","containers":[{{"name":"c","image":"busybox:1.36",
        "command":["sh","-c","{command}"],"resources":{resources}}}]}}"#
    )
}

#[test]
fn what_pods_may_use() {
    let flags = [
        "--kubelet-arg=system-reserved=cpu=250m,memory=64Mi",
        "--kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<1Mi",
        "--kubelet-arg=pod-max-pids=77",
    ];
    let cluster = Cluster::start("resources", &flags);
    cluster.import_test_images();
    let namespace = cluster.namespace("resources");
    the_node_tells_what_it_has_for_pods(&cluster);
    groups_are_kubelets(&cluster, &namespace);
    who_runs_out_of_memory_is_told(&cluster, &namespace);
    limits_of_storage_are_enforced(&cluster, &namespace);
    nothing_is_left(&cluster, &namespace);
}

fn quantity(text: &str) -> u64 {
    let kib = text.strip_suffix("Ki").map(|t| t.parse::<u64>().expect("a number") << 10);
    kib.unwrap_or_else(|| text.parse().expect("a number"))
}

fn the_node_tells_what_it_has_for_pods(cluster: &Cluster) {
    let node = |path: &str| cluster.kubectl(&["get", "node", "node-1", "-o", &format!("jsonpath={path}")]);
    let (capacity, allocatable) = (node("{.status.capacity.memory}"), node("{.status.allocatable.memory}"));
    // Half a page may be lost to rounding.
    let taken = quantity(&capacity) - quantity(&allocatable);
    assert!(
        taken.abs_diff((64 + 100) << 20) < 4096,
        "{capacity} {allocatable}: 64 MiB reserved, 100 MiB kept free"
    );
    let cpus: u64 = node("{.status.capacity.cpu}").parse().expect("a number");
    assert_eq!(node("{.status.allocatable.cpu}"), format!("{}m", cpus * 1000 - 250));
    let storage =
        [node("{.status.capacity.ephemeral-storage}"), node("{.status.allocatable.ephemeral-storage}")];
    let [all, some] = storage.map(|q| quantity(&q));
    assert_eq!(some, all - (1 << 20), "1 MiB is kept free");
    let limit: u64 = pods_group(cluster).memory_limit().parse().expect("a number");
    assert!(limit.abs_diff(quantity(&capacity) - (64 << 20)) < 8192, "what is not reserved: {limit}");
    let most = |file: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{file}")).expect("read");
        text.trim().parse::<u64>().expect("a number")
    };
    let pids = most("pid_max").min(most("threads-max"));
    assert_eq!(pods_group(cluster).read("pids", "pids.max", "pids.max"), pids.to_string());
    wait_for("the node's events", || {
        let events = cluster.kubectl(&["get", "events", "-o", "jsonpath={..reason}"]);
        events.contains("NodeAllocatableEnforced") && events.contains("NodeHasSufficientMemory")
    });
}

fn groups_are_kubelets(cluster: &Cluster, ns: &str) {
    let guaranteed = r#"{"limits":{"cpu":"150m","memory":"32Mi"}}"#;
    let burstable = r#"{"requests":{"cpu":"300m","memory":"16Mi"},"limits":{"memory":"64Mi"}}"#;
    pod(cluster, ns, "guaranteed", &spec("sleep 999", guaranteed));
    pod(cluster, ns, "burstable", &spec("sleep 999", burstable));
    pod(cluster, ns, "besteffort", &spec("sleep 999", "{}"));
    for name in ["guaranteed", "burstable", "besteffort"] {
        cluster.wait_pod_ready(ns, name);
    }
    let all = pods_group(cluster);
    let top = Group { name: all.name.trim_end_matches("/kubepods").to_owned() };
    let shares = |group: &Group| group.read("cpu", "cpu.shares", "cpu.weight");
    assert_eq!(shares(&top), shares(&all), "pods have their share of the machine");
    let of = |name: &str, class: &str| {
        let uid = get(cluster, ns, name, "{.metadata.uid}");
        let id = get(cluster, ns, name, "{.status.containerStatuses[0].containerID}");
        let pod = all.below(&format!("{class}pod{uid}"));
        let container = pod.below(id.trim_start_matches("kedge://"));
        (pod, container)
    };
    let (pod_group, container) = of("guaranteed", "");
    for group in [&pod_group, &container] {
        group.shares("153", "24");
        assert_eq!(group.quota(), "15000");
        assert_eq!(group.memory_limit(), (32 << 20).to_string());
    }
    assert_eq!(pod_group.read("pids", "pids.max", "pids.max"), "77");
    let (pod_group, container) = of("burstable", "burstable/");
    for group in [&pod_group, &container] {
        group.shares("307", "40");
        assert_eq!((group.quota().as_str(), group.memory_limit()), ("-1", (64 << 20).to_string()));
    }
    let (pod_group, container) = of("besteffort", "besteffort/");
    for group in [&pod_group, &container] {
        group.shares("2", "1");
        assert_eq!(group.quota(), "-1");
    }
    if Group::unified() {
        the_whole_container_is_killed(&pod_group, &container);
    }
    all.below("besteffort").shares("2", "1");
    // The class shares in the measure of what its pods ask for.
    all.below("burstable").shares("307", "40");
    pod(cluster, ns, "burstable-2", &spec("sleep 999", r#"{"requests":{"cpu":"200m"}}"#));
    let burstable = all.below("burstable");
    let expected = if Group::unified() { "59" } else { "512" };
    wait_for("the shares of both burstable pods", || {
        burstable.read("cpu", "cpu.shares", "cpu.weight") == expected
    });
    cluster.wait_pod_ready(ns, "burstable-2");
    let score = |name: &str| cluster.kubectl(&["exec", name, "-n", ns, "--", "cat", "/proc/1/oom_score_adj"]);
    assert_eq!(score("besteffort").trim(), "1000");
    let burstable: i32 = score("burstable").trim().parse().expect("a number");
    assert!((3..=999).contains(&burstable), "{burstable}");
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
}

/// In version 2 a container that is short of memory ends as one; neither pods nor classes do.
fn the_whole_container_is_killed(pod: &Group, container: &Group) {
    assert_eq!(container.read("memory", "", "memory.oom.group"), "1");
    assert_eq!(pod.read("memory", "", "memory.oom.group"), "0");
}

fn who_runs_out_of_memory_is_told(cluster: &Cluster, ns: &str) {
    let limited = r#"{"limits":{"memory":"16Mi"}}"#;
    pod(cluster, ns, "child", &spec("tail /dev/zero; exit 3", limited));
    let terminated = |field: &str| format!("{{.status.containerStatuses[0].state.terminated.{field}}}");
    wait(cluster, ns, "child", &terminated("reason"), "OOMKilled");
    // In version 2 the container ends as one, in version 1 the shell lives on and decides.
    let expected = if Group::unified() { "137" } else { "3" };
    assert_eq!(get(cluster, ns, "child", &terminated("exitCode")), expected);
    // The limit of the pod as a whole holds for its containers together.
    let whole = r#"{"terminationGracePeriodSeconds":0,"restartPolicy":"Never","resources":{"limits":{"memory":"32Mi"}},
        "containers":[{"name":"c","image":"busybox:1.36","command":["sh","-c","exec tail /dev/zero"]}]}"#;
    pod(cluster, ns, "whole", whole);
    wait(cluster, ns, "whole", &terminated("reason"), "OOMKilled");
    assert_eq!(get(cluster, ns, "whole", &terminated("exitCode")), "137");
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
}

fn limits_of_storage_are_enforced(cluster: &Cluster, ns: &str) {
    let fill = |file: &str| format!("dd if=/dev/zero of={file} bs=1M count=3; exec sleep 999");
    let volume = format!(
        r#"{{"terminationGracePeriodSeconds":0,"containers":[{{"name":"c","image":"busybox:1.36",
        "command":["sh","-c","{}"],"volumeMounts":[{{"name":"scratch","mountPath":"/scratch"}}]}}],
        "volumes":[{{"name":"scratch","emptyDir":{{"sizeLimit":"1Mi"}}}}]}}"#,
        fill("/scratch/f")
    );
    let two = format!(
        r#"{{"terminationGracePeriodSeconds":0,"containers":[{{"name":"small","image":"busybox:1.36","command":["sh","-c","{}"],
        "resources":{{"limits":{{"ephemeral-storage":"2Mi"}}}}}},{{"name":"large","image":"busybox:1.36",
        "command":["sleep","999"],"resources":{{"limits":{{"ephemeral-storage":"50Mi"}}}}}}]}}"#,
        fill("/tmp/f")
    );
    let storage = r#"{"limits":{"ephemeral-storage":"2Mi"}}"#;
    pod(cluster, ns, "volume", &volume);
    pod(cluster, ns, "whole", &spec(&fill("/tmp/f"), storage));
    pod(cluster, ns, "container", &two);
    pod(cluster, ns, "modest", &spec("echo x > /tmp/f; sleep 999", storage));
    for (name, message) in [
        ("volume", r#"Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". "#),
        ("whole", "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
        ("container", r#"Container small exceeded its local ephemeral storage limit "2Mi". "#),
    ] {
        wait(cluster, ns, name, "{.status.phase} {.status.reason}", "Failed Evicted");
        assert_eq!(get(cluster, ns, name, "{.status.message}"), message);
        let events = ["get", "events", "-n", ns, "--field-selector"];
        let selector = format!("involvedObject.name={name},reason=Evicted");
        wait_for("the event of the eviction", || {
            cluster.kubectl(&[&events[..], &[&selector, "-o", "jsonpath={..message}"]].concat()) == message
        });
        let disrupted =
            get(cluster, ns, name, "{.status.conditions[?(@.type==\"DisruptionTarget\")].status}");
        assert_eq!(disrupted, "", "it was its own doing");
    }
    assert_eq!(get(cluster, ns, "modest", "{.status.phase}"), "Running");
    // A pod that was evicted stays so.
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    cluster.wait_pod_ready(ns, "modest");
    assert_eq!(get(cluster, ns, "volume", "{.status.phase} {.status.reason}"), "Failed Evicted");
    let described = cluster.kubectl(&["describe", "pod", "volume", "-n", ns]);
    assert!(described.contains("Reason:           Evicted"), "{described}");
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
}

/// Of the pods' groups only those stay that are there before any pod.
fn nothing_is_left(cluster: &Cluster, ns: &str) {
    assert_eq!(cluster.kubectl(&["get", "pods", "-n", ns, "-o", "name"]), "");
    let root = pods_group(cluster);
    let controllers: &[&str] = if Group::unified() { &[""] } else { &["cpu", "memory", "pids"] };
    for controller in controllers {
        let mut left = BTreeSet::new();
        for directory in [root.directory(controller), root.below("burstable").directory(controller)] {
            let entries = std::fs::read_dir(directory).expect("the group is there").flatten();
            let directories = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            left.extend(directories.map(|e| e.file_name().to_string_lossy().into_owned()));
        }
        assert_eq!(left, ["besteffort", "burstable"].map(str::to_owned).into(), "{controller}");
    }
}
