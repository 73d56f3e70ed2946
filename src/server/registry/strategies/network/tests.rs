use serde_json::{Value, json};

use super::{cidr, class, endpoints, ingress, policy, slice};
use crate::api::FieldError;
use crate::server::registry::strategies::check::Errors;

#[track_caller]
fn told(errors: Vec<FieldError>, wanted: &[&str]) {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, wanted);
}

#[test]
fn back_ends_have_addresses_that_can_be_reached() {
    let of = |kind: &str, address: &str| {
        slice::validate(&json!({"addressType": kind, "endpoints": [{"addresses": [address]}], "ports": []}))
    };
    told(of("IPv4", "10.0.0.1"), &[]);
    told(of("FQDN", "a.example."), &[]);
    told(of("IPv4", "::2"), &["endpoints[0].addresses[0]: Invalid value: \"::2\": must be an IPv4 address"]);
    told(
        of("IPv4", "127.0.0.1"),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    told(
        of("FQDN", "a"),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
        ],
    );
    told(of("", "a"), &["addressType: Required value"]);
    let many: Vec<Value> = (0..101).map(|n| json!(format!("10.0.0.{n}"))).collect();
    told(
        slice::validate(
            &json!({"addressType": "IPv4", "endpoints": [{"addresses": many}, {"addresses": []}],
            "ports": [{"name": "a", "protocol": "TCP", "appProtocol": "x y"}, {"name": "a", "protocol": "X"}]}),
        ),
        &[
            "endpoints[0].addresses: Too many: 101: must have at most 100 items",
            "endpoints[1].addresses: Required value: must contain at least 1 address",
            "ports[0].appProtocol: Invalid value: \"x y\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "ports[1].name: Duplicate value: \"a\"",
            "ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
}

#[test]
fn endpoints_are_checked_when_they_change() {
    let wrong = json!({"subsets": [{"ports": [{"port": 0, "protocol": "TCP"}]}, {"addresses": [{"ip": "224.0.0.1"}]}]});
    told(
        endpoints::validate(&wrong, None),
        &[
            "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "subsets[1].addresses[0].ip: Invalid value: \"224.0.0.1\": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ],
    );
    told(endpoints::validate(&wrong, Some(&wrong)), &[]);
}

#[test]
fn an_ingress_leads_somewhere() {
    let path = |kind: &str, path: &str| {
        let spec = json!({"rules": [{"host": "a.example", "http": {"paths": [{"pathType": kind, "path": path,
            "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]});
        ingress::validate(&spec, None)
    };
    told(path("Prefix", "/"), &[]);
    told(
        path("Exact", "x"),
        &["spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path"],
    );
    told(
        path("Prefix", "/a//b/.."),
        &[
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": must not contain '//'",
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": cannot end with '/..'",
        ],
    );
    told(
        path("Odd", "/"),
        &[
            "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Odd\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
        ],
    );
    told(
        path("", "/"),
        &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
    );
    let only = |backend: Value| ingress::validate(&json!({"defaultBackend": backend}), None);
    told(
        ingress::validate(&json!({}), None),
        &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    );
    told(
        only(json!({"service": {"name": "web", "port": {}}})),
        &["spec.defaultBackend: Required value: port name or number is required"],
    );
    told(
        only(json!({"service": {"name": "1web", "port": {"number": 1, "name": "a"}}})),
        &["spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number"],
    );
    told(
        only(json!({})),
        &["spec.defaultBackend: Invalid value: \"\": resource or service backend is required"],
    );
    told(
        only(json!({"resource": {"kind": "a/b"}})),
        &[
            "spec.defaultBackend.resource.kind: Invalid value: \"a/b\": may not contain '/'",
            "spec.defaultBackend.resource.name: Required value",
        ],
    );
    let backend = json!({"resource": {"kind": "a", "name": "b"}});
    told(
        ingress::validate(
            &json!({"defaultBackend": backend, "rules": [{"host": "10.0.0.1"}], "tls": [{"hosts": ["*.a"], "secretName": "A"}]}),
            Some(&json!({"tls": [{"secretName": "B"}]})),
        ),
        &["spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"],
    );
}

#[test]
fn an_ingress_class_names_its_controller() {
    told(class::validate(&json!({"controller": "example.com/c"})), &[]);
    told(
        class::validate(
            &json!({"controller": "c", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}),
        ),
        &[
            "spec.controller: Invalid value: \"c\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
        ],
    );
    told(
        class::validate(
            &json!({"controller": "e.com/c", "parameters": {"scope": "Cluster", "namespace": "a"}}),
        ),
        &[
            "spec.parameters.kind: Required value",
            "spec.parameters.name: Required value",
            "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
        ],
    );
}

#[test]
fn policies_name_ports_and_peers() {
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "X"], "ingress": [{
        "ports": [{"protocol": "TCP", "port": 5, "endPort": 4}, {"endPort": 4}, {"port": "a", "endPort": 5}],
        "from": [{}, {"ipBlock": {"cidr": "10.0.0.0/33"}},
            {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.1/16"]}}]}]});
    told(
        policy::validate(&spec, &[json!("10.1.0.1/16")]),
        &[
            "spec.ingress[0].ports[0].endPort: Invalid value: 4: must be greater than or equal to `port`",
            "spec.ingress[0].ports[1].endPort: Invalid value: 4: may not be specified when `port` is not specified",
            "spec.ingress[0].ports[2].endPort: Invalid value: 5: may not be specified when `port` is non-numeric",
            "spec.ingress[0].from[0]: Required value: must specify a peer",
            "spec.ingress[0].from[1].ipBlock.cidr: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            "spec.ingress[0].from[2].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
            "spec.ingress[0].from[2]: Forbidden: may not specify both ipBlock and another peer",
            "spec.policyTypes[1]: Unsupported value: \"X\": supported values: \"Ingress\", \"Egress\"",
        ],
    );
}

#[test]
fn service_networks_can_only_get_a_second_family() {
    let check = |cidrs: Value| {
        let mut errors = Errors::default();
        cidr::networks(&json!({"cidrs": cidrs}), &mut errors);
        errors.0
    };
    told(check(json!(["10.0.0.0/24", "2001:db8::/64"])), &[]);
    told(check(json!([])), &["spec.cidrs: Required value: at least one CIDR required"]);
    told(
        check(json!(["10.0.0.0/24", "10.1.0.0/24"])),
        &[
            "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ],
    );
    let change = |new: Value| cidr::changed(&json!({"cidrs": new}), &json!({"cidrs": ["10.0.0.0/24"]}));
    told(change(json!(["10.0.0.0/24", "2001:db8::/64"])), &[]);
    told(
        change(json!(["10.1.0.0/24"])),
        &["spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable"],
    );
    told(cidr::parent(&json!({"resource": "services"})), &["spec.parentRef.name: Required value"]);
    told(cidr::parent(&Value::Null), &["spec.parentRef: Required value"]);
}
