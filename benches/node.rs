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

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use harness::{Cluster, executable};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};

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
    inside(&cluster, |client| async move {
        let pods: Api<Pod> = Api::default_namespaced(client);
        one_by_one(&pods, 100).await;
        exec_latency(&pods, 50).await;
        at_once(&pods, 30).await;
        remove_all(&pods).await;
        at_once(&pods, 100).await;
    });
    loaded(&cluster);
    inside(&cluster, |client| async move { remove_all(&Api::default_namespaced(client)).await });
    start_by_runc(50);
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
    let shims = format!("/{}/", kedge::config::Instance::of(&cluster.data_dir()).name);
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        *pid == cluster.server_pid() || command.contains(&marker) || command.contains(&shims)
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

/// Runs a client inside the network namespace of the cluster's host.
fn inside<F: Future<Output = ()>>(cluster: &Cluster, work: impl FnOnce(kube::Client) -> F + Send) {
    let config = std::fs::read_to_string(cluster.kubeconfig()).expect("the server wrote it");
    let network = std::fs::File::open(cluster.host.network_namespace()).expect("the host's namespace");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
            runtime.block_on(async {
                let config = kube::config::Kubeconfig::from_yaml(&config).expect("a kubeconfig");
                let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
                work(kube::Client::try_from(config.expect("is complete")).expect("a client")).await;
            });
        });
    });
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": "busybox:1.35", "command": ["sleep", "1000000"]}]},
    }))
    .expect("a pod")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Makes these pods at once; from each one's request to its Ready in a watch, in milliseconds.
async fn start(pods: &Api<Pod>, names: &[String]) -> Vec<f64> {
    let list = pods.list(&ListParams::default()).await.expect("lists");
    let version = list.metadata.resource_version.expect("a list has one");
    let events = pods.watch(&WatchParams::default().timeout(290), &version).await.expect("watches");
    let mut events = events.boxed();
    let requests = names.iter().map(|name| async move {
        let began = Instant::now();
        pods.create(&PostParams::default(), &pod(name)).await.expect("is created");
        (name.clone(), began)
    });
    let began: BTreeMap<_, _> = futures::future::join_all(requests).await.into_iter().collect();
    let mut times = BTreeMap::new();
    while times.len() < names.len() {
        let event = events.try_next().await.expect("watches").expect("goes on");
        if let WatchEvent::Modified(pod) = event
            && is_ready(&pod)
            && let Some(began) = pod.metadata.name.as_ref().and_then(|name| began.get(name))
        {
            let time = began.elapsed().as_secs_f64() * 1000.0;
            times.entry(pod.metadata.name).or_insert(time);
        }
    }
    times.into_values().collect()
}

async fn remove_all(pods: &Api<Pod>) {
    pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default())
        .await
        .expect("are deleted");
    while !pods.list(&ListParams::default()).await.expect("lists").items.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn one_by_one(pods: &Api<Pod>, count: usize) {
    let mut times = Vec::new();
    for number in 0..count {
        times.extend(start(pods, &[format!("one-{number}")]).await);
        remove_all(pods).await;
    }
    figure("pod created to Ready, one by one, p50", median(&mut times), "ms");
    figure("pod created to Ready, one by one, p99", times[times.len() * 99 / 100], "ms");
}

async fn at_once(pods: &Api<Pod>, count: usize) {
    let names: Vec<_> = (0..count).map(|number| format!("many-{number}")).collect();
    let mut times = start(pods, &names).await;
    figure(&format!("{count} pods at once to Ready, p50"), median(&mut times), "ms");
    figure(&format!("{count} pods at once to Ready, the last"), times[count - 1], "ms");
}

/// `kubectl exec`'s request without kubectl: from asking to the status of `true`.
async fn exec_latency(pods: &Api<Pod>, count: usize) {
    start(pods, &["exec".to_owned()]).await;
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        let parameters = AttachParams::default().stdin(false).stdout(true).stderr(false);
        let mut session = pods.exec("exec", ["true"], &parameters).await.expect("runs");
        let status = session.take_status().expect("is asked once").await.expect("a status");
        assert_eq!(status.status.as_deref(), Some("Success"));
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    figure("exec of true, p50", median(&mut times), "ms");
    figure("exec of true, p99", times[times.len() * 99 / 100], "ms");
    remove_all(pods).await;
}

/// Memory and processor time with 100 pods that do nothing.
fn loaded(cluster: &Cluster) {
    const SECONDS: u64 = 30;
    std::thread::sleep(Duration::from_secs(5));
    let shims: Vec<_> = processes(cluster).into_iter().filter(|pid| is_shim(*pid)).collect();
    let server = [cluster.server_pid()];
    figure("shim, PSS, mean of 100", pss(&shims) / shims.len() as f64 / 1024.0, "KiB");
    figure("server and agent with 100 pods, PSS", pss(&server) / f64::from(1 << 20), "MiB");
    let all: Vec<_> = shims.into_iter().chain(server).collect();
    let before = cpu_seconds(&all);
    std::thread::sleep(Duration::from_secs(SECONDS));
    let share = (cpu_seconds(&all) - before) / SECONDS as f64 * 100.0;
    figure(&format!("CPU with 100 pods over {SECONDS} idle s"), share, "% of a core");
}

fn is_shim(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"kedge\0shim\0"))
}

/// The same container started by runc alone, if it is installed: what upstream's lowest part takes, without
/// API, network and volumes.
fn start_by_runc(count: usize) {
    let directory = tempfile::tempdir().expect("directory");
    let root = directory.path().join("rootfs/bin");
    std::fs::create_dir_all(&root).expect("directory");
    std::fs::copy("/bin/busybox", root.join("true")).expect("busybox-static is installed");
    let runc = |arguments: &[&str]| {
        let mut command = std::process::Command::new("runc");
        command.args(arguments).current_dir(directory.path()).stdin(std::process::Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    };
    if !runc(&["spec"]) {
        return;
    }
    let path = directory.path().join("config.json");
    let text = std::fs::read_to_string(&path).expect("runc wrote it");
    let mut spec: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    std::fs::write(&path, spec.to_string()).expect("writes");
    let mut times: Vec<f64> = (0..count)
        .filter_map(|number| {
            let began = Instant::now();
            runc(&["run", &format!("kedge-bench-{number}")]).then(|| began.elapsed().as_secs_f64() * 1000.0)
        })
        .collect();
    if !times.is_empty() {
        figure("for comparison: runc run of true, p50", median(&mut times), "ms");
    }
}
