//! Bad luck at random moments: pods converge, nothing leaks. `KEDGE_TEST_SEED` repeats a run. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;
#[path = "cluster/inventory.rs"]
mod inventory;
#[path = "cluster/registry.rs"]
mod registry;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::{Cluster, NODE_IP, wait_for, wait_until};
use inventory::{Inventory, assert_as_before};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// xorshift64*: any sequence will do, if it can be repeated.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("KEDGE_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let seed = given.unwrap_or(u64::try_from(now & u128::from(u64::MAX)).expect("masked") | 1);
        println!("KEDGE_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).expect("fits") % limit
    }
}

fn web(replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
      - {{name: page, image: 'busybox:1.35', command: [sh, -c, 'hostname > /work/index.html'], volumeMounts: [{{name: work, mountPath: /work}}]}}
      - {{name: sidecar, image: 'busybox:1.35', restartPolicy: Always, command: [sleep, '1000000']}}
      containers:
      - name: web
        image: busybox:1.35
        command: [httpd, -f, -p, '8080', -h, /work]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
        volumeMounts: [{{name: work, mountPath: /work}}]
      volumes: [{{name: work, emptyDir: {{medium: Memory}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

fn running(cluster: &Cluster, word: &str) -> Vec<u32> {
    let all = inventory::processes(cluster).into_iter();
    all.filter(|(_, line)| line.starts_with(word)).map(|(pid, _)| pid).collect()
}

fn end(pid: u32) {
    // It may have ended by itself meanwhile.
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("fits")), Signal::SIGKILL);
}

/// All pods of the Deployment serve, and no others run.
fn converged(cluster: &Cluster, ns: &str, replicas: usize) {
    let status = ["rollout", "status", "deployment/web", "-n", ns, "--timeout=120s"];
    let output = cluster.kubectl_command(&status).output().expect("kubectl runs");
    assert!(output.status.success(), "{}\n{}", harness::show(&output), state(cluster, ns));
    let mut found = Vec::new();
    let patience = Duration::from_secs(60);
    let equal = wait_until(patience, || {
        found = ["httpd ", "sleep 1000000", "kedge shim"].map(|word| running(cluster, word).len()).to_vec();
        found == vec![replicas; 3]
    });
    assert!(equal, "servers, sidecars, shims: {found:?}, not {replicas} each\n{}", state(cluster, ns));
    let address = cluster.kubectl(&["get", "service", "web", "-n", ns, "-o", "jsonpath={.spec.clusterIP}"]);
    wait_for("an answer", || {
        cluster.host.sh(&format!("curl -s --max-time 3 http://{address}/ || true")).starts_with("web-")
    });
}

/// What is needed to understand a failure.
fn state(cluster: &Cluster, ns: &str) -> String {
    let columns =
        "custom-columns=N:.metadata.name,U:.metadata.uid,P:.status.phase,D:.metadata.deletionTimestamp";
    let pods = cluster.kubectl(&["get", "pods", "-n", ns, "-o", columns]);
    let processes: Vec<_> =
        inventory::processes(cluster).into_iter().map(|(pid, l)| format!("{pid} {l}")).collect();
    let statuses = "jsonpath={range .items[*]}{.metadata.name} {.status}{'\\n'}{end}";
    let statuses = cluster.kubectl(&["get", "pods,replicasets,deployments", "-n", ns, "-o", statuses]);
    format!("{pods}\n{statuses}\n{}\n{}", processes.join("\n"), cluster.tail())
}

#[test]
fn kills_at_random_moments() {
    let cluster = Cluster::start("chaos", &[]);
    cluster.import_test_images();
    let ns = &format!("chaos-{}", cluster.mark());
    cluster.kubectl(&["create", "namespace", ns]);
    cluster.apply(ns, &web(1));
    converged(&cluster, ns, 1);
    cluster.kubectl(&["delete", "deployment,service", "web", "-n", ns]);
    wait_for("the first pod's end", || running(&cluster, "kedge shim").is_empty());
    let before = Inventory::of(&cluster).without_descriptors();

    let mut random = Random::new();
    cluster.apply(ns, &web(5));
    for round in 0..12 {
        std::thread::sleep(Duration::from_millis(random.below(1500) as u64));
        let action = random.below(5);
        println!("round {round}: action {action}");
        match action {
            0 | 1 => {
                cluster.kill_server();
                std::thread::sleep(Duration::from_millis(random.below(500) as u64));
                cluster.launch();
            }
            2 => strike(&cluster, &mut random, "kedge shim"),
            3 => strike(&cluster, &mut random, "httpd "),
            _ => {
                // One that is starting or running, while another takes its place.
                let pods =
                    cluster.kubectl_command(&["get", "pods", "-n", ns, "-o", "name"]).output().expect("runs");
                let names = String::from_utf8_lossy(&pods.stdout).into_owned();
                let names: Vec<_> = names.lines().collect();
                if !names.is_empty() {
                    let name = names[random.below(names.len())];
                    cluster
                        .kubectl_command(&["delete", name, "-n", ns, "--wait=false"])
                        .output()
                        .expect("runs");
                }
            }
        }
    }
    cluster.wait_ready();
    converged(&cluster, ns, 5);
    cluster.kubectl(&["delete", "deployment,service", "web", "-n", ns]);
    wait_for("the last pod's end", || cluster.kubectl(&["get", "pods", "-n", ns, "-o", "name"]).is_empty());
    assert_as_before(&cluster, &before);
}

fn strike(cluster: &Cluster, random: &mut Random, word: &str) {
    let pids = running(cluster, word);
    if !pids.is_empty() {
        end(pids[random.below(pids.len())]);
    }
}

/// A registry behind something that hangs, cuts or lets pass, as a file says.
const UNRELIABLE: &str = r#"
import socket, sys, threading
mode_file, target = sys.argv[1], (sys.argv[2], 5000)
server = socket.create_server((sys.argv[2], 5001))
def serve(client):
    mode = open(mode_file).read().strip()
    if mode == 'hang':
        while open(mode_file).read().strip() == 'hang':
            threading.Event().wait(0.1)
        client.close()
        return
    upstream = socket.create_connection(target)
    left = 40000 if mode == 'cut' else 1 << 60
    def up():
        while data := client.recv(65536):
            upstream.sendall(data)
    threading.Thread(target=up, daemon=True).start()
    try:
        while left > 0 and (data := upstream.recv(min(65536, left))):
            client.sendall(data)
            left -= len(data)
    except OSError:
        pass
    for s in (client, upstream):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        s.close()
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

#[test]
fn registries_disks_and_interfaces_that_fail() {
    let mirror = format!("mirrors:\n  bad.example:\n    endpoint: [\"http://{NODE_IP}:5001\"]\n");
    let cluster = Cluster::start_with_registries("unlucky", &[], &mirror);
    cluster.import_test_images();
    let ns = &format!("unlucky-{}", cluster.mark());
    cluster.kubectl(&["create", "namespace", ns]);
    a_registry_that_hangs_and_cuts(&cluster, ns);
    a_layer_that_is_gone(&cluster, ns);
    a_bridge_that_is_deleted(&cluster, ns);
}

fn pod(cluster: &Cluster, ns: &str, name: &str, image: &str) {
    cluster.apply(
        ns,
        &format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: main, image: '{image}', command: [httpd, -f, -p, '8080', -h, /www]}}]
"
        ),
    );
}

fn a_registry_that_hangs_and_cuts(cluster: &Cluster, ns: &str) {
    let registry = registry::Registry::start(cluster, 5000);
    let archive = cluster.host.directory.path().join("push.tar");
    images::write_busybox(&archive);
    for name in ["tools/hung:1", "tools/cut:1"] {
        registry.push(cluster, &archive, "busybox:1.36", name);
    }
    let mode = cluster.host.directory.path().join("mode");
    let set = |word: &str| {
        let new = mode.with_extension("new");
        std::fs::write(&new, word).expect("writes");
        std::fs::rename(new, &mode).expect("renamed");
    };
    set("hang");
    let mut proxy = cluster.host.command("python3");
    let mut proxy = proxy.args(["-c", UNRELIABLE]).arg(&mode).arg(NODE_IP).spawn().expect("python3 runs");

    pod(cluster, ns, "hung", "bad.example/tools/hung:1");
    pod(cluster, ns, "given-up", "bad.example/tools/hung:1");
    wait_for("the pull", || {
        cluster.kubectl(&["get", "events", "-n", ns, "-o", "jsonpath={..reason}"]).contains("Pulling")
    });
    // Neither other pods nor the deletion of those that wait for it are held up.
    pod(cluster, ns, "beside", "busybox:1.35");
    cluster.wait_pod_ready(ns, "beside");
    let started = Instant::now();
    cluster.kubectl(&["delete", "pod", "given-up", "-n", ns, "--timeout=60s"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    set("cut");
    pod(cluster, ns, "cut", "bad.example/tools/cut:1");
    let reason = "jsonpath={.items[*].status.containerStatuses[0].state.waiting.reason}";
    wait_for("both to fail or to have come through", || {
        let reasons = cluster.kubectl(&["get", "pods", "-n", ns, "-o", reason]);
        !reasons.contains("ContainerCreating")
    });
    set("pass");
    cluster.wait_pod_ready(ns, "hung");
    cluster.wait_pod_ready(ns, "cut");
    let _ = proxy.kill();
    let _ = proxy.wait();
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
    let ingest = cluster.data_dir().join("agent/image-store/ingest");
    assert_eq!(std::fs::read_dir(ingest).map_or(0, |d| d.count()), 0, "nothing half is left");
}

/// A layer that the disk has lost: the image is as good as absent, and pulled again.
fn a_layer_that_is_gone(cluster: &Cluster, ns: &str) {
    let registry = registry::Registry::start(cluster, 5001);
    let archive = cluster.host.directory.path().join("other.tar");
    let layer = tar_of("www/index.html", "whole\n");
    images::write_archive(
        &archive,
        &[("lost:1", serde_json::json!({"Env": ["PATH=/bin"], "Cmd": ["/none"]}))],
        &layer,
    );
    registry.push(cluster, &archive, "lost:1", "tools/lost:1");
    let image = "bad.example/tools/lost:1";
    let pull = cluster.kedge(&["images", "pull", image]).output().expect("kedge runs");
    assert!(pull.status.success(), "{}", harness::show(&pull));
    let found =
        cluster.host.sh(&format!("grep -rl whole {}/agent/image-store/layers", cluster.data_dir().display()));
    let page = std::path::Path::new(found.lines().next().expect("a layer has it"));
    let layer = page.ancestors().find(|p| p.ends_with("fs")).expect("in a layer").parent().expect("has one");
    std::fs::remove_dir_all(layer).expect("removed");
    // The image has no program: that its container fails to start shows that it was made.
    pod(cluster, ns, "lost", image);
    let message = "{.status.containerStatuses[0].lastState.terminated.reason}";
    cluster.wait_jsonpath(&["pod", "lost", "-n", ns], message, "StartError");
    assert!(page.exists(), "the layer is there again");
    cluster.kubectl(&["delete", "pod", "lost", "-n", ns]);
}

fn tar_of(path: &str, text: &str) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    layer.append_data(&mut header, path, text.as_bytes()).expect("entry");
    layer.into_inner().expect("layer")
}

/// Somebody deletes the bridge: it is made again, and the pods that are there are connected to it.
fn a_bridge_that_is_deleted(cluster: &Cluster, ns: &str) {
    pod(cluster, ns, "linked", "busybox:1.35");
    cluster.wait_pod_ready(ns, "linked");
    let address = cluster.kubectl(&["get", "pod", "linked", "-n", ns, "-o", "jsonpath={.status.podIP}"]);
    let answers =
        || cluster.host.sh(&format!("curl -s --max-time 2 http://{address}:8080/ || true")) == "it works\n";
    wait_for("the pod's answer", answers);
    let resolves = || {
        let line = ["exec", "-n", ns, "linked", "--", "nslookup", "kubernetes.default.svc.cluster.local"];
        cluster.kubectl_command(&line).output().is_ok_and(|o| o.status.success())
    };
    wait_for("the cluster's DNS", resolves);
    let bridge = kedge::config::Instance::of(&cluster.data_dir()).bridge;
    cluster.host.sh(&format!("ip link delete {bridge}"));
    wait_for("the pod's answer through a new bridge", answers);
    wait_for("the cluster's DNS through a new bridge", resolves);
    let end = cluster.host.sh(&format!("ip -o link show master {bridge} | awk -F'[ :@]+' '{{print $2}}'"));
    cluster.host.sh(&format!("ip link delete {}", end.trim()));
    wait_for("the pod's answer through a new pair of interfaces", answers);
    cluster.kubectl(&["delete", "pod", "linked", "-n", ns]);
}

/// The data directory's disk is full while pods lose their processes: what can go on goes on, and all is well
/// once there is room again.
#[test]
fn a_full_disk() {
    // No eviction takes the pods off the node meanwhile: that has tests of its own.
    let flags = ["--kubelet-arg=eviction-hard=memory.available<1Mi"];
    let cluster = Cluster::start_on_small_disk_with("fulldisk", 256, &flags);
    cluster.import_test_images();
    let ns = &format!("fulldisk-{}", cluster.mark());
    cluster.kubectl(&["create", "namespace", ns]);
    cluster.apply(ns, &web(3));
    converged(&cluster, ns, 3);
    let fill = cluster.data_dir().join("fill").display().to_string();
    cluster.host.sh(&format!("dd if=/dev/zero of={fill} bs=64k 2>/dev/null || true; dd if=/dev/zero of={fill}2 bs=1k 2>/dev/null || true"));
    let mut random = Random::new();
    strike(&cluster, &mut random, "kedge shim");
    strike(&cluster, &mut random, "httpd ");
    // Whether a write is still taken depends on what the log had reserved: both answers are right.
    cluster
        .kubectl_command(&["delete", "pod", "-l", "app=web", "-n", ns, "--wait=false"])
        .output()
        .expect("runs");
    cluster.host.sh(&format!("test -e {fill}2 && rm {fill} {fill}2"));
    converged(&cluster, ns, 3);
    cluster.kubectl(&["delete", "deployment,service", "web", "-n", ns]);
    wait_for("the last pod's end", || running(&cluster, "kedge shim").is_empty());
    wait_for("the last pod's files", || {
        std::fs::read_dir(cluster.data_dir().join("agent/pods")).map_or(0, |d| d.count()) == 0
    });
}
