//! NetworkPolicies: `pkg/apis/networking/validation`.

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, items, text};
use crate::server::registry::strategies::ip::{Network, network_warning};
use crate::server::registry::strategies::selector;
use crate::server::registry::strategy::{Context, Strategy};

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// The strategy of NetworkPolicies.
pub struct PolicyStrategy;

impl Strategy for PolicyStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(&object["spec"], &[])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let before: Vec<Value> =
            blocks(&old["spec"]).into_iter().flat_map(|(block, _)| cidrs(block)).collect();
        validate(&new["spec"], &before)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        for (block, path) in blocks(&object["spec"]) {
            warnings.extend(network_warning(&path.child("cidr"), text(&block["cidr"])));
            let except = indexed(&block["except"], &path.child("except"));
            warnings.extend(except.filter_map(|(cidr, path)| network_warning(&path, text(cidr))));
        }
        warnings
    }
}

/// Every `ipBlock` of a spec.
fn blocks(spec: &Value) -> Vec<(&Value, Path)> {
    let mut found = Vec::new();
    for (direction, peers) in DIRECTIONS {
        for (rule, path) in indexed(&spec[direction], &Path::new("spec").child(direction)) {
            let here = indexed(&rule[peers], &path.child(peers));
            found.extend(here.map(|(peer, path)| (&peer["ipBlock"], path.child("ipBlock"))));
        }
    }
    found.retain(|(block, _)| !block.is_null());
    found
}

fn cidrs(block: &Value) -> Vec<Value> {
    std::iter::once(&block["cidr"]).chain(items(&block["except"])).cloned().collect()
}

/// What is wrong with a spec; networks that were there before may stay.
pub(super) fn validate(spec: &Value, before: &[Value]) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    selector::validate(&spec["podSelector"], &path.child("podSelector"), &mut errors);
    for (direction, peers) in DIRECTIONS {
        for (rule, path) in indexed(&spec[direction], &path.child(direction)) {
            for (port, path) in indexed(&rule["ports"], &path.child("ports")) {
                ports(port, &path, &mut errors);
            }
            for (item, path) in indexed(&rule[peers], &path.child(peers)) {
                peer(item, before, &path, &mut errors);
            }
        }
    }
    let at = path.child("policyTypes");
    if items(&spec["policyTypes"]).len() > 2 {
        let detail = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(&at, spec["policyTypes"].clone(), detail));
        return errors.0;
    }
    for (kind, path) in indexed(&spec["policyTypes"], &at) {
        if !matches!(text(kind), "Ingress" | "Egress") {
            errors.push(FieldError::not_supported(&path, kind.clone(), &["Ingress", "Egress"]));
        }
    }
    errors.0
}

fn ports(port: &Value, path: &Path, errors: &mut Errors) {
    if let Some(protocol) = port["protocol"].as_str().filter(|p| !PROTOCOLS.contains(p)) {
        errors.push(FieldError::not_supported(&path.child("protocol"), protocol, &PROTOCOLS));
    }
    let (end, at) = (&port["endPort"], path.child("endPort"));
    let ends = |detail: &str| FieldError::invalid(&at, end.clone(), detail);
    match &port["port"] {
        Value::Null => {
            if !end.is_null() {
                errors.push(ends("may not be specified when `port` is not specified"));
            }
        }
        Value::String(name) => {
            if !end.is_null() {
                errors.push(ends("may not be specified when `port` is non-numeric"));
            }
            errors.invalid_all(&path.child("port"), &port["port"], names::port_name(name));
        }
        first => {
            let first = first.as_i64().unwrap_or_default();
            errors.invalid_all(&path.child("port"), &port["port"], names::port_number(first));
            if let Some(last) = end.as_i64() {
                if last < first {
                    errors.push(ends("must be greater than or equal to `port`"));
                }
                errors.invalid_all(&at, end, names::port_number(last));
            }
        }
    }
}

fn peer(peer: &Value, before: &[Value], path: &Path, errors: &mut Errors) {
    for field in ["podSelector", "namespaceSelector"] {
        selector::validate(&peer[field], &path.child(field), errors);
    }
    if !peer["ipBlock"].is_null() {
        block(&peer["ipBlock"], before, &path.child("ipBlock"), errors);
    }
    let fields = ["podSelector", "namespaceSelector", "ipBlock"];
    let given = fields.into_iter().filter(|f| !peer[*f].is_null()).count();
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a peer"));
    } else if given > 1 && !peer["ipBlock"].is_null() {
        errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
    }
}

fn block(block: &Value, before: &[Value], path: &Path, errors: &mut Errors) {
    let at = path.child("cidr");
    if !errors.required(&at, &block["cidr"]) {
        return;
    }
    errors.network(&at, &block["cidr"], before);
    let Some(whole) = Network::parse(text(&block["cidr"])) else { return };
    for (except, path) in indexed(&block["except"], &path.child("except")) {
        errors.network(&path, except, before);
        if Network::parse(text(except)).is_some_and(|part| !whole.holds(part)) {
            let detail = "must be a strict subset of `cidr`";
            errors.push(FieldError::invalid(&path, except.clone(), detail));
        }
    }
}
