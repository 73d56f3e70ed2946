//! What containers and pods ask for: `ValidateContainerResourceRequirements`, `validatePodResources`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Scope;
use crate::api::pod_requests::{aggregate, quantity};
use crate::api::{FieldError, Path, Quantity, names};
use crate::server::registry::strategies::check::{Errors, entries, indexed, is_empty, items, text};

/// Names without a domain that a container may ask for.
const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Names without a domain that mean something elsewhere, as in quotas.
const ELSEWHERE: [&str; 17] = [
    "configmaps",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];
const HUGE: &str = "hugepages-";

type NameRule = fn(&str, &Path, &mut Errors);

/// Requests, limits and claims of a container.
pub fn validate(resources: &Value, claims: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    requirements(resources, container_name, claims, path, errors);
}

fn requirements(
    resources: &Value,
    name_rule: NameRule,
    claims: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    let (limits_at, requests_at) = (path.child("limits"), path.child("requests"));
    for (name, value) in entries(&resources["limits"]) {
        let at = limits_at.key(name);
        name_rule(name, &at, errors);
        if let Some(limit) = amount(name, value, &at, errors) {
            divisible(name, limit, &at, errors);
        }
    }
    for (name, value) in entries(&resources["requests"]) {
        let at = requests_at.key(name);
        name_rule(name, &at, errors);
        let Some(request) = amount(name, value, &at, errors) else { continue };
        match resources["limits"].get(name).and_then(quantity) {
            Some(limit) if request != limit && !overcommits(name) => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests_at, request.to_string(), detail));
            }
            Some(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests_at, request.to_string(), detail));
            }
            None if !overcommits(name) => {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(&limits_at, detail));
            }
            _ => {}
        }
        divisible(name, request, &at, errors);
    }
    let names =
        || ["limits", "requests"].into_iter().flat_map(|f| entries(&resources[f])).map(|(name, _)| name);
    if names().any(|n| n.starts_with(HUGE)) && !names().any(|n| matches!(n, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
    used_claims(&resources["claims"], claims, &path.child("claims"), errors);
}

fn native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// More of it may be promised than there is.
fn overcommits(name: &str) -> bool {
    native(name) && !name.starts_with(HUGE)
}

fn extended(name: &str) -> bool {
    !native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn resource_name(name: &str, path: &Path, errors: &mut Errors) -> bool {
    let reasons = names::qualified_name(name);
    if !reasons.is_empty() {
        errors.invalid_all(path, &name.into(), reasons);
        return false;
    }
    let standard = OF_CONTAINERS.contains(&name) || ELSEWHERE.contains(&name) || name.starts_with(HUGE);
    let standard = standard || name.starts_with("requests.hugepages-");
    if !name.contains('/') && !standard {
        let detail = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(path, name, detail));
        return false;
    }
    true
}

/// A resource that a container may ask for.
pub fn container_name(name: &str, path: &Path, errors: &mut Errors) {
    resource_name(name, path, errors);
    if !name.contains('/') {
        if !OF_CONTAINERS.contains(&name) && !name.starts_with(HUGE) {
            let detail = "must be a standard resource for containers";
            errors.push(FieldError::invalid(path, name, detail));
        }
    } else if !native(name) && !extended(name) {
        let detail = "doesn't follow extended resource name standard";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn pod_name(name: &str, path: &Path, errors: &mut Errors) {
    let supported = ["cpu", HUGE, "memory"];
    let known = matches!(name, "cpu" | "memory") || name.starts_with(HUGE);
    if resource_name(name, path, errors) && !known {
        errors.push(FieldError::not_supported(path, name, &supported));
    }
}

fn amount(name: &str, value: &Value, path: &Path, errors: &mut Errors) -> Option<Quantity> {
    let quantity = errors.quantity(path, value)?;
    let whole = quantity.to_units().checked_mul(1000) == Some(quantity.to_millis());
    if extended(name) && !whole {
        errors.push(FieldError::invalid(path, quantity.to_string(), "must be an integer"));
    }
    Some(quantity)
}

/// Huge pages come whole.
fn divisible(name: &str, amount: Quantity, path: &Path, errors: &mut Errors) {
    let Some(page) = name.strip_prefix(HUGE).and_then(|size| size.parse::<Quantity>().ok()) else { return };
    let (page, bytes) = (page.to_units(), amount.to_units());
    if page <= 0 || bytes % page != 0 {
        let detail = format!("{amount} is not positive integer multiple of {name}");
        errors.push(FieldError::invalid(path, amount.to_string(), detail));
    }
}

/// `validateResourceClaimNames`
fn used_claims(list: &Value, claims: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (claim, path) in indexed(list, path) {
        let (name, request) = (text(&claim["name"]), text(&claim["request"]));
        if !errors.required(&path, &claim["name"]) {
            continue;
        }
        if seen.contains(&(name, "")) {
            errors.push(FieldError::duplicate(&path, name));
        } else {
            errors.optionally_named(&path.child("request"), &claim["request"], names::dns1123_label);
            if seen.contains(&(name, request)) {
                errors.push(FieldError::duplicate(&path, format!("{name}/{request}")));
            } else if request.is_empty() && seen.iter().any(|(other, _)| *other == name) {
                errors.push(FieldError::duplicate(&path, name));
            }
            seen.insert((name, request));
        }
        if !claims.contains(name) {
            let mut error = FieldError::not_found(&path, name);
            let known = claims.iter().copied().collect::<Vec<_>>().join(", ");
            error.detail = if known.is_empty() {
                "must be one of the names in pod.spec.resourceClaims which is empty".to_owned()
            } else {
                format!("must be one of the names in pod.spec.resourceClaims: {known}")
            };
            errors.push(error);
        }
    }
}

/// Requests and limits of the pod as a whole, which hold those of its containers.
pub fn of_pod(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let resources = &scope.spec["resources"];
    if resources.is_null() {
        return;
    }
    if !is_empty(&resources["claims"]) {
        let detail = "claims cannot be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), detail));
    }
    requirements(resources, pod_name, &scope.claims, path, errors);
    let asked: BTreeMap<String, Quantity> = aggregate(scope.spec);
    for (name, sum) in asked.iter().filter(|(name, _)| is_empty(&resources["requests"][name.as_str()])) {
        // Of what the pod's level does not know, nothing has to be said there.
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with(HUGE) {
            at_least(Quantity::ZERO, *sum, &path.child("requests").key(name), errors);
        }
    }
    for (name, value) in entries(&resources["requests"]) {
        if let (Some(whole), Some(sum)) = (quantity(value), asked.get(name)) {
            at_least(whole, *sum, &path.child("requests").key(name), errors);
        }
    }
    for (index, container) in items(&scope.spec["containers"]).iter().enumerate() {
        for (name, value) in entries(&container["resources"]["limits"]) {
            let whole = resources["limits"].get(name).and_then(quantity);
            if let (Some(whole), Some(limit)) = (whole, quantity(value))
                && limit > whole
            {
                let at = path.child("containers").index(index).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {whole}");
                errors.push(FieldError::invalid(&at, limit.to_string(), detail));
            }
        }
    }
}

fn at_least(whole: Quantity, sum: Quantity, path: &Path, errors: &mut Errors) {
    if sum > whole {
        let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
        errors.push(FieldError::invalid(path, whole.to_string(), detail));
    }
}
