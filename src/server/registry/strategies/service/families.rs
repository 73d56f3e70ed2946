//! Cluster addresses and their families: `ValidateServiceClusterIPsRelatedFields`, and what a cluster with
//! IPv4 alone can give.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::{is_headless, needs_address};
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

fn family(address: &Value) -> Option<&'static str> {
    let address: IpAddr = text(address).parse().ok()?;
    Some(if address.is_ipv4() { "IPv4" } else { "IPv6" })
}

/// What is wrong with the addresses and families of a spec, which was `old` before.
pub fn related(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    if text(&spec["type"]) == "ExternalName" {
        return;
    }
    one_and_all(spec, path, errors);
    let mut seen = BTreeSet::new();
    for (family, path) in indexed(&spec["ipFamilies"], &path.child("ipFamilies")) {
        if !FAMILIES.contains(&text(family)) {
            errors.push(FieldError::not_supported(&path, family.clone(), &FAMILIES));
        }
        if !seen.insert(text(family)) {
            errors.push(FieldError::duplicate(&path, family.clone()));
        }
    }
    let policy = &spec["ipFamilyPolicy"];
    if !policy.is_null() && !POLICIES.contains(&text(policy)) {
        errors.push(FieldError::not_supported(&path.child("ipFamilyPolicy"), policy.clone(), &POLICIES));
    }
    if addresses(spec, old, path, errors) {
        pairs(spec, path, errors);
    }
}

/// `clusterIP` is the first of `clusterIPs`.
fn one_and_all(spec: &Value, path: &Path, errors: &mut Errors) {
    let (one, all, at) = (&spec["clusterIP"], &spec["clusterIPs"], path.child("clusterIPs"));
    match (is_empty(one), is_empty(all)) {
        (false, true) => errors.push(FieldError::required(&at, "")),
        (false, false) if all[0] != *one => {
            errors.push(FieldError::invalid(&at, all.clone(), "first value must match `clusterIP`"));
        }
        (true, false) => {
            let detail = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(&at, all.clone(), detail));
        }
        _ => {}
    }
}

/// Each is an address; true if so.
fn addresses(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) -> bool {
    let (all, at) = (&spec["clusterIPs"], path.child("clusterIPs"));
    let before = old.map_or(&[][..], |old| items(&old["clusterIPs"]));
    let mut valid = true;
    for (index, (address, path)) in indexed(all, &at).enumerate() {
        if index > 0 || text(address) != "None" {
            valid &= errors.address(&path, address, before);
        } else if items(all).len() > 1 {
            valid = false;
            errors.push(FieldError::invalid(&at, all.clone(), "'None' must be the first and only value"));
        }
    }
    if items(all).len() > 2 {
        errors.push(FieldError::invalid(&at, all.clone(), "may only hold up to 2 values"));
    }
    valid
}

/// At most one address of a family, in the order of `ipFamilies`.
fn pairs(spec: &Value, path: &Path, errors: &mut Errors) {
    let (all, at) = (&spec["clusterIPs"], path.child("clusterIPs"));
    let distinct: BTreeSet<_> = items(all).iter().filter_map(family).collect();
    if items(all).len() > 1 && distinct.len() < items(all).len() {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&at, all.clone(), detail));
    }
    if is_headless(spec) {
        return;
    }
    for (index, wanted) in items(&spec["ipFamilies"]).iter().enumerate() {
        let given = all.get(index).and_then(family);
        if let Some(given) = given.filter(|given| FAMILIES.contains(&text(wanted)) && *given != text(wanted))
        {
            let expected = if given == "IPv4" { "IPv6" } else { "IPv4" };
            let detail = format!("expected an {expected} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(&at.index(index), all[index].clone(), detail));
        }
    }
}

/// What this cluster, which has IPv4 alone, cannot give.
pub fn available(spec: &Value, path: &Path, errors: &mut Errors) {
    if !needs_address(spec) {
        return;
    }
    for (field, what) in [("clusterIPs", "clusterIPs"), ("ipFamilies", "ipFamilies")] {
        if items(&spec[field]).len() == 2 && text(&spec["ipFamilyPolicy"]) == "SingleStack" {
            let detail =
                format!("must be RequireDualStack or PreferDualStack when multiple `{what}` are specified");
            errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), "SingleStack", detail));
            return;
        }
    }
    if is_headless(spec) && is_empty(&spec["selector"]) {
        return;
    }
    if let Some((index, _)) = indexed(&spec["clusterIPs"], path)
        .enumerate()
        .find(|(i, (address, _))| *i >= items(&spec["ipFamilies"]).len() && family(address) == Some("IPv6"))
    {
        let at = path.child("clusterIPs").index(index);
        let detail = "IPv6 is not configured on this cluster";
        errors.push(FieldError::invalid(&at, spec["clusterIPs"].clone(), detail));
    }
    for (family, path) in indexed(&spec["ipFamilies"], &path.child("ipFamilies")) {
        if text(family) == "IPv6" {
            errors.push(FieldError::invalid(&path, "IPv6", "not configured on this cluster"));
        }
    }
    if text(&spec["ipFamilyPolicy"]) == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), "RequireDualStack", detail));
    }
}
