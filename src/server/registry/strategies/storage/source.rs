//! Where a PersistentVolume is: exactly one source.

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, entries, is_empty, text};

/// Fields of a volume that are no source.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// The order in which upstream looks at sources: the first counts, those that follow are too many.
const ORDER: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// The sources of a spec, without the rest.
pub fn only(spec: &Value) -> Value {
    let sources = spec.as_object().into_iter().flatten();
    sources
        .filter(|(key, _)| !NOT_SOURCES.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What is wrong with the sources of a spec.
pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut given = ORDER.iter().filter(|kind| !spec[**kind].is_null());
    match given.next() {
        None => errors.push(FieldError::required(path, "must specify a volume type")),
        Some(kind) => {
            one(kind, &spec[*kind], &path.child(kind), errors);
            if *kind == "local" && spec["nodeAffinity"].is_null() {
                let detail = "Local volume requires node affinity";
                errors.push(FieldError::required(&path.child("nodeAffinity"), detail));
            }
        }
    }
    for kind in given {
        errors.push(FieldError::forbidden(&path.child(kind), "may not specify more than 1 volume type"));
    }
}

fn one(kind: &str, source: &Value, path: &Path, errors: &mut Errors) {
    match kind {
        "hostPath" => {
            if errors.required(&path.child("path"), &source["path"]) {
                backwards(&source["path"], &path.child("path"), errors);
            }
            let kinds = [
                "BlockDevice",
                "CharDevice",
                "Directory",
                "DirectoryOrCreate",
                "File",
                "FileOrCreate",
                "Socket",
            ];
            errors.optionally_one_of(&path.child("type"), &source["type"], &kinds);
        }
        "nfs" => {
            errors.required(&path.child("server"), &source["server"]);
            if errors.required(&path.child("path"), &source["path"])
                && !text(&source["path"]).starts_with('/')
            {
                let detail = "must be an absolute path";
                errors.push(FieldError::invalid(&path.child("path"), source["path"].clone(), detail));
            }
        }
        "local" if errors.required(&path.child("path"), &source["path"]) => {
            backwards(&source["path"], &path.child("path"), errors);
        }
        "csi" => csi(source, path, errors),
        "iscsi" => needs(source, &["targetPortal", "iqn"], path, errors),
        "rbd" => needs(source, &["monitors", "image"], path, errors),
        "cephfs" => needs(source, &["monitors"], path, errors),
        "glusterfs" => needs(source, &["endpoints", "path"], path, errors),
        "flexVolume" => needs(source, &["driver"], path, errors),
        "cinder" | "portworxVolume" => needs(source, &["volumeID"], path, errors),
        _ => {}
    }
}

fn needs(source: &Value, fields: &[&str], path: &Path, errors: &mut Errors) {
    for field in fields {
        errors.required(&path.child(field), &source[*field]);
    }
}

/// A path of the node that leads out of where it begins.
fn backwards(value: &Value, path: &Path, errors: &mut Errors) {
    if text(value).split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value.clone(), "must not contain '..'"));
    }
}

fn csi(source: &Value, path: &Path, errors: &mut Errors) {
    driver_name(&source["driver"], &path.child("driver"), errors);
    errors.required(&path.child("volumeHandle"), &source["volumeHandle"]);
    let secrets = [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ];
    for (secret, at) in secrets.iter().map(|s| (&source[*s], path.child(s))).filter(|(s, _)| !s.is_null()) {
        errors.named(&at.child("name"), &secret["name"], names::dns1123_subdomain);
        errors.named(&at.child("namespace"), &secret["namespace"], names::dns1123_label);
    }
}

/// `ValidateCSIDriverName`.
pub fn driver_name(name: &Value, path: &Path, errors: &mut Errors) {
    if is_empty(name) {
        errors.push(FieldError::required(path, ""));
    }
    if text(name).len() > names::LABEL_MAX {
        errors.push(FieldError::too_long(path, names::LABEL_MAX));
    }
    let wrong = names::dns1123_subdomain(&text(name).to_lowercase());
    errors.invalid_all(path, &text(name).into(), wrong);
}

/// The fields of a map of parameters together, and how many there may be.
pub fn parameters(parameters: &Value, required: bool, path: &Path, errors: &mut Errors) {
    const MOST: usize = 512;
    const LARGEST: usize = 256 << 10;
    if entries(parameters).count() > MOST {
        errors.push(FieldError::too_long(path, MOST));
        return;
    }
    let mut size = 0;
    for (key, value) in entries(parameters) {
        if key.is_empty() {
            errors.push(FieldError::invalid(path, key, "field can not be empty."));
        }
        size += key.len() + text(value).len();
    }
    if size > LARGEST {
        errors.push(FieldError::too_long(path, LARGEST));
    }
    if required && is_empty(parameters) {
        errors.push(FieldError::required(path, "must contain at least one key/value pair"));
    }
}
