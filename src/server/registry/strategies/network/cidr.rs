//! IPAddresses and ServiceCIDRs: `pkg/apis/networking/validation`.

use serde_json::Value;

use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategies::check::{Errors, IMMUTABLE, indexed, is_empty, items, text};
use crate::server::registry::strategies::ip::Network;
use crate::server::registry::strategies::plain::Uncounted;
use crate::server::registry::strategy::{Context, Strategy};

/// The strategy of IPAddresses.
pub struct AddressStrategy;

impl Strategy for AddressStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, _: &mut Value, _: &Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        parent(&object["spec"]["parentRef"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let path = Path::new("spec").child("parentRef");
        let mut errors = Errors::default();
        errors.immutable(&path, &new["spec"]["parentRef"], &old["spec"]["parentRef"]);
        errors.0
    }
}

pub(super) fn parent(parent: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("parentRef");
    let mut errors = Errors::default();
    if parent.is_null() {
        errors.push(FieldError::required(&path, ""));
        return errors.0;
    }
    errors.optionally_named(&path.child("group"), &parent["group"], names::dns1123_subdomain);
    for field in ["resource", "name"] {
        errors.named(&path.child(field), &parent[field], names::path_segment);
    }
    errors.optionally_named(&path.child("namespace"), &parent["namespace"], names::path_segment);
    errors.0
}

/// The strategy of ServiceCIDRs.
pub struct CidrStrategy;

impl Strategy for CidrStrategy {
    fn prepare_create(&self, cx: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        Uncounted.prepare_create(cx, object)
    }

    fn prepare_update(&self, cx: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        Uncounted.prepare_update(cx, new, old)
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        networks(&object["spec"], &mut errors);
        errors.0
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        changed(&new["spec"], &old["spec"])
    }
}

pub(super) fn networks(spec: &Value, errors: &mut Errors) {
    let (list, path) = (&spec["cidrs"], Path::new("spec").child("cidrs"));
    if is_empty(list) {
        errors.push(FieldError::required(&path, "at least one CIDR required"));
        return;
    }
    if items(list).len() > 2 {
        errors.push(FieldError::invalid(&path, spec.clone(), "may only hold up to 2 values"));
        return;
    }
    for (cidr, path) in indexed(list, &path) {
        errors.canonical_network(&path, cidr);
    }
    let families: Vec<bool> =
        items(list).iter().filter_map(|c| Network::parse(text(c))).map(Network::is_ipv4).collect();
    if matches!(families.as_slice(), [a, b] if a == b) {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(&path, list.clone(), detail));
    }
}

/// A second network may be added, nothing else.
pub(super) fn changed(spec: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("cidrs");
    let (now, was) = (items(&spec["cidrs"]), items(&old["cidrs"]));
    let mut errors = Errors::default();
    match (was.len(), now.len()) {
        (1, 2) => {
            errors.immutable(&path.index(0), &now[0], &was[0]);
            networks(spec, &mut errors);
        }
        (a, b) if a == b => {
            for (index, (new, old)) in now.iter().zip(was).enumerate() {
                errors.immutable(&path.index(index), new, old);
            }
        }
        _ => errors.push(FieldError::invalid(&path, spec["cidrs"].clone(), IMMUTABLE)),
    }
    errors.0
}
