//! What a volume is made of: `validateVolumeSource`.

use serde_json::Value;

use super::projected;
use super::volume::{descending, no_backsteps};
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, entries, is_empty, items, text};
use crate::server::registry::strategies::storage;

/// All sources, in the order in which upstream counts them.
const KINDS: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const PARTITION: &str = "must be between 1 and 255, inclusive";

/// A volume has exactly one source.
pub fn validate(volume: &Value, pod: Option<&str>, path: &Path, errors: &mut Errors) {
    let mut given = 0;
    for kind in KINDS.into_iter().filter(|kind| !volume[*kind].is_null()) {
        given += 1;
        // Upstream names this one otherwise.
        let at = path.child(if kind == "gcePersistentDisk" { "persistentDisk" } else { kind });
        if given > 1 {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
            continue;
        }
        let source = &volume[kind];
        match kind {
            "secret" => projected::single(source, "secretName", &at, errors),
            "configMap" => projected::single(source, "name", &at, errors),
            "downwardAPI" => projected::downward(source, &at, errors),
            "projected" => projected::projected(source, &at, errors),
            "ephemeral" => ephemeral(volume, pod, path, errors),
            "emptyDir" | "hostPath" | "nfs" | "csi" | "image" => local(kind, source, &at, errors),
            _ => remote(kind, source, &at, errors),
        }
    }
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn local(kind: &str, source: &Value, path: &Path, errors: &mut Errors) {
    let (place, at) = (&source["path"], path.child("path"));
    match kind {
        "emptyDir" => {
            if text(&source["sizeLimit"]).starts_with('-') {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(&path.child("sizeLimit"), detail));
            }
        }
        "hostPath" => {
            if errors.required(&at, place) {
                no_backsteps(place, &at, errors);
                let kind = text(&source["type"]);
                if !HOST_PATH_TYPES.contains(&kind) {
                    errors.push(FieldError::not_supported(&path.child("type"), kind, &HOST_PATH_TYPES));
                }
            }
        }
        "nfs" => {
            errors.required(&path.child("server"), &source["server"]);
            errors.required(&at, place);
            if !text(place).starts_with('/') {
                errors.push(FieldError::invalid(&at, text(place), "must be an absolute path"));
            }
        }
        "csi" => {
            driver_name(&source["driver"], &path.child("driver"), errors);
            let secret = &source["nodePublishSecretRef"];
            if !secret.is_null()
                && errors.required(&path.child("nodePublishSecretRef").child("name"), &secret["name"])
            {
                let reasons = names::dns1123_subdomain(text(&secret["name"]));
                errors.invalid_all(&path.child("name"), &secret["name"], reasons);
            }
        }
        _ => {
            errors.required(&path.child("reference"), &source["reference"]);
            let policies = ["Always", "IfNotPresent", "Never"];
            errors.one_of(&path.child("pullPolicy"), &source["pullPolicy"], &policies);
        }
    }
}

/// `ValidateCSIDriverName`
fn driver_name(name: &Value, path: &Path, errors: &mut Errors) {
    errors.required(path, name);
    if text(name).len() > names::LABEL_MAX {
        errors.push(FieldError::too_long(path, names::LABEL_MAX));
    }
    errors.invalid_all(path, &text(name).into(), names::dns1123_subdomain(&text(name).to_lowercase()));
}

/// A claim made for the pod, from a template.
fn ephemeral(volume: &Value, pod: Option<&str>, path: &Path, errors: &mut Errors) {
    let at = path.child("ephemeral").child("volumeClaimTemplate");
    let template = &volume["ephemeral"]["volumeClaimTemplate"];
    if template.is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        let (metadata, meta_at) = (&template["metadata"], at.child("metadata"));
        super::annotation_keys(&metadata["annotations"], &meta_at.child("annotations"), errors);
        errors.labels(&meta_at.child("labels"), &metadata["labels"]);
        for (field, _) in
            entries(metadata).filter(|(f, v)| !matches!(*f, "annotations" | "labels") && !is_empty(v))
        {
            errors.push(FieldError::forbidden(&meta_at.child(field), "cannot be set"));
        }
        errors.0.extend(storage::claim(&template["spec"], &at.child("spec")));
    }
    if let Some(pod) = pod.filter(|p| !p.is_empty() && !is_empty(&volume["name"])) {
        let claim = format!("{pod}-{}", text(&volume["name"]));
        for why in names::dns1123_subdomain(&claim) {
            let detail = format!("PVC name {claim:?}: {why}");
            errors.push(FieldError::invalid(&path.child("name"), volume["name"].clone(), detail));
        }
    }
}

/// Fields that must be given, by kind of source.
fn required_fields(kind: &str) -> &'static [&'static str] {
    match kind {
        "gitRepo" => &["repository"],
        "gcePersistentDisk" => &["pdName"],
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "iscsi" => &["targetPortal", "iqn"],
        "glusterfs" => &["endpoints", "path"],
        "persistentVolumeClaim" => &["claimName"],
        "rbd" => &["monitors", "image"],
        "cephfs" => &["monitors"],
        "quobyte" => &["registry", "volume"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "azureDisk" => &["diskName", "diskURI"],
        "storageos" => &["volumeName"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        _ => &[],
    }
}

/// Storage of others: what must be given, and a few rules more.
fn remote(kind: &str, source: &Value, path: &Path, errors: &mut Errors) {
    for field in required_fields(kind) {
        errors.required(&path.child(field), &source[*field]);
    }
    match kind {
        "gitRepo" => descending(&source["directory"], &path.child("directory"), errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = &source["partition"];
            if partition.as_i64().is_some_and(|p| !(0..=255).contains(&p)) {
                errors.push(FieldError::invalid(&path.child("partition"), partition.clone(), PARTITION));
            }
        }
        "iscsi" => iscsi(source, path, errors),
        "fc" => fibre_channel(source, path, errors),
        "flocker" => {
            let (name, uuid) = (&source["datasetName"], &source["datasetUUID"]);
            if is_empty(name) && is_empty(uuid) {
                errors.push(FieldError::required(path, "one of datasetName and datasetUUID is required"));
            }
        }
        "cinder" | "storageos" => {
            let (secret, at) = (&source["secretRef"], path.child("secretRef").child("name"));
            if !secret.is_null() {
                errors.required(&at, &secret["name"]);
            }
        }
        "flexVolume" => {
            for (key, _) in entries(&source["options"]) {
                let domain = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
                if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
                    let detail = "kubernetes.io and k8s.io namespaces are reserved";
                    errors.push(FieldError::invalid(&path.child("options").key(key), key, detail));
                }
            }
        }
        _ => {}
    }
}

fn iscsi(source: &Value, path: &Path, errors: &mut Errors) {
    let name = text(&source["iqn"]);
    if !name.is_empty() && !["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix)) {
        let detail = "must be valid format starting with iqn, eui, or naa";
        errors.push(FieldError::invalid(&path.child("iqn"), name, detail));
    }
    errors.within(&path.child("lun"), &source["lun"], 0, 255);
    let authenticated = source["chapAuthDiscovery"] == true || source["chapAuthSession"] == true;
    if authenticated && source["secretRef"].is_null() {
        errors.push(FieldError::required(&path.child("secretRef"), ""));
    }
}

fn fibre_channel(source: &Value, path: &Path, errors: &mut Errors) {
    let (names, ids, at) = (&source["targetWWNs"], &source["wwids"], path.child("targetWWNs"));
    match (items(names).is_empty(), items(ids).is_empty()) {
        (true, true) => {
            errors.push(FieldError::required(&at, "must specify either targetWWNs or wwids, but not both"));
        }
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(FieldError::invalid(&at, names.clone(), detail));
        }
        _ => {}
    }
    if !items(names).is_empty() {
        if source["lun"].is_null() {
            let detail = "lun is required if targetWWNs is specified";
            errors.push(FieldError::required(&path.child("lun"), detail));
        }
        errors.within(&path.child("lun"), &source["lun"], 0, 255);
    }
}
