//! Volumes made of other objects: configMap, secret, downwardAPI, projected.

use std::collections::BTreeSet;

use serde_json::Value;

use super::environment;
use super::volume::{mode, non_reserved};
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};
use crate::server::registry::strategies::selector;

/// Fields of a pod that a file may show, sorted.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const TOKEN_SECONDS: std::ops::RangeInclusive<i64> = 600..=1 << 32;

/// A volume that is one Secret or ConfigMap, called by `name_field`.
pub fn single(source: &Value, name_field: &str, path: &Path, errors: &mut Errors) {
    errors.required(&path.child(name_field), &source[name_field]);
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    keys(source, path, errors);
}

/// Which keys become which files.
fn keys(source: &Value, path: &Path, errors: &mut Errors) {
    for (item, path) in indexed(&source["items"], &path.child("items")) {
        key_to_path(item, &path, errors);
    }
}

fn key_to_path(item: &Value, path: &Path, errors: &mut Errors) {
    errors.required(&path.child("key"), &item["key"]);
    errors.required(&path.child("path"), &item["path"]);
    non_reserved(&item["path"], &path.child("path"), errors);
    mode(&item["mode"], &path.child("mode"), errors);
}

/// A volume of fields of the pod. The path of an item is that of the volume, also upstream.
pub fn downward(source: &Value, path: &Path, errors: &mut Errors) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    items(&source["items"]).iter().for_each(|item| downward_file(item, path, errors));
}

fn downward_file(item: &Value, path: &Path, errors: &mut Errors) {
    errors.required(&path.child("path"), &item["path"]);
    non_reserved(&item["path"], &path.child("path"), errors);
    let (field, resource) = (&item["fieldRef"], &item["resourceFieldRef"]);
    if !field.is_null() {
        environment::field(field, &path.child("fieldRef"), &FILE_FIELDS, errors);
        if !resource.is_null() {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(FieldError::invalid(path, "resource", detail));
        }
    } else if !resource.is_null() {
        environment::resource(resource, &path.child("resourceFieldRef"), true, errors);
    } else {
        errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required"));
    }
    mode(&item["mode"], &path.child("mode"), errors);
}

/// A volume of several sources, whose files have paths of their own.
pub fn projected(volume: &Value, path: &Path, errors: &mut Errors) {
    mode(&volume["defaultMode"], &path.child("defaultMode"), errors);
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    for (source, at) in indexed(&volume["sources"], &path.child("sources")) {
        let mut given = 0;
        for kind in ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle"] {
            let (value, at) = (&source[kind], at.child(kind));
            if value.is_null() {
                continue;
            }
            given += 1;
            match kind {
                "secret" | "configMap" => {
                    errors.required(&at.child("name"), &value["name"]);
                    for (item, at) in indexed(&value["items"], &at.child("items")) {
                        key_to_path(item, &at, errors);
                        take(&item["path"], &value["name"], path, &mut taken, errors);
                    }
                }
                "downwardAPI" => {
                    for item in items(&value["items"]) {
                        downward_file(item, &at, errors);
                        take(&item["path"], &item["path"], path, &mut taken, errors);
                    }
                }
                "serviceAccountToken" => token(value, path, &at, errors),
                _ => {
                    trust_bundle(value, &at, errors);
                    take(&value["path"], &value["path"], path, &mut taken, errors);
                }
            }
        }
        if given > 1 {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type per source"));
        }
    }
}

fn take<'v>(file: &'v Value, shown: &Value, path: &Path, taken: &mut BTreeSet<&'v str>, errors: &mut Errors) {
    if !is_empty(file) && !taken.insert(text(file)) {
        errors.push(FieldError::invalid(path, shown.clone(), "conflicting duplicate paths"));
    }
}

fn token(value: &Value, volume: &Path, path: &Path, errors: &mut Errors) {
    let (seconds, at) =
        (value["expirationSeconds"].as_i64().unwrap_or_default(), path.child("expirationSeconds"));
    if seconds < *TOKEN_SECONDS.start() {
        let detail = "may not specify a duration less than 10 minutes";
        errors.push(FieldError::invalid(&at, seconds, detail));
    }
    if seconds > *TOKEN_SECONDS.end() {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.push(FieldError::invalid(&at, seconds, detail));
    }
    errors.required(&volume.child("path"), &value["path"]);
    non_reserved(&value["path"], &volume.child("path"), errors);
}

fn trust_bundle(value: &Value, path: &Path, errors: &mut Errors) {
    let (name, signer, chosen) = (&value["name"], &value["signerName"], &value["labelSelector"]);
    match (name.is_null(), signer.is_null()) {
        (false, false) => {
            let detail = "only one of name and signerName may be used";
            errors.push(FieldError::invalid(path, value.clone(), detail));
        }
        (false, true) => {
            if is_empty(name) {
                errors.push(FieldError::required(&path.child("name"), "must be a valid object name"));
            }
            for why in names::dns1123_subdomain(&text(name).replace(':', ".")) {
                let detail = format!("not a valid clustertrustbundlename: {why}");
                errors.push(FieldError::invalid(&path.child("name"), name.clone(), detail));
            }
            if !chosen.is_null() {
                let detail = "labelSelector must be unset if name is specified";
                errors.push(FieldError::invalid(&path.child("labelSelector"), chosen.clone(), detail));
            }
        }
        (true, false) => {
            if is_empty(signer) {
                errors.push(FieldError::required(&path.child("signerName"), "must be a valid signer name"));
            }
            selector::validate(chosen, &path.child("labelSelector"), errors);
        }
        (true, true) => {
            errors.push(FieldError::required(path, "either name or signerName must be specified"));
        }
    }
    errors.required(&path.child("path"), &value["path"]);
    non_reserved(&value["path"], &path.child("path"), errors);
}
