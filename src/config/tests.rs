use super::*;

fn layer(origin: &str, values: &[(&str, &str)]) -> Layer {
    let mut layer = Layer { origin: origin.into(), ..Layer::default() };
    for (name, value) in values {
        layer.values.entry((*name).into()).or_default().push((*value).into());
    }
    layer
}

fn resolve(values: &[(&str, &str)]) -> Result<ServerSettings, Error> {
    let mut layers = Layers::default();
    layers.push(layer("test", &[("node-name", "n1"), ("node-ip", "192.0.2.7")]));
    layers.push(layer("flag", values));
    ServerSettings::resolve(&layers)
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let settings = resolve(&[]).expect("defaults resolve");
    assert_eq!(settings.data_dir, Path::new("/var/lib/kedge"));
    assert_eq!(settings.cluster_cidr.to_string(), "10.42.0.0/16");
    assert_eq!(settings.service_cidr.to_string(), "10.43.0.0/16");
    assert_eq!(settings.cluster_dns.to_string(), "10.43.0.10");
    assert_eq!(settings.https_listen_port, 6443);
    assert_eq!(settings.write_kubeconfig, Path::new("/etc/kedge/kedge.yaml"));
    assert_eq!(settings.write_kubeconfig_mode, 0o600);
    assert_eq!(settings.node.instance.name, "kedge");
}

#[test]
fn another_data_directory_is_another_installation() {
    let settings = resolve(&[("data-dir", "/srv/two")]).expect("resolves");
    assert_eq!(settings.write_kubeconfig, Path::new("/srv/two/server/kubeconfig.yaml"));
    assert_ne!(settings.node.instance, Instance::of(Path::new(DEFAULT_DATA_DIR)));
    assert_ne!(settings.node.instance, Instance::of(Path::new("/srv/three")));
    assert!(settings.node.instance.bridge.len() < 16, "an interface name has at most 15 bytes");
}

#[test]
fn the_dns_address_follows_the_service_network() {
    let settings = resolve(&[("service-cidr", "10.96.0.0/12")]).expect("resolves");
    assert_eq!(settings.cluster_dns.to_string(), "10.96.0.10");
}

#[test]
fn a_bad_value_names_setting_value_origin_and_remedy() {
    let cases = [
        ("https-listen-port", "70000", "expected a port"),
        ("https-listen-port", "0", "expected a port"),
        ("cluster-cidr", "10.42.0.0", "expected an IPv4 network"),
        ("cluster-cidr", "10.42.7.0/16", "did you mean 10.42.0.0/16?"),
        ("cluster-dns", "10.99.0.1", "must lie in --service-cidr"),
        ("write-kubeconfig-mode", "rw", "octal"),
        ("node-name", "Bad_Name", "lower-case"),
        ("node-label", "novalue", "key=value"),
        ("proxy-mode", "magic", "ipvs"),
        ("service-node-port-range", "5-1", "first-last"),
        ("disable-agent", "maybe", "true or false"),
    ];
    for (setting, value, expected) in cases {
        let error = resolve(&[(setting, value)]).expect_err(setting).to_string();
        assert!(error.contains(&format!("--{setting} {value:?} (flag)")), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn overlapping_networks_are_refused() {
    let error = resolve(&[("cluster-cidr", "10.0.0.0/8")]).expect_err("overlap").to_string();
    assert!(error.contains("overlap"), "{error}");
}

#[test]
fn stronger_layers_win_and_appended_values_add() {
    let mut layers = Layers::default();
    let mut file = layer("file", &[("tls-san", "a"), ("cluster-domain", "file.local")]);
    file.append.insert("node-label".into(), vec!["x=1".into()]);
    layers.push(file);
    let mut drop_in = layer("drop-in", &[]);
    drop_in.append.insert("tls-san".into(), vec!["b,c".into()]);
    drop_in.append.insert("node-label".into(), vec!["y=2".into()]);
    layers.push(drop_in);
    layers.push(layer("environment", &[("cluster-domain", "env.local"), ("node-ip", "192.0.2.1")]));
    layers.push(layer("flag", &[("cluster-domain", "flag.local"), ("node-name", "n")]));
    let settings = ServerSettings::resolve(&layers).expect("resolves");
    assert_eq!(settings.cluster_domain, "flag.local");
    assert_eq!(settings.tls_san, ["a", "b", "c"]);
    assert_eq!(settings.node.node_labels, [("x".into(), "1".into()), ("y".into(), "2".into())]);
}

#[test]
fn files_are_read_in_order_and_errors_name_the_file() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("config.yaml");
    let known = ["cluster-domain", "tls-san", "disable-agent"].map(str::to_owned);
    assert!(load_files(&path, false, &known).expect("absent is fine").is_empty());
    assert!(load_files(&path, true, &known).is_err(), "a file named by the user must be there");

    std::fs::write(&path, "cluster-domain: one\ntls-san: [a, b]\ndisable-agent: true\n").expect("write");
    let drop_ins = directory.path().join("config.yaml.d");
    std::fs::create_dir(&drop_ins).expect("directory");
    std::fs::write(drop_ins.join("20.yaml"), "cluster-domain: three").expect("write");
    std::fs::write(drop_ins.join("10.yaml"), "cluster-domain: two\ntls-san+: [c]").expect("write");
    let mut layers = Layers::default();
    load_files(&path, true, &known).expect("reads").into_iter().for_each(|l| layers.push(l));
    assert_eq!(layers.last("cluster-domain"), Some("three"));
    assert_eq!(layers.find("tls-san").map(|f| f.values), Some(vec!["a", "b", "c"]));

    for (text, expected) in
        [("nonsense: 1", "unknown setting \"nonsense\""), ("- a", "expected a map"), ("a: [", "line")]
    {
        std::fs::write(&path, text).expect("write");
        let error = load_files(&path, true, &known).expect_err(text).to_string();
        assert!(error.contains("config.yaml") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_network_counts_its_addresses() {
    let cidr: Cidr = "10.43.0.0/30".parse().expect("parses");
    assert_eq!(cidr.nth(3), Some(Ipv4Addr::new(10, 43, 0, 3)));
    assert_eq!(cidr.nth(4), None);
    assert!(cidr.contains(Ipv4Addr::new(10, 43, 0, 2)));
    assert!(!cidr.contains(Ipv4Addr::new(10, 43, 0, 4)));
}

#[test]
fn flags_of_the_api_server_are_known_by_name() {
    let resolve = |values: &[&str]| {
        let values: Vec<(&str, &str)> = values.iter().map(|v| ("kube-apiserver-arg", *v)).collect();
        resolve(&values).map(|s| s.authentication).map_err(|e| e.to_string())
    };
    assert_eq!(resolve(&[]), Ok(Authentication::default()));
    let chosen = resolve(&["anonymous-auth=false", "--token-auth-file=/etc/tokens.csv"]).expect("settings");
    assert_eq!(chosen, Authentication { anonymous: false, token_file: Some("/etc/tokens.csv".into()) });
    assert!(resolve(&["anonymous-auth=maybe"]).expect_err("a typo").contains("true or false"));
    let unknown = resolve(&["feature-gates=X=true"]).expect_err("not known");
    assert!(unknown.contains("--kube-apiserver-arg") && unknown.contains("token-auth-file"), "{unknown}");
}
