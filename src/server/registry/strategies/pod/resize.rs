//! `PUT …/pods/<name>/resize`: `ValidatePodResize`.

use serde_json::{Value, json};

use super::update::{MIRROR, raise_generation};
use super::{qos, validate};
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, entries, indexed, is_empty, items, same, text};
use crate::server::registry::strategy::defaults;

const LISTS: [&str; 2] = ["containers", "initContainers"];
const ONLY: &str = "only cpu and memory resources are mutable";
const ONLY_OF_SIDECARS: &str = "only cpu and memory resources for sidecar containers are mutable";
const NOT_OF_INIT: &str = "resources for non-sidecar init containers are immutable";

/// The containers are the same, in the same order.
fn same_containers(new: &Value, old: &Value) -> bool {
    LISTS.into_iter().all(|list| {
        let names = |spec: &Value| items(&spec[list]).iter().map(|c| c["name"].clone()).collect::<Vec<_>>();
        names(new) == names(old)
    })
}

/// Keeps everything but resources and resize policies of containers. Where containers are not the same the spec
/// stays as it came, for validation to refuse it.
pub fn keep_all_but_resources(new: &mut Value, old: &Value) {
    if !same_containers(&new["spec"], &old["spec"]) {
        return;
    }
    let wanted = new["spec"].clone();
    defaults::keep_metadata(new, old);
    defaults::keep(new, old, "spec");
    defaults::keep(new, old, "status");
    for list in LISTS {
        let containers = new["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, wanted) in containers.zip(items(&wanted[list])) {
            defaults::keep(container, wanted, "resources");
            defaults::keep(container, wanted, "resizePolicy");
        }
    }
    raise_generation(new, old);
}

/// What is wrong with a resize.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let refused = |why: &str| vec![FieldError::forbidden(&Path::default(), why)];
    let has_own =
        |pod: &Value| ["requests", "limits"].iter().any(|f| !is_empty(&pod["spec"]["resources"][f]));
    if has_own(old) || has_own(new) {
        return refused("pods with pod-level resources cannot be resized");
    }
    if old["metadata"]["annotations"].get(MIRROR).is_some() {
        return refused("static pods cannot be resized");
    }
    if old["spec"]["os"]["name"] == "windows" {
        return refused("windows pods cannot be resized");
    }
    let (spec, before, path) = (&new["spec"], &old["spec"], Path::new("spec"));
    if !same_containers(spec, before) {
        return vec![FieldError::forbidden(&path, ONLY)];
    }
    let mut errors = Errors(validate::pod(new));
    let class = text(&old["status"]["qosClass"]);
    if qos::class(spec) != if class.is_empty() { qos::class(before) } else { class } {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&path, class, detail));
    }
    let running =
        items(&old["status"]["containerStatuses"]).iter().find(|s| !s["state"]["running"].is_null());
    if running.is_some_and(|s| s["resources"].is_null()) {
        errors.push(FieldError::forbidden(&path, "Pod running on node without support for resize"));
    }
    for list in ["initContainers", "containers"] {
        let at = path.child(list);
        for ((container, at), was) in indexed(&spec[list], &at).zip(items(&before[list])) {
            if list == "containers" || was["restartPolicy"] == "Always" {
                removed(&container["resources"], &was["resources"], &at.child("resources"), &mut errors);
            }
        }
    }
    for list in LISTS {
        for (container, was) in items(&spec[list]).iter().zip(items(&before[list])) {
            let sidecar = was["restartPolicy"] == "Always";
            let (resizable, detail) = match (list, sidecar) {
                ("containers", _) => (true, ONLY),
                (_, true) => (true, ONLY_OF_SIDECARS),
                (_, false) => (false, NOT_OF_INIT),
            };
            let now = if resizable { with_compute_of(container, was) } else { container.clone() };
            if !equal(&now, was) {
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
    }
    errors.0
}

fn removed(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    for (field, what) in [("requests", "resource requests"), ("limits", "resource limits")] {
        if entries(&old[field]).any(|(name, _)| new[field].get(name).is_none()) {
            let detail = format!("{what} cannot be removed");
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
}

/// The container with the processors and memory it had.
fn with_compute_of(container: &Value, was: &Value) -> Value {
    let mut copy = container.clone();
    for field in ["requests", "limits"] {
        if was["resources"][field].is_null() {
            if let Some(resources) = copy["resources"].as_object_mut() {
                resources.remove(field);
            }
            continue;
        }
        for name in ["cpu", "memory"] {
            if copy["resources"][field].is_null() {
                copy["resources"][field] = json!({});
            }
            defaults::keep(&mut copy["resources"][field], &was["resources"][field], name);
        }
    }
    copy
}

fn equal(new: &Value, old: &Value) -> bool {
    let keys = entries(new).chain(entries(old)).map(|(key, _)| key);
    keys.into_iter().all(|key| same(&new[key], &old[key]))
}
