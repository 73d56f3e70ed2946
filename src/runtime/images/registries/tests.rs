use super::*;

const FILE: &str = r#"
mirrors:
  docker.io:
    endpoint:
      - "https://mirror.example.com:5000"
      - http://10.0.0.1/v2/cache
    rewrite:
      "^rancher/(.*)": "prod/rancher-images/$1"
      "^library/([a-z]+)x$": "$1suffix"
  "*":
    endpoint: [localhost:5001]
configs:
  "mirror.example.com:5000":
    auth: {username: me, password: secret}
    tls: {insecure_skip_verify: true}
  10.0.0.1:
    auth: {auth: dXNlcjpwYXNz}
  quay.io:
    auth: {identity_token: token}
"#;

fn endpoints(image: &str, auth: Option<&RegistryAuth>) -> Vec<Endpoint> {
    let config = RegistriesConfig::parse(FILE).unwrap();
    config.endpoints(&image.parse().unwrap(), auth)
}

fn basic(username: &str, password: &str) -> ClientAuth {
    ClientAuth::Basic(username.to_owned(), password.to_owned())
}

#[test]
fn mirrors_come_first_with_their_own_names_and_credentials() {
    let own = RegistryAuth { username: "hub".into(), password: "pw".into() };
    let found = endpoints("rancher/k3s:v1", Some(&own));
    let names: Vec<_> = found.iter().map(|e| e.reference.whole()).collect();
    assert_eq!(
        names,
        [
            "mirror.example.com:5000/prod/rancher-images/k3s:v1",
            "10.0.0.1/cache/prod/rancher-images/k3s:v1",
            "docker.io/rancher/k3s:v1",
        ]
    );
    let auth: Vec<_> = found.iter().map(|e| e.auth.clone()).collect();
    assert_eq!(auth, [basic("me", "secret"), basic("user", "pass"), basic("hub", "pw")]);
    assert!(matches!(found[0].protocol, ClientProtocol::Https));
    assert!(matches!(found[1].protocol, ClientProtocol::Http));
    assert_eq!(endpoints("redis", None)[0].reference.repository(), "library/redis");
    assert_eq!(endpoints("fox", None)[0].reference.repository(), "fosuffix");
}

#[test]
fn a_star_is_for_all_others_and_local_ones_are_plain() {
    let found = endpoints("quay.io/a/b", None);
    assert_eq!(found[0].reference.whole(), "localhost:5001/a/b:latest");
    assert!(matches!(found[0].protocol, ClientProtocol::Http));
    assert_eq!(found[1].auth, ClientAuth::Bearer("token".to_owned()));
    for host in ["localhost", "localhost:5", "127.0.0.1:5000", "127.3.4.5", "[::1]:80"] {
        assert!(is_local(host), "{host}");
    }
    for host in ["localhost.example.com", "10.0.0.1:5000", "docker.io"] {
        assert!(!is_local(host), "{host}");
    }
}

#[test]
fn tls_of_a_local_registry_is_used_when_configured() {
    let config = RegistriesConfig::parse("configs: {'localhost:5': {tls: {ca_file: /x}}}").unwrap();
    let endpoint = &config.endpoints(&"localhost:5/a".parse().unwrap(), None)[0];
    assert!(matches!(endpoint.protocol, ClientProtocol::Https));
    assert!(matches!(config.client_config(endpoint), Err(Error::Io { path, .. }) if path == Path::new("/x")));
}

#[test]
fn a_digest_stays_a_digest_at_a_mirror() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let found = endpoints(&format!("nginx:1@{digest}"), None);
    assert_eq!(found[0].reference.digest(), Some(&*digest));
}

#[test]
fn mistakes_are_named() {
    for (text, says) in [
        ("mirrors: {docker.io: {endpoints: []}}", "endpoints"),
        (
            "mirrors: {docker.io: {endpoint: ['ftp://x']}}",
            "mirrors.docker.io: endpoint \"ftp://x\": unknown scheme",
        ),
        ("mirrors: {docker.io: {endpoint: ['https://x/y']}}", "must begin with /v2"),
        ("mirrors: {docker.io: {rewrite: {'(': x}}}", "mirrors.docker.io"),
        ("configs: {x: {tls: {cert_file: /y}}}", "configs.x.tls: client certificates"),
    ] {
        let error = RegistriesConfig::parse(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    assert!(RegistriesConfig::parse("").is_ok());
    assert!(RegistriesConfig::load(Path::new("/does/not/exist")).is_ok());
}

#[test]
fn passwords_are_not_printed() {
    let config = RegistriesConfig::parse(FILE).unwrap();
    assert!(!format!("{config:?}").contains("secret"));
}
