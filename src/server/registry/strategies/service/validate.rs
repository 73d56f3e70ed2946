//! What a Service must look like: `ValidateService` of `pkg/apis/core/validation`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{is_headless, needs_address};
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};
use crate::server::registry::strategies::pod::validate::ip;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const LONGEST_AFFINITY: i64 = 86400;

/// All that is wrong with a Service.
pub fn service(service: &Value) -> Vec<FieldError> {
    let (spec, path) = (&service["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    if items(&spec["ports"]).is_empty() && !is_headless(spec) && text(&spec["type"]) != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    by_type(spec, &path, &mut errors);
    ports(spec, &path, &mut errors);
    errors.labels(&path.child("selector"), &spec["selector"]);
    affinity(spec, &path, &mut errors);
    errors.one_of(&path.child("type"), &spec["type"], &TYPES);
    external(spec, &path, &mut errors);
    addresses(spec, &path, &mut errors);
    errors.0
}

fn by_type(spec: &Value, path: &Path, errors: &mut Errors) {
    let headless = path.child("clusterIPs").index(0);
    match text(&spec["type"]) {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&headless, "None", detail));
        }
        "ExternalName" => {
            if !is_empty(&spec["clusterIPs"]) || !is_empty(&spec["clusterIP"]) {
                let detail = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(&path.child("clusterIPs"), detail));
            }
            let (name, at) = (&spec["externalName"], path.child("externalName"));
            let trimmed = text(name).strip_suffix('.').unwrap_or(text(name));
            if trimmed.is_empty() {
                errors.push(FieldError::required(&at, ""));
            } else {
                errors.invalid_all(&at, name, names::dns1123_subdomain(trimmed));
            }
        }
        _ => {}
    }
}

fn ports(spec: &Value, path: &Path, errors: &mut Errors) {
    let many = items(&spec["ports"]).len() > 1;
    let (mut by_name, mut by_number, mut by_node) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (port, path) in indexed(&spec["ports"], &path.child("ports")) {
        let name = &port["name"];
        if many && is_empty(name) {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if !is_empty(name) {
            errors.invalid_all(&path.child("name"), name, names::dns1123_label(text(name)));
            if !by_name.insert(text(name)) {
                errors.push(FieldError::duplicate(&path.child("name"), name.clone()));
            }
        }
        let number = port["port"].as_i64().unwrap_or_default();
        errors.invalid_all(&path.child("port"), &json!(number), names::port_number(number));
        errors.one_of(&path.child("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
        if !port["targetPort"].is_null() {
            errors.port(&path.child("targetPort"), &port["targetPort"]);
        }
        let node = port["nodePort"].as_i64().unwrap_or_default();
        if node != 0 {
            let at = path.child("nodePort");
            let kind = text(&spec["type"]);
            if kind == "ClusterIP" || kind == "ExternalName" {
                errors.push(FieldError::forbidden(&at, format!("may not be used when `type` is '{kind}'")));
            } else if !by_node.insert((text(&port["protocol"]), node)) {
                errors.push(FieldError::duplicate(&at, node));
            }
        }
        if !by_number.insert((text(&port["protocol"]), number)) {
            errors.push(FieldError::duplicate(&path, json!({"port": number, "protocol": port["protocol"]})));
        }
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    errors.one_of(&path.child("sessionAffinity"), &spec["sessionAffinity"], &["ClientIP", "None"]);
    let (config, at) = (&spec["sessionAffinityConfig"], path.child("sessionAffinityConfig"));
    match text(&spec["sessionAffinity"]) {
        "ClientIP" => {
            let seconds = &config["clientIP"]["timeoutSeconds"];
            if seconds.as_i64().is_some_and(|s| !(1..=LONGEST_AFFINITY).contains(&s)) {
                let detail = format!("must be greater than 0 and less than {LONGEST_AFFINITY}");
                errors.push(FieldError::invalid(
                    &at.child("clientIP").child("timeoutSeconds"),
                    seconds.clone(),
                    detail,
                ));
            }
        }
        "None" if !config.is_null() => {
            let detail = "must not be set when session affinity is None";
            errors.push(FieldError::forbidden(&at, detail));
        }
        _ => {}
    }
}

fn external(spec: &Value, path: &Path, errors: &mut Errors) {
    for (address, path) in indexed(&spec["externalIPs"], &path.child("externalIPs")) {
        ip(&path, address, errors);
        if let Ok(parsed) = text(address).parse::<IpAddr>() {
            outside(&path, address, parsed, errors);
        }
    }
    let reachable =
        matches!(text(&spec["type"]), "NodePort" | "LoadBalancer") || !items(&spec["externalIPs"]).is_empty();
    let (policy, at) = (&spec["externalTrafficPolicy"], path.child("externalTrafficPolicy"));
    if !is_empty(policy) && !reachable {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&at, policy.clone(), detail));
    } else if reachable && text(&spec["type"]) != "ClusterIP" && text(&spec["type"]) != "ExternalName" {
        errors.one_of(&at, policy, &["Cluster", "Local"]);
    }
    let internal = &spec["internalTrafficPolicy"];
    errors.optionally_one_of(&path.child("internalTrafficPolicy"), internal, &["Cluster", "Local"]);
}

/// An address that can be outside the cluster.
fn outside(path: &Path, value: &Value, address: IpAddr, errors: &mut Errors) {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let reasons = [
        (address.is_unspecified(), "may not be unspecified (0.0.0.0 or ::)".to_owned()),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (address.is_multicast(), "may not be in the multicast range (224.0.0.0/4, ff00::/10)".to_owned()),
    ];
    errors.invalid_all(path, value, reasons.into_iter().filter(|(is, _)| *is).map(|(_, why)| why));
}

fn addresses(spec: &Value, path: &Path, errors: &mut Errors) {
    if !needs_address(spec) {
        return;
    }
    let at = path.child("clusterIPs");
    if !is_empty(&spec["clusterIP"]) && spec["clusterIPs"][0] != spec["clusterIP"] {
        errors.push(FieldError::invalid(
            &at,
            spec["clusterIPs"].clone(),
            "first value must match `clusterIP`",
        ));
    }
    let headless = is_headless(spec);
    for (index, (address, path)) in indexed(&spec["clusterIPs"], &at).enumerate() {
        if text(address) == "None" {
            if index > 0 {
                errors.push(FieldError::invalid(&path, "None", "'None' must be the first and only value"));
            }
        } else {
            ip(&path, address, errors);
        }
    }
    let selectorless = headless && is_empty(&spec["selector"]);
    if text(&spec["ipFamilyPolicy"]) == "RequireDualStack" && !selectorless {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), "RequireDualStack", detail));
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    errors.optionally_one_of(&path.child("ipFamilyPolicy"), &spec["ipFamilyPolicy"], &policies);
    for (family, path) in indexed(&spec["ipFamilies"], &path.child("ipFamilies")) {
        match text(family) {
            "IPv4" => {}
            "IPv6" if selectorless => {}
            "IPv6" => errors.push(FieldError::invalid(&path, "IPv6", "not configured on this cluster")),
            other => errors.push(FieldError::not_supported(&path, other, &["IPv4", "IPv6"])),
        }
    }
}
