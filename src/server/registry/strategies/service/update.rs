//! What of a Service may change: `ValidateServiceUpdate`, `ValidateServiceStatusUpdate`.

use std::net::IpAddr;

use serde_json::Value;

use super::ports::needs_health_port;
use super::{is_headless, needs_address};
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, IMMUTABLE, indexed, is_empty, items, same, text};

const STAYS: &str = "may not change once set";

/// What is wrong with the change of a spec.
pub fn service(spec: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    if needs_address(spec) && needs_address(old) {
        addresses(spec, old, &path, &mut errors);
        families(spec, old, &path, &mut errors);
    }
    let balanced = [spec, old].iter().all(|s| text(&s["type"]) == "LoadBalancer");
    if balanced && !same(&spec["loadBalancerClass"], &old["loadBalancerClass"]) {
        let class = spec["loadBalancerClass"].clone();
        errors.push(FieldError::invalid(&path.child("loadBalancerClass"), class, STAYS));
    }
    let asked = needs_health_port(spec) && needs_health_port(old);
    if asked && spec["healthCheckNodePort"] != old["healthCheckNodePort"] {
        errors.push(FieldError::forbidden(&path.child("healthCheckNodePort"), IMMUTABLE));
    }
    errors.0
}

fn addresses(spec: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if is_headless(spec) && is_headless(old) {
        return;
    }
    let at = path.child("clusterIPs");
    let (now, was) = (items(&spec["clusterIPs"]), items(&old["clusterIPs"]));
    let shown = || spec["clusterIPs"].clone();
    let first_changed = !was.is_empty() && !now.is_empty() && now[0] != was[0];
    if now.len() == was.len() {
        for (index, _) in was.iter().enumerate().filter(|(i, address)| now[*i] != **address) {
            errors.push(FieldError::invalid(&at.index(index), shown(), STAYS));
        }
        return;
    }
    if now.is_empty() {
        errors.push(FieldError::invalid(&at.index(0), shown(), "primary clusterIP can not be unset"));
    }
    if first_changed {
        errors.push(FieldError::invalid(&at.index(0), shown(), STAYS));
    }
    if was.len() > now.len() && now.len() == 1 {
        released(spec, "clusterIP", path, errors);
    }
}

fn families(spec: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if is_headless(spec) || is_headless(old) {
        return;
    }
    let at = path.child("ipFamilies").index(0);
    let (now, was) = (items(&spec["ipFamilies"]), items(&old["ipFamilies"]));
    if now.len() == was.len() {
        for _ in was.iter().zip(now).filter(|(a, b)| a != b) {
            errors.push(FieldError::invalid(&at, spec["ipFamilies"].clone(), STAYS));
        }
        return;
    }
    if was.len() > now.len() && is_empty(&spec["clusterIPs"]) {
        let detail = "primary ipFamily can not be unset";
        errors.push(FieldError::invalid(&at, spec["ipFamilies"].clone(), detail));
    }
    if !now.is_empty() && !was.is_empty() && now[0] != was[0] {
        // Upstream shows the addresses here.
        errors.push(FieldError::invalid(&at, spec["clusterIPs"].clone(), STAYS));
    }
    if was.len() > now.len() && now.len() == 1 {
        released(spec, "ipFamily", path, errors);
    }
}

/// The second of a pair was given up, which the policy must say.
fn released(spec: &Value, what: &str, path: &Path, errors: &mut Errors) {
    let policy = &spec["ipFamilyPolicy"];
    if text(policy) != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), policy.clone(), detail));
    }
}

/// What is wrong with a changed status.
pub fn status(service: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let list = |service: &Value| service["status"]["loadBalancer"]["ingress"].clone();
    let mut errors = Errors::default();
    if text(&service["spec"]["type"]) != "LoadBalancer" && !is_empty(&list(service)) {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(&path, detail));
        return errors.0;
    }
    let before: Vec<Value> = items(&list(old)).iter().map(|i| i["ip"].clone()).collect();
    for (ingress, path) in indexed(&list(service), &path) {
        if is_empty(&ingress["ip"]) && !ingress["ipMode"].is_null() {
            let detail = "may not be specified when `ip` is not set";
            errors.push(FieldError::forbidden(&path.child("ipMode"), detail));
        } else if !is_empty(&ingress["ip"]) {
            errors.address(&path.child("ip"), &ingress["ip"], &before);
            if ingress["ipMode"].is_null() {
                let detail = "must be specified when `ip` is set";
                errors.push(FieldError::required(&path.child("ipMode"), detail));
            }
            errors.optionally_one_of(&path.child("ipMode"), &ingress["ipMode"], &["Proxy", "VIP"]);
        }
        host_name(&path.child("hostname"), &ingress["hostname"], &mut errors);
    }
    errors.0
}

/// The name of a load balancer, which is no address.
pub fn host_name(path: &Path, value: &Value, errors: &mut Errors) {
    errors.optionally_named(path, value, names::dns1123_subdomain);
    if text(value).parse::<IpAddr>().is_ok() {
        errors.push(FieldError::invalid(path, value.clone(), "must be a DNS name, not an IP address"));
    }
}
