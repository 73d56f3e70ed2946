//! Probes, hooks and the end of pods: the real executable, real containers, real kubectl. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
#[allow(dead_code, reason = "the images serve other tests too")]
mod images;
#[path = "agent_support/server.rs"]
mod server;
#[path = "agent_support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::{Cluster, NODE_IP, wait_for};
use serde_json::{Value, json};
use support::{Place, container, one, with};

/// Ports of the server on the node.
const PLAIN: u16 = 18080;
const SECURE: u16 = 18443;

const RESTARTS: &str = "{.status.containerStatuses[0].restartCount}";
const READY: &str = "{.status.conditions[?(@.type==\"Ready\")].status}";
const STARTED: &str = "{.status.containerStatuses[0].started}";

fn sh(line: &str) -> Value {
    json!({"command": ["sh", "-c", line]})
}

#[test]
fn probes_hooks_and_ends() {
    let cluster = Cluster::start("probes", &[]);
    cluster.import_test_images();
    let asked = server::start(&cluster, PLAIN, SECURE);
    let place = Place::new(&cluster, "probes");
    // All at once, so that their waits run beside each other.
    place.pods(&answers());
    place.pods(&verdicts());
    place.pods(&lives());
    each_kind_of_probe_answers(&place, &asked);
    what_is_wrong_is_told(&place);
    failing_containers_are_restarted(&place);
    startup_comes_first(&place);
    thresholds_and_slow_commands(&place);
    place.delete("--all", &["--wait=false"]);

    let hooks = Place::new(&cluster, "hooks");
    hooks_after_the_start(&hooks, &asked);
    readiness_is_asked_for_until_the_end(&hooks);
    hooks_and_signals_before_the_end(&hooks);
    grace_periods(&hooks);
    last_words(&hooks);
    readiness_survives_the_agent(&hooks);
}

/// On the node's network, where the test's server is.
fn near(probe: Value) -> Value {
    with(one(json!({"readinessProbe": probe})), json!({"hostNetwork": true}))
}

fn answers() -> Vec<(&'static str, Value)> {
    let web = json!({
        "command": ["httpd", "-f", "-p", "8080", "-h", "/www"],
        "ports": [{"name": "web", "containerPort": 8080}],
        "env": [{"name": "GREETING", "value": "hello"}],
        "startupProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {"httpGet": {"port": "web", "path": "/index.html"}, "periodSeconds": 1},
        "livenessProbe": {"exec": {"command": ["test", "$(GREETING)", "=", "hello"]}, "periodSeconds": 1},
    });
    let grpc = |service: &str| near(json!({"grpc": {"port": PLAIN, "service": service}, "periodSeconds": 1}));
    let get = |path: &str| near(json!({"httpGet": {"port": PLAIN, "path": path}, "periodSeconds": 1}));
    vec![
        ("web", one(web)),
        (
            "https",
            near(
                json!({"httpGet": {"port": SECURE, "path": "/here", "scheme": "HTTPS"}, "periodSeconds": 1}),
            ),
        ),
        ("grpc-up", grpc("up")),
        ("grpc-down", grpc("down")),
        ("grpc-unknown", grpc("nobody")),
        ("away", get("/away")),
        ("fails", get("/fail")),
        ("slow", get("/slow")),
        ("refused", near(json!({"tcpSocket": {"port": 9}, "periodSeconds": 1}))),
    ]
}

fn each_kind_of_probe_answers(place: &Place, asked: &server::Asked) {
    for pod in ["web", "https", "grpc-up", "away"] {
        place.ready(pod);
        assert_eq!(place.get(pod, RESTARTS), "0", "{pod}");
    }
    let asked = asked.lock().expect("not poisoned").clone();
    for line in ["GET /ok kube-probe/1.36", "POST /grpc.health.v1.Health/Check kube-probe/1.36"] {
        assert!(asked.iter().any(|a| a == line), "{line}: {asked:?}");
    }
}

fn what_is_wrong_is_told(place: &Place) {
    for (pod, event) in [
        ("away", "ProbeWarning: Readiness probe warning: Probe terminated redirects, Response body: moved".to_owned()),
        ("fails", "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 500".to_owned()),
        ("refused", format!("Readiness probe failed: dial tcp {NODE_IP}:9: connect: connection refused")),
        (
            "slow",
            format!(
                "Readiness probe failed: Get \"http://{NODE_IP}:{PLAIN}/slow\": context deadline exceeded \
                 (Client.Timeout exceeded while awaiting headers)"
            ),
        ),
        ("grpc-down", "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
        (
            "grpc-unknown",
            "Readiness probe failed: error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"
                .to_owned(),
        ),
        ("unknown", "Readiness probe errored and resulted in unknown state: failed to exec in container".to_owned()),
        ("output", "Readiness probe failed: said\nwrong\n".to_owned()),
    ] {
        place.event(pod, &event);
        if pod != "away" {
            assert_eq!(place.get(pod, READY), "False", "{pod}");
        }
    }
    // A liveness probe that cannot be made says nothing of the container.
    place.event("unknown", "Liveness probe errored and resulted in unknown state");
    assert_eq!(place.get("unknown", RESTARTS), "0");
}

/// Pods whose probes fail, succeed or cannot be made.
fn verdicts() -> Vec<(&'static str, Value)> {
    let exec = |line: &str| json!({"exec": sh(line), "periodSeconds": 1, "failureThreshold": 1});
    let missing = json!({"exec": {"command": ["/nope"]}, "periodSeconds": 1, "failureThreshold": 1});
    let hang = json!({"exec": {"command": ["sleep", "777"]}, "periodSeconds": 1, "failureThreshold": 1000});
    let flip = json!({"exec": sh("test -f /tmp/up"), "periodSeconds": 1, "successThreshold": 2, "failureThreshold": 3});
    vec![
        ("unknown", one(json!({"readinessProbe": missing, "livenessProbe": missing}))),
        ("output", one(json!({"readinessProbe": exec("echo said; echo wrong >&2; exit 1")}))),
        ("hang", one(json!({"livenessProbe": hang}))),
        ("flip", one(json!({"readinessProbe": flip}))),
    ]
}

/// Pods whose containers are to be restarted.
fn lives() -> Vec<(&'static str, Value)> {
    let ill = json!({"exec": sh("exit 1"), "periodSeconds": 1, "failureThreshold": 1});
    let stubborn = "trap '' TERM; while :; do sleep 0.2; done";
    let quick = with(ill.clone(), json!({"terminationGracePeriodSeconds": 1}));
    vec![
        ("ill", one(json!({"livenessProbe": ill}))),
        // Its process is not process 1, to which a signal without handler does nothing.
        ("ill-143", with(one(json!({"livenessProbe": ill})), json!({"shareProcessNamespace": true}))),
        (
            "ill-137",
            with(
                one(json!({"command": ["sh", "-c", stubborn], "livenessProbe": quick})),
                json!({"terminationGracePeriodSeconds": 3000}),
            ),
        ),
        ("ill-never", with(one(json!({"livenessProbe": ill})), json!({"restartPolicy": "Never"}))),
        ("late", one(json!({"startupProbe": ill}))),
        (
            "gated",
            one(
                json!({"livenessProbe": ill, "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 3600},
                "startupProbe": {"exec": sh("test -f /tmp/up"), "periodSeconds": 1, "failureThreshold": 1000}}),
            ),
        ),
    ]
}

fn failing_containers_are_restarted(place: &Place) {
    let killing = "Killing: Container c failed liveness probe";
    for (pod, code) in [("ill", "137"), ("ill-143", "143"), ("ill-137", "137")] {
        place.until(pod, RESTARTS, |count| count.parse::<u32>().is_ok_and(|c| c > 0));
        place.event(pod, &format!("{killing}, will be restarted"));
        place.until(pod, "{.status.containerStatuses[0].lastState.terminated.exitCode}", |c| c == code);
    }
    place.wait("ill-never", "{.status.phase}", "Failed");
    let events = place.events("ill-never");
    assert!(events.contains(&format!("{killing}\n")), "{events}");
    assert_eq!(place.get("ill-never", RESTARTS), "0");
}

fn startup_comes_first(place: &Place) {
    place.event("late", "Unhealthy: Startup probe failed: ");
    place.event("late", "Killing: Container c failed startup probe, will be restarted");
    // Liveness would have ended it long ago.
    place.event("gated", "Unhealthy: Startup probe failed: ");
    assert_eq!((place.get("gated", STARTED), place.get("gated", RESTARTS)), ("false".into(), "0".into()));
    place.exec("gated", "touch /tmp/up");
    // Its first check is due at once, whatever its period.
    place.until("gated", RESTARTS, |count| count == "1");
    place.wait("gated", STARTED, "false");
    assert_eq!(place.get("gated", READY), "False");
}

fn thresholds_and_slow_commands(place: &Place) {
    assert_eq!(place.get("flip", READY), "False");
    place.exec("flip", "touch /tmp/up");
    place.ready("flip");
    place.exec("flip", "rm /tmp/up");
    place.wait("flip", READY, "False");
    let slow = "Unhealthy: Liveness probe failed: command timed out: \"sleep 777\" timed out after 1s";
    place.event("hang", slow);
    // What took too long was ended, again and again.
    wait_for("three checks that took too long", || {
        let count = [
            "get",
            "events",
            "-n",
            &place.ns,
            "--field-selector",
            "involvedObject.name=hang,reason=Unhealthy",
        ];
        let count = place.cluster.kubectl(&[&count[..], &["-o", "jsonpath={.items[*].count}"]].concat());
        count.split(' ').next().and_then(|c| c.parse::<u32>().ok()).is_some_and(|c| c > 2)
    });
    let left = place.exec("hang", "ps | busybox grep -c '[s]leep 777' || true");
    assert!(left.trim().parse::<u32>().expect("a number") <= 1, "{left}");
    assert_eq!(place.get("hang", RESTARTS), "0");
}

/// A directory of the host that containers see as `/h`.
fn shared(place: &Place, name: &str) -> (PathBuf, Value, Value) {
    let path = place.cluster.host.directory.path().join(name);
    fs::create_dir_all(&path).expect("directory");
    let volume = json!([{"name": "h", "hostPath": {"path": path}}]);
    (path, volume, json!([{"name": "h", "mountPath": "/h"}]))
}

fn hooks_after_the_start(place: &Place, asked: &server::Asked) {
    let (dir, volumes, mounts) = shared(place, "start");
    let hook = |handler: Value| one(json!({"lifecycle": {"postStart": handler}, "volumeMounts": mounts}));
    let mounted = |spec: Value| with(spec, json!({"volumes": volumes}));
    let fallback = json!({"httpGet": {"host": NODE_IP, "port": PLAIN, "path": "/fail", "scheme": "HTTPS"}});
    place.pods(&[
        (
            "waits",
            mounted(hook(json!({"exec": sh("touch /h/began; until test -f /h/go; do sleep 0.1; done")}))),
        ),
        ("fails", mounted(hook(json!({"exec": sh("echo secret; exit 3")})))),
        ("tcp", mounted(hook(json!({"tcpSocket": {"port": 1}})))),
        ("http", mounted(hook(fallback))),
        ("sleeps", mounted(hook(json!({"sleep": {"seconds": 1}})))),
        ("deleted", mounted(hook(json!({"exec": sh("touch /h/endless; sleep 3600")})))),
    ]);
    wait_for("the hook", || dir.join("began").exists());
    assert_eq!(
        place.get("waits", "{.status.containerStatuses[0].state.waiting.reason}"),
        "ContainerCreating"
    );
    fs::write(dir.join("go"), "").expect("written");
    place.ready("waits");
    for pod in ["fails", "tcp"] {
        place.event(pod, "FailedPostStartHook: PostStartHook failed");
        place.event(pod, "Killing: FailedPostStartHook");
        let events = place.events(pod);
        assert!(!events.contains("secret") && !events.contains("Failed: Error"), "{events}");
    }
    // Whatever it answers; and a server without TLS is asked without.
    place.ready("http");
    let text =
        format!("LifecycleHTTPFallback: request to HTTPS lifecycle hook {NODE_IP}:{PLAIN} got HTTP response");
    place.event("http", &text);
    let asked = asked.lock().expect("not poisoned").clone();
    assert!(asked.iter().any(|a| a == "GET /fail kube-lifecycle/1.36"), "{asked:?}");
    place.ready("sleeps");
    // The end of a pod does not wait for the hook of its start.
    wait_for("the endless hook", || dir.join("endless").exists());
    place.delete("deleted", &[]);
    place.delete("--all", &["--wait=false"]);
}

fn readiness_is_asked_for_until_the_end(place: &Place) {
    let (dir, volumes, mounts) = shared(place, "readiness");
    let well = json!({"exec": sh("test ! -f /h/ill"), "periodSeconds": 1, "failureThreshold": 1});
    let stop = "touch /h/ill; until test -f /h/go; do sleep 0.1; done";
    let spec = one(json!({"command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done"],
        "readinessProbe": well, "livenessProbe": well, "volumeMounts": mounts,
        "lifecycle": {"preStop": {"exec": sh(stop)}}}));
    place.pods(&[("ends", with(spec, json!({"volumes": volumes, "terminationGracePeriodSeconds": 600})))]);
    place.ready("ends");
    place.delete("ends", &["--wait=false"]);
    place.wait("ends", READY, "False");
    place.event("ends", "Unhealthy: Readiness probe failed: ");
    let seen =
        "{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt}";
    let seen = place.get("ends", seen);
    assert!(seen.starts_with("0 2"), "it runs on: {seen}");
    assert!(!place.events("ends").contains("Liveness"), "{}", place.events("ends"));
    fs::write(dir.join("go"), "").expect("written");
    wait_for("the end", || place.is_gone("ends"));
}

fn hooks_and_signals_before_the_end(place: &Place) {
    let (dir, volumes, mounts) = shared(place, "stop");
    let traps = |file: &str| {
        let trap = |signal: &str| format!("trap 'echo {signal} >> /h/{file}; exit' {signal};");
        format!(
            "{} {} {} touch /h/{file}.up; while :; do sleep 0.1; done",
            trap("TERM"),
            trap("QUIT"),
            trap("USR1")
        )
    };
    let pod = |file: &str, fields: Value| {
        let base = json!({"command": ["sh", "-c", traps(file)], "volumeMounts": mounts});
        let patient =
            json!({"volumes": volumes, "terminationGracePeriodSeconds": 60, "os": {"name": "linux"}});
        with(one(with(base, fields)), patient)
    };
    let said =
        |file: &str| json!({"lifecycle": {"preStop": {"exec": sh(&format!("echo hook >> /h/{file}"))}}});
    let mut sidecar = pod("main", json!({}));
    sidecar["containers"][0]["command"][2] = json!(
        "trap 'sleep 2; echo main >> /h/order; exit' TERM; touch /h/main.up; while :; do sleep 0.1; done"
    );
    let helper = |name: &str| {
        let line = format!(
            "trap 'echo {name} >> /h/order; exit' TERM; touch /h/{name}.up; while :; do sleep 0.1; done"
        );
        let hook = sh(&format!("echo {name}-hook >> /h/order"));
        with(
            container(
                json!({"command": ["sh", "-c", line], "volumeMounts": mounts, "restartPolicy": "Always",
            "lifecycle": {"preStop": {"exec": hook}}}),
            ),
            json!({"name": name}),
        )
    };
    sidecar["initContainers"] = json!([helper("one"), helper("two")]);
    place.pods(&[
        ("hook", pod("hook", said("hook"))),
        ("quit", pod("quit", json!({"image": "busybox:quit"}))),
        ("usr1", pod("usr1", json!({"image": "busybox:quit", "lifecycle": {"stopSignal": "SIGUSR1"}}))),
        ("bad", pod("bad", json!({"lifecycle": {"preStop": {"exec": sh("echo secret; exit 1")}}}))),
        ("sidecars", sidecar),
    ]);
    for file in ["hook", "quit", "usr1", "bad", "main", "one", "two"] {
        wait_for(file, || dir.join(format!("{file}.up")).exists());
    }
    place.delete("hook", &["--wait=false"]);
    place.delete("quit", &["--wait=false"]);
    place.delete("usr1", &["--wait=false"]);
    place.delete("bad", &["--wait=false"]);
    place.delete("sidecars", &[]);
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let order = read("order");
    let (hooks, ends): (Vec<_>, Vec<_>) = order.lines().partition(|l| l.ends_with("-hook"));
    assert_eq!(ends, ["main", "two", "one"], "{order}");
    assert!(hooks.len() == 2 && order.lines().take(2).all(|l| l.ends_with("-hook")), "{order}");
    for (file, expected) in
        [("hook", "hook\nTERM\n"), ("quit", "QUIT\n"), ("usr1", "USR1\n"), ("bad", "TERM\n")]
    {
        wait_for(file, || place.is_gone(file));
        assert_eq!(read(file), expected, "{file}");
    }
    place.event("hook", "Killing: Stopping container c");
    place.event("bad", "FailedPreStopHook: PreStopHook failed");
    assert!(!place.events("bad").contains("secret"));
}

fn grace_periods(place: &Place) {
    let stubborn = |hook: Value| {
        let fields =
            json!({"command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"], "lifecycle": hook});
        with(one(fields), json!({"terminationGracePeriodSeconds": 3000}))
    };
    let hang = json!({"preStop": {"exec": sh("sleep 3000")}});
    let sleep = json!({"preStop": {"sleep": {"seconds": 3}}});
    place.pods(&[
        ("shortened", stubborn(json!({}))),
        ("hangs", with(stubborn(hang), json!({"terminationGracePeriodSeconds": 1}))),
        ("forced", with(stubborn(json!({})), json!({"terminationGracePeriodSeconds": 1}))),
        ("naps", with(one(json!({"lifecycle": sleep})), json!({"terminationGracePeriodSeconds": 4}))),
    ]);
    for pod in ["shortened", "hangs", "forced", "naps"] {
        place.ready(pod);
    }
    let began = Instant::now();
    place.delete("shortened", &["--wait=false"]);
    place.delete("hangs", &["--wait=false"]);
    place.delete("naps", &["--wait=false"]);
    place.event("shortened", "Killing: Stopping container c");
    let uid = place.get("forced", "{.metadata.uid}");
    place.delete("forced", &["--force", "--grace-period=0", "--wait=false"]);
    assert!(place.is_gone("forced"), "from the API at once");
    place.delete("shortened", &["--grace-period=1"]);
    for pod in ["hangs", "naps"] {
        wait_for(pod, || place.is_gone(pod));
    }
    assert!(began.elapsed() > Duration::from_secs(3), "the hook's nap is waited for");
    let left = place.cluster.data_dir().join("agent/pods").join(uid);
    wait_for("the forced pod's end on the node", || !left.exists());
}

fn last_words(place: &Place) {
    let message = "{.status.containerStatuses[0].state.terminated.message}";
    let pod = |line: &str, fields: Value| {
        with(one(with(json!({"command": ["sh", "-c", line]}), fields)), json!({"restartPolicy": "Never"}))
    };
    let fallback = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    place.pods(&[
        ("file", pod("printf done > /dev/termination-log", json!({}))),
        ("other", pod("printf 'not here' > /my/log", json!({"terminationMessagePath": "/my/log"}))),
        ("log", pod("echo one; echo two >&2; exit 1", fallback.clone())),
        ("well", pod("echo one; exit 0", fallback)),
        ("long", pod("head -c 5000 /dev/zero | busybox tr '\\0' x > /dev/termination-log; printf end >> /dev/termination-log", json!({}))),
        ("user", pod("printf mine > /dev/termination-log", json!({"securityContext": {"runAsUser": 1000}}))),
    ]);
    for (pod, said) in [("file", "done"), ("other", "not here"), ("well", ""), ("user", "mine")] {
        place.until(pod, "{.status.phase}", |p| p == "Succeeded");
        assert_eq!(place.get(pod, message), said, "{pod}");
    }
    place.wait("log", "{.status.phase}", "Failed");
    let said = place.get("log", message);
    assert!(said == "one\ntwo\n" || said == "two\none\n", "{said}");
    place.wait("long", "{.status.phase}", "Succeeded");
    let said = place.get("long", message);
    assert!(said.len() == 4096 && said.ends_with("xend"), "{}", said.len());
    place.delete("--all", &["--wait=false"]);
}

fn readiness_survives_the_agent(place: &Place) {
    let since = "{.status.conditions[?(@.type==\"Ready\")].lastTransitionTime}";
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 3600, "initialDelaySeconds": 1});
    place.pods(&[("stays", one(json!({"readinessProbe": probe})))]);
    place.ready("stays");
    let before = place.get("stays", since);
    place.cluster.kill_server();
    place.cluster.launch();
    place.cluster.wait_ready();
    // Proof that the agent has looked at its pods again.
    place.pods(&[("after", one(json!({})))]);
    place.ready("after");
    assert_eq!((place.get("stays", READY), place.get("stays", since)), ("True".into(), before));
    assert_eq!(place.get("stays", RESTARTS), "0");
}
