//! Cluster DNS, asked by a real client over UDP and TCP: each test in a network namespace of its own.

mod network_support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use kedge::network::dns::table::{DnsEndpoint, DnsPort, DnsService, DnsTable};
use kedge::network::table::Protocol;
use kedge::network::{Dns, DnsConfig, Error, PodNetwork};
use network_support::{Namespace, config, isolated};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("valid")
}

fn services(list: Vec<(&str, DnsService)>) -> DnsTable {
    let services = list.into_iter().map(|(name, service)| (name.to_owned(), service)).collect();
    DnsTable { services: BTreeMap::from([("default".to_owned(), services)]), ..DnsTable::default() }
}

fn cluster_ip(address: &str) -> DnsService {
    let http = DnsPort { name: "http".into(), protocol: Protocol::Tcp, port: 80 };
    DnsService::ClusterIp { addresses: vec![ip(address)], ports: vec![http] }
}

fn headless(count: u8) -> DnsService {
    let endpoint = |n| DnsEndpoint { address: [10, 42, 1, n].into(), hostname: None, ports: Vec::new() };
    DnsService::Headless { endpoints: (0..count).map(endpoint).collect() }
}

/// A DNS server at 127.0.0.1:53 with a table that can be changed.
struct Server {
    table: watch::Sender<Arc<DnsTable>>,
    dir: tempfile::TempDir,
    token: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Server {
    async fn start(table: DnsTable, resolv_conf: &str) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::write(dir.path().join("resolv.conf"), resolv_conf).expect("written");
        let (sender, receiver) = watch::channel(Arc::new(table));
        let config = dns_config("127.0.0.1:53", dir.path().join("resolv.conf"));
        let dns = Dns::bind(config, receiver).await.expect("bound");
        assert_eq!(dns.addresses(), ["127.0.0.1:53".parse().expect("valid")]);
        let token = CancellationToken::new();
        let task = tokio::spawn(dns.run(token.clone()));
        Self { table: sender, dir, token, task }
    }

    fn resolv_conf(&self) -> PathBuf {
        self.dir.path().join("resolv.conf")
    }
}

fn dns_config(listen: &str, resolv_conf: PathBuf) -> DnsConfig {
    DnsConfig {
        listen: vec![listen.parse().expect("valid")],
        cluster_domain: "cluster.local".into(),
        resolv_conf,
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("valid"), kind));
    message
}

fn udp(message: &Message) -> Message {
    udp_to("127.0.0.1:53", message)
}

fn udp_to(server: &str, message: &Message) -> Message {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("free");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    socket.connect(server).expect("connected");
    socket.send(&message.to_vec().expect("encodes")).expect("sent");
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).expect("answered");
    let limit = message.edns.as_ref().map_or(512, |e| usize::from(e.max_payload()));
    assert!(len <= limit, "{len} bytes");
    Message::from_vec(&buffer[..len]).expect("a message")
}

fn tcp(message: &Message) -> Message {
    let mut stream = TcpStream::connect("127.0.0.1:53").expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let bytes = message.to_vec().expect("encodes");
    stream.write_all(&u16::try_from(bytes.len()).expect("short").to_be_bytes()).expect("sent");
    stream.write_all(&bytes).expect("sent");
    let mut len = [0; 2];
    stream.read_exact(&mut len).expect("answered");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer).expect("answered");
    Message::from_vec(&answer).expect("a message")
}

fn data(message: &Message) -> Vec<String> {
    let mut data: Vec<_> = message.answers.iter().map(|r| r.data.to_string()).collect();
    data.sort();
    data
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// A name server of the world at `address`, which knows `known.test` by this address, that
/// `alias.test` is another name for it, and counts questions.
fn name_server(address: &str, known: [u8; 4]) -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind(address).expect("free");
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, client)) = socket.recv_from(&mut buffer) {
            counter.fetch_add(1, Ordering::SeqCst);
            let question = Message::from_vec(&buffer[..len]).expect("a message");
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, OpCode::Query);
            answer.add_query(query.clone());
            answer.metadata.recursion_available = true;
            match (query.name().to_ascii().to_lowercase().as_str(), query.query_type()) {
                ("known.test.", RecordType::A) => {
                    let record = Record::from_rdata(query.name().clone(), 300, RData::A(A(known.into())));
                    answer.add_answer(record);
                }
                ("known.test.", _) => {}
                ("refused.test.", _) => answer.metadata.response_code = ResponseCode::Refused,
                _ => answer.metadata.response_code = ResponseCode::NXDomain,
            }
            let _ = socket.send_to(&answer.to_vec().expect("encodes"), client);
        }
    });
    asked
}

#[test]
fn a_client_is_answered_over_udp_and_tcp() {
    isolated("a_client_is_answered_over_udp_and_tcp", || async {
        let server = Server::start(services(vec![("web", cluster_ip("10.43.0.5"))]), "").await;
        blocking(|| {
            for ask in [udp, tcp] {
                let answer = ask(&question("web.default.svc.cluster.local.", RecordType::A));
                assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
                assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
                assert_eq!(data(&answer), ["10.43.0.5"]);
                assert_eq!(answer.answers[0].ttl, 5);
                let answer = ask(&question("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV));
                assert_eq!(data(&answer), ["0 100 80 web.default.svc.cluster.local."]);
                assert_eq!(answer.additionals[0].data.to_string(), "10.43.0.5");
                let answer = ask(&question("5.0.43.10.in-addr.arpa.", RecordType::PTR));
                assert_eq!(data(&answer), ["web.default.svc.cluster.local."]);
                let answer = ask(&question("dns-version.cluster.local.", RecordType::TXT));
                assert_eq!(data(&answer), ["1.1.0"]);
            }
        })
        .await;
        server.token.cancel();
        server.task.await.expect("no panic").expect("ends well");
        UdpSocket::bind("127.0.0.1:53").expect("free again");
    });
}

#[test]
fn negative_answers_carry_the_authority() {
    isolated("negative_answers_carry_the_authority", || async {
        let server = Server::start(services(vec![("web", cluster_ip("10.43.0.5"))]), "").await;
        blocking(|| {
            for (name, kind, code) in [
                ("nope.default.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
                ("web.default.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError),
            ] {
                let answer = udp(&question(name, kind));
                assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, 0), "{name}");
                assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
            }
            let mut update = question("web.default.svc.cluster.local.", RecordType::A);
            update.metadata.op_code = OpCode::Status;
            assert_eq!(udp(&update).metadata.response_code, ResponseCode::NotImp);
        })
        .await;
        drop(server);
    });
}

#[test]
fn what_does_not_fit_is_truncated_and_asked_for_by_tcp() {
    isolated("what_does_not_fit_is_truncated_and_asked_for_by_tcp", || async {
        let server = Server::start(services(vec![("db", headless(200))]), "").await;
        blocking(|| {
            let plain = question("db.default.svc.cluster.local.", RecordType::A);
            let answer = udp(&plain);
            assert!(answer.metadata.truncation && answer.answers.len() < 200);
            assert_eq!(tcp(&plain).answers.len(), 200);
            let mut large = plain.clone();
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            large.set_edns(edns);
            let more = udp(&large);
            assert!(more.metadata.truncation && more.answers.len() > answer.answers.len());
            assert!(more.edns.is_some(), "a client with EDNS is answered with it");
        })
        .await;
        drop(server);
    });
}

#[test]
fn endpoints_come_in_changing_order() {
    isolated("endpoints_come_in_changing_order", || async {
        let server = Server::start(services(vec![("db", headless(8))]), "").await;
        let firsts = blocking(|| {
            let ask = |_| {
                udp(&question("db.default.svc.cluster.local.", RecordType::A)).answers[0].data.to_string()
            };
            (0..40).map(ask).collect::<std::collections::HashSet<_>>()
        })
        .await;
        assert!(firsts.len() > 2, "{firsts:?}");
        drop(server);
    });
}

#[test]
fn the_newest_table_answers() {
    isolated("the_newest_table_answers", || async {
        let server = Server::start(services(vec![("web", cluster_ip("10.43.0.5"))]), "").await;
        let ask = || blocking(|| data(&udp(&question("web.default.svc.cluster.local.", RecordType::A))));
        assert_eq!(ask().await, ["10.43.0.5"]);
        server.table.send_replace(Arc::new(services(vec![("web", cluster_ip("10.43.0.6"))])));
        assert_eq!(ask().await, ["10.43.0.6"]);
    });
}

#[test]
fn other_names_are_forwarded_and_kept() {
    isolated("other_names_are_forwarded_and_kept", || async {
        let asked = name_server("127.0.0.2:53", [192, 0, 2, 80]);
        let external = DnsService::ExternalName("known.test".into());
        let server =
            Server::start(services(vec![("out", external)]), "search lan\nnameserver 127.0.0.2\n").await;
        let counter = Arc::clone(&asked);
        blocking(move || {
            for ask in [udp, tcp, udp] {
                let answer = ask(&question("known.test.", RecordType::A));
                assert_eq!(data(&answer), ["192.0.2.80"]);
                assert!(!answer.metadata.authoritative && answer.metadata.recursion_available);
            }
            assert_eq!(counter.load(Ordering::SeqCst), 1, "the others were kept");
            let answer = udp(&question("out.default.svc.cluster.local.", RecordType::A));
            assert_eq!(data(&answer), ["192.0.2.80", "known.test."], "an alias with its address");
            let code = |name, kind| udp(&question(name, kind)).metadata.response_code;
            assert_eq!(code("unknown.test.", RecordType::A), ResponseCode::NXDomain);
            assert_eq!(code("known.test.", RecordType::AAAA), ResponseCode::NoError);
            assert_eq!(code("refused.test.", RecordType::A), ResponseCode::Refused);
            assert_eq!(code("9.9.9.9.in-addr.arpa.", RecordType::PTR), ResponseCode::NXDomain);
        })
        .await;
        drop(server);
    });
}

#[test]
fn a_changed_resolver_configuration_is_followed() {
    isolated("a_changed_resolver_configuration_is_followed", || async {
        let _old = name_server("127.0.0.2:53", [192, 0, 2, 1]);
        let _new = name_server("127.0.0.3:53", [192, 0, 2, 2]);
        let server = Server::start(DnsTable::default(), "nameserver 127.0.0.2\n").await;
        let ask = || blocking(|| data(&udp(&question("known.test.", RecordType::A))));
        assert_eq!(ask().await, ["192.0.2.1"]);
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("written");
        write(&server.resolv_conf(), "# changed\nnameserver 127.0.0.3\n");
        assert_eq!(ask().await, ["192.0.2.2"]);
        // Replaced as a whole, as network managers do.
        let next = server.dir.path().join("next");
        write(&next, "nameserver 127.0.0.2\n");
        std::fs::rename(&next, server.resolv_conf()).expect("renamed");
        assert_eq!(ask().await, ["192.0.2.1"]);
        std::fs::remove_file(server.resolv_conf()).expect("removed");
        let start = Instant::now();
        let code = blocking(|| udp(&question("known.test.", RecordType::A)).metadata.response_code).await;
        assert_eq!(code, ResponseCode::ServFail);
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    });
}

#[test]
fn questions_are_not_forwarded_in_a_circle() {
    isolated("questions_are_not_forwarded_in_a_circle", || async {
        let server = Server::start(DnsTable::default(), "nameserver 127.0.0.1\n").await;
        let start = Instant::now();
        let code = blocking(|| udp(&question("known.test.", RecordType::A)).metadata.response_code).await;
        assert_eq!(code, ResponseCode::ServFail);
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        drop(server);
    });
}

#[test]
fn a_silent_name_server_is_passed_over() {
    isolated("a_silent_name_server_is_passed_over", || async {
        let _silent = UdpSocket::bind("127.0.0.2:53").expect("free");
        let _answers = name_server("127.0.0.3:53", [192, 0, 2, 2]);
        let server = Server::start(DnsTable::default(), "nameserver 127.0.0.2\nnameserver 127.0.0.3\n").await;
        let answer = blocking(|| data(&udp(&question("known.test.", RecordType::A)))).await;
        assert_eq!(answer, ["192.0.2.2"]);
        drop(server);
    });
}

#[test]
fn pods_ask_at_the_cluster_dns_address() {
    isolated("pods_ask_at_the_cluster_dns_address", || async {
        let dir = tempfile::tempdir().expect("directory");
        let network = PodNetwork::open(config(dir.path())).await.expect("opens");
        network.add_address("10.43.0.10".parse().expect("valid")).await.expect("added");
        let pod = Namespace::new();
        network.attach("a", pod.path(), &[]).await.expect("attached");
        let table = Arc::new(services(vec![("web", cluster_ip("10.43.0.5"))]));
        let (_sender, receiver) = watch::channel(table);
        let token = CancellationToken::new();
        let dns =
            Dns::bind(dns_config("10.43.0.10:53", dir.path().join("none")), receiver).await.expect("bound");
        let task = tokio::spawn(dns.run(token.clone()));
        let ask = || udp_to("10.43.0.10:53", &question("web.default.svc.cluster.local.", RecordType::A));
        assert_eq!(data(&blocking(ask).await), ["10.43.0.5"], "from the node");
        assert_eq!(data(&pod.inside(ask)), ["10.43.0.5"], "from a pod");
        token.cancel();
        task.await.expect("no panic").expect("ends well");
    });
}

#[test]
fn a_taken_port_and_a_wrong_domain_are_named() {
    isolated("a_taken_port_and_a_wrong_domain_are_named", || async {
        let _taken = UdpSocket::bind("127.0.0.1:53").expect("free");
        let (_sender, receiver) = watch::channel(Arc::new(DnsTable::default()));
        let good = dns_config("127.0.0.1:53", "/none".into());
        let error = Dns::bind(good.clone(), receiver.clone()).await.expect_err("taken");
        assert!(error.to_string().starts_with("cannot listen for DNS on 127.0.0.1:53: "), "{error}");
        let wrong = DnsConfig { cluster_domain: "a..b".into(), ..good };
        let error = Dns::bind(wrong, receiver).await.expect_err("wrong");
        assert!(error.to_string().starts_with("cluster domain \"a..b\" is no domain name"), "{error}");
    });
}
