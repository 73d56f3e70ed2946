//! Where containers see volumes: `ValidateVolumeMounts`, `ValidateVolumeDevices`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Scope;
use super::volume::{descending, has_backstep};
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};

/// Names and paths of the other kind of mounts.
fn places<'c>(container: &'c Value, list: &str, path: &str) -> BTreeMap<&'c str, &'c str> {
    items(&container[list]).iter().map(|m| (text(&m["name"]), text(&m[path]))).collect()
}

/// The volumes a container mounts.
pub fn volumes(container: &Value, scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let devices = places(container, "volumeDevices", "devicePath");
    let mut seen = BTreeSet::new();
    for (mount, at) in indexed(&container["volumeMounts"], path) {
        let (name, place) = (text(&mount["name"]), text(&mount["mountPath"]));
        let (name_at, place_at) = (at.child("name"), at.child("mountPath"));
        errors.required(&name_at, &mount["name"]);
        if !scope.volumes.contains_key(name) {
            errors.push(FieldError::not_found(&name_at, name));
        }
        errors.required(&place_at, &mount["mountPath"]);
        if !seen.insert(place) {
            errors.push(FieldError::invalid(&place_at, place, "must be unique"));
        }
        if devices.contains_key(name) {
            let detail = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(&name_at, name, detail));
        }
        if devices.values().any(|device| *device == place) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&place_at, place, detail));
        }
        sub_path(mount, scope, &at, path, errors);
        if !mount["mountPropagation"].is_null() {
            propagation(mount, container, &path.child("mountPropagation"), errors);
        }
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

fn sub_path(mount: &Value, scope: &Scope<'_>, at: &Path, list: &Path, errors: &mut Errors) {
    let fields = ["subPath", "subPathExpr"];
    let of_image = scope.volumes.get(text(&mount["name"])).is_some_and(|v| !v["image"].is_null());
    for field in fields.into_iter().filter(|f| of_image && !is_empty(&mount[*f])) {
        let detail = "not allowed in image volume sources";
        errors.push(FieldError::invalid(&at.child(field), mount[field].clone(), detail));
    }
    descending(&mount["subPath"], &list.child("subPath"), errors);
    if fields.into_iter().all(|f| !is_empty(&mount[f])) {
        let detail = "subPathExpr and subPath are mutually exclusive";
        errors.push(FieldError::invalid(&at.child("subPathExpr"), mount["subPathExpr"].clone(), detail));
    }
    descending(&mount["subPathExpr"], &list.child("subPathExpr"), errors);
}

fn propagation(mount: &Value, container: &Value, path: &Path, errors: &mut Errors) {
    let modes = ["Bidirectional", "HostToContainer", "None"];
    let mode = &mount["mountPropagation"];
    if !modes.contains(&text(mode)) {
        errors.push(FieldError::not_supported(path, mode.clone(), &modes));
    }
    if mode == "Bidirectional" && container["securityContext"]["privileged"] != true {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn recursive_read_only(mount: &Value, path: &Path, errors: &mut Errors) {
    let mode = &mount["recursiveReadOnly"];
    match text(mode) {
        _ if mode.is_null() => {}
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if mount["readOnly"] != true {
                let detail = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(path, detail));
            }
            if !matches!(text(&mount["mountPropagation"]), "" | "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
        other => {
            errors.push(FieldError::not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]));
        }
    }
}

/// The block devices a container has.
pub fn devices(container: &Value, scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let mounts = places(container, "volumeMounts", "mountPath");
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (device, at) in indexed(&container["volumeDevices"], path) {
        let (name, place) = (text(&device["name"]), text(&device["devicePath"]));
        let (name_at, place_at) = (at.child("name"), at.child("devicePath"));
        errors.required(&name_at, &device["name"]);
        if !name.is_empty() && !names.insert(name) {
            errors.push(FieldError::invalid(&name_at, name, "must be unique"));
        }
        match scope.volumes.get(name) {
            None => errors.push(FieldError::not_found(&name_at, name)),
            Some(volume) if volume["persistentVolumeClaim"].is_null() && volume["ephemeral"].is_null() => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&name_at, name, detail));
            }
            Some(_) => {}
        }
        errors.required(&place_at, &device["devicePath"]);
        if paths.contains(place) {
            errors.push(FieldError::invalid(&place_at, place, "must be unique"));
        }
        if has_backstep(place) {
            errors.push(FieldError::invalid(&place_at, place, "can not contain backsteps ('..')"));
        } else {
            paths.insert(place);
        }
        if mounts.contains_key(name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(FieldError::invalid(&name_at, name, detail));
        }
        if mounts.values().any(|mount| *mount == place) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&place_at, place, detail));
        }
    }
}
