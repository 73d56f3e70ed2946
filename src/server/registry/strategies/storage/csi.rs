//! CSIDrivers, CSINodes and CSIStorageCapacities.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::source::driver_name;
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategies::check::{Errors, IMMUTABLE, indexed, is_empty, items, same, text};
use crate::server::registry::strategies::{node_selector, selector};
use crate::server::registry::strategy::{Context, Strategy};

/// The strategy of CSIDrivers, which upstream counts no generations of.
pub struct DriverStrategy;

impl Strategy for DriverStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        let counted = ["podInfoOnMount", "tokenRequests", "requiresRepublish", "seLinuxMount"];
        let changed = counted.iter().any(|field| new["spec"][*field] != old["spec"][*field]);
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        if generation + i64::from(changed) > 0 {
            new["metadata"]["generation"] = json!(generation + i64::from(changed));
        }
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        driver(&object["spec"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let path = Path::new("spec");
        let mut errors = Errors(driver(&new["spec"]));
        // Upstream's path has another name than the field.
        for (field, called) in
            [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            errors.immutable(&path.child(called), &new["spec"][field], &old["spec"][field]);
        }
        errors.0
    }
}

fn driver(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    errors.optionally_one_of(&path.child("fsGroupPolicy"), &spec["fsGroupPolicy"], &policies);
    let mut audiences = BTreeSet::new();
    for (request, path) in indexed(&spec["tokenRequests"], &path.child("tokenRequests")) {
        let audience = text(&request["audience"]);
        if !audiences.insert(audience) {
            errors.push(FieldError::duplicate(&path.child("audience"), audience));
            continue;
        }
        let detail = match request["expirationSeconds"].as_i64() {
            Some(..600) => "may not specify a duration less than 10 minutes",
            Some(seconds) if seconds > 1 << 32 => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        let at = path.child("expirationSeconds");
        errors.push(FieldError::invalid(&at, request["expirationSeconds"].clone(), detail));
    }
    let (modes, at) = (["Persistent", "Ephemeral"], path.child("volumeLifecycleModes"));
    for mode in items(&spec["volumeLifecycleModes"]).iter().filter(|m| !modes.contains(&text(m))) {
        errors.push(FieldError::not_supported(&at, mode.clone(), &modes));
    }
    let period = &spec["nodeAllocatableUpdatePeriodSeconds"];
    if period.as_i64().is_some_and(|seconds| seconds < 10) {
        let detail = "must be greater than or equal to 10 seconds";
        let at = path.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(FieldError::invalid(&at, period.clone(), detail));
    }
    errors.0
}

/// The strategy of CSINodes.
pub struct NodeStrategy;

const LONGEST_ID: usize = 256;

impl Strategy for NodeStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, _: &mut Value, _: &Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        node(&object["spec"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let path = Path::new("spec").child("drivers");
        let mut errors = Errors(node(&new["spec"]));
        // What fits on the node may change, the rest of a driver's entry not.
        let rest = |driver: &Value| {
            let mut driver = driver.clone();
            driver["allocatable"] = Value::Null;
            driver
        };
        for was in items(&old["spec"]["drivers"]) {
            let now = items(&new["spec"]["drivers"]).iter().find(|d| d["name"] == was["name"]);
            if let Some(now) = now.filter(|now| !same(&rest(now), &rest(was))) {
                errors.push(FieldError::invalid(&path, now.clone(), IMMUTABLE));
            }
        }
        errors.0
    }
}

fn node(spec: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let mut seen = BTreeSet::new();
    for (driver, path) in indexed(&spec["drivers"], &Path::new("spec").child("drivers")) {
        driver_name(&driver["name"], &path.child("name"), &mut errors);
        let (id, at) = (&driver["nodeID"], path.child("nodeID"));
        errors.required(&at, id);
        if text(id).len() > LONGEST_ID {
            let detail = format!("must be {LONGEST_ID} characters or less");
            errors.push(FieldError::invalid(&at, id.clone(), detail));
        }
        let allocatable = path.child("allocatable");
        errors.not_negative(&allocatable.child("count"), &driver["allocatable"]["count"]);
        if !seen.insert(text(&driver["name"])) {
            errors.push(FieldError::duplicate(&path.child("name"), driver["name"].clone()));
        }
        let mut keys = BTreeSet::new();
        for key in items(&driver["topologyKeys"]) {
            if is_empty(key) {
                errors.push(FieldError::required(&path, ""));
            }
            if !keys.insert(text(key)) {
                errors.push(FieldError::duplicate(&path, key.clone()));
            }
            errors.invalid_all(&path, key, names::qualified_name(text(key)));
        }
    }
    errors.0
}

/// The strategy of CSIStorageCapacities.
pub struct CapacityStrategy;

impl Strategy for CapacityStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        selector::validate(&object["nodeTopology"], &Path::new("nodeTopology"), &mut errors);
        let (class, at) = (text(&object["storageClassName"]), Path::new("storageClassName"));
        errors.invalid_all(&at, &class.into(), names::dns1123_subdomain(class));
        errors.quantity(&Path::new("capacity"), &object["capacity"]);
        errors.0
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        for field in ["nodeTopology", "storageClassName"] {
            errors.immutable(&Path::new(field), &new[field], &old[field]);
        }
        errors.0
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        node_selector::label_warnings(&object["nodeTopology"], &Path::new("nodeTopology"))
    }
}
