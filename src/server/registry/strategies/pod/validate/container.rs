//! One container: `validateContainerCommon`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{environment, probe};
use crate::api::{FieldError, Path, Quantity, names};
use crate::server::registry::strategies::check::{Errors, entries, indexed, is_empty, text};

/// Which list of the pod a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Main,
    Init,
    Ephemeral,
}

/// What one container must know of the others.
pub struct Context<'a> {
    pub volumes: &'a BTreeSet<String>,
    pub host_network: bool,
    pub names: BTreeSet<String>,
    pub host_ports: BTreeSet<String>,
}

/// Names of resources a container may ask for without a domain.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Fields that containers which only debug may not have.
const NOT_EPHEMERAL: [&str; 7] =
    ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources", "resizePolicy"];

pub fn validate(container: &Value, path: &Path, role: Role, context: &mut Context<'_>, errors: &mut Errors) {
    let name = &container["name"];
    errors.named(&path.child("name"), name, names::dns1123_label);
    if !is_empty(name) && !context.names.insert(text(name).to_owned()) {
        errors.push(FieldError::duplicate(&path.child("name"), name.clone()));
    }
    image(container, path, errors);
    let policies = ["FallbackToLogsOnError", "File"];
    errors.one_of(&path.child("terminationMessagePolicy"), &container["terminationMessagePolicy"], &policies);
    if role == Role::Ephemeral {
        for field in NOT_EPHEMERAL.iter().filter(|f| !is_empty(&container[**f])) {
            errors
                .push(FieldError::forbidden(&path.child(field), "cannot be set for an Ephemeral Container"));
        }
    } else {
        ports(container, path, context, errors);
        probes(container, path, role, errors);
        resources(&container["resources"], &path.child("resources"), errors);
    }
    environment::validate(container, path, errors);
    mounts(container, path, context, errors);
    security(&container["securityContext"], &path.child("securityContext"), errors);
}

fn image(container: &Value, path: &Path, errors: &mut Errors) {
    let (image, at) = (&container["image"], path.child("image"));
    if errors.required(&at, image) && text(image).trim() != text(image) {
        errors.push(FieldError::invalid(&at, image.clone(), "must not have leading or trailing whitespace"));
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    errors.one_of(&path.child("imagePullPolicy"), &container["imagePullPolicy"], &policies);
}

fn ports(container: &Value, path: &Path, context: &mut Context<'_>, errors: &mut Errors) {
    let mut names_seen = BTreeSet::new();
    for (port, path) in indexed(&container["ports"], &path.child("ports")) {
        let name = text(&port["name"]);
        if !name.is_empty() {
            let reasons = names::port_name(name);
            if reasons.is_empty() && !names_seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            errors.invalid_all(&path.child("name"), &port["name"], reasons);
        }
        let number = port["containerPort"].as_i64().unwrap_or_default();
        let at = path.child("containerPort");
        match number {
            0 => errors.push(FieldError::required(&at, "")),
            _ => errors.invalid_all(&at, &port["containerPort"], names::port_number(number)),
        }
        let host = port["hostPort"].as_i64().unwrap_or_default();
        if host != 0 {
            errors.invalid_all(&path.child("hostPort"), &port["hostPort"], names::port_number(host));
            let key = format!("{}/{}/{host}", text(&port["protocol"]), text(&port["hostIP"]));
            if !context.host_ports.insert(key.clone()) {
                errors.push(FieldError::duplicate(&path.child("hostPort"), key));
            }
        }
        if context.host_network && host != number {
            let detail = "must match `hostPort` when `hostNetwork` is true";
            errors.push(FieldError::invalid(&at, port["containerPort"].clone(), detail));
        }
        errors.one_of(&path.child("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
    }
}

fn probes(container: &Value, path: &Path, role: Role, errors: &mut Errors) {
    let sidecar = text(&container["restartPolicy"]) == "Always";
    if role == Role::Init && !sidecar {
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if !is_empty(&container[field]) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(&path.child(field), detail));
            }
        }
        return;
    }
    let grace =
        |field: &str, errors: &mut Errors| probe::validate(&container[field], &path.child(field), errors);
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        grace(field, errors);
    }
    for field in ["livenessProbe", "startupProbe"] {
        let threshold = &container[field]["successThreshold"];
        if threshold.as_i64().is_some_and(|n| n != 1) {
            let at = path.child(field).child("successThreshold");
            errors.push(FieldError::invalid(&at, threshold.clone(), "must be 1"));
        }
    }
    if !container["readinessProbe"]["terminationGracePeriodSeconds"].is_null() {
        let at = path.child("readinessProbe").child("terminationGracePeriodSeconds");
        let value = container["readinessProbe"]["terminationGracePeriodSeconds"].clone();
        errors.push(FieldError::invalid(&at, value, "must not be set for readinessProbes"));
    }
    for hook in ["postStart", "preStop"] {
        let value = &container["lifecycle"][hook];
        if !value.is_null() {
            probe::handler(value, &path.child("lifecycle").child(hook), errors);
        }
    }
}

/// Requests and limits: `ValidateContainerResourceRequirements`.
pub fn resources(resources: &Value, path: &Path, errors: &mut Errors) {
    let limits_at = path.child("limits");
    for (name, value) in entries(&resources["limits"]) {
        resource_name(name, &limits_at.key(name), errors);
        amount(name, value, &limits_at.key(name), errors);
    }
    let requests_at = path.child("requests");
    for (name, value) in entries(&resources["requests"]) {
        resource_name(name, &requests_at.key(name), errors);
        let request = amount(name, value, &requests_at.key(name), errors);
        let limit = resources["limits"].get(name).and_then(|l| text(l).parse::<Quantity>().ok());
        let (Some(request), Some(limit)) = (request, limit) else { continue };
        let detail = if overcommits(name) {
            (request > limit).then(|| format!("must be less than or equal to {name} limit of {limit}"))
        } else {
            (request != limit).then(|| format!("must be equal to {name} limit of {limit}"))
        };
        if let Some(detail) = detail {
            errors.push(FieldError::invalid(&requests_at, request.to_string(), detail));
        }
    }
}

/// More of it may be promised than there is.
fn overcommits(name: &str) -> bool {
    !name.contains('/') && !name.starts_with("hugepages-")
}

/// A resource that a container may ask for.
pub fn resource_name(name: &str, path: &Path, errors: &mut Errors) {
    let reasons = names::qualified_name(name);
    let well_formed = reasons.is_empty();
    errors.invalid_all(path, &name.into(), reasons);
    if well_formed && !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
        let detail = "must be a standard resource for containers";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn amount(name: &str, value: &Value, path: &Path, errors: &mut Errors) -> Option<Quantity> {
    let quantity = errors.quantity(path, value)?;
    let whole = quantity.to_units().checked_mul(1000) == Some(quantity.to_millis());
    if !overcommits(name) && !whole {
        errors.push(FieldError::invalid(path, quantity.to_string(), "must be an integer"));
    }
    Some(quantity)
}

fn mounts(container: &Value, path: &Path, context: &Context<'_>, errors: &mut Errors) {
    let mut places = BTreeSet::new();
    for (mount, path) in indexed(&container["volumeMounts"], &path.child("volumeMounts")) {
        let name = &mount["name"];
        if errors.required(&path.child("name"), name) && !context.volumes.contains(text(name)) {
            errors.push(FieldError::not_found(&path.child("name"), name.clone()));
        }
        let (place, at) = (&mount["mountPath"], path.child("mountPath"));
        if errors.required(&at, place) && !places.insert(text(place)) {
            errors.push(FieldError::invalid(&at, place.clone(), "must be unique"));
        }
        relative(&mount["subPath"], &path.child("subPath"), errors);
        relative(&mount["subPathExpr"], &path.child("subPathExpr"), errors);
        if !is_empty(&mount["subPath"]) && !is_empty(&mount["subPathExpr"]) {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(
                &path.child("subPathExpr"),
                mount["subPathExpr"].clone(),
                detail,
            ));
        }
        let modes = ["Bidirectional", "HostToContainer", "None"];
        errors.optionally_one_of(&path.child("mountPropagation"), &mount["mountPropagation"], &modes);
    }
}

/// A path that stays below where it is used.
pub fn relative(value: &Value, path: &Path, errors: &mut Errors) {
    let text = text(value);
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    no_way_up(value, path, errors);
}

/// A path without `..`.
pub fn no_way_up(value: &Value, path: &Path, errors: &mut Errors) {
    if text(value).split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, text(value), "must not contain '..'"));
    }
}

fn security(context: &Value, path: &Path, errors: &mut Errors) {
    for field in ["runAsUser", "runAsGroup"] {
        errors.within(&path.child(field), &context[field], 0, i64::from(i32::MAX));
    }
    if context["allowPrivilegeEscalation"] == false {
        if context["privileged"] == true {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
        let added = &context["capabilities"]["add"];
        if crate::server::registry::strategies::check::items(added).iter().any(|c| text(c) == "CAP_SYS_ADMIN")
        {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
    }
    errors.optionally_one_of(&path.child("procMount"), &context["procMount"], &["Default", "Unmasked"]);
}
