//! What the agent makes of pods: the real executable, real containers, real kubectl. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;

use harness::{Cluster, show, wait_for};

/// Applies pods with these names and specifications in JSON.
fn pods(cluster: &Cluster, namespace: &str, list: &[(&str, &str)]) {
    for (name, spec) in list {
        let pod =
            format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{spec}}}"#);
        cluster.apply(namespace, &pod);
    }
}

fn status(cluster: &Cluster, namespace: &str, pod: &str, path: &str) -> String {
    cluster.kubectl(&["get", "pod", pod, "-n", namespace, "-o", &format!("jsonpath={path}")])
}

fn wait(cluster: &Cluster, namespace: &str, pod: &str, path: &str, expected: &str) {
    cluster.wait_jsonpath(&["pod", pod, "-n", namespace], path, expected);
}

#[test]
fn pods_as_the_agent_keeps_them() {
    let cluster = Cluster::start("agent", &[]);
    cluster.import_test_images();
    let namespace = cluster.namespace("agent");
    ends_and_reasons(&cluster, &namespace);
    what_is_missing_is_waited_for(&cluster, &namespace);
    streams_in_both_protocols(&cluster, &namespace);
    volumes_change_under_running_containers(&cluster, &namespace);
    a_restart_of_the_agent_changes_nothing(&cluster, &namespace);
}

fn ends_and_reasons(cluster: &Cluster, ns: &str) {
    let image = r#""image":"busybox:1.36""#;
    let container = |rest: &str| format!(r#""containers":[{{"name":"c",{image},{rest}}}]"#);
    let never = |rest: &str| {
        format!(r#"{{"restartPolicy":"Never","terminationGracePeriodSeconds":1,{}}}"#, container(rest))
    };
    let always = |rest: &str| format!(r#"{{"terminationGracePeriodSeconds":1,{}}}"#, container(rest));
    let memory = r#""command":["tail","/dev/zero"],"resources":{"limits":{"memory":"16Mi"}}"#;
    let deadline = always(r#""command":["sleep","99"]"#).replacen('{', r#"{"activeDeadlineSeconds":2,"#, 1);
    let sidecar = never(r#""command":["sleep","1"]"#).replacen(
        '{',
        &format!(r#"{{"initContainers":[{{"name":"s",{image},"restartPolicy":"Always","command":["sleep","99"]}}],"#),
        1,
    );
    let words = r#""command":["sh","-c","echo bye > /dev/termination-log; exit 3"]"#;
    let list = [
        ("done", never(r#""command":["true"]"#)),
        ("failed", never(words)),
        ("oom", never(memory)),
        ("deadline", deadline),
        ("sidecar", sidecar),
        ("noexe", always(r#""command":["/nope"]"#)),
        ("crash", always(words)),
        ("never", always(r#""imagePullPolicy":"Never""#).replace("busybox:1.36", "none:1")),
    ];
    pods(cluster, ns, &list.iter().map(|(n, s)| (*n, s.as_str())).collect::<Vec<_>>());
    let reason = "{.status.containerStatuses[0].state.terminated.reason}";
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    for (pod, phase, expected) in
        [("done", "Succeeded", "Completed"), ("failed", "Failed", "Error"), ("oom", "Failed", "OOMKilled")]
    {
        wait(cluster, ns, pod, "{.status.phase}", phase);
        assert_eq!(status(cluster, ns, pod, reason), expected, "{pod}");
    }
    assert_eq!(
        status(cluster, ns, "failed", "{.status.containerStatuses[0].state.terminated.message}"),
        "bye\n"
    );
    wait(cluster, ns, "deadline", "{.status.reason}", "DeadlineExceeded");
    wait(cluster, ns, "sidecar", "{.status.phase}", "Succeeded");
    wait(cluster, ns, "noexe", waiting, "CrashLoopBackOff");
    let last = "{.status.containerStatuses[0].lastState.terminated.reason}";
    assert_eq!(status(cluster, ns, "noexe", last), "StartError");
    wait(cluster, ns, "crash", waiting, "CrashLoopBackOff");
    let message = status(cluster, ns, "crash", "{.status.containerStatuses[0].state.waiting.message}");
    // The first back-off or, where looking takes long, a later one.
    let backs_off = |pause: &&str| {
        message.starts_with(&format!("back-off {pause} restarting failed container=c pod=crash_"))
    };
    assert!(["10s", "20s", "40s", "1m20s"].iter().any(backs_off), "{message}");
    assert_eq!(status(cluster, ns, "never", waiting), "ErrImageNeverPull");
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
}

fn what_is_missing_is_waited_for(cluster: &Cluster, ns: &str) {
    let spec = r#"{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"busybox:1.36",
        "command":["sleep","99"],"envFrom":[{"configMapRef":{"name":"later"}}]}],
        "volumes":[{"name":"s","secret":{"secretName":"later"}}]}"#;
    pods(cluster, ns, &[("missing", spec)]);
    let text = r#"MountVolume.SetUp failed for volume "s" : secret "later" not found"#;
    wait_for("the event of the missing secret", || {
        cluster.kubectl(&["get", "events", "-n", ns, "-o", "jsonpath={..message}"]).contains(text)
    });
    cluster.kubectl(&["create", "secret", "generic", "later", "-n", ns, "--from-literal=k=v"]);
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    wait(cluster, ns, "missing", waiting, "CreateContainerConfigError");
    cluster.kubectl(&["create", "configmap", "later", "-n", ns, "--from-literal=K=v"]);
    cluster.wait_pod_ready(ns, "missing");
    cluster.kubectl(&["delete", "pod", "missing", "-n", ns]);
}

fn streams_in_both_protocols(cluster: &Cluster, ns: &str) {
    let spec = r#"{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"busybox:1.36",
        "command":["sh","-c","echo first; echo $HOSTNAME; exec httpd -f -p 8080 -h /www"],
        "readinessProbe":{"httpGet":{"path":"/","port":8080},"periodSeconds":1}}]}"#;
    pods(cluster, ns, &[("streams", spec)]);
    cluster.wait_pod_ready(ns, "streams");
    assert_eq!(cluster.kubectl(&["logs", "streams", "-n", ns]), "first\nstreams\n");
    assert_eq!(cluster.kubectl(&["logs", "streams", "-n", ns, "--tail=1"]), "streams\n");
    for web_sockets in ["true", "false"] {
        let exec = |arguments: &[&str]| {
            let all = [&["exec", "-i", "streams", "-n", ns, "--"], arguments].concat();
            let mut command = cluster.kubectl_command(&all);
            command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", web_sockets);
            command.output().expect("kubectl runs")
        };
        let output = exec(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!(output.status.code(), Some(3), "{web_sockets}: {}", show(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n", "{web_sockets}");
        assert!(
            String::from_utf8_lossy(&output.stderr).starts_with("err\n"),
            "{web_sockets}: {}",
            show(&output)
        );
        let missing = exec(&["/nope"]);
        assert!(!missing.status.success(), "{web_sockets}: {}", show(&missing));
    }
    cluster.kubectl(&["delete", "pod", "streams", "-n", ns]);
}

fn volumes_change_under_running_containers(cluster: &Cluster, ns: &str) {
    cluster.kubectl(&["create", "configmap", "live", "-n", ns, "--from-literal=a=1"]);
    let spec = r#"{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"busybox:1.36",
        "command":["sleep","999"],"volumeMounts":[{"name":"m","mountPath":"/m"},{"name":"e","mountPath":"/e"},
        {"name":"e","mountPath":"/sub","subPath":"x/y"}]}],
        "volumes":[{"name":"m","configMap":{"name":"live"}},{"name":"e","emptyDir":{"medium":"Memory"}}]}"#;
    pods(cluster, ns, &[("volumes", spec)]);
    cluster.wait_pod_ready(ns, "volumes");
    let run = |line: &str| cluster.kubectl(&["exec", "volumes", "-n", ns, "--", "sh", "-c", line]);
    assert_eq!(run("cat /m/a; echo s > /sub/f; cat /e/x/y/f"), "1s\n");
    let token = run("cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    assert_eq!(token.split('.').count(), 3, "a signed token");
    cluster.kubectl(&["patch", "configmap", "live", "-n", ns, "-p", r#"{"data":{"a":"2"}}"#]);
    wait_for("the new content of the ConfigMap", || run("cat /m/a") == "2");
}

fn a_restart_of_the_agent_changes_nothing(cluster: &Cluster, ns: &str) {
    let all = "{.status.podIP} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}";
    let before = status(cluster, ns, "volumes", all);
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    cluster.wait_pod_ready(ns, "volumes");
    assert_eq!(status(cluster, ns, "volumes", all), before);
    let uid = status(cluster, ns, "volumes", "{.metadata.uid}");
    cluster.kubectl(&["delete", "pod", "volumes", "-n", ns]);
    assert!(!cluster.data_dir().join("agent/pods").join(&uid).exists(), "nothing of the pod is left");
    let mounts = cluster.host.sh("cat /proc/self/mountinfo");
    assert!(!mounts.contains(&uid), "no mount of the pod is left");
}
