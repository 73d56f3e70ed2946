//! PersistentVolumeClaims.

use serde_json::{Value, json};

use super::{access_modes, class_and_mode, positive};
use crate::api::{FieldError, Path, Quantity, Status, names};
use crate::server::registry::strategies::check::{Errors, IMMUTABLE, entries, is_empty, same, text};
use crate::server::registry::strategies::selector;
use crate::server::registry::strategy::{Context, Strategy, defaults};

const SEALED: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// The strategy of PersistentVolumeClaims.
pub struct ClaimStrategy;

impl Strategy for ClaimStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["status"] = json!({"phase": "Pending"});
        normalize(&mut object["spec"], None);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        claim(&object["spec"], &Path::new("spec"))
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "status");
        normalize(&mut new["spec"], Some(&old["spec"]));
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        update(new, old)
    }

    fn validate_subresource(&self, _: &Context<'_>, _: &str, new: &Value, _: &Value) -> Vec<FieldError> {
        status(&new["status"])
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings(object)
    }
}

/// `dataSource` and `dataSourceRef` follow each other, where they can. The older of the two may name claims and
/// snapshots alone: another kind is dropped from it, as it always was.
fn normalize(spec: &mut Value, old: Option<&Value>) {
    let (one, other) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    let known = match text(&one["apiGroup"]) {
        "" => text(&one["kind"]) == "PersistentVolumeClaim",
        group => group == "snapshot.storage.k8s.io" && text(&one["kind"]) == "VolumeSnapshot",
    };
    let used = old.is_some_and(|old| !is_empty(&old["dataSource"]) || !is_empty(&old["dataSourceRef"]));
    if !other.is_null() {
        if one.is_null() && is_empty(&other["namespace"]) {
            spec["dataSource"] = other;
        }
    } else if !one.is_null() && (known || used) {
        spec["dataSourceRef"] = one;
    } else {
        spec["dataSource"] = Value::Null;
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
}

/// What is wrong with a claim's spec.
pub fn claim(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if is_empty(&spec["accessModes"]) {
        let detail = "at least 1 access mode is required";
        errors.push(FieldError::required(&path.child("accessModes"), detail));
    }
    selector::validate(&spec["selector"], &path.child("selector"), &mut errors);
    if !is_empty(&spec["accessModes"]) {
        access_modes(spec, path, "", &mut errors);
    }
    let at = path.child("resources").key("storage");
    match spec["resources"]["requests"].get("storage") {
        None => errors.push(FieldError::required(&at, "")),
        Some(value) => positive(value, &at, &mut errors),
    }
    class_and_mode(spec, path, &mut errors);
    for field in ["dataSource", "dataSourceRef"] {
        if !spec[field].is_null() {
            source(&spec[field], &path.child(field), &mut errors);
        }
    }
    sources_agree(spec, path, &mut errors);
    let rule = names::dns1123_subdomain;
    let at = path.child("volumeAttributesClassName");
    errors.optionally_named(&at, &spec["volumeAttributesClassName"], rule);
    errors.0
}

fn source(source: &Value, path: &Path, errors: &mut Errors) {
    errors.required(&path.child("name"), &source["name"]);
    errors.required(&path.child("kind"), &source["kind"]);
    let group = &source["apiGroup"];
    if is_empty(group) && text(&source["kind"]) != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(path, text(&source["kind"]), detail));
    }
    errors.optionally_named(&path.child("apiGroup"), group, names::dns1123_subdomain);
    errors.optionally_named(&path.child("namespace"), &source["namespace"], names::dns1123_label);
}

fn sources_agree(spec: &Value, path: &Path, errors: &mut Errors) {
    let (one, other) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if one.is_null() || other.is_null() {
        return;
    }
    let shown = path.child("dataSource");
    let differ = ["apiGroup", "kind", "name"].iter().any(|field| !same(&one[*field], &other[*field]));
    if !is_empty(&other["namespace"]) {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.push(FieldError::invalid(path, shown.as_str(), detail));
    } else if differ {
        errors.push(FieldError::invalid(path, shown.as_str(), "must match dataSourceRef"));
    }
}

fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors(claim(&new["spec"], &path));
    let (mut spec, was) = (new["spec"].clone(), &old["spec"]);
    // The volume's name is set once, when the claim is bound.
    if is_empty(&was["volumeName"]) {
        defaults::keep(&mut spec, was, "volumeName");
    }
    class_may_be_named_later(new, old, &mut spec, &mut errors);
    if new["status"]["phase"] == "Bound" {
        defaults::keep(&mut spec, was, "volumeAttributesClassName");
        if !spec["resources"]["requests"].is_null() {
            defaults::keep(&mut spec["resources"]["requests"], &was["resources"]["requests"], "storage");
        }
    }
    if !same(&spec, was) {
        let detail = format!("{SEALED}\n{}", difference(was, &spec));
        errors.push(FieldError::forbidden(&path, detail));
    }
    smaller(new, old, &path, &mut errors);
    errors.immutable(&Path::new("volumeMode"), &new["spec"]["volumeMode"], &was["volumeMode"]);
    attributes(new, old, &path, &mut errors);
    errors.0
}

/// A claim that has no class yet, or names it in the annotation of old, may name it.
fn class_may_be_named_later(new: &Value, old: &Value, spec: &mut Value, errors: &mut Errors) {
    let annotation = |object: &Value| object["metadata"]["annotations"][BETA_CLASS].clone();
    let (now, was) = (annotation(new), annotation(old));
    let class = &new["spec"]["storageClassName"];
    let unnamed = old["spec"]["storageClassName"].is_null() && !class.is_null();
    let upgraded = unnamed && !was.is_null() && *class == was && (now.is_null() || now == was);
    if !upgraded && !same(&now, &was) {
        let at = Path::new("metadata").child("annotations").child(BETA_CLASS);
        errors.push(FieldError::invalid(&at, now, IMMUTABLE));
    }
    if unnamed && (was.is_null() || *class == was) {
        defaults::keep(spec, &old["spec"], "storageClassName");
    }
}

/// A claim may give back what it has not got, as when a resize failed.
fn smaller(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let amount = |value: &Value| text(value).parse::<Quantity>().ok();
    let asked = |claim: &Value| amount(&claim["spec"]["resources"]["requests"]["storage"]);
    let has = amount(&old["status"]["capacity"]["storage"]);
    if asked(new) < asked(old) && asked(new) <= has {
        let at = path.child("resources").child("requests").child("storage");
        errors.push(FieldError::forbidden(&at, "field can not be less than status.capacity"));
    }
}

fn attributes(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let field = "volumeAttributesClassName";
    if new["spec"][field] == old["spec"][field] || old["status"]["currentVolumeAttributesClassName"].is_null()
    {
        return;
    }
    let what = match new["spec"][field].as_str() {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    let detail =
        format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
    errors.push(FieldError::forbidden(&path.child(field), detail));
}

/// The fields that differ, one a line: what was, what would be.
pub(super) fn difference(old: &Value, new: &Value) -> String {
    let mut keys: Vec<&str> = entries(old).chain(entries(new)).map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut lines = Vec::new();
    for key in keys.into_iter().filter(|key| !same(&old[*key], &new[*key])) {
        for (sign, side) in [('-', old), ('+', new)] {
            if let Some(value) = side.get(key) {
                lines.push(format!("{sign} {key}: {value}"));
            }
        }
    }
    lines.join("\n")
}

fn warnings(object: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if object["metadata"]["annotations"].get(BETA_CLASS).is_some() {
        let why = "deprecated since v1.8; use \"storageClassName\" attribute instead";
        warnings.push(format!("metadata.annotations[{BETA_CLASS}]: {why}"));
    }
    let path = Path::new("spec").child("resources");
    for field in ["requests", "limits"] {
        let amount = text(&object["spec"]["resources"][field]["storage"]).parse::<Quantity>();
        if let Ok(amount) = amount.as_ref()
            && amount.to_millis() % 1000 != 0
        {
            let at = path.child(field).key("storage");
            let shown = amount.to_string();
            warnings.push(format!("{at}: fractional byte value {shown:?} is invalid, must be an integer"));
        }
    }
    warnings
}

fn status(status: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = Errors::default();
    for (name, amount) in entries(&status["capacity"]) {
        whole(amount, &path.child("capacity").key(name), &mut errors);
    }
    let at = path.child("allocatedResourceStatuses");
    for (name, phase) in entries(&status["allocatedResourceStatuses"]) {
        resource_name(name, &at, &mut errors);
        if !RESIZES.contains(&text(phase)) {
            // Upstream shows the resource here, not its state.
            errors.push(FieldError::not_supported(&at, name, &RESIZES));
        }
    }
    let at = path.child("allocatedResources");
    for (name, amount) in entries(&status["allocatedResources"]) {
        if resource_name(name, &at, &mut errors) {
            whole(amount, &at.key(name), &mut errors);
        }
    }
    errors.0
}

fn whole(amount: &Value, path: &Path, errors: &mut Errors) {
    if text(amount).parse::<Quantity>().is_ok_and(|q| q.is_negative()) {
        errors.push(FieldError::invalid(path, amount.clone(), "must be a valid resource quantity"));
    }
}

/// `storage`, or a resource with another's prefix.
fn resource_name(name: &str, path: &Path, errors: &mut Errors) -> bool {
    let wrong = names::qualified_name(name);
    let native = !name.contains('/') || name.starts_with("kubernetes.io/");
    let valid = wrong.is_empty() && (!native || name == "storage");
    if wrong.is_empty() && !valid {
        errors.push(FieldError::not_supported(path, name, &["storage"]));
    }
    errors.invalid_all(path, &name.into(), wrong);
    valid
}
