//! The pod network, on a real kernel: each test in a network namespace of its own, as root.

mod network_support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kedge::network::table::Protocol;
use kedge::network::{HostPort, Names, PodNetwork, cleanup};
use network_support::{Namespace, ask, ask_udp, config, isolated, run, wire};
use tokio_util::sync::CancellationToken;

/// Everything of the network that must not change by doing it again, in lines. Carrier and timers
/// change by themselves.
fn snapshot() -> Vec<String> {
    let by_itself = ["NO-CARRIER,", ",LOWER_UP", " linkdown", " state UP", " state DOWN", " state UNKNOWN"];
    let text = [
        run("ip", &["-o", "-4", "addr"]),
        run("ip", &["-o", "link"]),
        run("ip", &["route"]),
        run("nft", &["list", "ruleset"]),
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("there"),
    ]
    .concat();
    let text = by_itself.iter().fold(text, |text, word| text.replace(word, ""));
    text.lines().map(str::to_owned).collect()
}

/// Like `assert_eq`, but tells only what differs.
#[track_caller]
fn assert_same(now: &[String], before: &[String]) {
    let new: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
    let gone: Vec<_> = before.iter().filter(|line| !now.contains(line)).collect();
    assert!(now == before, "new: {new:#?}\ngone: {gone:#?}");
}

fn port(host_ip: &str, host_port: u16, container_port: u16, protocol: Protocol) -> HostPort {
    HostPort { protocol, host_ip: host_ip.parse().expect("an address"), host_port, container_port }
}

#[test]
fn opening_twice_changes_nothing() {
    isolated("opening_twice_changes_nothing", || async {
        let dir = tempfile::tempdir().expect("directory");
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        network.add_address("10.43.0.10".parse().expect("valid")).await.expect("added");
        let pod = Namespace::new();
        network.attach("a", pod.path(), &[port("0.0.0.0", 80, 8080, Protocol::Tcp)]).await.expect("attached");
        let before = snapshot();
        assert!(before.iter().any(|line| line.contains("10.42.0.1/24")), "{before:?}");
        let again = PodNetwork::open(config(dir.path())).await.expect("opens");
        again.add_address("10.43.0.10".parse().expect("valid")).await.expect("added");
        assert_same(&snapshot(), &before);
        assert_eq!(again.attachments(), network.attachments());
    });
}

#[test]
fn pods_reach_each_other_the_node_and_the_world() {
    isolated("pods_reach_each_other_the_node_and_the_world", || async {
        let dir = tempfile::tempdir().expect("directory");
        let (world, a, b) = (Namespace::new(), Namespace::new(), Namespace::new());
        wire(&world);
        world.serve(80, "world");
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        let at_a = network.attach("a", a.path(), &[]).await.expect("attached");
        let at_b = network.attach("b", b.path(), &[]).await.expect("attached");
        assert_ne!(at_a.address, at_b.address);
        assert_eq!(network.attach("a", a.path(), &[]).await.expect("attached"), at_a, "again");
        b.serve(8080, "b");
        let answer = a.ask(&format!("{}:8080", at_b.address)).expect("pod to pod");
        assert_eq!(answer, ("b".to_owned(), at_a.address.to_string()), "with its own address");
        a.ask_udp(&format!("{}:8080", at_b.address)).expect("pod to pod by UDP");
        let answer = ask(&format!("{}:8080", at_b.address)).expect("node to pod");
        assert_eq!(answer.1, "10.42.0.1");
        let answer = a.ask("192.0.2.2:80").expect("pod to world");
        assert_eq!(answer, ("world".to_owned(), "192.0.2.1".to_owned()), "masqueraded");
        let link = a.inside(|| run("ip", &["-br", "link", "show", "eth0"]));
        assert!(link.contains(&at_a.mac), "{link}");
        assert!(a.ask("127.0.0.1:1").expect_err("lo is up, nothing listens").to_string().contains("refused"));
    });
}

#[test]
fn host_ports_lead_to_their_pod_only_while_it_lives() {
    isolated("host_ports_lead_to_their_pod_only_while_it_lives", || async {
        let dir = tempfile::tempdir().expect("directory");
        let (world, a, b) = (Namespace::new(), Namespace::new(), Namespace::new());
        wire(&world);
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        let ports = [
            port("0.0.0.0", 80, 8080, Protocol::Tcp),
            port("0.0.0.0", 80, 8080, Protocol::Udp),
            port("192.0.2.1", 81, 8080, Protocol::Tcp),
        ];
        let at_a = network.attach("a", a.path(), &ports).await.expect("attached");
        a.serve(8080, "a");
        assert_eq!(world.ask("192.0.2.1:80").expect("from outside"), ("a".into(), "192.0.2.2".into()));
        assert_eq!(world.ask_udp("192.0.2.1:80").expect("from outside").0, "a");
        assert_eq!(world.ask("192.0.2.1:81").expect("one address").0, "a");
        assert_eq!(ask("192.0.2.1:80").expect("from the node").0, "a");
        assert_eq!(ask("127.0.0.1:80").expect("from the node itself").0, "a");
        assert_eq!(ask_udp("127.0.0.1:80").expect("from the node itself").0, "a");
        assert!(ask("127.0.0.1:81").is_err(), "bound to another address");
        assert_eq!(a.ask("192.0.2.1:80").expect("from the pod itself").0, "a");
        let taken = network.attach("b", b.path(), &[ports[0]]).await.expect_err("taken");
        assert_eq!(taken.to_string(), "host port 0.0.0.0:80/TCP is already taken by sandbox a");
        assert_eq!(network.attachments(), [at_a]);
        network.detach("a").await.expect("detached");
        assert!(ask("192.0.2.1:80").is_err(), "gone");
        let at_b = network.attach("b", b.path(), &[ports[0]]).await.expect("free again");
        b.serve(8080, "b");
        assert_eq!(ask("192.0.2.1:80").expect("another pod"), ("b".into(), "192.0.2.1".into()));
        assert_eq!(at_b.host_ports, [ports[0]]);
    });
}

#[test]
fn a_pod_cannot_use_the_nodes_loopback() {
    isolated("a_pod_cannot_use_the_nodes_loopback", || async {
        let dir = tempfile::tempdir().expect("directory");
        let node = Namespace::new();
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        network.attach("a", node.path(), &[]).await.expect("attached");
        let listener = std::net::TcpListener::bind("127.0.0.1:9999").expect("free");
        node.inside(|| {
            run("ip", &["addr", "flush", "dev", "lo"]);
            run("ip", &["route", "flush", "table", "local", "root", "127.0.0.0/8"]);
            run("ip", &["route", "add", "127.0.0.1/32", "via", "10.42.0.1", "dev", "eth0"]);
            for scope in ["all", "eth0"] {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/route_localnet"), "1").expect("set");
            }
        });
        let connect = || {
            let address = "127.0.0.1:9999".parse().expect("valid");
            node.inside(move || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)))
        };
        assert!(connect().is_err(), "the node's loopback answered a pod");
        listener.set_nonblocking(true).expect("set");
        assert!(listener.accept().is_err(), "a pod came through to the node's loopback");
        // That the table is what kept it out:
        run("nft", &["flush", "chain", "ip", "kedge", "protect-loopback"]);
        connect().expect("the pod knows a way");
    });
}

#[test]
fn attachments_survive_a_restart_and_stale_ones_are_released() {
    isolated("attachments_survive_a_restart_and_stale_ones_are_released", || async {
        let dir = tempfile::tempdir().expect("directory");
        let (a, b) = (Namespace::new(), Namespace::new());
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        let at_a = network.attach("a", a.path(), &[]).await.expect("attached");
        network.attach("b", b.path(), &[]).await.expect("attached");
        drop(network);
        drop(b);
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        assert_eq!(network.attachments().len(), 2);
        let live = HashSet::from(["a".to_owned()]);
        assert_eq!(network.release_stale(&live).await.expect("released"), ["b"]);
        assert_eq!(network.attachments(), std::slice::from_ref(&at_a));
        a.serve(8080, "a");
        ask(&format!("{}:8080", at_a.address)).expect("still connected");
    });
}

#[test]
fn a_hundred_attaches_leave_nothing_behind() {
    isolated("a_hundred_attaches_leave_nothing_behind", || async {
        let dir = tempfile::tempdir().expect("directory");
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        let before = snapshot();
        let pods: Vec<_> = (0..100).map(|_| Namespace::new()).collect();
        let start = Instant::now();
        let attaches = pods.iter().enumerate().map(|(n, pod)| {
            let (network, path) = (network.clone(), pod.path().to_owned());
            let ports = [port("0.0.0.0", 10_000 + n as u16, 80, Protocol::Tcp)];
            tokio::spawn(async move { network.attach(&format!("pod{n}"), &path, &ports).await })
        });
        let mut addresses = HashSet::new();
        for attach in attaches.collect::<Vec<_>>() {
            let attachment = attach.await.expect("no panic").expect("attached");
            assert!(addresses.insert(attachment.address), "{} twice", attachment.address);
        }
        println!("100 attaches at once: {:?}", start.elapsed());
        for n in 0..100 {
            network.detach(&format!("pod{n}")).await.expect("detached");
            network.detach(&format!("pod{n}")).await.expect("nothing to do");
        }
        assert_same(&snapshot(), &before);
        assert_eq!(network.attachments(), []);
        let files: Vec<_> = std::fs::read_dir(dir.path().join("addresses")).expect("there").collect();
        assert_eq!(files.len(), 1, "only the address given out last");
    });
}

#[test]
fn a_failed_attach_takes_nothing() {
    isolated("a_failed_attach_takes_nothing", || async {
        let dir = tempfile::tempdir().expect("directory");
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        let before = snapshot();
        let missing = dir.path().join("gone");
        let error = network.attach("a", &missing, &[]).await.expect_err("no namespace");
        assert!(error.to_string().contains("gone"), "{error}");
        assert_eq!(network.attachments(), []);
        let pod = Namespace::new();
        pod.inside(|| run("ip", &["link", "add", "eth0", "type", "bridge"]));
        let error = network.attach("a", pod.path(), &[]).await.expect_err("eth0 is taken");
        assert!(error.to_string().contains("connect sandbox a to the bridge kedge0"), "{error}");
        assert_eq!(network.attachments(), []);
        assert_same(&snapshot(), &before);
    });
}

#[test]
fn a_name_that_is_no_bridge_is_refused() {
    isolated("a_name_that_is_no_bridge_is_refused", || async {
        let dir = tempfile::tempdir().expect("directory");
        run("ip", &["link", "add", "kedge0", "type", "veth", "peer", "name", "other"]);
        let error = PodNetwork::open(config(dir.path())).await.expect_err("no bridge");
        assert!(
            error.to_string().contains("\"kedge0\" is the name of an interface that is no bridge"),
            "{error}"
        );
        for bridge in ["", "../x", "a-name-longer-than-15"] {
            let wrong = kedge::network::PodNetworkConfig { bridge: bridge.to_owned(), ..config(dir.path()) };
            PodNetwork::open(wrong).await.expect_err(bridge);
        }
    });
}

#[test]
fn a_flushed_ruleset_is_repaired() {
    isolated("a_flushed_ruleset_is_repaired", || async {
        let dir = tempfile::tempdir().expect("directory");
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        let pod = Namespace::new();
        network.attach("a", pod.path(), &[port("0.0.0.0", 80, 8080, Protocol::Tcp)]).await.expect("attached");
        let before = run("nft", &["list", "ruleset"]);
        let token = CancellationToken::new();
        let (watcher, stop) = (network.clone(), token.clone());
        let task = tokio::spawn(async move { watcher.run(stop).await });
        for how in [&["flush", "ruleset"][..], &["flush", "chain", "ip", "kedge", "postrouting"]] {
            run("nft", how);
            let deadline = Instant::now() + Duration::from_secs(5);
            while run("nft", &["list", "ruleset"]) != before {
                assert!(
                    Instant::now() < deadline,
                    "not repaired after {how:?}:\n{}",
                    run("nft", &["list", "ruleset"])
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        token.cancel();
        task.await.expect("no panic").expect("ends well");
    });
}

#[test]
fn deleted_links_are_made_again() {
    isolated("deleted_links_are_made_again", || async {
        let dir = tempfile::tempdir().expect("directory");
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        let dns = std::net::Ipv4Addr::new(10, 43, 0, 10);
        network.add_address(dns).await.expect("added");
        let pods = [Namespace::new(), Namespace::new()];
        let mut ends = Vec::new();
        for (n, pod) in pods.iter().enumerate() {
            ends.push(network.attach(&format!("p{n}"), pod.path(), &[]).await.expect("attached"));
        }
        pods[1].serve(8080, "second");
        let token = CancellationToken::new();
        let (watcher, stop) = (network.clone(), token.clone());
        let task = tokio::spawn(async move { watcher.run(stop).await });
        // Of one sandbox the namespace's path leads nowhere any more; the others are served all the same.
        let gone = Namespace::new();
        let path = dir.path().join("netns");
        std::os::unix::fs::symlink(gone.path(), &path).expect("link");
        network.attach("gone", &path, &[]).await.expect("attached");
        std::fs::remove_file(&path).expect("removed");

        let bridge = config(dir.path()).bridge;
        let pair = ends[0].interface.clone();
        for (what, command) in [
            ("bridge", format!("link delete {bridge}")),
            ("pair", format!("link delete {pair}")),
            ("port", format!("link set {pair} nomaster")),
            ("bridge again", format!("link delete {bridge}")),
        ] {
            run("ip", &command.split(' ').collect::<Vec<_>>());
            let deadline = Instant::now() + Duration::from_secs(20);
            let target = format!("{}:8080", ends[1].address);
            while pods[0].ask(&target).is_err() || !run("ip", &["addr"]).contains("10.43.0.10/32") {
                assert!(
                    Instant::now() < deadline,
                    "{what}: {target} is not reached\n{}",
                    run("ip", &["addr"])
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        // What is detached stays away.
        network.detach("p0").await.expect("detached");
        run("ip", &["link", "delete", &bridge]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !run("ip", &["-o", "link"]).contains(&format!("{bridge}:")) {
            assert!(Instant::now() < deadline, "the bridge is not there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!run("ip", &["-o", "link"]).contains(&pair), "{}", run("ip", &["link"]));
        token.cancel();
        task.await.expect("no panic").expect("ends well");
    });
}

#[test]
fn a_firewall_that_drops_forwarding_lets_pods_through() {
    isolated("a_firewall_that_drops_forwarding_lets_pods_through", || async {
        let dir = tempfile::tempdir().expect("directory");
        let (world, a) = (Namespace::new(), Namespace::new());
        wire(&world);
        world.serve(80, "world");
        run("iptables-nft", &["-P", "FORWARD", "DROP"]);
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        network.attach("a", a.path(), &[]).await.expect("attached");
        a.ask("192.0.2.2:80").expect("through the firewall");
        let rules = run("iptables-nft", &["-S", "FORWARD"]);
        assert!(rules.contains("-A FORWARD -i kedge0") && rules.contains("-A FORWARD -o kedge0"), "{rules}");
        PodNetwork::open(config(dir.path())).await.expect("opens");
        assert_eq!(run("iptables-nft", &["-S", "FORWARD"]), rules, "once");
        let names =
            Names { bridge: "kedge0".into(), nft_table: "kedge".into(), state_dir: dir.path().to_owned() };
        cleanup(&names).await.expect("cleaned");
        assert!(!run("iptables-nft", &["-S", "FORWARD"]).contains("kedge0"));
    });
}

#[test]
fn cleanup_removes_one_installation_and_nothing_else() {
    isolated("cleanup_removes_one_installation_and_nothing_else", || async {
        let (dir, other_dir) =
            (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        let other = kedge::network::PodNetworkConfig {
            bridge: "kedge1".to_owned(),
            pod_cidr: "10.44.0.0/24".parse().expect("valid"),
            cluster_cidr: "10.44.0.0/16".parse().expect("valid"),
            service_cidr: "10.45.0.0/16".parse().expect("valid"),
            nft_table: "other".to_owned(),
            ..config(other_dir.path())
        };
        let other = PodNetwork::open(other).await.expect("opens");
        let (a, b) = (Namespace::new(), Namespace::new());
        other.attach("a", a.path(), &[port("0.0.0.0", 80, 8080, Protocol::Tcp)]).await.expect("attached");
        let before = snapshot();
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        network.attach("a", b.path(), &[port("0.0.0.0", 81, 8080, Protocol::Tcp)]).await.expect("attached");
        assert_ne!(snapshot(), before);
        let names =
            Names { bridge: "kedge0".into(), nft_table: "kedge".into(), state_dir: dir.path().to_owned() };
        cleanup(&names).await.expect("cleaned");
        assert_same(&snapshot(), &before);
        cleanup(&names).await.expect("nothing to do");
        assert!(!dir.path().join("addresses").exists());
        assert_eq!(other.attachments().len(), 1);
    });
}

#[test]
fn udp_clients_follow_a_host_port_to_its_next_pod() {
    isolated("udp_clients_follow_a_host_port_to_its_next_pod", || async {
        let dir = tempfile::tempdir().expect("directory");
        let (world, a, b) = (Namespace::new(), Namespace::new(), Namespace::new());
        wire(&world);
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        let ports = [port("0.0.0.0", 80, 8080, Protocol::Udp)];
        // One socket for all: the same connection for the kernel.
        let client = world.inside(|| std::net::UdpSocket::bind("0.0.0.0:5353").expect("free"));
        client.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
        client.connect("192.0.2.1:80").expect("connected");
        for (name, pod) in [("a", &a), ("b", &b)] {
            network.attach(name, pod.path(), &ports).await.expect("attached");
            pod.serve(8080, name);
            client.send(b"who?").expect("sent");
            let mut buffer = [0; 64];
            let len = client.recv(&mut buffer).expect("answered");
            assert_eq!(&buffer[..len], format!("{name} 192.0.2.2").as_bytes());
            network.detach(name).await.expect("detached");
        }
    });
}
