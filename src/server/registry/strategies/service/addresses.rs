//! Cluster addresses: families, defaults, allocation.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::allocator::Refused;
use super::ports::Taken;
use super::{ServiceStrategy, address, addresses_of, holder, is_headless, needs_address, stored};
use crate::api::{FieldError, GroupKind, Meta, Path, Status};
use crate::server::registry::strategies::check::{is_empty, items, text};
use crate::server::registry::strategy::Context;

/// Fills in what follows from other fields: `clusterIPs` from `clusterIP`, families and their policy.
pub fn normalize(spec: &mut Value) {
    if !needs_address(spec) {
        return;
    }
    if !is_empty(&spec["clusterIP"]) && is_empty(&spec["clusterIPs"]) {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    } else if is_empty(&spec["clusterIP"]) && !is_empty(&spec["clusterIPs"]) {
        spec["clusterIP"] = spec["clusterIPs"][0].clone();
    }
    // A headless Service without a selector may have endpoints of any family.
    if is_headless(spec) && is_empty(&spec["selector"]) {
        if is_empty(&spec["ipFamilyPolicy"]) {
            spec["ipFamilyPolicy"] = json!("RequireDualStack");
        }
        if is_empty(&spec["ipFamilies"]) {
            let both = text(&spec["ipFamilyPolicy"]) != "SingleStack";
            spec["ipFamilies"] = if both { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) };
        }
        return;
    }
    if is_empty(&spec["ipFamilyPolicy"]) {
        spec["ipFamilyPolicy"] = json!("SingleStack");
    }
    if is_empty(&spec["ipFamilies"]) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
}

/// An update that says nothing of the address keeps it; one to ExternalName lets it go.
pub fn carry_over(spec: &mut Value, old: &Value) {
    match (needs_address(spec), needs_address(old)) {
        (true, true) => {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if is_empty(&spec[field]) && !is_empty(&old[field]) {
                    spec[field] = old[field].clone();
                }
            }
        }
        (false, true) => {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]
            {
                if spec.get(field).is_some() && spec[field] == old[field] {
                    remove(spec, field);
                }
            }
        }
        _ => {}
    }
}

/// Removes a field.
pub fn remove(spec: &mut Value, field: &str) {
    if let Some(spec) = spec.as_object_mut() {
        spec.remove(field);
    }
}

impl ServiceStrategy {
    /// Takes the address the Service asks for, or any.
    pub(super) fn allocate_address(
        &self,
        cx: &Context<'_>,
        object: &mut Value,
        old: Option<&Value>,
        taken: &mut Taken,
    ) -> Result<(), Status> {
        if !needs_address(&object["spec"]) || is_headless(&object["spec"]) {
            return Ok(());
        }
        let (holder, name) = (holder(object), Meta::of(object).name().to_owned());
        let uses = |holder: &str, value: u32| {
            stored(cx.reader, holder).is_some_and(|service| addresses_of(&service).any(|a| a == value))
        };
        let spec = &mut object["spec"];
        if is_empty(&spec["clusterIPs"]) {
            let value = self
                .addresses
                .take_any(&holder, uses, cx.dry_run)
                .map_err(|_| Status::internal("failed to allocate a serviceIP: range is full"))?;
            taken.addresses.push(value);
            let text = Ipv4Addr::from(value).to_string();
            spec["clusterIP"] = json!(text);
            spec["clusterIPs"] = json!([text]);
            return Ok(());
        }
        let kept: Vec<u32> = old.map(|old| addresses_of(old).collect()).unwrap_or_default();
        for wanted in items(&spec["clusterIPs"]) {
            let Some(value) = address(wanted).filter(|value| !kept.contains(value)) else { continue };
            let why = if self.addresses.contains(value) {
                match self.addresses.take(value, &holder, uses, cx.dry_run) {
                    Ok(()) => {
                        taken.addresses.push(value);
                        continue;
                    }
                    Err(Refused::Taken | Refused::Full) => "provided IP is already allocated".to_owned(),
                }
            } else {
                format!(
                    "the provided IP ({}) is not in the valid range. The range of valid IPs is {}",
                    text(wanted),
                    self.cidr
                )
            };
            let path = Path::new("spec").child("clusterIPs");
            let detail = format!("failed to allocate IP {}: {why}", text(wanted));
            let error = FieldError::invalid(&path, spec["clusterIPs"].clone(), detail);
            return Err(Status::invalid(&GroupKind::new("", "Service"), &name, &[error]));
        }
        Ok(())
    }
}
