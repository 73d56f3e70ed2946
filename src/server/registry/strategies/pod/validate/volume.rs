//! Volumes: `ValidateVolumes`, and paths within them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::volume_sources;
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, items, text};

/// Checks all volumes, and answers the well-formed ones, which mounts may use.
pub fn validate<'v>(
    spec: &'v Value,
    pod: Option<&str>,
    path: &Path,
    errors: &mut Errors,
) -> BTreeMap<&'v str, &'v Value> {
    let claim_of = |volume: &str| pod.filter(|p| !p.is_empty()).map(|pod| format!("{pod}-{volume}"));
    let made: BTreeSet<String> = items(&spec["volumes"])
        .iter()
        .filter(|v| !v["ephemeral"].is_null())
        .filter_map(|v| claim_of(text(&v["name"])))
        .collect();
    let mut known = BTreeMap::new();
    for (volume, path) in indexed(&spec["volumes"], path) {
        let (name, at) = (text(&volume["name"]), path.child("name"));
        let mut wrong = Errors::default();
        volume_sources::validate(volume, pod, &path, &mut wrong);
        wrong.named(&at, &volume["name"], names::dns1123_label);
        if known.contains_key(name) {
            wrong.push(FieldError::duplicate(&at, name));
        }
        if wrong.0.is_empty() {
            known.insert(name, volume);
        }
        errors.0.extend(wrong.0);
        let claim = &volume["persistentVolumeClaim"]["claimName"];
        if made.contains(text(claim)) {
            let at = path.child("persistentVolumeClaim").child("claimName");
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(FieldError::invalid(&at, claim.clone(), detail));
        }
    }
    known
}

/// Whether a part of the path leads up.
pub fn has_backstep(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// A path without `..`.
pub fn no_backsteps(value: &Value, path: &Path, errors: &mut Errors) {
    if has_backstep(text(value)) {
        errors.push(FieldError::invalid(path, text(value), "must not contain '..'"));
    }
}

/// A path that stays below where it is used.
pub fn descending(value: &Value, path: &Path, errors: &mut Errors) {
    if text(value).starts_with('/') {
        errors.push(FieldError::invalid(path, text(value), "must be a relative path"));
    }
    no_backsteps(value, path, errors);
}

/// The same, for files that lie beside the `..data` of atomic updates.
pub fn non_reserved(value: &Value, path: &Path, errors: &mut Errors) {
    descending(value, path, errors);
    let text = text(value);
    if text.starts_with("..") && text != ".." && !text.starts_with("../") {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
}

/// Permissions of a file.
pub fn mode(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path, value.clone(), detail));
    }
}
