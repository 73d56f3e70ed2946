use super::*;
use crate::server::auth::testing::Fake;
use crate::server::auth::user::User;

fn strategy() -> ServiceStrategy {
    let service_cidr = Cidr { base: "10.43.0.0".parse().unwrap(), prefix: 24 };
    ServiceStrategy::new(&StrategyConfig { service_cidr, node_port_range: (30000, 30099) })
}

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": name, "namespace": "a"}, "spec": {
        "type": "ClusterIP", "sessionAffinity": "None", "selector": {"app": "web"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    if matches!(text(&service["spec"]["type"]), "NodePort" | "LoadBalancer") {
        service["spec"]["externalTrafficPolicy"] = json!("Cluster");
    }
    service
}

struct Cluster {
    strategy: ServiceStrategy,
    reader: Fake,
}

impl Cluster {
    fn new() -> Self {
        Self { strategy: strategy(), reader: Fake::default() }
    }

    fn context<T>(&self, run: impl FnOnce(&Context<'_>) -> T) -> T {
        run(&Context { user: &User::loopback(), namespace: Some("a"), reader: &self.reader, dry_run: false })
    }

    fn create(&self, name: &str, spec: Value) -> Result<Value, String> {
        let mut object = service(name, spec);
        self.context(|cx| {
            self.strategy.prepare_create(cx, &mut object).map_err(|status| status.message)?;
            let errors = self.strategy.validate_create(cx, &object);
            match errors.first() {
                None => Ok(()),
                Some(error) => Err(error.to_string()),
            }
        })?;
        self.reader.put("services", object.clone());
        Ok(object)
    }

    fn update(&self, old: &Value, change: impl FnOnce(&mut Value)) -> Result<Value, String> {
        let mut new = old.clone();
        change(&mut new);
        self.context(|cx| {
            self.strategy.prepare_update(cx, &mut new, old).map_err(|status| status.message)?;
            let errors = self.strategy.validate_update(cx, &new, old);
            errors.first().map_or(Ok(()), |error| Err(error.to_string()))
        })?;
        self.reader.put("services", new.clone());
        Ok(new)
    }
}

#[test]
fn a_service_gets_an_address_and_its_families() {
    let cluster = Cluster::new();
    let made = cluster.create("web", json!({})).unwrap();
    let spec = &made["spec"];
    assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
    assert!(text(&spec["clusterIP"]).starts_with("10.43.0."));
    assert_eq!((&spec["ipFamilyPolicy"], &spec["ipFamilies"]), (&json!("SingleStack"), &json!(["IPv4"])));
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    assert!(made["metadata"].get("generation").is_none());
    assert!(spec["ports"][0].get("nodePort").is_none());
    let headless = cluster.create("db", json!({"clusterIP": "None"})).unwrap();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let outside = cluster
        .create("ext", json!({"type": "ExternalName", "externalName": "example.org", "ports": []}))
        .unwrap();
    assert!(outside["spec"].get("clusterIP").is_none());
}

#[test]
fn an_address_is_had_once_and_given_back() {
    let cluster = Cluster::new();
    let dns = cluster.create("dns", json!({"clusterIP": "10.43.0.10"})).unwrap();
    assert_eq!(
        cluster.create("other", json!({"clusterIP": "10.43.0.10"})).unwrap_err(),
        "Service \"other\" is invalid: spec.clusterIPs: Invalid value: [\"10.43.0.10\"]: \
         failed to allocate IP 10.43.0.10: provided IP is already allocated"
    );
    assert_eq!(
        cluster.create("far", json!({"clusterIP": "192.0.2.1"})).unwrap_err(),
        "Service \"far\" is invalid: spec.clusterIPs: Invalid value: [\"192.0.2.1\"]: failed to allocate IP 192.0.2.1: \
         the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.43.0.0/24"
    );
    cluster.strategy.deleted(&dns);
    cluster.create("other", json!({"clusterIP": "10.43.0.10"})).unwrap();
}

#[test]
fn what_is_not_committed_is_given_back_and_a_restart_remembers() {
    let cluster = Cluster::new();
    let mut lost = service("lost", json!({"clusterIP": "10.43.0.9", "type": "NodePort"}));
    cluster.context(|cx| cluster.strategy.prepare_create(cx, &mut lost)).unwrap();
    cluster.strategy.rollback(&lost);
    let kept = cluster.create("kept", json!({"clusterIP": "10.43.0.9", "type": "NodePort"})).unwrap();
    let restarted = Cluster::new();
    restarted.strategy.restore(&kept);
    restarted.reader.put("services", kept.clone());
    assert!(
        restarted.create("x", json!({"clusterIP": "10.43.0.9"})).unwrap_err().contains("already allocated")
    );
    let port = kept["spec"]["ports"][0]["nodePort"].clone();
    let wanted = json!({"type": "NodePort", "ports": [{"port": 1, "protocol": "TCP", "nodePort": port}]});
    let refused = restarted.create("y", wanted).unwrap_err();
    assert!(refused.ends_with("provided port is already allocated"), "{refused}");
    // A failed update of a stored Service gives back nothing that is stored.
    let mut again = kept.clone();
    restarted.context(|cx| restarted.strategy.prepare_update(cx, &mut again, &kept)).unwrap();
    restarted.strategy.rollback(&again);
    assert!(restarted.create("z", json!({"clusterIP": "10.43.0.9"})).is_err());
}

#[test]
fn a_refused_service_holds_nothing() {
    let cluster = Cluster::new();
    let bad = json!({"type": "NodePort", "clusterIP": "10.43.0.7", "ports": [{"port": 1, "protocol": "TCP", "nodePort": 1}]});
    assert_eq!(
        cluster.create("bad", bad).unwrap_err(),
        "Service \"bad\" is invalid: spec.ports[0].nodePort: Invalid value: 1: \
         provided port is not in the valid range. The range of valid ports is 30000-30099"
    );
    cluster.create("good", json!({"clusterIP": "10.43.0.7"})).unwrap();
}

#[test]
fn node_ports_are_taken_shared_by_protocols_and_let_go() {
    let cluster = Cluster::new();
    let ports = json!([{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"},
        {"name": "w", "port": 80, "protocol": "TCP", "nodePort": 30001}]);
    let made = cluster.create("dns", json!({"type": "NodePort", "ports": ports})).unwrap();
    let port = |i: usize| made["spec"]["ports"][i]["nodePort"].as_u64().unwrap();
    assert_eq!(port(0), port(1));
    assert_eq!(port(2), 30001);
    let taken = json!({"type": "NodePort", "ports": [{"port": 1, "protocol": "TCP", "nodePort": 30001}]});
    assert_eq!(
        cluster.create("x", taken.clone()).unwrap_err(),
        "Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"
    );
    let plain = cluster.update(&made, |s| s["spec"]["type"] = json!("ClusterIP")).unwrap();
    assert!(plain["spec"]["ports"][2].get("nodePort").is_none());
    cluster.create("x", taken).unwrap();
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let cluster = Cluster::new();
    let made = cluster.create("web", json!({"type": "NodePort"})).unwrap();
    let same = cluster
        .update(&made, |s| {
            s["spec"]["ports"] = json!([{"port": 80, "protocol": "TCP", "targetPort": 9090}]);
            for field in ["clusterIP", "clusterIPs"] {
                addresses::remove(&mut s["spec"], field);
            }
        })
        .unwrap();
    assert_eq!(same["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    assert_eq!(same["spec"]["ports"][0]["nodePort"], made["spec"]["ports"][0]["nodePort"]);
    let moved = cluster.update(&made, |s| {
        s["spec"]["clusterIP"] = json!("10.43.0.99");
        s["spec"]["clusterIPs"] = json!(["10.43.0.99"]);
    });
    assert_eq!(
        moved.unwrap_err(),
        "spec.clusterIPs[0]: Invalid value: [\"10.43.0.99\"]: may not change once set"
    );
    let gone = cluster
        .update(&made, |s| {
            s["spec"]["type"] = json!("ExternalName");
            s["spec"]["externalName"] = json!("example.org");
        })
        .unwrap();
    assert!(gone["spec"].get("clusterIP").is_none() && gone["spec"].get("clusterIPs").is_none());
    let address = made["spec"]["clusterIP"].clone();
    cluster.create("heir", json!({"clusterIP": address})).unwrap();
}

#[test]
fn wrong_services_are_told_as_upstream_tells_them() {
    let table = [
        (json!({"ports": []}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 0, "protocol": "TCP"}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "TCP"}]}),
            "spec.ports[0].name: Required value",
        ),
        (
            json!({"ports": [{"port": 1, "protocol": "TCP", "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None"}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
        (
            json!({"type": "Magic"}),
            "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (json!({"type": "ExternalName", "ports": []}), "spec.externalName: Required value"),
        (
            json!({"clusterIPs": ["10.43.0.5"]}),
            "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"10.43.0.5\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            json!({"clusterIP": "10.43.0.5", "clusterIPs": ["10.43.0.5", "10.43.0.6"]}),
            "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"10.43.0.5\",\"10.43.0.6\"]: may specify no more than one IP for each IP family",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "Service \"x\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"loadBalancerClass": "a/b"}),
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1/8"]}),
            "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
        ),
        (
            json!({"healthCheckNodePort": 30005}),
            "spec.healthCheckNodePort: Invalid value: 30005: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (
            json!({"trafficDistribution": "Far"}),
            "spec.trafficDistribution: Unsupported value: \"Far\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
        ),
        (
            json!({"externalTrafficPolicy": "Local"}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
        (
            json!({"ports": [{"port": 1, "protocol": "TCP", "appProtocol": "a b"}]}),
            "spec.ports[0].appProtocol: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "Service \"x\" is invalid: spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            json!({"clusterIP": "x"}),
            "Service \"x\" is invalid: spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"externalIPs": ["127.0.0.1"]}),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
    ];
    for (spec, wanted) in table {
        assert_eq!(Cluster::new().create("x", spec).unwrap_err(), wanted);
    }
}

#[test]
fn a_load_balancer_keeps_its_class_and_its_status_is_checked() {
    let cluster = Cluster::new();
    let spec = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "loadBalancerClass": "a/b",
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30010}]});
    let made = cluster.create("lb", spec.clone()).unwrap();
    assert_eq!(made["spec"]["ports"][0]["nodePort"], 30010);
    assert!(cluster.create("other", spec).unwrap_err().contains("provided port is already allocated"));
    assert_eq!(
        cluster.update(&made, |s| s["spec"]["loadBalancerClass"] = json!("c/d")).unwrap_err(),
        "spec.loadBalancerClass: Invalid value: \"c/d\": may not change once set"
    );
    let status = |ingress: Value| {
        let mut new = made.clone();
        new["status"]["loadBalancer"]["ingress"] = json!([ingress]);
        let errors = update::status(&new, &made);
        (errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"), new)
    };
    let (errors, with_status) = status(json!({"ip": "192.0.2.1", "ipMode": "VIP"}));
    assert_eq!(errors, "");
    assert_eq!(
        status(json!({"ip": "192.0.2.1"})).0,
        "status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set"
    );
    assert_eq!(
        status(json!({"hostname": "192.0.2.1"})).0,
        "status.loadBalancer.ingress[0].hostname: Invalid value: \"192.0.2.1\": must be a DNS name, not an IP address"
    );
    let plain = cluster.update(&with_status, |s| s["spec"]["type"] = json!("ClusterIP")).unwrap();
    assert_eq!(plain["status"], json!({"loadBalancer": {}}));
    for field in ["loadBalancerClass", "allocateLoadBalancerNodePorts", "externalTrafficPolicy"] {
        assert!(plain["spec"].get(field).is_none(), "{field}");
    }
}

#[test]
fn ports_are_known_by_their_names() {
    let cluster = Cluster::new();
    let ports =
        json!([{"name": "a", "port": 1, "protocol": "TCP"}, {"name": "b", "port": 2, "protocol": "TCP"}]);
    let made = cluster.create("web", json!({"type": "NodePort", "ports": ports})).unwrap();
    let swapped = cluster
        .update(&made, |s| {
            s["spec"]["ports"] = json!([{"name": "b", "port": 1, "protocol": "TCP"}, {"name": "a", "port": 2, "protocol": "TCP"}]);
        })
        .unwrap();
    assert_eq!(swapped["spec"]["ports"][0]["nodePort"], made["spec"]["ports"][1]["nodePort"]);
    assert_eq!(swapped["spec"]["ports"][1]["nodePort"], made["spec"]["ports"][0]["nodePort"]);
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let service = json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"],
        "sessionAffinity": "ClientIP", "externalIPs": ["2001:DB8::1"], "externalName": "x"}});
    assert_eq!(
        warnings::of(&service),
        [
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
            "spec.externalIPs[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ]
    );
}

#[test]
fn an_address_that_a_user_reserved_goes_to_no_service() {
    let cluster = Cluster::new();
    let address = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}, "spec": {"parentRef": {}}});
    let first = cluster.create("probe", json!({})).unwrap();
    let next = address_after(&first);
    cluster.reader.put("ipaddresses.networking.k8s.io", address(&next, json!({})));
    let made = cluster.create("web", json!({})).unwrap();
    assert_ne!(made["spec"]["clusterIP"], next.as_str());
    assert!(
        cluster
            .create("x", json!({"clusterIP": next}))
            .unwrap_err()
            .ends_with("provided IP is already allocated")
    );
    let ours = json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    cluster.reader.put("ipaddresses.networking.k8s.io", address("10.43.0.7", ours));
    cluster.create("y", json!({"clusterIP": "10.43.0.7"})).unwrap();
}

fn address_after(service: &Value) -> String {
    let value = address(&service["spec"]["clusterIP"]).unwrap();
    Ipv4Addr::from(value + 1).to_string()
}
