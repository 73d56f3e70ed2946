//! The containers of a pod: `validateContainers`, `validateInitContainers`, `validateEphemeralContainers`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Scope, environment, mounts, ports, probe, resources, restart, security};
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};

/// Fields that containers which only debug may not have.
const NOT_EPHEMERAL: [&str; 8] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];
const EPHEMERAL: &str = "cannot be set for an Ephemeral Container";

/// All that is wrong with the containers of a spec.
pub fn lists(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    main(scope, &path.child("containers"), errors);
    init(scope, &path.child("initContainers"), errors);
    ephemeral(scope, &path.child("ephemeralContainers"), errors);
}

fn main(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let list = &scope.spec["containers"];
    if items(list).is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    let mut names = BTreeSet::new();
    for (container, path) in indexed(list, path) {
        common(container, scope, &path, errors);
        unique_name(container, &path, &mut names, errors);
        probe::of_container(container, scope.grace(), &path, errors);
        restart::policy(container, &path, errors);
    }
    let mut taken = BTreeSet::new();
    for (container, path) in indexed(list, path) {
        ports::host_conflicts(container, &path, &mut taken, errors);
    }
}

fn init(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let mut names: BTreeSet<&str> =
        items(&scope.spec["containers"]).iter().map(|c| text(&c["name"])).collect();
    for (container, at) in indexed(&scope.spec["initContainers"], path) {
        common(container, scope, &at, errors);
        restart::policy(container, &at, errors);
        unique_name(container, &at, &mut names, errors);
        // They run one after the other: each is checked alone, under the first one's path, also upstream.
        ports::host_conflicts(container, &path.index(0), &mut BTreeSet::new(), errors);
        if container["restartPolicy"] == "Always" {
            probe::of_container(container, scope.grace(), &at, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if !container[field].is_null() {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(&at.child(field), detail));
            }
        }
        if !is_empty(&container["resizePolicy"]) {
            let detail = "must not be set for init containers";
            let value = container["resizePolicy"].clone();
            errors.push(FieldError::invalid(&at.child("resizePolicy"), value, detail));
        }
    }
}

fn ephemeral(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let lasting = || ["containers", "initContainers"].into_iter().flat_map(|list| items(&scope.spec[list]));
    let targets: BTreeSet<&str> = lasting().map(|c| text(&c["name"])).collect();
    let mut names = targets.clone();
    for (container, path) in indexed(&scope.spec["ephemeralContainers"], path) {
        common(container, scope, &path, errors);
        padded_image(container, &path, errors);
        unique_name(container, &path, &mut names, errors);
        let target = &container["targetContainerName"];
        if !is_empty(target) && !targets.contains(text(target)) {
            errors.push(FieldError::not_found(&path.child("targetContainerName"), target.clone()));
        }
        for field in NOT_EPHEMERAL.into_iter().filter(|f| !is_empty(&container[*f])) {
            errors.push(FieldError::forbidden(&path.child(field), EPHEMERAL));
        }
        for (mount, path) in indexed(&container["volumeMounts"], &path.child("volumeMounts")) {
            for field in ["subPath", "subPathExpr"].into_iter().filter(|f| !is_empty(&mount[*f])) {
                errors.push(FieldError::forbidden(&path.child(field), EPHEMERAL));
            }
        }
    }
}

fn unique_name<'c>(container: &'c Value, path: &Path, names: &mut BTreeSet<&'c str>, errors: &mut Errors) {
    let name = text(&container["name"]);
    if !name.is_empty() && !names.insert(name) {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    }
}

/// `validateContainerCommon`
fn common(container: &Value, scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    errors.named(&path.child("name"), &container["name"], names::dns1123_label);
    errors.required(&path.child("image"), &container["image"]);
    let policies = ["File", "FallbackToLogsOnError"];
    let at = path.child("terminationMessagePolicy");
    errors.one_of(&at, &container["terminationMessagePolicy"], &policies);
    ports::validate(&container["ports"], &path.child("ports"), errors);
    environment::validate(container, scope, path, errors);
    mounts::volumes(container, scope, &path.child("volumeMounts"), errors);
    mounts::devices(container, scope, &path.child("volumeDevices"), errors);
    let policies = ["Always", "IfNotPresent", "Never"];
    errors.one_of(&path.child("imagePullPolicy"), &container["imagePullPolicy"], &policies);
    resources::validate(&container["resources"], &scope.claims, &path.child("resources"), errors);
    let at = path.child("resizePolicy");
    restart::resize_policy(&container["resizePolicy"], &at, &scope.spec["restartPolicy"], errors);
    security::of_container(&container["securityContext"], scope, &path.child("securityContext"), errors);
}

/// An image of a pod, not of a template, has no space around it.
pub fn padded_image(container: &Value, path: &Path, errors: &mut Errors) {
    let image = text(&container["image"]);
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, detail));
    }
}
