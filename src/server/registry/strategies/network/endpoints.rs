//! Endpoints: `ValidateEndpoints`.

use serde_json::{Value, json};

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, same, text};
use crate::server::registry::strategy::{Context, Strategy};

/// The strategy of Endpoints.
pub struct EndpointsStrategy;

impl Strategy for EndpointsStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(object, None)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        validate(new, Some(old))
    }
}

const CHANGED_AT: &str = "endpoints.kubernetes.io/last-change-trigger-time";

pub(super) fn validate(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if let Some(time) = object["metadata"]["annotations"].get(CHANGED_AT)
        && text(time).parse::<jiff::Timestamp>().is_err()
    {
        let path = Path::new("annotations").child(CHANGED_AT);
        let detail = "must be a valid RFC3339 timestamp";
        errors.push(FieldError::invalid(&path, time.clone(), detail));
    }
    // What was valid once stays.
    if old.is_some_and(|old| same(&old["subsets"], &object["subsets"])) {
        return errors.0;
    }
    for (subset, path) in indexed(&object["subsets"], &Path::new("subsets")) {
        if is_empty(&subset["addresses"]) && is_empty(&subset["notReadyAddresses"]) {
            errors.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (address, path) in indexed(&subset[list], &path.child(list)) {
                back_end(address, &path, &mut errors);
            }
        }
        let many = items(&subset["ports"]).len() > 1;
        for (port, path) in indexed(&subset["ports"], &path.child("ports")) {
            port_of(port, many, &path, &mut errors);
        }
    }
    errors.0
}

fn back_end(address: &Value, path: &Path, errors: &mut Errors) {
    let (ip, at) = (json!(text(&address["ip"])), path.child("ip"));
    errors.address(&at, &ip, &[]);
    errors.optionally_named(&path.child("hostname"), &address["hostname"], names::dns1123_label);
    if let Some(node) = address["nodeName"].as_str() {
        let wrong = names::dns1123_subdomain(node);
        errors.invalid_all(&path.child("nodeName"), &address["nodeName"], wrong);
    }
    errors.endpoint_address(&at, &ip);
}

fn port_of(port: &Value, named: bool, path: &Path, errors: &mut Errors) {
    if named {
        errors.required(&path.child("name"), &port["name"]);
    }
    errors.optionally_named(&path.child("name"), &port["name"], names::dns1123_label);
    let number = port["port"].as_i64().unwrap_or_default();
    errors.invalid_all(&path.child("port"), &json!(number), names::port_number(number));
    errors.one_of(&path.child("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
    if let Some(protocol) = port["appProtocol"].as_str() {
        let wrong = names::qualified_name(protocol);
        errors.invalid_all(&path.child("appProtocol"), &port["appProtocol"], wrong);
    }
}
