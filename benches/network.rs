//! Figures of the network, one line each, in network namespaces of their own: as root,
//! `cargo bench --bench network`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kedge::network::table::{Protocol, ServiceEndpoint, ServicePort, ServicePortName, ServiceTable};
use kedge::network::{
    Names, PodNetwork, PodNetworkConfig, ProxyMode, ServiceProxy, ServiceProxyConfig, cleanup,
};
use nix::sched::{CloneFlags, unshare};
use tokio_util::sync::CancellationToken;

const INSIDE: &str = "KEDGE_BENCH_INSIDE_NETNS";
const SERVICES: u32 = 5_000;
const ENDPOINTS: u32 = 10;

fn main() {
    if std::env::var_os(INSIDE).is_none() {
        let exe = std::env::current_exe().expect("the program's own path");
        let status = Command::new("unshare").args(["--net", "--"]).arg(exe).env(INSIDE, "1").status();
        std::process::exit(status.expect("unshare runs (util-linux; as root)").code().unwrap_or(1));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        pods().await;
        services(false).await;
        services(true).await;
    });
}

fn figure(name: &str, mut samples: Vec<Duration>) {
    samples.sort_unstable();
    let median = samples[samples.len() / 2].as_secs_f64() * 1e3;
    let worst = samples[samples.len() - 1].as_secs_f64() * 1e3;
    println!("{name}: {median:.2} ms median, {worst:.2} ms worst of {}", samples.len());
}

/// A path to a fresh network namespace that lives as long as the process.
fn namespace() -> PathBuf {
    let (ready, tid) = mpsc::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace (as root)");
        ready.send(nix::unistd::gettid()).expect("waited for");
        loop {
            std::thread::park();
        }
    });
    PathBuf::from(format!("/proc/{}/task/{}/ns/net", std::process::id(), tid.recv().expect("made")))
}

async fn pods() {
    let dir = std::env::temp_dir().join(format!("kedge-bench-network-{}", std::process::id()));
    let config = PodNetworkConfig {
        bridge: "kedge0".to_owned(),
        pod_cidr: "10.42.0.0/23".parse().expect("valid"),
        cluster_cidr: "10.42.0.0/16".parse().expect("valid"),
        service_cidr: "10.43.0.0/16".parse().expect("valid"),
        mtu: None,
        state_dir: dir.clone(),
        nft_table: "kedge".to_owned(),
    };
    let start = Instant::now();
    let network = PodNetwork::open(config.clone()).await.expect("opens");
    figure("pod network, made", vec![start.elapsed()]);
    let start = Instant::now();
    PodNetwork::open(config).await.expect("opens");
    figure("pod network, opened again", vec![start.elapsed()]);
    let namespaces: Vec<_> = (0..200).map(|_| namespace()).collect();
    let (one_by_one, at_once) = namespaces.split_at(100);
    let mut samples = Vec::new();
    for (n, path) in one_by_one.iter().enumerate() {
        let start = Instant::now();
        network.attach(&format!("a{n}"), path, &[]).await.expect("attached");
        samples.push(start.elapsed());
    }
    figure("attach, one by one", samples);
    let start = Instant::now();
    let tasks: Vec<_> = at_once
        .iter()
        .enumerate()
        .map(|(n, path)| {
            let (network, path) = (network.clone(), path.clone());
            tokio::spawn(async move { network.attach(&format!("b{n}"), &path, &[]).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("attached");
    }
    figure("attach, 100 at once", vec![start.elapsed()]);
    let mut samples = Vec::new();
    for n in 0..20 {
        let start = Instant::now();
        network.detach(&format!("a{n}")).await.expect("detached");
        samples.push(start.elapsed());
    }
    figure("detach, one by one", samples);
    let start = Instant::now();
    let names = Names { bridge: "kedge0".into(), nft_table: "kedge".into(), state_dir: dir.clone() };
    cleanup(&names).await.expect("cleaned");
    figure("cleanup of 180 pods", vec![start.elapsed()]);
    std::fs::remove_dir_all(dir).expect("removed");
}

fn table() -> ServiceTable {
    let port = |n: u32| ServicePort {
        protocol: Protocol::Tcp,
        cluster_ips: vec![std::net::Ipv4Addr::from(0x0a2b_0000 + n).into()],
        port: 80,
        node_port: None,
        external_ips: Vec::new(),
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        endpoints: (0..ENDPOINTS).map(|e| endpoint(n * ENDPOINTS + e)).collect(),
    };
    let name = |n| ServicePortName {
        namespace: "default".into(),
        name: format!("service-{n}"),
        port: "http".into(),
    };
    ServiceTable { ports: (0..SERVICES).map(|n| (name(n), port(n))).collect::<BTreeMap<_, _>>() }
}

fn endpoint(n: u32) -> ServiceEndpoint {
    ServiceEndpoint {
        address: std::net::Ipv4Addr::from(0x0a2c_0000 + n).into(),
        port: 8080,
        local: n.is_multiple_of(10),
    }
}

async fn services(watched: bool) {
    let config = ServiceProxyConfig {
        nft_table: "kedge".to_owned(),
        cluster_cidr: "10.42.0.0/16".parse().expect("valid"),
        service_cidr: "10.43.0.0/16".parse().expect("valid"),
        bridge: "kedge0".to_owned(),
    };
    let (proxy, reason) = ServiceProxy::select(ProxyMode::Auto, config).await.expect("a back end");
    println!("service proxy: {reason}{}", if watched { ", watching for foreign changes" } else { "" });
    let token = CancellationToken::new();
    let watcher = watched.then(|| {
        let (proxy, token) = (proxy.clone(), token.clone());
        tokio::spawn(async move { proxy.run(token).await })
    });
    tokio::task::yield_now().await;
    let mut table = table();
    let start = Instant::now();
    proxy.apply(&table).await.expect("applied");
    figure(&format!("{SERVICES} Services x {ENDPOINTS} endpoints, from nothing"), vec![start.elapsed()]);
    let names: Vec<_> = table.ports.keys().step_by(50).cloned().collect();
    for (what, change) in [
        ("one endpoint exchanged", exchange as fn(&mut ServicePort)),
        ("one endpoint less", lose as fn(&mut ServicePort)),
        ("one endpoint more", gain as fn(&mut ServicePort)),
    ] {
        let mut samples = Vec::new();
        for name in &names {
            change(table.ports.get_mut(name).expect("there"));
            let start = Instant::now();
            proxy.apply(&table).await.expect("applied");
            samples.push(start.elapsed());
        }
        figure(what, samples);
    }
    let start = Instant::now();
    proxy.apply(&table).await.expect("applied");
    figure("nothing changed", vec![start.elapsed()]);
    proxy.remove().await.expect("removed");
    token.cancel();
    if let Some(watcher) = watcher {
        watcher.await.expect("no panic").expect("ends well");
    }
}

fn exchange(port: &mut ServicePort) {
    port.endpoints[3] = endpoint(0xffff);
}

fn lose(port: &mut ServicePort) {
    port.endpoints.pop();
}

fn gain(port: &mut ServicePort) {
    port.endpoints.push(endpoint(0xfffe));
}
