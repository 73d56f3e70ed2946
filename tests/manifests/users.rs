//! The manifests beside this file: what their heads say.

use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Cluster, NODE_IP, show, wait_for, wait_until};

/// `kubectl get … -w` and all it has printed.
pub struct Watched {
    child: Child,
    text: Arc<Mutex<String>>,
}

impl Watched {
    pub fn new(cluster: &Cluster, arguments: &[&str]) -> Self {
        let all = [&["get", "--watch", "--no-headers"], arguments].concat();
        let mut child = cluster.kubectl_command(&all).stdout(Stdio::piped()).spawn().expect("kubectl runs");
        let text = Arc::new(Mutex::new(String::new()));
        let (mut stdout, kept) = (child.stdout.take().expect("piped"), text.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                kept.lock().expect("not poisoned").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { child, text }
    }

    pub fn text(&self) -> String {
        self.text.lock().expect("not poisoned").clone()
    }

    /// The words of one column, in order, without those that only repeat the one before.
    pub fn column(&self, pod: &str, number: usize) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
        let of_pod = lines.filter(|words| words.first() == Some(&pod));
        let mut words: Vec<String> = of_pod.filter_map(|w| w.get(number).map(ToString::to_string)).collect();
        words.dedup();
        words
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(cluster: &Cluster, ns: &str, what: &[&str], path: &str) -> String {
    cluster.kubectl(&[&["get", "-n", ns], what, &["-o", &format!("jsonpath={path}")]].concat())
}

fn exec(cluster: &Cluster, ns: &str, pod: &str, line: &str) -> String {
    cluster.kubectl(&["exec", "-n", ns, pod, "-c", "main", "--", "sh", "-c", line])
}

/// Waits until a pod's STATUS, as `kubectl get pod` shows it, is this word.
fn wait_status(cluster: &Cluster, ns: &str, pod: &str, word: &str) {
    let mut line = String::new();
    let shown = wait_until(Duration::from_secs(120), || {
        line = cluster.kubectl(&["get", "pod", pod, "-n", ns, "--no-headers"]);
        line.split_whitespace().nth(2) == Some(word)
    });
    assert!(shown, "{pod}: {line}, not {word}\n{}", cluster.kubectl(&["describe", "pod", pod, "-n", ns]));
}

fn restarts(cluster: &Cluster, ns: &str, pod: &str) -> u32 {
    let count = get(cluster, ns, &["pod", pod], "{.status.containerStatuses[0].restartCount}");
    count.parse().unwrap_or(0)
}

pub fn redis(cluster: &Cluster, ns: &str) {
    let manifest = include_str!("01-redis-emptydir.yaml");
    let started = Instant::now();
    cluster.apply(ns, manifest);
    cluster.wait_pod_ready(ns, "redis");
    // The image is pulled, other tests run beside: "in seconds" is generous here.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    let described = cluster.kubectl(&["describe", "pod", "redis", "-n", ns]);
    for part in [
        "QoS Class:                   BestEffort",
        "kube-api-access-",
        "node.kubernetes.io/not-ready:NoExecute op=Exists for 300s",
        "node.kubernetes.io/unreachable:NoExecute op=Exists for 300s",
        "Successfully assigned",
        "Pulling image \"redis:7\"",
        "Successfully pulled image \"redis:7\" in ",
        "Container started",
    ] {
        assert!(described.contains(part), "{part}\n{described}");
    }
    let reasons = get(cluster, ns, &["events"], "{range .items[*]}{.reason} {end}");
    let mut reasons: Vec<_> = reasons.split_whitespace().collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["Created", "Pulled", "Pulling", "Scheduled", "Started"], "five events");
    let run = |line: &str| cluster.kubectl(&["exec", "-n", ns, "redis", "--", "sh", "-c", line]);
    assert_eq!(run("redis-cli ping"), "PONG\n");
    run("echo hello > /data/redis/file; kill 1");
    wait_for("the container's restart", || restarts(cluster, ns, "redis") == 1);
    cluster.wait_pod_ready(ns, "redis");
    assert_eq!(run("cat /data/redis/file"), "hello\n", "the volume outlives the container");
    cluster.kubectl(&["delete", "pod", "redis", "-n", ns]);
    cluster.apply(ns, manifest);
    cluster.wait_pod_ready(ns, "redis");
    assert_eq!(run("ls /data/redis"), "", "and not the pod");
}

pub fn web_deployment(cluster: &Cluster, ns: &str) {
    let columns = "custom-columns=N:.metadata.name,R:.status.replicas,A:.status.availableReplicas";
    cluster.apply(ns, include_str!("02-web-deployment.yaml"));
    let rolled = || cluster.kubectl(&["rollout", "status", "deployment/web", "-n", ns, "--timeout=120s"]);
    rolled();
    let image = || get(cluster, ns, &["deployment", "web"], "{.spec.template.spec.containers[0].image}");
    let pods = |path: &str| {
        let all = get(cluster, ns, &["pods", "-l", "run=web", "--field-selector=status.phase=Running"], path);
        all.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(pods("{.items[*].metadata.name}").len(), 3);

    let seen = Watched::new(cluster, &["deployment", "web", "-n", ns, "-o", columns]);
    wait_for("the watch", || !seen.text().is_empty());
    cluster.kubectl(&["set", "image", "deployment/web", "web=nginx:1.25", "-n", ns]);
    let cause = "kubernetes.io/change-cause=second version";
    cluster.kubectl(&["annotate", "deployment/web", cause, "--overwrite", "-n", ns]);
    rolled();
    wait_for("only new pods", || {
        pods("{.items[*].spec.containers[0].image}").iter().all(|image| image == "nginx:1.25")
    });
    for line in seen.text().lines() {
        let numbers: Vec<u32> = line.split_whitespace().skip(1).map(|n| n.parse().unwrap_or(0)).collect();
        assert!(numbers[0] <= 4 && numbers[1] >= 3, "one extra, none missing\n{}", seen.text());
    }
    drop(seen);
    let history = cluster.kubectl(&["rollout", "history", "deployment/web", "-n", ns]);
    assert!(history.contains("first version") && history.contains("second version"), "{history}");

    cluster.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1", "-n", ns]);
    rolled();
    assert_eq!(image(), "nginx:1.24");
    cluster.kubectl(&["rollout", "pause", "deployment/web", "-n", ns]);
    let before = get(cluster, ns, &["replicasets"], "{.items[*].metadata.name}");
    cluster.kubectl(&["set", "env", "deployment/web", "STEP=paused", "-n", ns]);
    cluster.wait_jsonpath(&["deployment", "web", "-n", ns], "{.status.observedGeneration}", &{
        get(cluster, ns, &["deployment", "web"], "{.metadata.generation}")
    });
    assert_eq!(get(cluster, ns, &["replicasets"], "{.items[*].metadata.name}"), before, "paused");
    cluster.kubectl(&["rollout", "resume", "deployment/web", "-n", ns]);
    rolled();
    let names = pods("{.items[*].metadata.name}");
    cluster.kubectl(&["rollout", "restart", "deployment/web", "-n", ns]);
    rolled();
    wait_for("other pods", || pods("{.items[*].metadata.name}").iter().all(|name| !names.contains(name)));
    cluster.kubectl(&["scale", "deployment/web", "--replicas=5", "-n", ns]);
    rolled();
    let address = get(cluster, ns, &["service", "web"], "{.spec.clusterIP}");
    for place in [format!("{address}:8080"), format!("{NODE_IP}:32697")] {
        wait_for(&place, || {
            cluster
                .host
                .sh(&format!("curl -s --max-time 5 http://{place}/ || true"))
                .contains("Welcome to nginx")
        });
    }
}

pub fn probes(cluster: &Cluster, ns: &str) {
    cluster.apply(ns, include_str!("03-probes.yaml"));
    let ready = "{.status.conditions[?(@.type=='Ready')].status}";
    // While its startup probe fails, the slow pod is neither ready nor ended.
    cluster.wait_jsonpath(
        &["pod", "slow-start", "-n", ns],
        "{.status.containerStatuses[0].state.running.startedAt}",
        &{
            wait_for("the slow pod's start", || {
                !get(
                    cluster,
                    ns,
                    &["pod", "slow-start"],
                    "{.status.containerStatuses[0].state.running.startedAt}",
                )
                .is_empty()
            });
            get(cluster, ns, &["pod", "slow-start"], "{.status.containerStatuses[0].state.running.startedAt}")
        },
    );
    assert_eq!(get(cluster, ns, &["pod", "slow-start"], "{.status.containerStatuses[0].started}"), "false");
    assert_eq!(get(cluster, ns, &["pod", "slow-start"], ready), "False");
    cluster.wait_pod_ready(ns, "slow-start");
    assert_eq!(restarts(cluster, ns, "slow-start"), 0);
    let address = |pod: &str| get(cluster, ns, &["pod", pod], "{.status.podIP}");
    let (slow, never) = (address("slow-start"), address("not-ready"));
    cluster.wait_jsonpath(&["endpoints", "slow", "-n", ns], "{.subsets[*].addresses[*].ip}", &slow);

    let first = Duration::from_secs(120);
    assert!(wait_until(first, || restarts(cluster, ns, "healthy-then-dead") == 1), "killed once");
    let last = |field: &str| {
        let path = format!("{{.status.containerStatuses[0].lastState.terminated.{field}}}");
        get(cluster, ns, &["pod", "healthy-then-dead"], &path)
    };
    assert_eq!(last("exitCode"), "137");
    let times = [last("startedAt"), last("finishedAt")];
    let seconds =
        cluster.host.sh(&format!("echo $(($(date -d {} +%s) - $(date -d {} +%s)))", times[1], times[0]));
    let seconds: u32 = seconds.trim().parse().expect("a number");
    // 30 s well, three failures 5 s apart, 30 s of grace that a shell as process 1 lets pass.
    assert!((70..=85).contains(&seconds), "{seconds} s from start to end: {times:?}");
    let described = cluster.kubectl(&["describe", "pod", "healthy-then-dead", "-n", ns]);
    for part in
        ["Liveness probe failed: cat: can't open '/tmp/healthy'", "failed liveness probe, will be restarted"]
    {
        assert!(described.contains(part), "{part}\n{described}");
    }
    assert!(wait_until(first, || restarts(cluster, ns, "healthy-then-dead") == 2), "killed again");
    assert_eq!(restarts(cluster, ns, "slow-start") + restarts(cluster, ns, "not-ready"), 0);
    let addresses = get(cluster, ns, &["endpoints", "slow"], "{.subsets[*].addresses[*].ip}");
    assert_eq!((addresses, get(cluster, ns, &["pod", "not-ready"], ready)), (slow, "False".into()));
    assert_eq!(get(cluster, ns, &["endpoints", "slow"], "{.subsets[*].notReadyAddresses[*].ip}"), never);
    let events = cluster.kubectl(&["describe", "pod", "not-ready", "-n", ns]);
    assert!(events.contains("Readiness probe failed: HTTP probe failed with statuscode: 404"), "{events}");
}

pub fn init_and_hooks(cluster: &Cluster, ns: &str) {
    let watched = Watched::new(cluster, &["pods", "-n", ns]);
    cluster.apply(ns, include_str!("06-init-and-hooks.yaml"));
    cluster.wait_pod_ready(ns, "javaweb");
    wait_for("STATUS Running", || watched.column("javaweb", 2).last().is_some_and(|word| word == "Running"));
    let states = watched.column("javaweb", 2);
    let from = states.iter().position(|word| word == "Init:0/1").unwrap_or_else(|| panic!("{states:?}"));
    // A main container that starts at once leaves no time to see the state between.
    let seen: Vec<_> = states[from..].iter().filter(|word| *word != "PodInitializing").collect();
    assert_eq!(seen, ["Init:0/1", "Running"], "{states:?}");
    let page = |path: &str| {
        cluster.host.sh(&format!("curl -s --max-time 5 -w ' %{{http_code}}' http://{NODE_IP}:8001/{path}"))
    };
    assert_eq!(page("sample.war"), "war\n 200");
    let run = |line: &str| cluster.kubectl(&["exec", "-n", ns, "javaweb", "--", "sh", "-c", line]);
    wait_for("the postStart hook's directory", || run("ls /app").contains("started"));

    let started = Instant::now();
    cluster.kubectl(&["delete", "pod", "javaweb", "-n", ns, "--wait=false"]);
    wait_for("the preStop hook", || run("ps").contains("sleep 10"));
    assert_eq!(page("sample.war"), "war\n 200", "the server serves while its hook runs");
    wait_status(cluster, ns, "javaweb", "Terminating");
    cluster.kubectl(&["wait", "--for=delete", "pod/javaweb", "-n", ns, "--timeout=60s"]);
    let took = started.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(45)).contains(&took), "{took:?}");
}

pub fn restart_policies(cluster: &Cluster, ns: &str) {
    let seen = Watched::new(cluster, &["pods", "-n", ns]);
    cluster.apply(ns, include_str!("07-restart-policies.yaml"));
    for (pod, word) in [
        ("always", "CrashLoopBackOff"),
        ("on-failure", "Completed"),
        ("never", "Completed"),
        ("failing", "Error"),
        ("never-pulled", "ErrImageNeverPull"),
        ("missing", "ImagePullBackOff"),
        ("hog", "OOMKilled"),
    ] {
        wait_status(cluster, ns, pod, word);
    }
    wait_for("both words for a missing image", || {
        let words = seen.column("missing", 2);
        let first = words.iter().position(|word| word == "ErrImagePull");
        first.is_some_and(|at| words[at..].iter().any(|word| word == "ImagePullBackOff"))
    });
    for pod in ["on-failure", "never", "failing", "hog"] {
        assert_eq!(restarts(cluster, ns, pod), 0, "{pod}");
    }
    let code = |pod: &str| {
        get(cluster, ns, &["pod", pod], "{.status.containerStatuses[0].state.terminated.exitCode}")
    };
    assert_eq!([code("failing"), code("never"), code("hog")], ["1", "0", "137"]);
    assert!(restarts(cluster, ns, "always") >= 1);
}

pub fn pod_preset(cluster: &Cluster, ns: &str) {
    let (preset, pod) = include_str!("09-podpreset.yaml").split_once("---\n").expect("two documents");
    cluster.apply(ns, preset);
    cluster.apply(ns, pod);
    cluster.apply(
        ns,
        "apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  selector: {matchLabels: {role: frontend}}
  template:
    metadata: {labels: {role: frontend}}
    spec: {containers: [{name: main, image: 'busybox:1.35', command: [sleep, infinity]}]}
",
    );
    cluster.wait_pod_ready(ns, "website");
    let run = |line: &str| cluster.kubectl(&["exec", "-n", ns, "website", "--", "sh", "-c", line]);
    assert_eq!(run("echo $DB_PORT; ls -d /cache; touch /cache/file"), "6379\n/cache\n");
    let annotations = "{.metadata.annotations}";
    let key = "podpreset.admission.kubernetes.io/podpreset-allow-database";
    assert!(get(cluster, ns, &["pod", "website"], annotations).contains(key));
    cluster.kubectl(&["rollout", "status", "deployment/front", "-n", ns, "--timeout=90s"]);
    assert_eq!(exec(cluster, ns, "deployment/front", "echo $DB_PORT"), "6379\n");
    let template = get(cluster, ns, &["deployment", "front"], "{.spec.template}");
    assert!(!template.contains("DB_PORT") && !template.contains("cache-volume"), "{template}");
    let refused = cluster.kubectl_command(&["get", "podpresets", "-n", ns]).output().expect("kubectl runs");
    assert!(refused.status.success(), "{}", show(&refused));
}
