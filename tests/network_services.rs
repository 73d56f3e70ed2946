//! Services by nf_tables, on a real kernel: each test in a network namespace of its own, as root.

mod network_support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kedge::network::table::{Protocol, ServiceEndpoint, ServicePort, ServicePortName, ServiceTable};
use kedge::network::{Names, PodNetwork, ProxyMode, ServiceProxy, cleanup};
use network_support::{Namespace, ask, ask_udp, config, isolated, proxy_config, run, wire};
use tokio_util::sync::CancellationToken;

/// A node with pods named by letters, each answering on port 8080, and a machine outside.
struct Node {
    dir: tempfile::TempDir,
    network: PodNetwork,
    proxy: ServiceProxy,
    world: Namespace,
    pods: HashMap<&'static str, (Namespace, String)>,
}

async fn node(names: &[&'static str]) -> Node {
    let dir = tempfile::tempdir().expect("directory");
    let world = Namespace::new();
    wire(&world);
    let network = PodNetwork::open(config(dir.path())).await.expect("opens");
    let (proxy, reason) = ServiceProxy::select(ProxyMode::Auto, proxy_config()).await.expect("a back end");
    assert!(reason.starts_with("nftables: the kernel has"), "{reason}");
    let mut pods = HashMap::new();
    for name in names {
        let pod = Namespace::new();
        let attachment = network.attach(name, pod.path(), &[]).await.expect("attached");
        pod.serve(8080, name);
        pods.insert(*name, (pod, attachment.address.to_string()));
    }
    Node { dir, network, proxy, world, pods }
}

impl Node {
    fn pod(&self, name: &str) -> &Namespace {
        &self.pods[name].0
    }

    fn address(&self, name: &str) -> String {
        self.pods[name].1.clone()
    }

    /// A Service at 10.43.0.1:80 and node port 30080, with these pods behind it.
    fn service(&self, pods: &[&str]) -> ServicePort {
        let endpoint = |name: &&str| ServiceEndpoint {
            address: self.address(name).parse().expect("valid"),
            port: 8080,
            local: true,
        };
        ServicePort {
            protocol: Protocol::Tcp,
            cluster_ips: vec!["10.43.0.1".parse().expect("valid")],
            port: 80,
            node_port: Some(30080),
            external_ips: vec!["198.51.100.7".parse().expect("valid")],
            affinity_seconds: None,
            internal_local: false,
            external_local: false,
            endpoints: pods.iter().map(endpoint).collect(),
        }
    }

    async fn apply(&self, ports: &[ServicePort]) {
        self.proxy.apply(&table(ports)).await.expect("applied");
    }
}

fn table(ports: &[ServicePort]) -> ServiceTable {
    let name =
        |n| ServicePortName { namespace: "default".into(), name: format!("s{n}"), port: String::new() };
    ServiceTable { ports: ports.iter().cloned().enumerate().map(|(n, p)| (name(n), p)).collect() }
}

/// How often each pod answered `times` connections.
fn spread(
    times: usize,
    mut connect: impl FnMut() -> std::io::Result<(String, String)>,
) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for _ in 0..times {
        *counts.entry(connect().expect("answered").0).or_default() += 1;
    }
    counts
}

#[test]
fn a_cluster_address_spreads_over_its_endpoints() {
    isolated("a_cluster_address_spreads_over_its_endpoints", || async {
        let node = node(&["a", "b", "c"]).await;
        node.apply(&[node.service(&["a", "b"])]).await;
        for counts in [spread(40, || node.pod("c").ask("10.43.0.1:80")), spread(40, || ask("10.43.0.1:80"))] {
            assert_eq!(counts.len(), 2, "{counts:?}");
            assert!(counts.values().all(|n| *n > 4), "{counts:?}");
        }
        let seen = node.pod("c").ask("10.43.0.1:80").expect("answered").1;
        assert_eq!(seen, node.address("c"), "a pod keeps its address");
        node.apply(&[node.service(&["b"])]).await;
        assert_eq!(spread(10, || node.pod("c").ask("10.43.0.1:80")), HashMap::from([("b".to_owned(), 10)]));
    });
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    isolated("a_pod_reaches_itself_through_its_service", || async {
        let node = node(&["a"]).await;
        let udp = ServicePort { protocol: Protocol::Udp, node_port: None, ..node.service(&["a"]) };
        node.apply(&[node.service(&["a"]), udp]).await;
        assert_eq!(node.pod("a").ask("10.43.0.1:80").expect("hairpin").0, "a");
        assert_eq!(node.pod("a").ask_udp("10.43.0.1:80").expect("hairpin").0, "a");
        assert_eq!(node.pod("a").ask("192.0.2.1:30080").expect("by its node port").0, "a");
    });
}

#[test]
fn node_ports_and_external_addresses_answer_everywhere() {
    isolated("node_ports_and_external_addresses_answer_everywhere", || async {
        let node = node(&["a", "b"]).await;
        node.apply(&[node.service(&["a"])]).await;
        node.world.inside(|| run("ip", &["route", "add", "198.51.100.7", "via", "192.0.2.1"]));
        let from_world = node.world.ask("192.0.2.1:30080").expect("from outside");
        assert_eq!(from_world, ("a".to_owned(), "10.42.0.1".to_owned()), "masqueraded");
        assert_eq!(ask("192.0.2.1:30080").expect("from the node").0, "a");
        assert_eq!(ask("127.0.0.1:30080").expect("at the loopback address").0, "a");
        assert_eq!(ask("10.42.0.1:30080").expect("at the gateway").0, "a");
        assert_eq!(node.pod("b").ask("192.0.2.1:30080").expect("from a pod").0, "a");
        assert_eq!(node.world.ask("198.51.100.7:80").expect("external address").0, "a");
        assert_eq!(node.pod("b").ask("198.51.100.7:80").expect("external address").0, "a");
        assert_eq!(ask("198.51.100.7:80").expect("external address").0, "a");
    });
}

#[test]
fn without_endpoints_clients_are_refused_at_once() {
    isolated("without_endpoints_clients_are_refused_at_once", || async {
        let node = node(&["a"]).await;
        node.apply(&[node.service(&[])]).await;
        type Ask = fn(&Node) -> std::io::Result<(String, String)>;
        let refused = |name: &str, ask: Ask| {
            let start = Instant::now();
            let error = ask(&node).expect_err(name);
            assert!(start.elapsed() < Duration::from_millis(500), "{name}: {:?}: {error}", start.elapsed());
            error.kind()
        };
        let tcp: [(&str, Ask); 7] = [
            ("from the node", |_| ask("10.43.0.1:80")),
            ("from a pod", |node| node.pod("a").ask("10.43.0.1:80")),
            ("node port", |node| node.world.ask("192.0.2.1:30080")),
            ("node port at the loopback address", |_| ask("127.0.0.1:30080")),
            ("external address", |node| node.pod("a").ask("198.51.100.7:80")),
            ("from a pod, no such Service", |node| node.pod("a").ask("10.43.9.9:80")),
            ("from the node, no such Service", |_| ask("10.43.9.9:80")),
        ];
        for (name, ask) in tcp {
            assert_eq!(refused(name, ask), std::io::ErrorKind::ConnectionRefused, "{name}");
        }
        let udp = ServicePort { protocol: Protocol::Udp, ..node.service(&[]) };
        node.apply(&[udp]).await;
        assert_eq!(
            refused("from a pod by UDP", |node| node.pod("a").ask_udp("10.43.0.1:80")),
            std::io::ErrorKind::ConnectionRefused
        );
        // A sender on the machine itself is told by the system call.
        assert_eq!(
            refused("from the node by UDP", |_| ask_udp("10.43.0.1:80")),
            std::io::ErrorKind::PermissionDenied
        );
        node.apply(&[node.service(&["a"])]).await;
        assert_eq!(ask("10.43.0.1:80").expect("an endpoint came").0, "a");
    });
}

#[test]
fn a_client_sticks_to_its_endpoint_while_that_lives() {
    isolated("a_client_sticks_to_its_endpoint_while_that_lives", || async {
        let node = node(&["a", "b", "c", "client"]).await;
        let sticky =
            |pods: &[&str], seconds| ServicePort { affinity_seconds: Some(seconds), ..node.service(pods) };
        node.apply(&[sticky(&["a", "b", "c"], 100)]).await;
        let stuck = spread(20, || node.pod("client").ask("10.43.0.1:80"));
        assert_eq!(stuck.len(), 1, "{stuck:?}");
        let first = stuck.keys().next().expect("one").clone();
        // Elsewhere in the order, and one more: it still sticks.
        let others: Vec<_> = ["c", "b", "a"].into_iter().filter(|p| *p != first).collect();
        node.apply(&[sticky(&[others[0], others[1], &first], 100)]).await;
        assert_eq!(
            spread(20, || node.pod("client").ask("10.43.0.1:80")).keys().collect::<Vec<_>>(),
            [&first]
        );
        // Gone: it sticks to another.
        node.apply(&[sticky(&others, 100)]).await;
        let stuck = spread(20, || node.pod("client").ask("10.43.0.1:80"));
        assert_eq!(stuck.len(), 1, "{stuck:?}");
        assert!(!stuck.contains_key(&first), "{stuck:?}");
    });
}

#[test]
fn clients_stick_across_a_restart_and_a_repair() {
    isolated("clients_stick_across_a_restart_and_a_repair", || async {
        let mut node = node(&["a", "b", "c", "client"]).await;
        let service = ServicePort { affinity_seconds: Some(100), ..node.service(&["a", "b", "c"]) };
        node.apply(std::slice::from_ref(&service)).await;
        let first = node.pod("client").ask("10.43.0.1:80").expect("answered").0;
        let only_first = HashMap::from([(first, 10)]);
        node.proxy = ServiceProxy::select(ProxyMode::Auto, proxy_config()).await.expect("a back end").0;
        node.apply(std::slice::from_ref(&service)).await;
        assert_eq!(spread(10, || node.pod("client").ask("10.43.0.1:80")), only_first);
        run("nft", &["flush map ip kedge-services endpoints"]);
        node.apply(&[ServicePort { node_port: None, ..service }]).await;
        assert_eq!(spread(10, || node.pod("client").ask("10.43.0.1:80")), only_first, "written anew");
    });
}

#[test]
fn affinity_ends_after_its_time() {
    isolated("affinity_ends_after_its_time", || async {
        let node = node(&["a", "client"]).await;
        let service = ServicePort { affinity_seconds: Some(1), ..node.service(&["a"]) };
        node.apply(&[service]).await;
        node.pod("client").ask("10.43.0.1:80").expect("answered");
        let stuck = || run("nft", &["list", "map", "ip", "kedge-services", "affinity"]).contains("elements");
        assert!(stuck());
        let start = Instant::now();
        while stuck() {
            assert!(start.elapsed() < Duration::from_secs(5), "still stuck");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    });
}

#[test]
fn local_policies_use_this_nodes_endpoints_and_keep_the_client() {
    isolated("local_policies_use_this_nodes_endpoints_and_keep_the_client", || async {
        let node = node(&["a", "b"]).await;
        let mut service = ServicePort { external_local: true, ..node.service(&["a", "b"]) };
        service.endpoints[1].local = false;
        node.apply(&[service.clone()]).await;
        for _ in 0..10 {
            let answer = node.world.ask("192.0.2.1:30080").expect("answered");
            assert_eq!(answer, ("a".to_owned(), "192.0.2.2".to_owned()));
        }
        assert_eq!(spread(30, || node.pod("a").ask("10.43.0.1:80")).len(), 2, "inside, all endpoints");
        assert_eq!(spread(30, || ask("192.0.2.1:30080")).len(), 2, "the node is inside");
        assert_eq!(spread(30, || node.pod("a").ask("192.0.2.1:30080")).len(), 2, "pods are inside");
        service.internal_local = true;
        node.apply(&[service.clone()]).await;
        assert_eq!(spread(20, || node.pod("b").ask("10.43.0.1:80")), HashMap::from([("a".to_owned(), 20)]));
        service.endpoints.remove(0);
        node.apply(&[service]).await;
        let dropped = node.world.inside(|| {
            let address = "192.0.2.1:30080".parse().expect("valid");
            std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300))
        });
        assert_eq!(dropped.expect_err("dropped").kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn udp_clients_find_new_endpoints_when_theirs_is_gone() {
    isolated("udp_clients_find_new_endpoints_when_theirs_is_gone", || async {
        let node = node(&["a", "b", "client"]).await;
        let udp = |pod: &str| ServicePort { protocol: Protocol::Udp, ..node.service(&[pod]) };
        node.apply(&[udp("a")]).await;
        // One socket for all: the same connection for the kernel.
        let ask = |address: &'static str| {
            node.pod("client").inside(move || {
                let socket = std::net::UdpSocket::bind("0.0.0.0:5353").expect("free");
                socket.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
                socket.connect(address).expect("connected");
                socket.send(b"who?").expect("sent");
                let mut buffer = [0; 64];
                let len = socket.recv(&mut buffer).expect("answered");
                String::from_utf8_lossy(&buffer[..len]).split(' ').next().expect("a name").to_owned()
            })
        };
        for address in ["10.43.0.1:80", "192.0.2.1:30080"] {
            node.apply(&[udp("a")]).await;
            assert_eq!(ask(address), "a");
            node.apply(&[udp("b")]).await;
            assert_eq!(ask(address), "b", "{address}");
        }
    });
}

#[test]
fn foreign_changes_are_repaired() {
    isolated("foreign_changes_are_repaired", || async {
        let node = node(&["a", "b"]).await;
        node.apply(&[node.service(&["a", "b"])]).await;
        let list = || run("nft", &["list", "table", "ip", "kedge-services"]);
        let before = list();
        let token = CancellationToken::new();
        let (watcher, stop) = (node.proxy.clone(), token.clone());
        let task = tokio::spawn(async move { watcher.run(stop).await });
        let element = format!("{{ 10.43.0.1 . tcp . 80 . 0x1 : {} . 9 }}", node.address("a"));
        for how in [
            "flush ruleset",
            "flush map ip kedge-services services",
            "add rule ip kedge-services dispatch counter",
            &format!(
                "delete element ip kedge-services endpoints {{ 10.43.0.1 . tcp . 80 . 0x1 }}; add element ip kedge-services endpoints {element}"
            ),
        ] {
            run("nft", &[how]);
            let deadline = Instant::now() + Duration::from_secs(5);
            loop {
                let output = std::process::Command::new("nft")
                    .args(["list", "table", "ip", "kedge-services"])
                    .output()
                    .expect("nft runs");
                let now = String::from_utf8_lossy(&output.stdout).into_owned();
                if sorted(&now) == sorted(&before) {
                    break;
                }
                assert!(Instant::now() < deadline, "not repaired after {how:?}:\n{now}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        assert_eq!(ask("10.43.0.1:80").map(|a| a.0.len()).expect("answered"), 1);
        token.cancel();
        task.await.expect("no panic").expect("ends well");
    });
}

/// Lines and words in order: the kernel lists elements as they hash.
fn sorted(listing: &str) -> Vec<&str> {
    let mut words: Vec<_> = listing.split([' ', '\n', '\t', ',']).collect();
    words.sort_unstable();
    words
}

#[test]
fn any_way_to_a_table_leads_to_the_same_kernel_state() {
    isolated("any_way_to_a_table_leads_to_the_same_kernel_state", || async {
        let node = node(&["a", "b", "c"]).await;
        let list = || sorted(&run("nft", &["list", "table", "ip", "kedge-services"])).join(" ");
        let variant = |n: usize| -> Vec<ServicePort> {
            let pods = [&["a"][..], &["a", "b"], &[], &["c", "b", "a"], &["b"]];
            let mut first = node.service(pods[n % 5]);
            first.affinity_seconds = n.is_multiple_of(3).then_some(60);
            first.external_local = n.is_multiple_of(2);
            first.internal_local = n.is_multiple_of(7);
            let mut second = node.service(pods[(n + 1) % 5]);
            second.protocol = if n.is_multiple_of(4) { Protocol::Tcp } else { Protocol::Udp };
            second.port = 81 + n as u16 % 2;
            second.node_port = n.is_multiple_of(5).then_some(30081);
            [vec![first], vec![second]].concat().split_off(usize::from(n.is_multiple_of(6)))
        };
        for n in 0..24 {
            node.apply(&variant(n)).await;
            let by_difference = list();
            node.proxy.remove().await.expect("removed");
            node.apply(&variant(n)).await;
            assert_eq!(by_difference, list(), "at {n}");
        }
    });
}

#[test]
fn the_nft_program_can_show_every_rule() {
    isolated("the_nft_program_can_show_every_rule", || async {
        let node = node(&["a", "b"]).await;
        let service =
            ServicePort { affinity_seconds: Some(60), external_local: true, ..node.service(&["a", "b"]) };
        node.apply(&[service]).await;
        node.pod("b").ask("10.43.0.1:80").expect("answered");
        let listing = run("nft", &["list", "ruleset"]);
        for rule in [
            "10.43.0.1 . tcp . 80 : goto address-cluster-2-sticky",
            "0.0.0.0 . tcp . 30080 : goto node-keep-local-2-sticky",
            "numgen random mod 2 map @endpoints",
            "fib daddr type local ip daddr & 0.0.0.0 . meta l4proto . th dport vmap @services",
            "timeout 1m",
            "masquerade fully-random",
        ] {
            assert!(listing.contains(rule), "no {rule:?} in\n{listing}");
        }
        assert!(!listing.contains("invalid type"), "{listing}");
    });
}

#[test]
fn modes_that_are_not_there_are_refused_by_name() {
    isolated("modes_that_are_not_there_are_refused_by_name", || async {
        for mode in [ProxyMode::Ipvs, ProxyMode::Iptables, ProxyMode::Userspace] {
            let error = ServiceProxy::select(mode, proxy_config()).await.expect_err("not there").to_string();
            assert!(error.starts_with(&format!("proxy mode {mode} is not available: ")), "{error}");
            assert!(error.ends_with("supported now: auto, nftables"), "{error}");
        }
        let (proxy, reason) = ServiceProxy::select(ProxyMode::Nftables, proxy_config()).await.expect("there");
        assert_eq!((proxy.mode(), reason.as_str()), (ProxyMode::Nftables, "nftables: as configured"));
    });
}

#[test]
fn removal_and_cleanup_leave_no_table() {
    isolated("removal_and_cleanup_leave_no_table", || async {
        let node = node(&["a"]).await;
        run("nft", &["add", "table", "ip", "someone-elses"]);
        let tables = || run("nft", &["list", "tables"]);
        node.apply(&[node.service(&["a"])]).await;
        assert!(tables().contains("kedge-services"));
        node.proxy.remove().await.expect("removed");
        assert!(!tables().contains("kedge-services"));
        node.proxy.remove().await.expect("nothing to do");
        node.apply(&[node.service(&["a"])]).await;
        assert_eq!(ask("10.43.0.1:80").expect("made again").0, "a");
        let names = Names {
            bridge: "kedge0".into(),
            nft_table: "kedge".into(),
            state_dir: node.dir.path().to_owned(),
        };
        cleanup(&names).await.expect("cleaned");
        assert_eq!(tables(), "table ip someone-elses\n");
        drop(node.network);
    });
}
