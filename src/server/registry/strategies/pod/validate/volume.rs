//! Volumes: `ValidateVolumes`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::container::{no_way_up, relative};
use super::environment;
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, entries, indexed, is_empty, text};

/// Fields of a pod that a file may show.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const HOST_PATH_TYPES: [&str; 7] =
    ["BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks all volumes, and answers the names that mounts may use.
pub fn validate(volumes: &Value, path: &Path, errors: &mut Errors) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for (volume, path) in indexed(volumes, path) {
        let (name, at) = (&volume["name"], path.child("name"));
        let before = errors.0.len();
        errors.named(&at, name, names::dns1123_label);
        if errors.0.len() == before && !known.insert(text(name).to_owned()) {
            errors.push(FieldError::duplicate(&at, name.clone()));
        }
        source(volume, &path, errors);
    }
    known
}

fn source(volume: &Value, path: &Path, errors: &mut Errors) {
    let mut given = 0;
    for (kind, value) in entries(volume).filter(|(kind, value)| *kind != "name" && !value.is_null()) {
        given += 1;
        let at = path.child(kind);
        if given > 1 {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
            continue;
        }
        match kind {
            "emptyDir" => {
                errors.quantity(&at.child("sizeLimit"), &value["sizeLimit"]);
            }
            "hostPath" => {
                errors.required(&at.child("path"), &value["path"]);
                no_way_up(&value["path"], &at.child("path"), errors);
                errors.optionally_one_of(&at.child("type"), &value["type"], &HOST_PATH_TYPES);
            }
            "secret" => {
                errors.required(&at.child("secretName"), &value["secretName"]);
                files(value, &at, errors);
            }
            "configMap" => {
                errors.required(&at.child("name"), &value["name"]);
                files(value, &at, errors);
            }
            "downwardAPI" => downward(value, &at, errors),
            "projected" => projected(value, &at, errors),
            "persistentVolumeClaim" => {
                errors.required(&at.child("claimName"), &value["claimName"]);
            }
            "nfs" => {
                errors.required(&at.child("server"), &value["server"]);
                if errors.required(&at.child("path"), &value["path"])
                    && !text(&value["path"]).starts_with('/')
                {
                    let detail = "must be an absolute path";
                    errors.push(FieldError::invalid(&at.child("path"), value["path"].clone(), detail));
                }
            }
            "csi" => {
                errors.required(&at.child("driver"), &value["driver"]);
            }
            "ephemeral" if value["volumeClaimTemplate"].is_null() => {
                errors.push(FieldError::required(&at.child("volumeClaimTemplate"), ""));
            }
            _ => {}
        }
    }
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn mode(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path, value.clone(), detail));
    }
}

/// Which keys become which files.
fn files(source: &Value, path: &Path, errors: &mut Errors) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    let mut seen = BTreeSet::new();
    for (item, path) in indexed(&source["items"], &path.child("items")) {
        errors.required(&path.child("key"), &item["key"]);
        if errors.required(&path.child("path"), &item["path"]) {
            relative(&item["path"], &path.child("path"), errors);
            if !seen.insert(text(&item["path"])) {
                errors.push(FieldError::duplicate(&path.child("path"), item["path"].clone()));
            }
        }
        mode(&item["mode"], &path.child("mode"), errors);
    }
}

fn downward(source: &Value, path: &Path, errors: &mut Errors) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    for (item, path) in indexed(&source["items"], &path.child("items")) {
        if errors.required(&path.child("path"), &item["path"]) {
            relative(&item["path"], &path.child("path"), errors);
        }
        let (field, resource) = (&item["fieldRef"], &item["resourceFieldRef"]);
        match (field.is_null(), resource.is_null()) {
            (false, true) => environment::field(field, &path.child("fieldRef"), &FILE_FIELDS, errors),
            (true, false) => {
                let at = path.child("resourceFieldRef");
                if is_empty(&resource["containerName"]) {
                    errors.push(FieldError::required(&at.child("containerName"), ""));
                }
                environment::resource(resource, &at, errors);
            }
            (true, true) => {
                let detail = "one of fieldRef and resourceFieldRef is required";
                errors.push(FieldError::required(&path.child("fieldRef"), detail));
            }
            (false, false) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(&path, "resource", detail));
            }
        }
    }
}

fn projected(volume: &Value, path: &Path, errors: &mut Errors) {
    mode(&volume["defaultMode"], &path.child("defaultMode"), errors);
    for (source, path) in indexed(&volume["sources"], &path.child("sources")) {
        let mut given = 0;
        for (kind, value) in entries(source).filter(|(_, value)| !value.is_null()) {
            given += 1;
            let at = path.child(kind);
            if given > 1 {
                errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type per source"));
                continue;
            }
            match kind {
                "secret" | "configMap" => {
                    errors.required(&at.child("name"), &value["name"]);
                    files(value, &at, errors);
                }
                "downwardAPI" => downward(value, &at, errors),
                "serviceAccountToken" => token(value, &at, errors),
                _ => {}
            }
        }
        if given == 0 {
            errors.push(FieldError::required(&path, "must specify a volume type"));
        }
    }
}

fn token(value: &Value, path: &Path, errors: &mut Errors) {
    let (seconds, at) = (&value["expirationSeconds"], path.child("expirationSeconds"));
    if seconds.as_i64().is_some_and(|s| s < 600) {
        errors.push(FieldError::invalid(
            &at,
            seconds.clone(),
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds.as_i64().is_some_and(|s| s > 1 << 32) {
        errors.push(FieldError::invalid(
            &at,
            seconds.clone(),
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    if errors.required(&path.child("path"), &value["path"]) {
        relative(&value["path"], &path.child("path"), errors);
    }
}
