use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use issue::DAY;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

fn params() -> PkiParams {
    PkiParams {
        sans: vec!["api.example.org".into(), "192.0.2.7".into()],
        node_name: "node-1".into(),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        service_ip: "10.43.0.1".parse().unwrap(),
    }
}

fn serving(pki: &Pki) -> Certificate {
    Certificate::parse(&pki.0.own.load().serving.cert_pem).unwrap()
}

#[test]
fn the_first_start_makes_all_and_the_second_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("server/tls");
    let now = SystemTime::now();
    Pki::ensure_at(&tls, &params(), now).unwrap().node_credentials_at("node-1", &[], now).unwrap();
    let read = |dir: &Path| {
        let mut all: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap())
            .filter(|e| e.file_type().unwrap().is_file())
            .map(|e| {
                assert_eq!(e.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", e.path());
                (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())
            })
            .collect();
        all.sort();
        all
    };
    let first = (read(&tls), read(&tls.join("nodes")));
    let names: Vec<&str> = first.0.iter().map(|(n, _)| n.as_str()).filter(|n| n.ends_with(".key")).collect();
    assert_eq!(
        names,
        [
            "client-admin.key",
            "client-ca.key",
            "client-controller.key",
            "client-kube-apiserver.key",
            "client-scheduler.key",
            "server-ca.key",
            "service.key",
            "serving-kube-apiserver.key"
        ]
    );
    assert_eq!(fs::metadata(&tls).unwrap().permissions().mode() & 0o777, 0o700);
    let again = Pki::ensure_at(&tls, &params(), now + DAY).unwrap();
    again.node_credentials_at("node-1", &[], now + DAY).unwrap();
    assert_eq!((read(&tls), read(&tls.join("nodes"))), first);
}

#[test]
fn the_apis_certificate_names_all_it_is_reached_by() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::ensure(dir.path(), &params()).unwrap();
    let names = serving(&pki).leaf.names;
    for name in [
        "localhost",
        "127.0.0.1",
        "::1",
        "192.0.2.1",
        "node-1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "10.43.0.1",
        "api.example.org",
        "192.0.2.7",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} is missing in {names:?}");
    }
    let more = PkiParams { sans: vec!["new.example.org".into()], ..params() };
    let renewed = serving(&Pki::ensure(dir.path(), &more).unwrap()).leaf.names;
    assert!(renewed.iter().any(|n| n == "new.example.org") && !renewed.iter().any(|n| n == "192.0.2.7"));
}

#[test]
fn a_running_server_renews_what_ends_soon_under_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let pki = Pki::ensure_at(dir.path(), &params(), now).unwrap();
    let before = (serving(&pki), pki.kubelet_client_identity());
    pki.renew(now + DAY).unwrap();
    assert_eq!(pki.kubelet_client_identity(), before.1);
    pki.renew(now + 340 * DAY).unwrap();
    let after = (serving(&pki), pki.kubelet_client_identity());
    assert_ne!(after.1, before.1);
    assert!(after.0.not_after > now + 700 * DAY);
    assert!(after.0.signed_by(&Certificate::parse(pki.server_ca_pem()).unwrap()));
}

#[test]
fn node_names_do_not_lead_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::ensure(dir.path(), &params()).unwrap();
    for bad in ["", "../x", "a/b", ".hidden", "A"] {
        assert!(pki.node_credentials(bad, &[]).is_err(), "{bad}");
    }
    let made = pki.node_credentials("node-2", &["192.0.2.2".parse().unwrap()]).unwrap();
    let client = Certificate::parse(&made.client.cert_pem).unwrap().leaf;
    assert_eq!(
        (client.common_name.as_str(), client.organizations),
        ("system:node:node-2", vec!["system:nodes".into()])
    );
    let names = Certificate::parse(&made.serving.cert_pem).unwrap().leaf.names;
    assert!(names.contains(&"192.0.2.2".to_owned()) && names.contains(&"node-2".to_owned()), "{names:?}");
}

#[test]
fn only_certificates_of_the_client_ca_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::ensure(dir.path(), &params()).unwrap();
    let own = pki.0.own.load();
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let verifier = pki.client_verifier();
    let now = UnixTime::now();
    verifier.verify_client_cert(&der(&own.admin.cert_pem), &[], now).unwrap();
    verifier.verify_client_cert(&der(&own.serving.cert_pem), &[], now).unwrap_err();
    let late = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + 400 * DAY);
    verifier.verify_client_cert(&der(&own.admin.cert_pem), &[], late).unwrap_err();
    pki.rustls_server_config().unwrap();
}
