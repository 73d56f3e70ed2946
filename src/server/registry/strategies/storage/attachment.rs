//! VolumeAttachments.

use serde_json::Value;

use super::source::driver_name;
use super::volume::volume;
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategies::check::{Errors, entries, is_empty, text};
use crate::server::registry::strategy::{Context, Strategy, defaults};

const LARGEST_METADATA: usize = 256 << 10;
const LONGEST_MESSAGE: usize = 1024;

/// The strategy of VolumeAttachments.
pub struct AttachmentStrategy;

impl Strategy for AttachmentStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "status");
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors(validate(object));
        let (spec, name) = (&object["spec"], &object["spec"]["source"]["persistentVolumeName"]);
        driver_name(&spec["attacher"], &Path::new("spec.attacher"), &mut errors);
        if let Some(name) = name.as_str() {
            let path = Path::new("spec.source.persistentVolumeName");
            errors.invalid_all(&path, &name.into(), names::dns1123_subdomain(name));
        }
        errors.0
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors(validate(new));
        errors.immutable(&Path::new("spec"), &new["spec"], &old["spec"]);
        errors.0
    }

    fn validate_subresource(&self, _: &Context<'_>, _: &str, new: &Value, _: &Value) -> Vec<FieldError> {
        validate(new)
    }
}

fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    errors.required(&path.child("attacher"), &spec["attacher"]);
    source(&spec["source"], &path.child("source"), &mut errors);
    let node = text(&spec["nodeName"]);
    errors.invalid_all(&path.child("nodeName"), &node.into(), names::dns1123_subdomain(node));
    let (status, path) = (&object["status"], Path::new("status"));
    let size: usize = entries(&status["attachmentMetadata"]).map(|(k, v)| k.len() + text(v).len()).sum();
    if size > LARGEST_METADATA {
        errors.push(FieldError::too_long(&path.child("attachmentMetadata"), LARGEST_METADATA));
    }
    for field in ["attachError", "detachError"] {
        let (error, at) = (&status[field], path.child(field));
        if text(&error["message"]).len() > LONGEST_MESSAGE {
            // As upstream: another limit is told than is checked.
            errors.push(FieldError::too_long(&at.child("message"), LARGEST_METADATA));
        }
        errors.within(&at.child("errorCode"), &error["errorCode"], 0, i64::from(i32::MAX));
    }
    errors.0
}

fn source(source: &Value, path: &Path, errors: &mut Errors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let (inline, name) = (&source["inlineVolumeSpec"], &source["persistentVolumeName"]);
    match (inline.is_null(), name.is_null()) {
        (true, true) => errors.push(FieldError::required(path, ONE)),
        (false, false) => errors.push(FieldError::forbidden(path, ONE)),
        (true, false) if is_empty(name) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required(&path.child("persistentVolumeName"), detail));
        }
        (true, false) => {}
        (false, true) => inline_volume(inline, &path.child("inlineVolumeSpec"), errors),
    }
}

/// A volume within another object has no claim and no size.
fn inline_volume(spec: &Value, path: &Path, errors: &mut Errors) {
    const NOT_HERE: &str = "may not be specified in the context of inline volumes";
    for field in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
        if !is_empty(&spec[field]) {
            errors.push(FieldError::forbidden(&path.child(field), NOT_HERE));
        }
    }
    if spec["csi"].is_null() {
        let detail = "has to be specified in the context of inline volumes";
        errors.push(FieldError::required(&path.child("csi"), detail));
    }
    let capacity = path.child("capacity");
    errors.0.extend(volume(spec, path).into_iter().filter(|e| e.field != capacity));
}
