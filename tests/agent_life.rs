//! The life of pods on a node: statuses, reasons and events as users know them, static pods, what the
//! node refuses, `kubectl debug`, and what restarts and jumps of the clock must not change. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use harness::{Cluster, show, wait_for, wait_until};
use serde_json::{Value, json};

/// Whatever the disk of the machine looks like: these tests are about other things than its pressure.
const NO_PRESSURE: &str = "--kubelet-arg=eviction-hard=memory.available<1Mi";
const IMAGE: &str = "busybox:1.36";

fn sh(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "command": ["sh", "-c", script]})
}

/// Applies a pod; a second is enough for it to end.
fn pod(cluster: &Cluster, namespace: &str, name: &str, mut spec: Value) {
    if spec["terminationGracePeriodSeconds"].is_null() {
        spec["terminationGracePeriodSeconds"] = json!(1);
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    cluster.apply(namespace, &pod.to_string());
}

/// Part of a pod by a JSON path.
fn part(cluster: &Cluster, namespace: &str, pod: &str, path: &str) -> String {
    cluster.kubectl(&["get", "pod", pod, "-n", namespace, "-o", &format!("jsonpath={path}")])
}

fn object(cluster: &Cluster, namespace: &str, pod: &str) -> Value {
    let text = cluster.kubectl(&["get", "pod", pod, "-n", namespace, "-o", "json"]);
    serde_json::from_str(&text).expect("JSON")
}

fn wait(cluster: &Cluster, namespace: &str, pod: &str, path: &str, expected: &str) {
    cluster.wait_jsonpath(&["pod", pod, "-n", namespace], path, expected);
}

/// The STATUS column of `kubectl get pod`.
fn shown(cluster: &Cluster, namespace: &str, pod: &str) -> String {
    let line = cluster.kubectl(&["get", "pod", pod, "-n", namespace, "--no-headers"]);
    line.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

fn wait_shown(cluster: &Cluster, namespace: &str, pod: &str, expected: &str) {
    let mut last = String::new();
    let seen = wait_until(harness::PATIENCE, || {
        last = shown(cluster, namespace, pod);
        last == expected
    });
    assert!(
        seen,
        "{pod} shows {last}, not {expected}\n{}\n{}",
        object(cluster, namespace, pod),
        cluster.tail()
    );
}

/// `reason: message` of a pod's events.
fn events(cluster: &Cluster, namespace: &str, pod: &str) -> Vec<String> {
    let selector = format!("involvedObject.name={pod}");
    let path = "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}";
    let text =
        cluster.kubectl(&["get", "events", "-n", namespace, "--field-selector", &selector, "-o", path]);
    text.lines().map(str::to_owned).collect()
}

fn wait_event(cluster: &Cluster, namespace: &str, pod: &str, expected: &str) {
    let mut last = Vec::new();
    let seen = wait_until(harness::PATIENCE, || {
        last = events(cluster, namespace, pod);
        last.iter().any(|e| e.starts_with(expected))
    });
    assert!(seen, "{pod} has no event {expected:?} but {last:#?}\n{}", cluster.tail());
}

fn condition(pod: &Value, type_: &str) -> Value {
    let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|c| c["type"] == type_).unwrap_or_default()
}

#[test]
fn statuses_reasons_and_events() {
    let cluster = Cluster::start("life", &[NO_PRESSURE]);
    cluster.import_test_images();
    let ns = &cluster.namespace("life");
    apply_all(&cluster, ns);
    columns(&cluster, ns);
    whole_status(&cluster, ns);
    init_containers_and_sidecars(&cluster, ns);
    restart_rules(&cluster, ns);
    refused(&cluster, ns);
    what_cannot_start(&cluster, ns);
    a_critical_pod_finds_room(&cluster, ns);
    resized_in_place(&cluster, ns);
    similar_events_are_combined(&cluster, ns);
    debugging(&cluster, ns);
    others_decide(&cluster, ns);
    a_sandbox_that_dies(&cluster, ns);
    restarts_of_the_agent(&cluster, ns);
}

fn apply_all(cluster: &Cluster, ns: &str) {
    let main = sh("c", "exec sleep 999");
    let init = |list: Value, policy: &str| json!({"initContainers": list, "containers": [main], "restartPolicy": policy});
    pod(cluster, ns, "init-run", init(json!([sh("i", "exit 0"), sh("j", "exec sleep 999")]), "Always"));
    pod(cluster, ns, "init-error", init(json!([sh("i", "exit 3")]), "Never"));
    pod(cluster, ns, "init-crash", init(json!([sh("i", "exit 3")]), "Always"));
    pod(
        cluster,
        ns,
        "whole",
        json!({"containers": [
        {"name": "c", "image": IMAGE, "command": ["sleep", "999"],
         "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
         "securityContext": {"runAsUser": 1000, "runAsGroup": 2000}}],
        "securityContext": {"supplementalGroups": [3000]},
        "readinessGates": [{"conditionType": "example.com/gate"}]}),
    );
    pod(cluster, ns, "crash", json!({"containers": [sh("c", "exit 1")]}));
}

fn columns(cluster: &Cluster, ns: &str) {
    wait_shown(cluster, ns, "init-run", "Init:1/2");
    wait_shown(cluster, ns, "init-error", "Init:Error");
    wait_shown(cluster, ns, "init-crash", "Init:CrashLoopBackOff");
    wait_shown(cluster, ns, "crash", "CrashLoopBackOff");
    wait(cluster, ns, "init-error", "{.status.phase}", "Failed");
    let failed = object(cluster, ns, "init-error");
    assert_eq!(condition(&failed, "Initialized")["message"], "containers with incomplete status: [i]");
    assert_eq!(condition(&failed, "Ready")["reason"], "PodFailed");
    let main = &failed["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
    assert_eq!(main, "PodInitializing");
    wait_event(
        cluster,
        ns,
        "init-crash",
        "BackOff: Back-off restarting failed container i in pod init-crash_",
    );
    let crash = object(cluster, ns, "crash");
    assert_eq!(crash["status"]["phase"], "Running", "{crash}");
    assert_eq!(condition(&crash, "ContainersReady")["message"], "containers with unready status: [c]");
    assert_eq!(condition(&crash, "ContainersReady")["reason"], "ContainersNotReady");
    assert_eq!(crash["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    for expected in
        ["Created: Container created", "Started: Container started", "Scheduled: Successfully assigned"]
    {
        wait_event(cluster, ns, "crash", expected);
    }
}

fn whole_status(cluster: &Cluster, ns: &str) {
    wait(cluster, ns, "whole", "{.status.phase}", "Running");
    wait(cluster, ns, "whole", "{.status.conditions[?(@.type==\"ContainersReady\")].status}", "True");
    let whole = object(cluster, ns, "whole");
    let status = &whole["status"];
    let c = &status["containerStatuses"][0];
    assert_eq!(condition(&whole, "Ready")["reason"], "ReadinessGatesNotReady");
    let gate = "corresponding condition of pod readiness gate \"example.com/gate\" does not exist.";
    assert_eq!(condition(&whole, "Ready")["message"], gate);
    for type_ in ["PodReadyToStartContainers", "Initialized", "PodScheduled"] {
        assert_eq!(condition(&whole, type_)["status"], "True", "{type_}");
    }
    assert_eq!((&c["ready"], &c["started"], &c["restartCount"]), (&json!(true), &json!(true), &json!(0)));
    assert!(c["containerID"].as_str().is_some_and(|id| id.starts_with("kedge://")), "{c}");
    assert_eq!(c["image"], "docker.io/library/busybox:1.36");
    let user = &c["user"]["linux"];
    assert_eq!((&user["uid"], &user["gid"]), (&json!(1000), &json!(2000)));
    let groups = user["supplementalGroups"].as_array().cloned().unwrap_or_default();
    assert!(groups.contains(&json!(2000)) && groups.contains(&json!(3000)), "{user}");
    assert_eq!(c["resources"]["limits"]["memory"], "32Mi");
    assert_eq!(c["allocatedResources"], json!({"cpu": "10m", "memory": "8Mi"}));
    assert_eq!((&status["qosClass"], &status["hostIP"]), (&json!("Burstable"), &json!(harness::NODE_IP)));
    assert_eq!(status["podIPs"][0]["ip"], status["podIP"]);
    assert_eq!(status["observedGeneration"], whole["metadata"]["generation"]);
    assert!(status["startTime"].is_string());
    let gate = r#"{"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}"#;
    cluster.kubectl(&["patch", "pod", "whole", "-n", ns, "--subresource=status", "-p", gate]);
    cluster.wait_pod_ready(ns, "whole");
}

fn init_containers_and_sidecars(cluster: &Cluster, ns: &str) {
    // Each writes its turn; the sidecars say when they are told to end.
    let say = |name: &str| {
        format!(
            "trap 'echo {name} ended >> /t/log; exit 0' TERM; echo {name} >> /t/log; touch /tmp/up; while :; do sleep 0.1; done"
        )
    };
    let mount = |mut c: Value| {
        c["volumeMounts"] = json!([{"name": "t", "mountPath": "/t"}]);
        c
    };
    let sidecar = |name: &str| {
        let mut c = mount(sh(name, &say(name)));
        c["restartPolicy"] = json!("Always");
        c["startupProbe"] = json!({"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1});
        c
    };
    let host = cluster.host.directory.path().join("turns");
    let volume = json!([{"name": "t", "hostPath": {"path": host, "type": "DirectoryOrCreate"}}]);
    let spec = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 20, "volumes": volume, "initContainers": [
        mount(sh("i", "echo i >> /t/log")), sidecar("s1"), sidecar("s2")],
        "containers": [mount(sh("main", "echo main >> /t/log; sleep 1; echo main ended >> /t/log"))]});
    pod(cluster, ns, "order", spec);
    wait(cluster, ns, "order", "{.status.phase}", "Succeeded");
    let log = std::fs::read_to_string(host.join("log")).expect("the log");
    assert_eq!(log, "i\ns1\ns2\nmain\nmain ended\ns2 ended\ns1 ended\n");
    let ended = object(cluster, ns, "order");
    assert_eq!(condition(&ended, "Ready")["reason"], "PodCompleted");
    assert_eq!(condition(&ended, "Initialized")["reason"], "PodCompleted");
    assert_eq!(shown(cluster, ns, "order"), "Completed");
    // A sidecar that ends is started again while the pod runs, and counts for readiness.
    let once = "test -e /t/again && exec sleep 999; touch /t/again; sleep 1; exit 1";
    let mut s = mount(sh("s", once));
    s["restartPolicy"] = json!("Always");
    pod(
        cluster,
        ns,
        "sidecar",
        json!({"volumes": volume, "initContainers": [s], "containers": [sh("c", "exec sleep 999")]}),
    );
    wait(cluster, ns, "sidecar", "{.status.initContainerStatuses[0].restartCount}", "1");
    cluster.wait_pod_ready(ns, "sidecar");
    assert_eq!(part(cluster, ns, "sidecar", "{.status.containerStatuses[0].restartCount}"), "0");
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "initContainers": [{"name": "s", "image": IMAGE, "restartPolicy": "Always", "command": ["sleep", "999"]}],
        "containers": [sh("c", "exit 0")]}}}});
    cluster.apply(ns, &job.to_string());
    cluster.wait_jsonpath(&["job", "job", "-n", ns], "{.status.succeeded}", "1");
}

fn restart_rules(cluster: &Cluster, ns: &str) {
    let rule = |action: &str| json!([{"action": action, "exitCodes": {"operator": "In", "values": [42]}}]);
    let mut c = sh("c", "test -e /t/x && exit 0; touch /t/x; exit 42");
    c["restartPolicy"] = json!("Never");
    c["restartPolicyRules"] = rule("Restart");
    c["volumeMounts"] = json!([{"name": "t", "mountPath": "/t"}]);
    let volumes = json!([{"name": "t", "emptyDir": {}}]);
    pod(cluster, ns, "rule", json!({"restartPolicy": "Never", "containers": [c], "volumes": volumes}));
    wait(cluster, ns, "rule", "{.status.phase}", "Succeeded");
    assert_eq!(part(cluster, ns, "rule", "{.status.containerStatuses[0].restartCount}"), "1");
    c["restartPolicyRules"] = rule("RestartAllContainers");
    c["command"][2] = json!("test -e /t/x && exec sleep 999; touch /t/x; sleep 1; exit 42");
    let mut i = sh("i", "echo >> /t/init");
    i["volumeMounts"] = c["volumeMounts"].clone();
    let spec = json!({"restartPolicy": "Never", "initContainers": [i], "volumes": volumes,
        "containers": [c, sh("other", "exec sleep 999")]});
    pod(cluster, ns, "rule-all", spec);
    wait(cluster, ns, "rule-all", "{.status.containerStatuses[*].restartCount}", "1 1");
    cluster.wait_pod_ready(ns, "rule-all");
    let all = object(cluster, ns, "rule-all");
    let last = &all["status"]["containerStatuses"][1]["lastState"]["terminated"];
    assert_eq!((&last["reason"], &last["exitCode"]), (&json!("RestartingAllContainers"), &json!(137)));
    assert_eq!(all["status"]["initContainerStatuses"][0]["restartCount"], 1);
    assert_eq!(condition(&all, "AllContainersRestarting")["status"], "False");
    let runs = cluster.kubectl(&["exec", "rule-all", "-n", ns, "-c", "c", "--", "cat", "/t/init"]);
    assert_eq!(runs, "\n\n", "the init container ran twice");
}

fn refused(cluster: &Cluster, ns: &str) {
    let on_node = |mut spec: Value| {
        spec["nodeName"] = json!("node-1");
        spec
    };
    let port = json!([{"name": "c", "image": IMAGE, "command": ["sleep", "999"], "ports": [{"containerPort": 80, "hostPort": 8089}]}]);
    pod(cluster, ns, "port-1", json!({"containers": port}));
    cluster.wait_pod_ready(ns, "port-1");
    let asks = |resource: &str, amount: &str| json!([{"name": "c", "image": IMAGE, "resources": {"requests": {resource: amount}}}]);
    let plain = json!([sh("c", "exit 0")]);
    let sysctl = |name: &str| json!({"sysctls": [{"name": name, "value": "1"}]});
    for (name, spec, reason, message) in [
        (
            "port-2",
            json!({"containers": port}),
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports",
        ),
        (
            "cpu",
            json!({"containers": asks("cpu", "1k")}),
            "OutOfcpu",
            "Node didn't have enough resource: cpu, requested: 1000000, used: ",
        ),
        (
            "memory",
            json!({"containers": asks("memory", "1Ei")}),
            "OutOfmemory",
            "Node didn't have enough resource: memory",
        ),
        (
            "selector",
            json!({"containers": plain, "nodeSelector": {"no": "such"}}),
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ),
        (
            "sysctl",
            json!({"containers": plain, "securityContext": sysctl("net.core.somaxconn")}),
            "SysctlForbidden",
            "forbidden sysctl: \"net.core.somaxconn\" not allowlisted",
        ),
    ] {
        pod(cluster, ns, name, on_node(spec));
        wait(cluster, ns, name, "{.status.phase} {.status.reason}", &format!("Failed {reason}"));
        let told = part(cluster, ns, name, "{.status.message}");
        assert!(told.starts_with(&format!("Pod was rejected: {message}")), "{told}");
        wait_event(cluster, ns, name, &format!("{reason}: {message}"));
        assert_eq!(shown(cluster, ns, name), reason);
    }
    // A label that the node has since a moment ago is looked up before a pod is refused.
    cluster.kubectl(&["label", "node", "node-1", "fresh=yes"]);
    pod(
        cluster,
        ns,
        "fresh",
        on_node(json!({"containers": [sh("c", "exec sleep 999")], "nodeSelector": {"fresh": "yes"}})),
    );
    cluster.wait_pod_ready(ns, "fresh");
    let safe = json!({"containers": [sh("c", "exec sleep 999")], "securityContext": sysctl("net.ipv4.tcp_syncookies")});
    pod(cluster, ns, "safe", safe);
    cluster.wait_pod_ready(ns, "safe");
}

fn what_cannot_start(cluster: &Cluster, ns: &str) {
    for (name, handler) in [("odd", "nobody"), ("usual", "runc")] {
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler});
        cluster.apply(ns, &class.to_string());
    }
    let classed = |class: &str| json!({"runtimeClassName": class, "containers": [sh("c", "exec sleep 999")]});
    pod(cluster, ns, "odd-class", classed("odd"));
    pod(cluster, ns, "usual-class", classed("usual"));
    let mut misplaced = sh("c", "exit 0");
    misplaced["volumeMounts"] = json!([{"name": "v", "mountPath": "/etc/passwd"}]);
    let volumes = json!([{"name": "v", "emptyDir": {}}]);
    pod(
        cluster,
        ns,
        "misplaced",
        json!({"containers": [misplaced], "volumes": volumes, "restartPolicy": "Never"}),
    );
    let mut nowhere = sh("c", "exit 0");
    nowhere["workingDir"] = json!("/etc/passwd");
    pod(cluster, ns, "nowhere", json!({"containers": [nowhere], "restartPolicy": "Never"}));
    let refused = "FailedCreatePodSandBox: Failed to create pod sandbox: failed to get sandbox runtime: no runtime for \"nobody\" is configured";
    wait_event(cluster, ns, "odd-class", refused);
    assert_eq!(shown(cluster, ns, "odd-class"), "ContainerCreating");
    cluster.wait_pod_ready(ns, "usual-class");
    for (name, text) in [
        ("misplaced", "to rootfs at \"/etc/passwd\": not a directory: is a directory mounted onto a file"),
        ("nowhere", "mkdir /etc/passwd: not a directory"),
    ] {
        wait(cluster, ns, name, "{.status.phase}", "Failed");
        let status = object(cluster, ns, name)["status"]["containerStatuses"][0].clone();
        let ended = &status["state"]["terminated"];
        assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("StartError"), &json!(128)), "{status}");
        assert!(ended["message"].as_str().is_some_and(|m| m.contains(text)), "{status}");
        assert_eq!(status["lastState"], json!({}));
        assert_eq!(shown(cluster, ns, name), "StartError");
        assert!(
            events(cluster, ns, name).iter().any(|e| e.starts_with("Failed: Error: ") && e.contains(text))
        );
    }
    let signals = json!({"os": {"name": "linux"}, "containers": [sh("own", "exec sleep 999"), sh("default", "exec sleep 999"),
        {"name": "image", "image": "busybox:quit", "command": ["sleep", "999"]}]});
    let mut signals = signals;
    signals["containers"][0]["lifecycle"] = json!({"stopSignal": "SIGUSR1"});
    pod(cluster, ns, "signals", signals);
    cluster.wait_pod_ready(ns, "signals");
    let mut told: Vec<String> = part(cluster, ns, "signals", "{.status.containerStatuses[*].stopSignal}")
        .split(' ')
        .map(str::to_owned)
        .collect();
    told.sort();
    assert_eq!(told, ["SIGQUIT", "SIGTERM", "SIGUSR1"]);
}

/// Thousandths of a CPU that the node has for pods.
fn allocatable(cluster: &Cluster) -> i64 {
    let cores = cluster.kubectl(&["get", "node", "node-1", "-o", "jsonpath={.status.allocatable.cpu}"]);
    let whole = cores.strip_suffix('m').map_or_else(|| cores.parse::<i64>().map(|c| c * 1000), str::parse);
    whole.expect("a number")
}

fn a_critical_pod_finds_room(cluster: &Cluster, ns: &str) {
    let asks = |milli: i64| {
        let mut c = sh("c", "trap 'exit 0' TERM; sleep 999 & wait");
        c["resources"] = json!({"requests": {"cpu": format!("{milli}m")}});
        json!({"nodeName": "node-1", "terminationGracePeriodSeconds": 20, "containers": [c]})
    };
    pod(cluster, ns, "large", asks(allocatable(cluster) - 200));
    cluster.wait_pod_ready(ns, "large");
    let mut critical = asks(300);
    critical["priorityClassName"] = json!("system-node-critical");
    pod(cluster, ns, "critical", critical);
    cluster.wait_pod_ready(ns, "critical");
    let large = object(cluster, ns, "large");
    let status = &large["status"];
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Preempting")), "{status}");
    assert_eq!(status["message"], "Preempted in order to admit critical pod");
    let target = condition(&large, "DisruptionTarget");
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
    assert_eq!(target["message"], "Pod was preempted by Kubelet to accommodate a critical pod.");
    wait_event(cluster, ns, "large", "Preempting: Preempted in order to admit critical pod");
    let mut too_much = asks(1_000_000);
    too_much["priorityClassName"] = json!("system-node-critical");
    pod(cluster, ns, "too-critical", too_much);
    wait(cluster, ns, "too-critical", "{.status.reason}", "UnexpectedAdmissionError");
    let told = part(cluster, ns, "too-critical", "{.status.message}");
    let expected = "Pod was rejected: Unexpected error while attempting to recover from admission failure: preemption: \
        error finding a set of pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: ";
    assert!(told.starts_with(expected), "{told}");
    cluster.kubectl(&["delete", "pod", "critical", "large", "-n", ns]);
}

fn resized_in_place(cluster: &Cluster, ns: &str) {
    let sized = |name: &str| {
        let mut c = sh(name, "trap 'exit 0' TERM; sleep 999 & wait");
        let amounts = |cpu: &str| json!({"cpu": cpu, "memory": "32Mi"});
        c["resources"] = json!({"requests": amounts("50m"), "limits": amounts("100m")});
        c
    };
    let mut careful = sized("careful");
    careful["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    pod(cluster, ns, "resized", json!({"containers": [sized("a"), careful]}));
    cluster.wait_pod_ready(ns, "resized");
    let resize = |container: &str, resources: Value| {
        let patch =
            json!({"spec": {"containers": [{"name": container, "resources": resources}]}}).to_string();
        cluster.kubectl(&["patch", "pod", "resized", "-n", ns, "--subresource", "resize", "-p", &patch]);
    };
    let read =
        |script: &str| cluster.kubectl(&["exec", "resized", "-n", ns, "-c", "a", "--", "sh", "-c", script]);
    let field = |container: &str, path: &str| {
        format!("{{.status.containerStatuses[?(@.name==\"{container}\")].{path}}}")
    };
    resize("a", json!({"requests": {"cpu": "150m"}, "limits": {"cpu": "300m", "memory": "48Mi"}}));
    wait(cluster, ns, "resized", &field("a", "resources.limits.cpu"), "300m");
    let quota = read("cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    assert!(quota.starts_with("30000"), "{quota}");
    let memory =
        "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
    assert_eq!(read(memory).trim(), (48 << 20).to_string());
    assert_eq!(part(cluster, ns, "resized", &field("a", "allocatedResources.cpu")), "150m");
    wait_event(
        cluster,
        ns,
        "resized",
        "ResizeCompleted: Pod resize completed: {\"containers\":[{\"name\":\"a\"",
    );
    assert_eq!(part(cluster, ns, "resized", "{.status.containerStatuses[*].restartCount}"), "0 0");
    // What its policy says needs a restart.
    resize("careful", json!({"limits": {"memory": "64Mi"}}));
    wait(cluster, ns, "resized", &field("careful", "restartCount"), "1");
    wait_event(cluster, ns, "resized", "Killing: Container careful resize requires restart");
    assert_eq!(part(cluster, ns, "resized", &field("careful", "resources.limits.memory")), "64Mi");
    assert_eq!(part(cluster, ns, "resized", &field("a", "restartCount")), "0");
    // What the node never has is said so, and what runs stays as it is.
    resize("a", json!({"requests": {"cpu": "9k"}, "limits": {"cpu": "9k"}}));
    let pending = "{.status.conditions[?(@.type==\"PodResizePending\")].reason}";
    wait(cluster, ns, "resized", pending, "Infeasible");
    let message = condition(&object(cluster, ns, "resized"), "PodResizePending")["message"].clone();
    let expected = "Node didn't have enough capacity: cpu, requested: 9000050, capacity: ";
    assert!(message.as_str().is_some_and(|m| m.starts_with(expected)), "{message}");
    assert_eq!(part(cluster, ns, "resized", &field("a", "resources.limits.cpu")), "300m");
    assert_eq!(part(cluster, ns, "resized", &field("a", "allocatedResources.cpu")), "150m");
    resize("a", json!({"requests": {"cpu": "60m"}, "limits": {"cpu": "80m"}}));
    wait(cluster, ns, "resized", &field("a", "resources.limits.cpu"), "80m");
    wait(cluster, ns, "resized", pending, "");
    // What others have is waited for.
    let mut other = sh("c", "trap 'exit 0' TERM; sleep 999 & wait");
    other["resources"] = json!({"requests": {"cpu": "400m"}});
    pod(cluster, ns, "other", json!({"containers": [other]}));
    cluster.wait_pod_ready(ns, "other");
    let most = format!("{}m", allocatable(cluster) - 300);
    resize("a", json!({"requests": {"cpu": most}, "limits": {"cpu": most}}));
    wait(cluster, ns, "resized", pending, "Deferred");
    cluster.kubectl(&["delete", "pod", "other", "-n", ns]);
    wait(cluster, ns, "resized", &field("a", "allocatedResources.cpu"), &most);
    wait(cluster, ns, "resized", pending, "");
    cluster.kubectl(&["delete", "pod", "resized", "-n", ns]);
}

fn similar_events_are_combined(cluster: &Cluster, ns: &str) {
    // Eleven containers of one pod: as many different messages with one reason.
    let containers: Vec<Value> = (0..12)
        .map(|n| json!({"name": format!("c{n}"), "image": format!("none:{n}"), "imagePullPolicy": "Never"}))
        .collect();
    pod(cluster, ns, "many", json!({"containers": containers}));
    wait_event(
        cluster,
        ns,
        "many",
        "ErrImageNeverPull: (combined from similar events): Container image \"none:",
    );
    cluster.kubectl(&["delete", "pod", "many", "-n", ns]);
}

fn debugging(cluster: &Cluster, ns: &str) {
    pod(cluster, ns, "target", json!({"containers": [sh("c", "exec sleep 998")]}));
    cluster.wait_pod_ready(ns, "target");
    let debug = [
        "debug",
        "target",
        "-n",
        ns,
        "--image",
        IMAGE,
        "--image-pull-policy=IfNotPresent",
        "--target=c",
        "-c",
        "dbg",
        "--profile=general",
        "--",
    ];
    cluster.kubectl(&[&debug[..], &["sh", "-c", "exec sleep 997"]].concat());
    let state = "{.status.ephemeralContainerStatuses[0].state.running.startedAt}";
    wait_for("the ephemeral container", || !part(cluster, ns, "target", state).is_empty());
    let seen = cluster.kubectl(&["exec", "target", "-n", ns, "-c", "dbg", "--", "ps"]);
    assert!(seen.contains("sleep 998") && seen.contains("sleep 997"), "one PID namespace: {seen}");
    let other = cluster.kubectl(&["exec", "target", "-n", ns, "-c", "c", "--", "hostname"]);
    assert_eq!(cluster.kubectl(&["exec", "target", "-n", ns, "-c", "dbg", "--", "hostname"]), other);
    // An attached one, which ends and is not started again. Its input stays open: as with containerd, a
    // client that has no more to say is told no more, either.
    let [image, policy] = ["--image", "--image-pull-policy=IfNotPresent"];
    let options =
        ["debug", "-i", "target", "-n", ns, image, IMAGE, policy, "-c", "once", "--profile=general"];
    let mut command = cluster.kubectl_command(&[&options[..], &["--", "sh"]].concat());
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut attached = piped.spawn().expect("kubectl runs");
    let mut input = attached.stdin.take().expect("piped");
    input.write_all(b"echo from $HOSTNAME; exit 4\n").expect("written");
    let output = attached.wait_with_output().expect("kubectl ends");
    drop(input);
    let text = show(&output);
    assert!(text.contains("from target"), "{text}");
    let ended = "{.status.ephemeralContainerStatuses[?(@.name==\"once\")].state.terminated.exitCode}";
    wait(cluster, ns, "target", ended, "4");
    cluster.wait_pod_ready(ns, "target");
    let none = [
        "debug",
        "target",
        "-n",
        ns,
        "--image",
        IMAGE,
        "--image-pull-policy=IfNotPresent",
        "--target=c",
        "--copy-to=copy",
        "--share-processes=true",
        "--profile=general",
        "-c",
        "extra",
        "--",
        "sleep",
        "996",
    ];
    let none: Vec<&str> = none.into_iter().filter(|a| *a != "--target=c").collect();
    cluster.kubectl(&none);
    cluster.wait_pod_ready(ns, "copy");
    let seen = cluster.kubectl(&["exec", "copy", "-n", ns, "-c", "extra", "--", "ps"]);
    assert!(seen.contains("sleep 998") && seen.contains("pause"), "{seen}");
    let node = [
        "debug",
        "node/node-1",
        "-n",
        ns,
        "--image",
        IMAGE,
        "--image-pull-policy=IfNotPresent",
        "--profile=general",
        "--",
        "sh",
        "-c",
        "ls /host > /dev/null && exec sleep 995",
    ];
    cluster.kubectl(&node);
    let name = "jsonpath={.items[?(@.spec.hostPID==true)].metadata.name}";
    let debugger = cluster.kubectl(&["get", "pods", "-n", ns, "-o", name]);
    cluster.wait_pod_ready(ns, &debugger);
    let seen = cluster.kubectl(&["exec", &debugger, "-n", ns, "--", "ps"]);
    assert!(
        seen.contains("kedge server") || seen.contains(" server --node-name"),
        "the host's processes: {seen}"
    );
    cluster.kubectl(&["delete", "pod", "target", "copy", &debugger, "-n", ns, "--wait=false"]);
}

fn others_decide(cluster: &Cluster, ns: &str) {
    pod(cluster, ns, "evicted", json!({"containers": [sh("c", "exec sleep 999")]}));
    cluster.wait_pod_ready(ns, "evicted");
    let status = r#"{"status":{"phase":"Failed","reason":"Evicted","message":"by hand","conditions":[
        {"type":"DisruptionTarget","status":"True","reason":"TerminationByKubelet"}]}}"#;
    cluster.kubectl(&["patch", "pod", "evicted", "-n", ns, "--subresource=status", "-p", status]);
    wait_for("the end of the evicted pod's container", || {
        !part(cluster, ns, "evicted", "{.status.containerStatuses[0].state.terminated.exitCode}").is_empty()
    });
    let evicted = object(cluster, ns, "evicted");
    assert_eq!(
        (&evicted["status"]["reason"], &evicted["status"]["message"]),
        (&json!("Evicted"), &json!("by hand"))
    );
    assert_eq!(condition(&evicted, "DisruptionTarget")["status"], "True");
    assert_eq!(evicted["status"]["containerStatuses"][0]["restartCount"], 0);
    // Another pod of the same name, at once.
    pod(
        cluster,
        ns,
        "again",
        json!({"terminationGracePeriodSeconds": 0, "containers": [sh("c", "exec sleep 999")]}),
    );
    cluster.wait_pod_ready(ns, "again");
    let first = part(cluster, ns, "again", "{.metadata.uid}");
    cluster.kubectl(&["delete", "pod", "again", "-n", ns, "--force", "--grace-period=0"]);
    pod(cluster, ns, "again", json!({"containers": [sh("c", "exec sleep 999")]}));
    cluster.wait_pod_ready(ns, "again");
    assert_ne!(part(cluster, ns, "again", "{.metadata.uid}"), first);
    wait_for("the end of the first of the two", || {
        !cluster.data_dir().join("agent/pods").join(&first).exists()
    });
}

fn a_sandbox_that_dies(cluster: &Cluster, ns: &str) {
    let spec = json!({"initContainers": [sh("i", "exit 0")], "containers": [sh("c", "exec sleep 994")]});
    pod(cluster, ns, "lost", spec);
    cluster.wait_pod_ready(ns, "lost");
    let uid = part(cluster, ns, "lost", "{.metadata.uid}");
    let shim = cluster.host.sh(&format!("pgrep -f '{uid}-0' | head -1"));
    cluster.host.sh(&format!("kill -9 {}", shim.trim()));
    wait(
        cluster,
        ns,
        "lost",
        "{.status.initContainerStatuses[0].restartCount} {.status.containerStatuses[0].restartCount}",
        "1 1",
    );
    cluster.wait_pod_ready(ns, "lost");
    wait_event(cluster, ns, "lost", "SandboxChanged: Pod sandbox changed, it will be killed and re-created.");
}

fn restarts_of_the_agent(cluster: &Cluster, ns: &str) {
    let ending = json!({"terminationGracePeriodSeconds": 30, "containers": [sh("c", "trap 'sleep 4; exit 7' TERM; while :; do sleep 0.1; done")]});
    pod(cluster, ns, "ending", ending);
    pod(cluster, ns, "missed", json!({"containers": [sh("c", "exec sleep 993")]}));
    for name in ["ending", "missed"] {
        cluster.wait_pod_ready(ns, name);
    }
    // Long enough for the third back-off.
    wait_for("three restarts of the crashing pod", || {
        part(cluster, ns, "crash", "{.status.containerStatuses[0].restartCount}")
            .parse::<i32>()
            .is_ok_and(|n| n >= 3)
    });
    let waiting = "{.status.containerStatuses[0].state.waiting.message}";
    // The third or, where all takes longer, a later one.
    let backs_off = || {
        let message = part(cluster, ns, "crash", waiting);
        ["40s", "1m20s", "2m40s", "5m0s"].iter().any(|p| message.starts_with(&format!("back-off {p} ")))
    };
    wait_for("the back-off of 40 s", backs_off);
    let phase_of = |name: &str| object(cluster, ns, name)["status"].clone();
    let init = phase_of("init-run")["initContainerStatuses"][1]["containerID"].clone();
    let order = phase_of("order");
    cluster.kubectl(&["delete", "pod", "ending", "-n", ns, "--wait=false"]);
    wait_event(cluster, ns, "ending", "Killing: Stopping container c");
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    cluster.wait_jsonpath(&["pod", "ending", "-n", ns, "--ignore-not-found"], "{.metadata.name}", "");
    let now = phase_of("init-run")["initContainerStatuses"][1].clone();
    assert_eq!(
        (&now["containerID"], &now["restartCount"]),
        (&init, &json!(0)),
        "a running init container runs on"
    );
    assert_eq!(phase_of("order"), order, "what has ended stays as it is");
    assert_eq!(shown(cluster, ns, "cpu"), "OutOfcpu");
    wait_for("the remembered back-off", backs_off);
}

#[test]
fn static_pods() {
    let flags = [
        "--node-taint=dedicated=files:NoSchedule",
        "--node-external-ip=203.0.113.9",
        "--node-label=example.com/a=b",
        NO_PRESSURE,
    ];
    let cluster = Cluster::start("static", &flags);
    cluster.import_test_images();
    registration(&cluster);
    let ns = &cluster.namespace("static");
    let directory = cluster.data_dir().join("agent/pod-manifests");
    let manifest = |image: &str, sleep: u32| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: {ns}, labels: {{app: web}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  priorityClassName: system-node-critical\n  containers:\n  - {{name: c, image: '{image}', command: [sleep, '{sleep}']}}\n"
        )
    };
    wait_for("the directory of static pods", || directory.is_dir());
    let file = directory.join("web.yaml");
    std::fs::write(&file, manifest(IMAGE, 999)).expect("written");
    wait_for("the mirror pod", || cluster.kubectl(&["get", "pods", "-n", ns]).contains("web-node-1"));
    cluster.wait_pod_ready(ns, "web-node-1");
    let mirror = object(&cluster, ns, "web-node-1");
    let annotations = &mirror["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(annotations["kubernetes.io/config.mirror"], annotations["kubernetes.io/config.hash"]);
    assert!(annotations["kubernetes.io/config.seen"].is_string());
    let owner = &mirror["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["name"], &owner["controller"]),
        (&json!("Node"), &json!("node-1"), &json!(true))
    );
    assert_eq!(mirror["spec"]["priority"], 2_000_001_000);
    assert_eq!(mirror["spec"]["tolerations"][0], json!({"operator": "Exists", "effect": "NoExecute"}));
    assert_eq!(cluster.kubectl(&["exec", "web-node-1", "-n", ns, "--", "hostname"]), "web-node-1\n");
    let id = "{.status.containerStatuses[0].containerID}";
    let container = part(&cluster, ns, "web-node-1", id);
    // The mirror goes and comes again; the pod is not touched.
    let uid = |name: &str| part(&cluster, ns, name, "{.metadata.uid}");
    let first = uid("web-node-1");
    // Without waiting: kubectl waits for ever for a pod that is made again at once.
    cluster.kubectl(&["delete", "pod", "web-node-1", "-n", ns, "--wait=false"]);
    wait_for("another mirror", || {
        let output = cluster
            .kubectl_command(&["get", "pod", "web-node-1", "-n", ns, "-o", "jsonpath={.metadata.uid}"])
            .output();
        output.is_ok_and(|o| o.status.success() && o.stdout != first.as_bytes())
    });
    cluster.wait_pod_ready(ns, "web-node-1");
    assert_eq!(part(&cluster, ns, "web-node-1", id), container);
    // A restart of the agent changes nothing either.
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    cluster.wait_pod_ready(ns, "web-node-1");
    assert_eq!(part(&cluster, ns, "web-node-1", id), container);
    // A typing error is told, and ends nothing.
    std::fs::write(&file, "kind: [").expect("written");
    wait_for("the event about the bad file", || {
        cluster.kubectl(&["get", "events", "-o", "jsonpath={..message}"]).contains("web.yaml: ")
    });
    assert_eq!(part(&cluster, ns, "web-node-1", id), container);
    // A changed file is a new pod.
    std::fs::write(&file, manifest(IMAGE, 998)).expect("written");
    wait_for("the new container", || {
        let output = cluster
            .kubectl_command(&[
                "get",
                "pod",
                "web-node-1",
                "-n",
                ns,
                "-o",
                &format!("jsonpath={{.status.phase}}{id}"),
            ])
            .output();
        output.is_ok_and(|o| {
            let text = String::from_utf8_lossy(&o.stdout).into_owned();
            text.starts_with("Running") && !text.ends_with(&container)
        })
    });
    let command = cluster.kubectl(&["exec", "web-node-1", "-n", ns, "--", "ps"]);
    assert!(command.contains("sleep 998"), "{command}");
    let pods = cluster.data_dir().join("agent/pods");
    let hash = part(&cluster, ns, "web-node-1", "{.metadata.annotations.kubernetes\\.io/config\\.hash}");
    std::fs::remove_file(&file).expect("removed");
    wait_for("the end of the mirror", || !cluster.kubectl(&["get", "pods", "-n", ns]).contains("web-node-1"));
    assert!(!pods.join(hash).exists(), "nothing of the pod is left");
}

fn registration(cluster: &Cluster) {
    let node: Value =
        serde_json::from_str(&cluster.kubectl(&["get", "node", "node-1", "-o", "json"])).expect("JSON");
    assert_eq!(node["metadata"]["labels"]["example.com/a"], "b");
    let taint = json!({"key": "dedicated", "value": "files", "effect": "NoSchedule"});
    assert!(node["spec"]["taints"].as_array().is_some_and(|t| t.contains(&taint)), "{}", node["spec"]);
    let addresses = json!([{"type": "InternalIP", "address": harness::NODE_IP},
        {"type": "ExternalIP", "address": "203.0.113.9"}, {"type": "Hostname", "address": "node-1"}]);
    assert_eq!(node["status"]["addresses"], addresses);
    for field in ["cpu", "memory", "pods", "ephemeral-storage"] {
        assert!(node["status"]["capacity"][field].is_string(), "{field}: {}", node["status"]["capacity"]);
        assert!(
            node["status"]["allocatable"][field].is_string(),
            "{field}: {}",
            node["status"]["allocatable"]
        );
    }
    let lease = ["lease", "node-1", "-n", "kube-node-lease"];
    let renewed = || cluster.kubectl(&[&["get"], &lease[..], &["-o", "jsonpath={.spec.renewTime}"]].concat());
    let first = renewed();
    wait_for("the next heartbeat", || renewed() != first);
    // Another boot's number in the node's status: the machine was started again since.
    let patch = r#"{"status":{"nodeInfo":{"bootID":"former"}}}"#;
    cluster.kubectl(&["patch", "node", "node-1", "--subresource=status", "-p", patch]);
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("read");
    let told = format!("Node node-1 has been rebooted, boot id: {}", boot.trim());
    wait_for("the event of the reboot", || {
        let events = ["get", "events", "--field-selector", "reason=Rebooted", "-o", "jsonpath={..message}"];
        cluster.kubectl(&events) == told
    });
    let directory = cluster.host.directory.path().join("other");
    let mut refused = cluster.host.command(harness::executable());
    refused.args(["server", "--node-label", "k8s.io/a=b", "--data-dir"]).arg(directory);
    let output = refused.output().expect("kedge runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("set it with `kubectl label node`"), "{told}");
}

#[test]
fn a_clock_that_is_behind_is_waited_for() {
    let cluster = Cluster::start("clock", &[NO_PRESSURE]);
    cluster.stop_server();
    // A certificate that is valid only from a while on: the clock must be behind.
    let tls = cluster.data_dir().join("server/tls");
    let ahead = std::time::SystemTime::now() + Duration::from_secs(15);
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(vec!["later".to_owned()]).expect("parameters");
    parameters.not_before = ahead.into();
    let certificate = parameters.self_signed(&key).expect("a certificate");
    std::fs::write(tls.join("later.crt"), certificate.pem()).expect("written");
    cluster.launch();
    wait_for("the word about the clock", || cluster.log().contains("the clock of this machine"));
    assert!(std::time::SystemTime::now() < ahead, "it is told before that time");
    cluster.wait_ready();
    assert!(std::time::SystemTime::now() >= ahead, "nothing starts before that time");
}
