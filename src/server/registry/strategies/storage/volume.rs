//! PersistentVolumes.

use serde_json::{Value, json};

use super::claim::difference;
use super::{access_modes, class_and_mode, positive, source};
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategies::check::{Errors, entries, is_empty, same, text};
use crate::server::registry::strategies::node_selector;
use crate::server::registry::strategy::{Context, Strategy, defaults};

const POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];

/// The strategy of PersistentVolumes.
pub struct VolumeStrategy;

impl Strategy for VolumeStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["status"] = json!({"phase": "Pending"});
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        volume(&object["spec"], &Path::new("spec"))
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "status");
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        update(&new["spec"], &old["spec"])
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings(object)
    }
}

pub(super) fn volume(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Errors::default();
    access_modes(spec, path, "", &mut errors);
    capacity(&spec["capacity"], &path.child("capacity"), &mut errors);
    let policy = &spec["persistentVolumeReclaimPolicy"];
    errors.optionally_one_of(&path.child("persistentVolumeReclaimPolicy"), policy, &POLICIES);
    let (affinity, at) = (&spec["nodeAffinity"], path.child("nodeAffinity"));
    if !affinity.is_null() {
        if affinity["required"].is_null() {
            let detail = "must specify required node constraints";
            errors.push(FieldError::required(&at.child("required"), detail));
        } else {
            node_selector::validate(&affinity["required"], &at.child("required"), &mut errors);
        }
    }
    source::validate(spec, path, &mut errors);
    if spec["hostPath"]["path"] == "/" && text(policy) == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&path.child("persistentVolumeReclaimPolicy"), detail));
    }
    class_and_mode(spec, path, &mut errors);
    attributes(spec, path, &mut errors);
    errors.0
}

fn capacity(capacity: &Value, path: &Path, errors: &mut Errors) {
    if is_empty(capacity) {
        errors.push(FieldError::required(path, ""));
    }
    if capacity.get("storage").is_none() || entries(capacity).count() > 1 {
        let shown = if capacity.is_null() { json!(null) } else { capacity.clone() };
        errors.push(FieldError::not_supported(path, shown, &["storage"]));
    }
    for (name, amount) in entries(capacity) {
        positive(amount, &path.key(name), errors);
    }
}

fn attributes(spec: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("volumeAttributesClassName");
    let Some(class) = spec["volumeAttributesClassName"].as_str() else { return };
    if class.is_empty() {
        errors.push(FieldError::required(&at, "an empty string is disallowed"));
    } else {
        let wrong = names::dns1123_subdomain(class);
        errors.invalid_all(&at, &class.into(), wrong);
    }
    if spec["csi"].is_null() {
        let detail = "has to be specified when using volumeAttributesClassName";
        errors.push(FieldError::required(&path.child("csi"), detail));
    }
}

pub(super) fn update(spec: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors(volume(spec, &path));
    let (mut now, was) = (source::only(spec), source::only(old));
    // A secret that was not named yet may be.
    if !was["csi"].is_null() && was["csi"]["controllerExpandSecretRef"].is_null() && !now["csi"].is_null() {
        defaults::keep(&mut now["csi"], &was["csi"], "controllerExpandSecretRef");
    }
    if now != was {
        let detail =
            format!("spec.persistentvolumesource is immutable after creation\n{}", difference(&was, &now));
        errors.push(FieldError::forbidden(&path.child("persistentvolumesource"), detail));
    }
    errors.immutable(&Path::new("volumeMode"), &spec["volumeMode"], &old["volumeMode"]);
    let (affinity, before) = (&spec["nodeAffinity"], &old["nodeAffinity"]);
    if !before.is_null() && !same(&with_stable_labels(affinity), &with_stable_labels(before)) {
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.push(FieldError::invalid(&Path::new("nodeAffinity"), affinity.clone(), detail));
    }
    if !old["volumeAttributesClassName"].is_null() && spec["volumeAttributesClassName"].is_null() {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(&path.child("volumeAttributesClassName"), detail));
    }
    errors.0
}

/// Labels of nodes that had other names once.
const RENAMED: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

fn with_stable_labels(affinity: &Value) -> Value {
    match affinity {
        Value::String(text) => RENAMED
            .iter()
            .find(|(old, _)| old == text)
            .map_or_else(|| affinity.clone(), |(_, new)| json!(new)),
        Value::Array(list) => list.iter().map(with_stable_labels).collect(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.clone(), with_stable_labels(value))).collect()
        }
        other => other.clone(),
    }
}

/// `pkg/api/persistentvolume/util.go`.
fn warnings(object: &Value) -> Vec<String> {
    const OLD: [(&str, &str); 2] = [
        (
            "volume.beta.kubernetes.io/storage-class",
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            "volume.beta.kubernetes.io/mount-options",
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ];
    let annotations = &object["metadata"]["annotations"];
    let given = OLD.iter().filter(|(name, _)| annotations.get(name).is_some());
    let mut warnings: Vec<String> =
        given.map(|(name, why)| format!("metadata.annotations[{name}]: {why}")).collect();
    let spec = &object["spec"];
    let affinity = Path::new("spec").child("nodeAffinity").child("required");
    warnings.extend(node_selector::warnings(&spec["nodeAffinity"]["required"], &affinity));
    if text(&spec["persistentVolumeReclaimPolicy"]) == "Recycle" {
        warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the \
             recommended approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    warnings
}
