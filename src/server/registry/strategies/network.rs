//! Endpoints, EndpointSlices, Ingresses and NetworkPolicies.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::check::{Errors, IMMUTABLE, indexed, is_empty, items, text};
use super::pod::validate::ip;
use super::selector;
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy, defaults};

/// The strategy of Endpoints.
pub struct EndpointsStrategy;

impl Strategy for EndpointsStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        endpoints(object)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        endpoints(new)
    }
}

fn endpoints(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    for (subset, path) in indexed(&object["subsets"], &Path::new("subsets")) {
        if is_empty(&subset["addresses"]) && is_empty(&subset["notReadyAddresses"]) {
            errors.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (address, path) in indexed(&subset[list], &path.child(list)) {
                endpoint_address(&address["ip"], &path.child("ip"), &mut errors);
                errors.optionally_named(&path.child("hostname"), &address["hostname"], names::dns1123_label);
            }
        }
        let many = items(&subset["ports"]).len() > 1;
        for (port, path) in indexed(&subset["ports"], &path.child("ports")) {
            if many {
                errors.required(&path.child("name"), &port["name"]);
            }
            errors.optionally_named(&path.child("name"), &port["name"], names::dns1123_label);
            let number = port["port"].as_i64().unwrap_or_default();
            errors.invalid_all(&path.child("port"), &json!(number), names::port_number(number));
            errors.one_of(&path.child("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
        }
    }
    errors.0
}

/// An address of a back end, which is neither this machine's own nor many machines'.
fn endpoint_address(value: &Value, path: &Path, errors: &mut Errors) {
    ip(path, value, errors);
    let Ok(address) = text(value).parse::<IpAddr>() else { return };
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let reasons = [
        (address.is_unspecified(), "may not be unspecified (0.0.0.0 or ::)"),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (address.is_multicast(), "may not be in the multicast range (224.0.0.0/4, ff00::/10)"),
    ];
    errors.invalid_all(path, value, reasons.into_iter().filter(|(is, _)| *is).map(|(_, why)| why.to_owned()));
}

/// The strategy of EndpointSlices.
pub struct SliceStrategy;

const FAMILIES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const MOST_ENDPOINTS: usize = 1000;
const MOST_PORTS: usize = 20_000;

impl Strategy for SliceStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["metadata"]["generation"] = json!(1);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        slice(object)
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
        let changed = ["endpoints", "ports", "addressType"].iter().any(|f| new[*f] != old[*f])
            || new["metadata"]["labels"] != old["metadata"]["labels"];
        new["metadata"]["generation"] = json!(generation + i64::from(changed));
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = slice(new);
        if new["addressType"] != old["addressType"] {
            errors.push(FieldError::invalid(
                &Path::new("addressType"),
                new["addressType"].clone(),
                IMMUTABLE,
            ));
        }
        errors
    }
}

fn slice(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.one_of(&Path::new("addressType"), &object["addressType"], &FAMILIES);
    let kind = text(&object["addressType"]);
    let all = items(&object["endpoints"]).len();
    if all > MOST_ENDPOINTS {
        errors.push(FieldError::too_many(&Path::new("endpoints"), all, MOST_ENDPOINTS));
        return errors.0;
    }
    for (endpoint, path) in indexed(&object["endpoints"], &Path::new("endpoints")) {
        let at = path.child("addresses");
        if items(&endpoint["addresses"]).is_empty() {
            errors.push(FieldError::required(&at, "must contain at least 1 address"));
        }
        for (address, path) in indexed(&endpoint["addresses"], &at) {
            match (kind, text(address).parse::<IpAddr>()) {
                ("FQDN", _) => errors.invalid_all(&path, address, names::dns1123_subdomain(text(address))),
                ("IPv4", Ok(IpAddr::V6(_)) | Err(_)) => {
                    errors.push(FieldError::invalid(&path, address.clone(), "must be a valid IPv4 address"));
                }
                ("IPv6", Ok(IpAddr::V4(_)) | Err(_)) => {
                    errors.push(FieldError::invalid(&path, address.clone(), "must be a valid IPv6 address"));
                }
                ("IPv4" | "IPv6", Ok(_)) => endpoint_address(address, &path, &mut errors),
                _ => {}
            }
        }
        errors.optionally_named(&path.child("hostname"), &endpoint["hostname"], names::dns1123_label);
    }
    slice_ports(object, &mut errors);
    errors.0
}

fn slice_ports(object: &Value, errors: &mut Errors) {
    let all = items(&object["ports"]).len();
    if all > MOST_PORTS {
        errors.push(FieldError::too_many(&Path::new("ports"), all, MOST_PORTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (port, path) in indexed(&object["ports"], &Path::new("ports")) {
        let name = text(&port["name"]);
        errors.optionally_named(&path.child("name"), &port["name"], names::dns1123_label);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        errors.one_of(&path.child("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
    }
}

/// The strategy of Ingresses.
pub struct IngressStrategy;

impl Strategy for IngressStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        defaults::prepare_create(object);
        object["status"] = json!({"loadBalancer": {}});
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        ingress(&object["spec"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        ingress(&new["spec"])
    }
}

fn ingress(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    if is_empty(&spec["rules"]) && spec["defaultBackend"].is_null() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&path, json!([]), detail));
    }
    if !spec["defaultBackend"].is_null() {
        backend(&spec["defaultBackend"], &path.child("defaultBackend"), &mut errors);
    }
    for (rule, path) in indexed(&spec["rules"], &path.child("rules")) {
        let host = text(&rule["host"]);
        if host.contains('*') {
            errors.invalid_all(&path.child("host"), &rule["host"], names::wildcard_dns1123_subdomain(host));
        } else if host.parse::<IpAddr>().is_ok() {
            errors.push(FieldError::invalid(
                &path.child("host"),
                host,
                "must be a DNS name, not an IP address",
            ));
        } else {
            errors.optionally_named(&path.child("host"), &rule["host"], names::dns1123_subdomain);
        }
        let at = path.child("http").child("paths");
        if !rule["http"].is_null() && is_empty(&rule["http"]["paths"]) {
            errors.push(FieldError::required(&at, ""));
        }
        for (item, path) in indexed(&rule["http"]["paths"], &at) {
            ingress_path(item, &path, &mut errors);
        }
    }
    errors.optionally_named(
        &path.child("ingressClassName"),
        &spec["ingressClassName"],
        names::dns1123_subdomain,
    );
    errors.0
}

fn ingress_path(item: &Value, path: &Path, errors: &mut Errors) {
    const BAD: [&str; 7] = ["//", "/./", "/../", "%2f", "%2F", "/..", "/."];
    let (value, at) = (&item["path"], path.child("path"));
    let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
    match text(&item["pathType"]) {
        "" => errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified")),
        "Exact" | "Prefix" => {
            if !text(value).starts_with('/') {
                errors.push(FieldError::invalid(&at, value.clone(), "must be an absolute path"));
            }
            let wrong = |bad: &&&str| {
                if bad.ends_with('.') { text(value).ends_with(**bad) } else { text(value).contains(**bad) }
            };
            if let Some(bad) = BAD.iter().find(wrong) {
                let detail = if bad.ends_with('.') {
                    format!("cannot end with '{bad}'")
                } else {
                    format!("must not contain '{bad}'")
                };
                errors.push(FieldError::invalid(&at, value.clone(), detail));
            }
        }
        "ImplementationSpecific" => {
            if !text(value).is_empty() && !text(value).starts_with('/') {
                errors.push(FieldError::invalid(&at, value.clone(), "must be an absolute path"));
            }
        }
        other => errors.push(FieldError::not_supported(&path.child("pathType"), other, &kinds)),
    }
    backend(&item["backend"], &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &Path, errors: &mut Errors) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_null(), resource.is_null()) {
        (true, true) => errors.push(FieldError::required(path, "resource or service backend is required")),
        (false, false) => {
            let detail = "cannot set both resource and service backends";
            errors.push(FieldError::invalid(path, "", detail));
        }
        (false, true) => {
            let at = path.child("service");
            errors.named(&at.child("name"), &service["name"], names::dns1035_label);
            let (name, number) =
                (&service["port"]["name"], service["port"]["number"].as_i64().unwrap_or_default());
            match (is_empty(name), number) {
                (true, 0) => errors.push(FieldError::required(path, "port name or number is required")),
                (false, 0) => {
                    errors.invalid_all(&at.child("port").child("name"), name, names::port_name(text(name)))
                }
                (true, n) => {
                    errors.invalid_all(&at.child("port").child("number"), &json!(n), names::port_number(n))
                }
                (false, _) => {
                    errors.push(FieldError::invalid(path, "", "cannot set both port name & port number"))
                }
            }
        }
        (true, false) => {
            let at = path.child("resource");
            errors.required(&at.child("kind"), &resource["kind"]);
            errors.required(&at.child("name"), &resource["name"]);
        }
    }
}

/// The strategy of NetworkPolicies.
pub struct PolicyStrategy;

impl Strategy for PolicyStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        policy(&object["spec"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        policy(&new["spec"])
    }
}

fn policy(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    selector::validate(&spec["podSelector"], &path.child("podSelector"), &mut errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (rule, path) in indexed(&spec[direction], &path.child(direction)) {
            for (port, path) in indexed(&rule["ports"], &path.child("ports")) {
                errors.optionally_one_of(&path.child("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
                if !port["port"].is_null() {
                    errors.port(&path.child("port"), &port["port"]);
                }
                range_of_ports(port, &path, &mut errors);
            }
            for (peer, path) in indexed(&rule[peers], &path.child(peers)) {
                policy_peer(peer, &path, &mut errors);
            }
        }
    }
    if items(&spec["policyTypes"]).len() > 2 {
        let detail = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(&path.child("policyTypes"), spec["policyTypes"].clone(), detail));
    }
    for (kind, path) in indexed(&spec["policyTypes"], &path.child("policyTypes")) {
        errors.optionally_one_of(&path, kind, &["Egress", "Ingress"]);
    }
    errors.0
}

fn range_of_ports(port: &Value, path: &Path, errors: &mut Errors) {
    let (end, at) = (&port["endPort"], path.child("endPort"));
    let Some(last) = end.as_i64() else { return };
    match &port["port"] {
        Value::Null => errors
            .push(FieldError::required(&path.child("port"), "may not be empty when `endPort` is specified")),
        Value::Number(first) if first.as_i64().is_some_and(|first| last < first) => {
            errors.push(FieldError::invalid(&at, end.clone(), "must be greater than or equal to `port`"));
        }
        Value::String(_) => {
            errors.push(FieldError::invalid(
                &at,
                end.clone(),
                "may not be specified when `port` is non-numeric",
            ));
        }
        _ => {}
    }
}

fn policy_peer(peer: &Value, path: &Path, errors: &mut Errors) {
    let given =
        ["podSelector", "namespaceSelector", "ipBlock"].into_iter().filter(|f| !peer[*f].is_null()).count();
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a peer"));
    } else if given > 1 && !peer["ipBlock"].is_null() {
        errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
    }
    for field in ["podSelector", "namespaceSelector"] {
        selector::validate(&peer[field], &path.child(field), errors);
    }
    let (cidr, at) = (&peer["ipBlock"]["cidr"], path.child("ipBlock").child("cidr"));
    if !peer["ipBlock"].is_null() && errors.required(&at, cidr) {
        let ok = text(cidr).split_once('/').is_some_and(|(ip, bits)| {
            ip.parse::<IpAddr>()
                .is_ok_and(|ip| bits.parse::<u8>().is_ok_and(|b| b <= if ip.is_ipv4() { 32 } else { 128 }))
        });
        if !ok {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(&at, cidr.clone(), detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn back_ends_have_addresses_that_can_be_reached() {
        let slice_of = |kind: &str, address: &str| json!({"addressType": kind, "endpoints": [{"addresses": [address]}], "ports": []});
        assert_eq!(texts(slice(&slice_of("IPv4", "10.0.0.1"))), [] as [&str; 0]);
        assert_eq!(
            texts(slice(&slice_of("IPv4", "::1"))),
            ["endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address"]
        );
        assert_eq!(
            texts(slice(&slice_of("IPv4", "127.0.0.1"))),
            [
                "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
            ]
        );
        assert_eq!(
            texts(endpoints(&json!({"subsets": [{"ports": [{"port": 0, "protocol": "TCP"}]}]}))),
            [
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"
            ]
        );
    }

    #[test]
    fn an_ingress_leads_somewhere() {
        let path = |kind: &str, path: &str| {
            json!({"rules": [{"host": "a.example", "http": {"paths": [{"pathType": kind, "path": path,
                "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]})
        };
        assert_eq!(texts(ingress(&path("Prefix", "/"))), [] as [&str; 0]);
        assert_eq!(
            texts(ingress(&path("Exact", "x"))),
            ["spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path"]
        );
        assert_eq!(
            texts(ingress(&json!({}))),
            ["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"]
        );
        assert_eq!(
            texts(ingress(&json!({"defaultBackend": {"service": {"name": "web", "port": {}}}}))),
            ["spec.defaultBackend: Required value: port name or number is required"]
        );
    }

    #[test]
    fn policies_name_ports_and_peers() {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "X"], "ingress": [{
            "ports": [{"protocol": "TCP", "port": 5, "endPort": 4}], "from": [{}, {"ipBlock": {"cidr": "10.0.0.0/33"}}]}]});
        assert_eq!(
            texts(policy(&spec)),
            [
                "spec.ingress[0].ports[0].endPort: Invalid value: 4: must be greater than or equal to `port`",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1].ipBlock.cidr: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                "spec.policyTypes[1]: Unsupported value: \"X\": supported values: \"Egress\", \"Ingress\""
            ]
        );
    }
}
