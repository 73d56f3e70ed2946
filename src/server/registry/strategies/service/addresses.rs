//! Cluster addresses: families, defaults, allocation.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::allocator::Refused;
use super::ports::Taken;
use super::{ServiceStrategy, address, addresses_of, holder, is_headless, needs_address, stored};
use crate::api::{FieldError, GroupKind, Meta, Path, Status};
use crate::server::registry::strategies::check::{is_empty, items, same, text};
use crate::server::registry::strategy::Context;

/// Fills in what follows from other fields: `clusterIPs` from `clusterIP`, families and their policy.
pub fn normalize(spec: &mut Value) {
    if !is_empty(&spec["clusterIP"]) && is_empty(&spec["clusterIPs"]) {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    if !needs_address(spec) {
        return;
    }
    let two = items(&spec["clusterIPs"]).len() == 2 || items(&spec["ipFamilies"]).len() == 2;
    // A headless Service without a selector may have endpoints of any family.
    let free = is_headless(spec) && is_empty(&spec["selector"]);
    if is_empty(&spec["ipFamilyPolicy"]) {
        let both = two || (free && is_empty(&spec["ipFamilies"]));
        spec["ipFamilyPolicy"] = json!(if both || free { "RequireDualStack" } else { "SingleStack" });
    }
    if is_empty(&spec["ipFamilies"]) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if free && text(&spec["ipFamilyPolicy"]) != "SingleStack" && items(&spec["ipFamilies"]).len() == 1 {
        let other = if text(&spec["ipFamilies"][0]) == "IPv6" { "IPv4" } else { "IPv6" };
        spec["ipFamilies"] = json!([spec["ipFamilies"][0], other]);
    }
}

/// An update that says nothing of the address keeps it; one to ExternalName lets it go, unless it was changed
/// by hand, which validation then refuses.
pub fn carry_over(spec: &mut Value, old: &Value) {
    if needs_address(spec) && needs_address(old) {
        for field in ["ipFamilies", "ipFamilyPolicy", "clusterIP"] {
            if is_empty(&spec[field]) && !is_empty(&old[field]) {
                spec[field] = old[field].clone();
            }
        }
    }
    let same_one = same(&spec["clusterIP"], &old["clusterIP"]);
    if is_empty(&spec["clusterIPs"]) && same_one && !is_empty(&old["clusterIPs"]) {
        spec["clusterIPs"] = old["clusterIPs"].clone();
    }
    if !same_one && same(&spec["clusterIPs"], &old["clusterIPs"]) {
        if is_empty(&spec["clusterIP"]) {
            remove(spec, "clusterIPs");
        } else {
            spec["clusterIPs"] = json!([spec["clusterIP"]]);
        }
    }
    if needs_address(old) && !needs_address(spec) {
        if same_one && same(&spec["clusterIPs"], &old["clusterIPs"]) {
            remove(spec, "clusterIP");
            remove(spec, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(&spec[field], &old[field]) {
                remove(spec, field);
            }
        }
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
            let value = self.any_address(cx, &holder, uses)?;
            taken.addresses.push(value);
            let text = Ipv4Addr::from(value).to_string();
            spec["clusterIP"] = json!(text);
            spec["clusterIPs"] = json!([text]);
            return Ok(());
        }
        let kept: Vec<u32> = old.map(|old| addresses_of(old).collect()).unwrap_or_default();
        for wanted in items(&spec["clusterIPs"]) {
            let Some(value) = address(wanted).filter(|value| !kept.contains(value)) else { continue };
            let why = if reserved(cx, value) {
                "provided IP is already allocated".to_owned()
            } else if self.addresses.contains(value) {
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

    /// Any address that nobody has, nor has reserved.
    fn any_address(
        &self,
        cx: &Context<'_>,
        holder: &str,
        uses: impl Fn(&str, u32) -> bool,
    ) -> Result<u32, Status> {
        let mut passed = Vec::new();
        let found = loop {
            match self.addresses.take_any(holder, &uses, cx.dry_run) {
                Ok(value) if reserved(cx, value) && !passed.contains(&value) => passed.push(value),
                Ok(value) if passed.contains(&value) => break Err(Refused::Full),
                found => break found,
            }
        };
        passed.iter().for_each(|value| self.addresses.undo(*value, holder));
        found.map_err(|_| Status::internal("failed to allocate a serviceIP: range is full"))
    }
}

/// A user made an IPAddress of this address: no Service gets it.
fn reserved(cx: &Context<'_>, value: u32) -> bool {
    let name = Ipv4Addr::from(value).to_string();
    let address = cx.reader.get("ipaddresses.networking.k8s.io", None, &name);
    address.is_some_and(|address| {
        address.value()["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"] != "ipallocator.k8s.io"
    })
}
