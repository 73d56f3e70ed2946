//! What clients are warned of: `pkg/api/service/warnings.go`.

use serde_json::Value;

use super::is_headless;
use crate::api::Path;
use crate::server::registry::strategies::check::{indexed, is_empty, text};
use crate::server::registry::strategies::ip::{address_warning, network_warning};

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// The warnings of a Service.
pub fn of(service: &Value) -> Vec<String> {
    let (spec, path) = (&service["spec"], Path::new("spec"));
    let mut warnings = Vec::new();
    if service["metadata"]["annotations"].get(HINTS).is_some() {
        let instead = "service.kubernetes.io/topology-mode";
        warnings.push(format!("annotation {HINTS} is deprecated, please use {instead} instead"));
    }
    let addresses = |field: &str, warnings: &mut Vec<String>| {
        warnings.extend(
            indexed(&spec[field], &path.child(field)).filter_map(|(a, path)| address_warning(&path, text(a))),
        );
    };
    addresses("clusterIPs", &mut warnings);
    if is_headless(spec) {
        for field in ["loadBalancerIP", "externalIPs"].iter().filter(|f| !is_empty(&spec[**f])) {
            warnings.push(format!("spec.{field} is ignored for headless services"));
        }
        if text(&spec["sessionAffinity"]) == "ClientIP" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    addresses("externalIPs", &mut warnings);
    warnings.extend(address_warning(&path.child("loadBalancerIP"), text(&spec["loadBalancerIP"])));
    let ranges = indexed(&spec["loadBalancerSourceRanges"], &path.child("loadBalancerSourceRanges"));
    warnings.extend(ranges.filter_map(|(range, path)| network_warning(&path, text(range))));
    let outside = text(&spec["type"]) == "ExternalName";
    if outside && !is_empty(&spec["externalIPs"]) {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !outside && !is_empty(&spec["externalName"]) {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    warnings
}
