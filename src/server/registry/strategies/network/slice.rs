//! EndpointSlices: `pkg/apis/discovery/validation`, `pkg/registry/discovery/endpointslice`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategies::check::{Errors, IMMUTABLE, indexed, is_empty, items, text};
use crate::server::registry::strategies::ip::address_warning;
use crate::server::registry::strategy::{Context, Strategy};

/// The strategy of EndpointSlices.
pub struct SliceStrategy;

const FAMILIES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_LABELS: usize = 16;
const MOST_HINTS: usize = 8;

impl Strategy for SliceStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["metadata"]["generation"] = json!(1);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(object)
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
        let changed = ["endpoints", "ports", "addressType"].iter().any(|f| new[*f] != old[*f])
            || new["metadata"]["labels"] != old["metadata"]["labels"];
        new["metadata"]["generation"] = json!(generation + i64::from(changed));
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate(new);
        if new["addressType"] != old["addressType"] {
            let value = new["addressType"].clone();
            errors.push(FieldError::invalid(&Path::new("addressType"), value, IMMUTABLE));
        }
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        if text(&object["addressType"]) == "FQDN" {
            let what = "spec.addressType: FQDN endpoints are deprecated";
            warnings.push(what.to_owned());
        }
        for (endpoint, path) in indexed(&object["endpoints"], &Path::new("endpoints")) {
            let addresses = indexed(&endpoint["addresses"], &path.child("addresses"));
            warnings.extend(addresses.filter_map(|(address, path)| address_warning(&path, text(address))));
        }
        warnings
    }
}

pub(super) fn validate(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.one_of(&Path::new("addressType"), &object["addressType"], &FAMILIES);
    let all = items(&object["endpoints"]).len();
    if all > MOST_ENDPOINTS {
        errors.push(FieldError::too_many(&Path::new("endpoints"), all, MOST_ENDPOINTS));
    } else {
        for (endpoint, path) in indexed(&object["endpoints"], &Path::new("endpoints")) {
            validate_endpoint(endpoint, text(&object["addressType"]), &path, &mut errors);
        }
    }
    ports(object, &mut errors);
    errors.0
}

fn validate_endpoint(endpoint: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let (at, count) = (path.child("addresses"), items(&endpoint["addresses"]).len());
    if count == 0 {
        errors.push(FieldError::required(&at, "must contain at least 1 address"));
    } else if count > MOST_ADDRESSES {
        errors.push(FieldError::too_many(&at, count, MOST_ADDRESSES));
    }
    for (address, path) in indexed(&endpoint["addresses"], &at) {
        address_of(address, kind, &path, errors);
    }
    if let Some(node) = endpoint["nodeName"].as_str() {
        let wrong = names::dns1123_subdomain(node);
        errors.invalid_all(&path.child("nodeName"), &endpoint["nodeName"], wrong);
    }
    let (topology, at) = (&endpoint["deprecatedTopology"], path.child("deprecatedTopology"));
    let labels = topology.as_object().map_or(0, serde_json::Map::len);
    if labels > MOST_LABELS {
        errors.push(FieldError::too_many(&at, labels, MOST_LABELS));
    }
    errors.labels(&at, topology);
    if !endpoint["hostname"].is_null() {
        let wrong = names::dns1123_label(text(&endpoint["hostname"]));
        errors.invalid_all(&path.child("hostname"), &endpoint["hostname"], wrong);
    }
    for list in ["forZones", "forNodes"] {
        hints(&endpoint["hints"][list], list == "forZones", &path.child("hints").child(list), errors);
    }
}

fn address_of(address: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let wrong = match kind {
        "IPv4" => "must be an IPv4 address",
        "IPv6" => "must be an IPv6 address",
        "FQDN" => return full_name(address, path, errors),
        _ => return,
    };
    if !errors.address(path, address, &[]) {
        return;
    }
    let is_ipv4 = text(address).parse::<IpAddr>().is_ok_and(|a| a.is_ipv4());
    if is_ipv4 != (kind == "IPv4") {
        errors.push(FieldError::invalid(path, address.clone(), wrong));
    }
    errors.endpoint_address(path, address);
}

/// `IsFullyQualifiedDomainName`: several labels, a dot at the end or none.
fn full_name(name: &Value, path: &Path, errors: &mut Errors) {
    if is_empty(name) {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let trimmed = text(name).strip_suffix('.').unwrap_or(text(name));
    let wrong = names::dns1123_subdomain(trimmed);
    if !wrong.is_empty() {
        errors.invalid_all(path, &trimmed.into(), wrong);
    } else if !trimmed.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, trimmed, detail));
    }
}

fn hints(list: &Value, labels: bool, path: &Path, errors: &mut Errors) {
    if items(list).len() > MOST_HINTS {
        errors.push(FieldError::too_many(path, items(list).len(), MOST_HINTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (hint, path) in indexed(list, path) {
        let at = path.child("name");
        if !seen.insert(text(&hint["name"])) {
            errors.push(FieldError::duplicate(&at, hint["name"].clone()));
        }
        let rule = if labels { names::label_value } else { names::dns1123_subdomain };
        errors.invalid_all(&at, &hint["name"], rule(text(&hint["name"])));
    }
}

fn ports(object: &Value, errors: &mut Errors) {
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
        if let Some(protocol) = port["appProtocol"].as_str() {
            let wrong = names::qualified_name(protocol);
            errors.invalid_all(&path.child("appProtocol"), &port["appProtocol"], wrong);
        }
    }
}
