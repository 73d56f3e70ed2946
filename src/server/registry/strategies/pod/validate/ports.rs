//! Ports of containers: `validateContainerPorts`, `AccumulateUniqueHostPorts`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, text};

/// What is wrong with the ports of one container.
pub fn validate(ports: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (port, path) in indexed(ports, path) {
        let (name, at) = (text(&port["name"]), path.child("name"));
        if !name.is_empty() {
            let reasons = names::port_name(name);
            if reasons.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(&at, name));
            }
            errors.invalid_all(&at, &port["name"], reasons);
        }
        let (number, at) = (port["containerPort"].as_i64().unwrap_or_default(), path.child("containerPort"));
        match number {
            0 => errors.push(FieldError::required(&at, "")),
            _ => errors.invalid_all(&at, &port["containerPort"], names::port_number(number)),
        }
        let host = port["hostPort"].as_i64().unwrap_or_default();
        if host != 0 {
            errors.invalid_all(&path.child("hostPort"), &port["hostPort"], names::port_number(host));
        }
        errors.one_of(&path.child("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
    }
}

/// What is wrong with a container that takes a port of the host that is taken.
pub fn host_conflicts(container: &Value, path: &Path, taken: &mut BTreeSet<String>, errors: &mut Errors) {
    for (port, path) in indexed(&container["ports"], &path.child("ports")) {
        let number = port["hostPort"].as_i64().unwrap_or_default();
        let key = format!("{}/{}/{number}", text(&port["protocol"]), text(&port["hostIP"]));
        if number != 0 && !taken.insert(key.clone()) {
            errors.push(FieldError::duplicate(&path.child("hostPort"), key));
        }
    }
}
