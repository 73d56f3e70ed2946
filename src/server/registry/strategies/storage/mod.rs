//! Claims, volumes and the kinds of storage.k8s.io: `pkg/apis/core/validation`, `pkg/apis/storage/validation`.

mod attachment;
mod claim;
mod class;
mod csi;
mod source;
mod volume;

use serde_json::Value;

use super::check::{Errors, indexed, items, text};
use crate::api::{FieldError, Path, names};

pub use attachment::AttachmentStrategy;
pub use claim::{ClaimStrategy, claim};
pub use class::{AttributesClassStrategy, ClassStrategy};
pub use csi::{CapacityStrategy, DriverStrategy, NodeStrategy};
pub use volume::VolumeStrategy;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Names of storage classes in specs, and of the volume modes.
fn class_and_mode(spec: &Value, path: &Path, errors: &mut Errors) {
    let rule = names::dns1123_subdomain;
    errors.optionally_named(&path.child("storageClassName"), &spec["storageClassName"], rule);
    if let Some(mode) = spec["volumeMode"].as_str().filter(|m| !["Block", "Filesystem"].contains(m)) {
        let at = path.child("volumeMode");
        errors.push(FieldError::not_supported(&at, mode, &["Block", "Filesystem"]));
    }
}

fn access_modes(spec: &Value, path: &Path, required: &str, errors: &mut Errors) {
    let at = path.child("accessModes");
    let modes = items(&spec["accessModes"]);
    if modes.is_empty() {
        errors.push(FieldError::required(&at, required));
    }
    for (mode, _) in indexed(&spec["accessModes"], &at).filter(|(mode, _)| !MODES.contains(&text(mode))) {
        errors.push(FieldError::not_supported(&at, mode.clone(), &MODES));
    }
    let alone = |mode: &Value| text(mode) == "ReadWriteOncePod";
    let known = |mode: &&Value| MODES.contains(&text(mode));
    if modes.iter().any(alone) && modes.iter().filter(known).any(|mode| !alone(mode)) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(&at, detail));
    }
}

/// An amount of storage that is more than nothing.
fn positive(value: &Value, path: &Path, errors: &mut Errors) {
    let amount = value.as_str().and_then(|text| text.parse::<crate::api::Quantity>().ok());
    if let Some(amount) = amount.filter(|amount| amount.is_negative() || amount.is_zero()) {
        errors.push(FieldError::invalid(path, amount.to_string(), "must be greater than zero"));
    }
}

#[cfg(test)]
mod tests;
