//! What concerns the network of a pod: host ports, DNS, host names, aliases.

use serde_json::Value;

use super::Scope;
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};

const NAMESERVERS: usize = 3;
const SEARCH_PATHS: usize = 32;
const SEARCH_CHARACTERS: usize = 2048;
/// The longest host name that Linux takes.
const HOSTNAME: usize = 64;

/// On the host's network a container's port is the host's. A template need not say so.
pub fn host_ports(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    if !scope.flag("hostNetwork") {
        return;
    }
    for (container, path) in indexed(&scope.spec["containers"], &path.child("containers")) {
        for (port, path) in indexed(&container["ports"], &path.child("ports")) {
            let host = port["hostPort"].as_i64().unwrap_or_default();
            let number = port["containerPort"].as_i64().unwrap_or_default();
            if (scope.pod.is_some() || host != 0) && host != number {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&path.child("hostPort"), host, detail));
            }
        }
    }
}

/// `validatePodDNSConfig`
pub fn dns_config(spec: &Value, path: &Path, errors: &mut Errors) {
    let config = &spec["dnsConfig"];
    let servers = items(&config["nameservers"]);
    if text(&spec["dnsPolicy"]) == "None" {
        if config.is_null() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            return errors.push(FieldError::required(path, detail));
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.push(FieldError::required(&path.child("nameservers"), detail));
        }
    }
    let at = path.child("nameservers");
    if servers.len() > NAMESERVERS {
        let detail = format!("must not have more than {NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(&at, config["nameservers"].clone(), detail));
    }
    for (server, path) in indexed(&config["nameservers"], &at) {
        ip(&path, server, errors);
    }
    searches(&config["searches"], &path.child("searches"), errors);
    for (option, path) in indexed(&config["options"], &path.child("options")) {
        if is_empty(&option["name"]) {
            errors.push(FieldError::required(&path, "must not be empty"));
        }
    }
}

fn searches(list: &Value, path: &Path, errors: &mut Errors) {
    let all: Vec<&str> = items(list).iter().map(text).collect();
    if all.len() > SEARCH_PATHS {
        let detail = format!("must not have more than {SEARCH_PATHS} search paths");
        errors.push(FieldError::invalid(path, list.clone(), detail));
    }
    if all.join(" ").len() > SEARCH_CHARACTERS {
        let detail = format!(
            "must not have more than {SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(path, list.clone(), detail));
    }
    for (search, path) in indexed(list, path) {
        if text(search) != "." {
            let name = text(search).strip_suffix('.').unwrap_or(text(search));
            errors.invalid_all(&path, &name.into(), names::dns1123_subdomain_with_underscore(name));
        }
    }
}

/// An address must be one.
pub fn ip(path: &Path, value: &Value, errors: &mut Errors) {
    if text(value).parse::<std::net::IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid(path, value.clone(), detail));
    }
}

/// `ValidateHostAliases`
pub fn host_aliases(spec: &Value, path: &Path, errors: &mut Errors) {
    for (alias, path) in indexed(&spec["hostAliases"], path) {
        ip(&path.child("ip"), &alias["ip"], errors);
        for (name, path) in indexed(&alias["hostnames"], &path.child("hostnames")) {
            errors.invalid_all(&path, name, names::dns1123_subdomain(text(name)));
        }
    }
}

/// The name a pod sees as its own, whatever DNS calls it.
pub fn hostname_override(spec: &Value, path: &Path, errors: &mut Errors) {
    let name = &spec["hostnameOverride"];
    if name.is_null() {
        return;
    }
    errors.invalid_all(path, name, names::dns1123_subdomain(text(name)));
    if text(name).len() > HOSTNAME {
        errors.push(FieldError::too_long(path, HOSTNAME));
    }
    for field in ["setHostnameAsFQDN", "hostNetwork"] {
        if spec[field] == true {
            let detail = format!("cannot be set when `{field}` is true");
            errors.push(FieldError::forbidden(path, detail));
        }
    }
}
