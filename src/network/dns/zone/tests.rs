use std::collections::BTreeMap;

use super::*;
use crate::network::dns::table::PodNames;
use crate::network::table::Protocol;

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("valid")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("valid")
}

fn port(name: &str, protocol: Protocol, port: u16) -> DnsPort {
    DnsPort { name: name.to_owned(), protocol, port }
}

fn endpoint(address: &str, hostname: Option<&str>) -> DnsEndpoint {
    DnsEndpoint {
        address: ip(address),
        hostname: hostname.map(str::to_owned),
        ports: vec![port("pg", Protocol::Tcp, 5432)],
    }
}

fn table() -> DnsTable {
    let web = DnsService::ClusterIp {
        addresses: vec![ip("10.43.0.5"), ip("fd00::5")],
        ports: vec![port("http", Protocol::Tcp, 80), port("", Protocol::Udp, 81)],
    };
    let db = DnsService::Headless {
        endpoints: vec![endpoint("10.42.0.2", Some("db-0")), endpoint("10.42.0.3", None)],
    };
    let default = BTreeMap::from([
        ("web".to_owned(), web),
        ("db".to_owned(), db),
        ("empty".to_owned(), DnsService::Headless { endpoints: Vec::new() }),
        ("out".to_owned(), DnsService::ExternalName("Example.COM".to_owned())),
    ]);
    DnsTable { services: BTreeMap::from([("default".to_owned(), default)]), ..DnsTable::default() }
}

fn answer_from(table: &DnsTable, question: &str, kind: RecordType) -> Answer {
    Zone::new(name("cluster.local."), vec![ip("10.43.0.10")]).answer(table, &name(question), kind)
}

/// The data of the answers and of the additional records, as text.
fn ask(question: &str, kind: RecordType) -> (Vec<String>, Vec<String>) {
    match answer_from(&table(), question, kind) {
        Answer::Records(answers, extra) => {
            assert!(answers.iter().all(|r| r.name == name(question) && r.ttl == 5));
            let text = |records: Vec<Record>| records.iter().map(|r| r.data.to_string()).collect();
            (text(answers), text(extra))
        }
        other => panic!("{question} {kind}: {other:?}"),
    }
}

fn is_nothing(question: &str, kind: RecordType) -> Answer {
    let answer = answer_from(&table(), question, kind);
    assert!(!matches!(answer, Answer::Records(..) | Answer::Alias(..)), "{answer:?}");
    answer
}

#[test]
fn services_have_their_cluster_addresses() {
    assert_eq!(ask("web.default.svc.cluster.local.", RecordType::A).0, ["10.43.0.5"]);
    assert_eq!(ask("WEB.default.SVC.cluster.local.", RecordType::AAAA).0, ["fd00::5"]);
}

#[test]
fn headless_services_have_their_endpoints_addresses() {
    assert_eq!(ask("db.default.svc.cluster.local.", RecordType::A).0, ["10.42.0.2", "10.42.0.3"]);
    assert_eq!(ask("db-0.db.default.svc.cluster.local.", RecordType::A).0, ["10.42.0.2"]);
    assert_eq!(ask("10-42-0-3.db.default.svc.cluster.local.", RecordType::A).0, ["10.42.0.3"]);
    assert_eq!(is_nothing("db-1.db.default.svc.cluster.local.", RecordType::A), Answer::NoName);
    assert_eq!(is_nothing("empty.default.svc.cluster.local.", RecordType::A), Answer::NoName);
}

#[test]
fn named_ports_have_srv_records_with_their_addresses() {
    let (answers, extra) = ask("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!(answers, ["0 100 80 web.default.svc.cluster.local."]);
    assert_eq!(extra, ["10.43.0.5", "fd00::5"]);
    let (answers, extra) = ask("_pg._tcp.db.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!(
        answers,
        ["0 50 5432 db-0.db.default.svc.cluster.local.", "0 50 5432 10-42-0-3.db.default.svc.cluster.local."]
    );
    assert_eq!(extra, ["10.42.0.2", "10.42.0.3"]);
    assert_eq!(ask("web.default.svc.cluster.local.", RecordType::SRV).0.len(), 2);
    assert_eq!(is_nothing("_http._udp.web.default.svc.cluster.local.", RecordType::SRV), Answer::NoName);
    assert_eq!(is_nothing("_http._tcp.web.default.svc.cluster.local.", RecordType::A), Answer::NoData);
}

#[test]
fn addresses_point_back_to_services_and_named_endpoints() {
    assert_eq!(ask("5.0.43.10.in-addr.arpa.", RecordType::PTR).0, ["web.default.svc.cluster.local."]);
    assert_eq!(ask("2.0.42.10.in-addr.arpa.", RecordType::PTR).0, ["db-0.db.default.svc.cluster.local."]);
    assert_eq!(is_nothing("3.0.42.10.in-addr.arpa.", RecordType::PTR), Answer::Foreign);
    assert_eq!(is_nothing("43.10.in-addr.arpa.", RecordType::PTR), Answer::Foreign);
    let v6 = Name::from(std::net::Ipv6Addr::from([0xfd00, 0, 0, 0, 0, 0, 0, 5])).to_ascii();
    assert_eq!(ask(&v6, RecordType::PTR).0, ["web.default.svc.cluster.local."]);
}

#[test]
fn external_names_are_aliases_whatever_is_asked() {
    for kind in [RecordType::A, RecordType::AAAA, RecordType::CNAME, RecordType::SRV] {
        let answer = answer_from(&table(), "out.default.svc.cluster.local.", kind);
        let Answer::Alias(record, target) = answer else { panic!("{answer:?}") };
        assert_eq!(target, name("example.com."));
        assert_eq!(record.data.to_string().to_lowercase(), "example.com.");
    }
}

#[test]
fn pods_are_found_by_their_address() {
    assert_eq!(ask("10-42-0-9.default.pod.cluster.local.", RecordType::A).0, ["10.42.0.9"]);
    assert_eq!(is_nothing("web-0.default.pod.cluster.local.", RecordType::A), Answer::NoName);
    let pods = BTreeMap::from([("default".to_owned(), BTreeSet::from([ip("10.42.0.9")]))]);
    let verified = DnsTable { pods: PodNames::Verified(pods), ..table() };
    let ask = |question| answer_from(&verified, question, RecordType::A);
    assert!(matches!(ask("10-42-0-9.default.pod.cluster.local."), Answer::Records(..)));
    assert_eq!(ask("10-42-0-8.default.pod.cluster.local."), Answer::NoName);
    assert_eq!(ask("10-42-0-9.other.pod.cluster.local."), Answer::NoName);
}

#[test]
fn names_that_are_there_without_such_records_are_not_denied() {
    for question in [
        "cluster.local.",
        "svc.cluster.local.",
        "default.svc.cluster.local.",
        "_tcp.web.default.svc.cluster.local.",
        "dns-version.cluster.local.",
    ] {
        assert_eq!(is_nothing(question, RecordType::A), Answer::NoData, "{question}");
    }
    for question in [
        "other.svc.cluster.local.",
        "nope.default.svc.cluster.local.",
        "a.b.c.web.default.svc.cluster.local.",
        "nope.cluster.local.",
        "_udp.db.default.svc.cluster.local.",
    ] {
        assert_eq!(is_nothing(question, RecordType::A), Answer::NoName, "{question}");
    }
    assert_eq!(is_nothing("web.default.svc.cluster.local.", RecordType::TXT), Answer::NoData);
    assert_eq!(is_nothing("example.com.", RecordType::A), Answer::Foreign);
}

#[test]
fn the_domain_tells_its_version_and_authority() {
    assert_eq!(ask("dns-version.cluster.local.", RecordType::TXT).0, ["1.1.0"]);
    assert_eq!(ask("cluster.local.", RecordType::NS).0, ["ns.dns.cluster.local."]);
    assert_eq!(ask("ns.dns.cluster.local.", RecordType::A).0, ["10.43.0.10"]);
    assert_eq!(
        ask("cluster.local.", RecordType::SOA).0,
        ["ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"]
    );
}
