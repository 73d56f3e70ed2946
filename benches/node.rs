//! Figures of a whole node, one line each: `cargo bench --bench node`. Needs root; takes the
//! executable from `KEDGE_BIN` (the release build; else this build's) and kubectl from PATH.
//!
//! `KEDGE_BENCH_IDLE` sets the seconds of the idle measurement (60); the disk figure of ten minutes
//! needs 600.

#[path = "../tests/cluster/harness.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod harness;
#[path = "../tests/cluster/images.rs"]
mod images;

use std::time::{Duration, Instant};

use harness::{Cluster, executable};

fn main() {
    let size = std::fs::metadata(executable()).map(|m| m.len()).unwrap_or_default();
    figure("binary size", size as f64 / f64::from(1 << 20), "MiB");

    let started = Instant::now();
    let cluster = Cluster::start("bench", &[]);
    figure("start to node Ready, cold", started.elapsed().as_secs_f64(), "s");
    let mut warm = Vec::new();
    for _ in 0..5 {
        cluster.stop_server();
        let started = Instant::now();
        cluster.launch();
        cluster.wait_ready();
        warm.push(started.elapsed().as_secs_f64());
    }
    figure("start to node Ready, warm", median(&mut warm), "s");
    idle(&cluster);
    cluster.import_test_images();
    pods_one_by_one(&cluster, 50);
    pods_at_once(&cluster, 30);
    execs(&cluster, 200);
}

/// The time from asking the node API to run a program in a container until its output is there.
fn execs(cluster: &Cluster, count: usize) {
    cluster.kubectl(&["run", "execs", "--image=busybox:1.36", "--command", "--", "sleep", "9999"]);
    cluster.wait_pod_ready("default", "execs");
    let text = std::fs::read_to_string(cluster.kubeconfig()).expect("the kubeconfig is there");
    let config: serde_json::Value = serde_yaml::from_str(&text).expect("YAML");
    let directory = cluster.host.directory.path();
    for name in ["client-certificate-data", "client-key-data"] {
        use base64::Engine;
        let data = config["users"][0]["user"][name].as_str().expect("a client certificate");
        let pem = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        std::fs::write(directory.join(name), pem).expect("written");
    }
    let url = "https://127.0.0.1:10250/run/default/execs/execs?cmd=true";
    let mut command = cluster.host.command("curl");
    command.args(["-sk", "-X", "POST", "-w", "%{http_code} %{time_total}\n", "--cert"]);
    command
        .arg(directory.join("client-certificate-data"))
        .arg("--key")
        .arg(directory.join("client-key-data"));
    command.args(std::iter::repeat_n(url, count));
    let output = command.output().expect("curl runs");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let times = lines.lines().map(|l| l.strip_prefix("200 ").expect(l).parse::<f64>().expect("a time"));
    // The first one makes the connection.
    let mut times: Vec<f64> = times.skip(1).collect();
    figure("exec in a container, p50", median(&mut times) * 1000.0, "ms");
    figure("exec in a container, p99", times[times.len() * 99 / 100] * 1000.0, "ms");
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("{name:<44} {value:>10.3} {unit}");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Memory, processor time and disk writes of all processes of the installation while nobody asks
/// anything of it.
fn idle(cluster: &Cluster) {
    let seconds = std::env::var("KEDGE_BENCH_IDLE").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    // What the start still has to finish is not idling.
    std::thread::sleep(Duration::from_secs(10));
    let pids = processes(cluster);
    let (cpu, written) = (cpu_seconds(&pids), written_bytes(&pids));
    std::thread::sleep(Duration::from_secs(seconds));
    let (cpu, written) = (cpu_seconds(&pids) - cpu, written_bytes(&pids) - written);
    figure("idle memory, PSS of all processes", pss(&pids) / f64::from(1 << 20), "MiB");
    figure(&format!("idle CPU over {seconds} s, share of a core"), cpu / seconds as f64 * 100.0, "%");
    figure(&format!("written to disk over {seconds} idle s"), written / 1024.0, "KiB");
}

/// The server and every shim and container below it.
fn processes(cluster: &Cluster) -> Vec<u32> {
    let marker = cluster.host.directory.path().display().to_string();
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid == cluster.server_pid() || String::from_utf8_lossy(&command).contains(&marker)
    })
    .collect()
}

fn pss(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
    };
    pids.iter().map(of).sum()
}

fn cpu_seconds(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<_> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        // utime and stime, proc_pid_stat(5), in ticks of 10 ms.
        [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<f64>().ok()).sum::<f64>() / 100.0
    };
    pids.iter().map(of).sum()
}

fn written_bytes(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("write_bytes: ")).unwrap_or("0");
        line.trim().parse::<f64>().unwrap_or(0.0)
    };
    pids.iter().map(of).sum()
}

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: 'busybox:1.35', command: [sleep, '1000000']}}]
---
"
    )
}

/// From creationTimestamp's request to the status that says Running, as a watch sees it.
fn pods_one_by_one(cluster: &Cluster, count: usize) {
    let mut times: Vec<f64> = (0..count)
        .map(|n| {
            let name = format!("one-{n}");
            let watch = Watch::new(cluster);
            let started = Instant::now();
            cluster.apply("default", &pod(&name));
            let applied = started.elapsed();
            watch.until_running(1);
            // kubectl's own start-up is part of neither; it ends when the request has been answered.
            let total = started.elapsed();
            cluster.kubectl(&["delete", "pod", &name, "--force", "--grace-period=0"]);
            (total.saturating_sub(applied)).as_secs_f64() * 1000.0
        })
        .collect();
    figure("pod created to Running, one by one, median", median(&mut times), "ms after kubectl ended");
}

fn pods_at_once(cluster: &Cluster, count: usize) {
    let manifest: String = (0..count).map(|n| pod(&format!("many-{n}"))).collect();
    let watch = Watch::new(cluster);
    let started = Instant::now();
    cluster.apply("default", &manifest);
    watch.until_running(count);
    figure(&format!("{count} pods at once to Running, with kubectl"), started.elapsed().as_secs_f64(), "s");
}

/// `kubectl get pods -w` of names and phases.
struct Watch(std::process::Child);

impl Watch {
    fn new(cluster: &Cluster) -> Self {
        let columns = "custom-columns=N:.metadata.name,P:.status.phase";
        let mut command = cluster.kubectl_command(&["get", "pods", "-w", "--no-headers", "-o", columns]);
        Self(command.stdout(std::process::Stdio::piped()).spawn().expect("kubectl runs"))
    }

    fn until_running(mut self, count: usize) {
        use std::io::BufRead;
        let stdout = std::io::BufReader::new(self.0.stdout.take().expect("piped"));
        let mut running = std::collections::BTreeSet::new();
        for line in stdout.lines() {
            let line = line.expect("reads");
            if let Some(name) = line.split_whitespace().next()
                && line.contains("Running")
            {
                running.insert(name.to_owned());
            }
            if running.len() >= count {
                break;
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
