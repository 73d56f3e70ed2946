//! What a Service must look like: `ValidateService` of `pkg/apis/core/validation`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::ports::needs_health_port;
use super::{families, is_headless};
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
const LONGEST_AFFINITY: i64 = 86400;
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// All that is wrong with a Service, which was `old` before.
pub fn service(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (spec, path) = (&service["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    annotations(service, &mut errors);
    if items(&spec["ports"]).is_empty() && !is_headless(spec) && text(&spec["type"]) != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    by_type(spec, &path, &mut errors);
    ports(spec, &path, &mut errors);
    errors.labels(&path.child("selector"), &spec["selector"]);
    affinity(spec, &path, &mut errors);
    families::related(spec, old.map(|o| &o["spec"]), &path, &mut errors);
    external_addresses(spec, old, &path, &mut errors);
    errors.one_of(&path.child("type"), &spec["type"], &TYPES);
    unique_ports(spec, &path, &mut errors);
    load_balancer(service, old, &path, &mut errors);
    traffic(spec, &path, &mut errors);
    errors.0
}

fn annotations(service: &Value, errors: &mut Errors) {
    let annotations = &service["metadata"]["annotations"];
    if let (Some(mode), Some(hints)) = (annotations.get(MODE), annotations.get(HINTS))
        && mode != hints
    {
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        let path = Path::new("metadata").child("annotations").key(MODE);
        errors.push(FieldError::invalid(&path, mode.clone(), detail));
    }
}

fn by_type(spec: &Value, path: &Path, errors: &mut Errors) {
    let headless = path.child("clusterIPs").index(0);
    match text(&spec["type"]) {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&headless, "None", detail));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !is_empty(&spec[field]) {
                    let detail = "may not be set for ExternalName services";
                    errors.push(FieldError::forbidden(&path.child(field), detail));
                }
            }
            let (name, at) = (&spec["externalName"], path.child("externalName"));
            let trimmed = text(name).strip_suffix('.').unwrap_or(text(name));
            if trimmed.is_empty() {
                errors.push(FieldError::required(&at, ""));
            } else {
                errors.invalid_all(&at, &trimmed.into(), names::dns1123_subdomain(trimmed));
            }
        }
        _ => {}
    }
}

fn ports(spec: &Value, path: &Path, errors: &mut Errors) {
    let many = items(&spec["ports"]).len() > 1;
    let mut by_name = BTreeSet::new();
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
        errors.one_of(&path.child("protocol"), &port["protocol"], &PROTOCOLS);
        if !port["targetPort"].is_null() {
            errors.port(&path.child("targetPort"), &port["targetPort"]);
        }
        if let Some(protocol) = port["appProtocol"].as_str() {
            let wrong = names::qualified_name(protocol);
            errors.invalid_all(&path.child("appProtocol"), &port["appProtocol"], wrong);
        }
    }
}

/// Node ports where there may be some; no port twice.
fn unique_ports(spec: &Value, path: &Path, errors: &mut Errors) {
    let (mut by_node, mut by_number) = (BTreeSet::new(), BTreeSet::new());
    let at = path.child("ports");
    let node = |port: &Value| port["nodePort"].as_i64().filter(|n| *n != 0);
    if text(&spec["type"]) == "ClusterIP" {
        for (_, path) in indexed(&spec["ports"], &at).filter(|(port, _)| node(port).is_some()) {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(&path.child("nodePort"), detail));
        }
    }
    for (port, path) in indexed(&spec["ports"], &at) {
        let Some(number) = node(port) else { continue };
        if !by_node.insert((text(&port["protocol"]), number)) {
            errors.push(FieldError::duplicate(&path.child("nodePort"), number));
        }
    }
    for (port, path) in indexed(&spec["ports"], &at) {
        let number = port["port"].as_i64().unwrap_or_default();
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
                let at = at.child("clientIP").child("timeoutSeconds");
                errors.push(FieldError::invalid(&at, seconds.clone(), detail));
            }
        }
        "None" if !config.is_null() => {
            let detail = "must not be set when session affinity is None";
            errors.push(FieldError::forbidden(&at, detail));
        }
        _ => {}
    }
}

fn external_addresses(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    let before = old.map_or(&[][..], |old| items(&old["spec"]["externalIPs"]));
    for (address, path) in indexed(&spec["externalIPs"], &path.child("externalIPs")) {
        if errors.address(&path, address, before) {
            errors.endpoint_address(&path, address);
        }
    }
}

fn load_balancer(service: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let spec = &service["spec"];
    let balanced = text(&spec["type"]) == "LoadBalancer";
    let trimmed = |value: &Value| Value::from(text(value).trim());
    if let Some(annotation) = service["metadata"]["annotations"].get(RANGES)
        && is_empty(&spec["loadBalancerSourceRanges"])
    {
        let at = Path::new("metadata").child("annotations").key(RANGES);
        if !balanced {
            errors.push(FieldError::forbidden(&at, ONLY));
        }
        if old.is_none_or(|old| old["metadata"]["annotations"].get(RANGES) != Some(annotation)) {
            for range in text(annotation).trim().split(',').filter(|r| !r.is_empty()) {
                errors.network(&at, &range.trim().into(), &[]);
            }
        }
    } else if !is_empty(&spec["loadBalancerSourceRanges"]) {
        // Upstream's path has this capital letter.
        let at = path.child("LoadBalancerSourceRanges");
        if !balanced {
            errors.push(FieldError::forbidden(&at, ONLY));
        }
        let before = old.map_or(&[][..], |old| items(&old["spec"]["loadBalancerSourceRanges"]));
        let before: Vec<Value> = before.iter().map(trimmed).collect();
        for (range, path) in indexed(&spec["loadBalancerSourceRanges"], &at) {
            errors.network(&path, &trimmed(range), &before);
        }
    }
    if !spec["allocateLoadBalancerNodePorts"].is_null() && !balanced {
        errors.push(FieldError::forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY));
    }
    let (class, at) = (&spec["loadBalancerClass"], path.child("loadBalancerClass"));
    if !class.is_null() && !balanced {
        errors.push(FieldError::forbidden(&at, ONLY));
    } else if !class.is_null() {
        errors.invalid_all(&at, class, names::qualified_name(text(class)));
    }
}

fn traffic(spec: &Value, path: &Path, errors: &mut Errors) {
    let kind = text(&spec["type"]);
    let reachable = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !is_empty(&spec["externalIPs"]));
    let (policy, at) = (&spec["externalTrafficPolicy"], path.child("externalTrafficPolicy"));
    if reachable {
        errors.one_of(&at, policy, &["Cluster", "Local"]);
    } else if !is_empty(policy) {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&at, policy.clone(), detail));
    }
    let (port, at) = (&spec["healthCheckNodePort"], path.child("healthCheckNodePort"));
    if let Some(number) = port.as_i64().filter(|n| *n != 0) {
        if needs_health_port(spec) {
            errors.invalid_all(&at, port, names::port_number(number));
        } else {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&at, number, detail));
        }
    }
    let (internal, at) = (&spec["internalTrafficPolicy"], path.child("internalTrafficPolicy"));
    if let Some(internal) = internal.as_str()
        && !["Cluster", "Local"].contains(&internal)
    {
        errors.push(FieldError::not_supported(&at, internal, &["Cluster", "Local"]));
    }
    if let Some(distribution) = spec["trafficDistribution"].as_str()
        && !DISTRIBUTIONS.contains(&distribution)
    {
        let at = path.child("trafficDistribution");
        errors.push(FieldError::not_supported(&at, distribution, &DISTRIBUTIONS));
    }
}
