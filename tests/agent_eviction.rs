//! Evictions by the node's pressure: whom, why, and what follows. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;

use harness::{Cluster, wait_for};

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

fn wait_condition(cluster: &Cluster, condition: &str, expected: &str) {
    let path = format!("{{.status.conditions[?(@.type==\"{condition}\")].status}}");
    cluster.wait_jsonpath(&["node", "node-1"], &path, expected);
}

/// A container that runs a shell line, with a volume of its own at `/v`.
fn spec(line: &str, medium: &str, rest: &str) -> String {
    format!(
        r#"{{"terminationGracePeriodSeconds":60,"containers":[{{"name":"c","image":"busybox:1.36","command":["sh","-c","{line}"],
        "volumeMounts":[{{"name":"v","mountPath":"/v"}}]{rest}}}],"volumes":[{{"name":"v","emptyDir":{{{medium}}}}}]}}"#
    )
}

const MEMORY: &str = r#""medium":"Memory""#;

#[test]
fn memory_is_won_back_from_who_uses_more_than_it_asked_for() {
    // All pods together get 300 MiB, of which 100 are to stay free.
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("read");
    let total = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:")).expect("there");
    let total: u64 = total.trim().trim_end_matches(" kB").parse().expect("a number");
    let reserved = format!("--kubelet-arg=system-reserved=memory={}Ki", total - (300 << 10));
    let flags = [
        reserved.as_str(),
        "--kubelet-arg=eviction-hard=memory.available<100Mi",
        "--kubelet-arg=eviction-pressure-transition-period=15s",
    ];
    let cluster = Cluster::start("memory", &flags);
    cluster.import_test_images();
    let ns = cluster.namespace("memory");
    // It asked for what it uses, and matters less.
    let modest = r#","resources":{"requests":{"memory":"120Mi"}}"#;
    pod(
        &cluster,
        &ns,
        "modest",
        &spec("dd if=/dev/zero of=/v/f bs=1M count=90; exec sleep 999", MEMORY, modest),
    );
    cluster.wait_pod_ready(&ns, "modest");
    wait_condition(&cluster, "MemoryPressure", "False");
    let hog = "while [ ! -e /go ]; do sleep 0.1; done; dd if=/dev/zero of=/v/f bs=1M count=140; trap : TERM; while :; do sleep 1; done";
    pod(&cluster, &ns, "hog", &spec(hog, MEMORY, ""));
    cluster.wait_pod_ready(&ns, "hog");
    cluster.kubectl(&["exec", "hog", "-n", &ns, "--", "touch", "/go"]);
    wait(&cluster, &ns, "hog", "{.status.phase} {.status.reason}", "Failed Evicted");
    let message = get(&cluster, &ns, "hog", "{.status.message}");
    assert!(
        message.starts_with("The node was low on resource: memory. Threshold quantity: 100Mi, available: ")
            && message.contains(". Container c was using ")
            && message.ends_with(", request is 0, has larger consumption of memory. "),
        "{message}"
    );
    let condition = "{.status.conditions[?(@.type==\"DisruptionTarget\")]";
    assert_eq!(get(&cluster, &ns, "hog", &format!("{condition}.reason}}")), "TerminationByKubelet");
    assert_eq!(get(&cluster, &ns, "hog", &format!("{condition}.message}}")), message);
    assert_eq!(get(&cluster, &ns, "hog", "{.status.containerStatuses[0].state.terminated.exitCode}"), "137");
    wait_condition(&cluster, "MemoryPressure", "True");
    let taint = "{.spec.taints[?(@.key==\"node.kubernetes.io/memory-pressure\")].effect}";
    cluster.wait_jsonpath(&["node", "node-1"], taint, "NoSchedule");
    refused_under_pressure(&cluster, &ns);
    let events = cluster.kubectl(&[
        "get",
        "events",
        "-o",
        "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}",
    ]);
    for expected in [
        "EvictionThresholdMet: Attempting to reclaim memory",
        "NodeHasInsufficientMemory: Node node-1 status is now: NodeHasInsufficientMemory",
    ] {
        assert!(events.contains(expected), "{expected}\n{events}");
    }
    // It lasts for the transition period, and ends.
    wait_condition(&cluster, "MemoryPressure", "False");
    cluster.wait_jsonpath(&["node", "node-1"], taint, "");
    assert_eq!(get(&cluster, &ns, "modest", "{.status.phase}"), "Running");
}

/// Whoever asks for nothing is not taken; whoever asks for something is.
fn refused_under_pressure(cluster: &Cluster, ns: &str) {
    let placed = |resources: &str| {
        format!(
            r#"{{"nodeName":"node-1","terminationGracePeriodSeconds":0,"containers":[{{"name":"c","image":"busybox:1.36",
            "command":["sleep","999"]{resources}}}]}}"#
        )
    };
    pod(cluster, ns, "unwelcome", &placed(""));
    pod(cluster, ns, "welcome", &placed(r#","resources":{"requests":{"memory":"1Mi"}}"#));
    wait(cluster, ns, "unwelcome", "{.status.phase} {.status.reason}", "Failed Evicted");
    let message = get(cluster, ns, "unwelcome", "{.status.message}");
    assert_eq!(message, "Pod was rejected: The node had condition: [MemoryPressure]. ");
    cluster.wait_pod_ready(ns, "welcome");
    cluster.kubectl(&["delete", "pod", "welcome", "-n", ns]);
}

/// MiB that are free on the file system of the data directory.
fn free(cluster: &Cluster) -> u64 {
    let line = format!("df -k --output=avail '{}' | tail -1", cluster.data_dir().display());
    cluster.host.sh(&line).trim().parse::<u64>().expect("a number") >> 10
}

#[test]
fn disk_is_won_back_softly_and_then_hard() {
    let flags = [
        "--kubelet-arg=eviction-hard=nodefs.available<40Mi",
        "--kubelet-arg=eviction-soft=nodefs.available<140Mi",
        "--kubelet-arg=eviction-soft-grace-period=nodefs.available=5s",
        "--kubelet-arg=eviction-minimum-reclaim=nodefs.available=1Mi",
        "--kubelet-arg=eviction-max-pod-grace-period=30",
        "--kubelet-arg=eviction-pressure-transition-period=1s",
    ];
    // The node's own image is a copy of the executable.
    let executable = std::fs::metadata(harness::executable()).expect("the executable").len() >> 20;
    let size = 400 + 2 * u32::try_from(executable).expect("fits");
    let cluster = Cluster::start_on_small_disk_with("disk", size, &flags);
    cluster.import_test_images();
    let ns = cluster.namespace("disk");
    pod(&cluster, &ns, "small", &spec("echo x > /v/f; exec sleep 999", "", ""));
    cluster.wait_pod_ready(&ns, "small");
    assert!(free(&cluster) > 200, "room to fill: {}", free(&cluster));

    let fill = |left: u64| free(&cluster) - left;
    what_has_ended_is_given_back_first(&cluster, &ns, fill(100));

    // 100 MiB are left: after the grace period the larger one is asked to go.
    let line = format!(
        "trap 'echo asked' TERM; dd if=/dev/zero of=/v/f bs=1M count={}; while :; do sleep 1; done",
        fill(100)
    );
    pod(&cluster, &ns, "soft", &spec(&line, "", ""));
    wait_condition(&cluster, "DiskPressure", "True");
    let events = "jsonpath={range .items[?(@.reason==\"Evicted\")]}{.involvedObject.name} {end}";
    wait_for("the soft eviction", || {
        cluster.kubectl(&["get", "events", "-n", &ns, "-o", events]).contains("soft")
    });
    // An agent that is killed in the middle of it goes on with it, and does not start the pod again.
    wait_for("the signal", || cluster.kubectl(&["logs", "soft", "-n", &ns]).contains("asked"));
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    wait(&cluster, &ns, "soft", "{.status.phase} {.status.reason}", "Failed Evicted");
    let message = get(&cluster, &ns, "soft", "{.status.message}");
    assert!(
        message.starts_with(
            "The node was low on resource: ephemeral-storage. Threshold quantity: 140Mi, available: "
        ),
        "{message}"
    );
    assert_eq!(get(&cluster, &ns, "soft", "{.status.containerStatuses[0].restartCount}"), "0");
    cluster.kubectl(&["delete", "pod", "soft", "-n", &ns]);
    wait_condition(&cluster, "DiskPressure", "False");

    a_pod_that_is_ending_goes_at_once(&cluster, &ns, fill(24));
    assert_eq!(get(&cluster, &ns, "small", "{.status.phase}"), "Running");
    let node = cluster.kubectl(&["get", "events", "-o", "jsonpath={..message}"]);
    assert!(node.contains("Attempting to reclaim ephemeral-storage"), "{node}");
}

/// The layer of a container that ended has what is missing: nobody is evicted, and its pod's status stays.
fn what_has_ended_is_given_back_first(cluster: &Cluster, ns: &str, mebibytes: u64) {
    let before = free(cluster);
    let line = format!("dd if=/dev/zero of=/tmp/f bs=1M count={mebibytes} && echo x > /dev/termination-log");
    let spec = format!(
        r#"{{"restartPolicy":"Never","containers":[{{"name":"c","image":"busybox:1.36","command":["sh","-c","{line}"]}}]}}"#
    );
    pod(cluster, ns, "done", &spec);
    wait(cluster, ns, "done", "{.status.phase}", "Succeeded");
    let status = || get(cluster, ns, "done", "{.status.containerStatuses}");
    let known = status();
    assert!(known.contains(r#""message":"x"#), "{known}");
    wait_for("the container's layer to go", || free(cluster) + 20 > before);
    assert_eq!(status(), known);
    assert_eq!(get(cluster, ns, "done", "{.status.phase}"), "Succeeded");
    let evicted = ["get", "events", "-n", ns, "--field-selector", "reason=Evicted", "-o", "name"];
    assert_eq!(cluster.kubectl(&evicted), "");
    cluster.kubectl(&["delete", "pod", "done", "-n", ns, "--timeout=60s"]);
    wait_condition(cluster, "DiskPressure", "False");
}

/// A pod that was deleted and fills the disk while it takes its time gets no more of that.
fn a_pod_that_is_ending_goes_at_once(cluster: &Cluster, ns: &str, mebibytes: u64) {
    let line =
        format!("trap 'dd if=/dev/zero of=/v/f bs=1M count={mebibytes}' TERM; while :; do sleep 1; done");
    pod(cluster, ns, "ending", &spec(&line, "", ""));
    cluster.wait_pod_ready(ns, "ending");
    let began = std::time::Instant::now();
    cluster.kubectl(&["delete", "pod", "ending", "-n", ns, "--timeout=80s"]);
    assert!(began.elapsed().as_secs() < 55, "its own grace period is 60 s: {:?}", began.elapsed());
    let selector = "involvedObject.name=ending,reason=Evicted";
    let events = ["get", "events", "-n", ns, "--field-selector", selector, "-o", "jsonpath={..message}"];
    let mut message = String::new();
    wait_for("the event of the eviction", || {
        message = cluster.kubectl(&events);
        !message.is_empty()
    });
    assert!(message.contains("Threshold quantity: 40Mi, available: "), "{message}");
}
