use super::endpoint::is_local;
use super::*;
use crate::runtime::spec::RegistryAuth;

const FILE: &str = r#"
mirrors:
  docker.io:
    endpoint:
      - "https://mirror.example.com:5000"
      - http://10.0.0.1/v2/cache
      - https://proxy.example.com/hub/
    rewrite:
      "^rancher/(.*)": "prod/rancher-images/$1"
      "^library/([a-z]+)x$": "${1}suffix"
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
auths:
  "https://old.example.com": {username: old, password: pw}
"#;

fn endpoints(image: &str, auth: Option<&RegistryAuth>) -> Vec<Endpoint> {
    let config = RegistriesConfig::parse(FILE).unwrap();
    config.endpoints(&image.parse().unwrap(), auth)
}

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic(username.to_owned(), password.to_owned())
}

#[test]
fn mirrors_come_first_with_their_own_names_and_credentials() {
    let own = RegistryAuth { username: "hub".into(), password: "pw".into() };
    let found = endpoints("rancher/k3s:v1", Some(&own));
    let urls: Vec<_> = found.iter().map(|e| format!("{}/{}", e.base, e.repository)).collect();
    assert_eq!(
        urls,
        [
            "https://mirror.example.com:5000/v2/prod/rancher-images/k3s",
            "http://10.0.0.1/v2/cache/prod/rancher-images/k3s",
            "https://proxy.example.com/hub/prod/rancher-images/k3s",
            "https://registry-1.docker.io/v2/rancher/k3s",
        ]
    );
    let auth: Vec<_> = found.iter().map(|e| e.credentials.clone()).collect();
    let anonymous = Credentials::Anonymous;
    assert_eq!(auth, [basic("me", "secret"), basic("user", "pass"), anonymous, basic("hub", "pw")]);
    let namespaces: Vec<_> = found.iter().map(|e| e.namespace.as_deref()).collect();
    assert_eq!(namespaces, [Some("docker.io"), Some("docker.io"), Some("docker.io"), None]);
    assert_eq!(endpoints("redis", None)[0].repository, "library/redis");
    assert_eq!(endpoints("fox", None)[0].repository, "fosuffix");
}

#[test]
fn a_star_is_for_all_others_and_local_ones_are_plain() {
    let found = endpoints("quay.io/a/b", None);
    assert_eq!((found[0].base.as_str(), found[0].repository.as_str()), ("http://localhost:5001/v2", "a/b"));
    assert_eq!(found[1].credentials, Credentials::Identity("token".to_owned()));
    assert_eq!(endpoints("old.example.com/a", None)[1].credentials, basic("old", "pw"));
    for host in ["localhost", "localhost:5", "127.0.0.1:5000", "127.3.4.5", "[::1]:80"] {
        assert!(is_local(host), "{host}");
    }
    for host in ["localhost.example.com", "10.0.0.1:5000", "docker.io"] {
        assert!(!is_local(host), "{host}");
    }
}

/// Where `image` is asked for, with `registries.yaml` as given.
fn asked(file: &str, image: &str, default_endpoint: bool) -> Vec<String> {
    let config = RegistriesConfig::parse(file).unwrap().with_default_endpoint(default_endpoint);
    let found = config.endpoints(&image.parse().unwrap(), None);
    let last: Vec<_> = found.iter().map(|e| e.is_last).collect();
    assert!(last.iter().rev().skip(1).all(|l| !l) && last.last().is_some_and(|l| *l), "{last:?}");
    found.iter().map(|e| format!("{}/{}", e.base, e.repository)).collect()
}

#[test]
fn the_registry_itself_comes_last_unless_it_is_a_mirror_or_must_not() {
    let own = "https://r.example/v2/a";
    for (mirror, expected) in [
        ("[m.example]", vec!["https://m.example/v2/b", own]),
        // It is its own mirror.
        ("[https://r.example]", vec!["https://r.example/v2/b"]),
        ("[https://r.example/v2/]", vec!["https://r.example/v2/b"]),
        // These are other places.
        ("[http://r.example]", vec!["http://r.example/v2/b", own]),
        ("[https://r.example:443]", vec!["https://r.example:443/v2/b", own]),
        ("[https://r.example/v2/proxy]", vec!["https://r.example/v2/proxy/b", own]),
        ("", vec![own]),
    ] {
        let file = format!("mirrors: {{r.example: {{endpoint: {mirror}, rewrite: {{a: b}}}}}}");
        assert_eq!(asked(&file, "r.example/a", true), expected, "{mirror}");
        let without: Vec<_> = expected.iter().copied().filter(|e| *e != own || expected.len() == 1).collect();
        assert_eq!(asked(&file, "r.example/a", false), without, "{mirror}");
    }
    let port = "mirrors: {'10.0.0.1:5000': {endpoint: ['http://10.0.0.1:5000']}}";
    assert_eq!(asked(port, "10.0.0.1:5000/a", true), ["http://10.0.0.1:5000/v2/a"]);
    let star = "mirrors: {'*': {endpoint: [m.example]}, docker.io: }";
    assert_eq!(asked(star, "quay.io/a", false), ["https://m.example/v2/a"]);
    let hub = "https://registry-1.docker.io/v2/library/a";
    assert_eq!(asked(star, "a", false), [hub], "no mirror, nothing to leave out");
    let named =
        "mirrors: {docker.io: {endpoint: ['https://registry-1.docker.io', 'https://index.docker.io/v2']}}";
    assert_eq!(asked(named, "a", true)[0], hub);
    assert!(
        RegistriesConfig::parse(named).unwrap().endpoints(&"a".parse().unwrap(), None)[0].namespace.is_none()
    );
}

#[test]
fn an_entry_of_its_own_excepts_from_the_star() {
    let text = "configs:\n  docker.io:\n  quay.io: {auth: {token: t}}\n  '*': {tls: {insecure_skip_verify: true}, auth: {username: u}}";
    let config = RegistriesConfig::parse(text).unwrap();
    assert!(config.tls("docker.io").is_none() && config.tls("quay.io").is_none());
    assert!(config.tls("r.example").is_some_and(|tls| tls.insecure_skip_verify));
    assert_eq!(config.credentials("docker.io"), Credentials::Anonymous);
    assert_eq!(config.credentials("quay.io"), Credentials::Bearer("t".to_owned()));
    assert_eq!(config.credentials("r.example"), basic("u", ""));
}

#[test]
fn what_has_no_value_is_empty() {
    for text in [
        "mirrors:\nconfigs:\n",
        "mirrors: {a: {endpoint: , rewrite: }}\nconfigs: {b: {auth: , tls: }}",
        "auths:",
    ] {
        assert!(RegistriesConfig::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn tls_of_a_local_registry_is_used_when_configured() {
    let config = RegistriesConfig::parse("configs: {'localhost:5': {tls: {ca_file: /x}}}").unwrap();
    let endpoint = &config.endpoints(&"localhost:5/a".parse().unwrap(), None)[0];
    assert_eq!(endpoint.base, "https://localhost:5/v2");
    assert!(matches!(config.client(endpoint), Err(Error::Io { path, .. }) if path == Path::new("/x")));
}

#[test]
fn mistakes_are_named() {
    for (text, says) in [
        ("mirrors: {docker.io: {endpoints: []}}", "endpoints"),
        (
            "mirrors: {docker.io: {endpoint: ['ftp://x']}}",
            "mirrors.docker.io: endpoint \"ftp://x\": unknown scheme",
        ),
        ("mirrors: {docker.io: {endpoint: ['https:///x']}}", "it should be like https://"),
        ("mirrors: {docker.io: {rewrite: {'(': x}}}", "mirrors.docker.io"),
        ("configs: {x: {tls: {cert_file: /y}}}", "configs.x.tls: a client certificate needs both"),
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
    let endpoints = config.endpoints(&"redis".parse().unwrap(), None);
    assert!(!format!("{endpoints:?}").contains("secret"));
}
