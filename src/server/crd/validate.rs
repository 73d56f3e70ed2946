//! What is wrong with a CustomResourceDefinition, beside its schemas.
//!
//! Follows `pkg/apis/apiextensions/validation` of upstream's apiextensions-apiserver, whose paths are those of
//! its internal version: what all versions have in common is told of `spec` and not of `spec.versions[0]`.

mod conversion;
mod selectable;

use serde_json::Value;

use super::conditions::{APPROVED, Approval, is_protected};
use super::schema::check_definition;
use crate::api::{FieldError, Meta, Path, names};
use crate::server::registry::strategies::check::{Errors, entries, indexed, is_empty, items, same, text};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// What is wrong with a new definition, or with one that replaces `old`.
pub(super) fn definition(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let spec = &object["spec"];
    let path = Path::new("spec");
    if old.is_none() {
        let (plural, group) = (text(&spec["names"]["plural"]), text(&spec["group"]));
        let name = Meta::of(object).name();
        if name != format!("{plural}.{group}") {
            let at = Path::new("metadata").child("name");
            errors.push(FieldError::invalid(&at, name, "must be spec.names.plural+\".\"+spec.group"));
        }
    }
    check_group_and_scope(spec, &path, &mut errors);
    check_versions(spec, &path, &mut errors);
    check_required_names(spec, &path.child("names"), &mut errors);
    check_names(&spec["names"], &path.child("names"), &mut errors);
    errors.0.extend(check_definition(spec, old.map(|old| &old["spec"])));
    check_common(spec, &path, &mut errors);
    conversion::check(spec, old, &path.child("conversion"), &mut errors);
    if let Some(old) = old {
        check_immutable(spec, old, &path, &mut errors);
    }
    errors.0.extend(status(object));
    check_stored_versions(object, &mut errors);
    check_approval(object, old, &mut errors);
    let keeps = |object: &Value| object["spec"]["preserveUnknownFields"] == true;
    if keeps(object) && !old.is_some_and(keeps) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&path.child("preserveUnknownFields"), true, why));
    }
    errors.0
}

/// What is wrong with the names in a status.
pub(super) fn status(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    check_names(&object["status"]["acceptedNames"], &Path::new("status").child("acceptedNames"), &mut errors);
    errors.0
}

/// Reasons of one text, as upstream joins them here.
fn joined(errors: &mut Errors, path: &Path, value: &Value, before: &str, reasons: &[String]) {
    if !reasons.is_empty() {
        errors.push(FieldError::invalid(path, value.clone(), format!("{before}{}", reasons.join(","))));
    }
}

fn check_group_and_scope(spec: &Value, path: &Path, errors: &mut Errors) {
    let (at, group) = (path.child("group"), &spec["group"]);
    let wrong = names::dns1123_subdomain(text(group));
    if errors.required(&at, group) {
        if !wrong.is_empty() {
            joined(errors, &at, group, "", &wrong);
        } else if !text(group).contains('.') {
            errors.push(FieldError::invalid(&at, group.clone(), "should be a domain with at least one dot"));
        }
    }
    errors.one_of(&path.child("scope"), &spec["scope"], &["Cluster", "Namespaced"]);
}

/// Whether all versions say the same of this; then it is told of `spec`.
fn is_common(spec: &Value, field: &str) -> bool {
    let versions = items(&spec["versions"]);
    versions.iter().all(|v| same(&v[field], &versions[0][field]))
}

fn check_versions(spec: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("versions");
    let versions = &spec["versions"];
    for (version, at) in indexed(versions, &at) {
        if version["schema"].get("openAPIV3Schema").is_none_or(Value::is_null) {
            errors.push(FieldError::required(&at.child("schema").child("openAPIV3Schema"), ""));
        }
    }
    for (version, at) in indexed(versions, &at) {
        let name = &version["name"];
        joined(errors, &at.child("name"), name, "", &names::dns1035_label(text(name)));
        check_deprecation(version, &at, errors);
        if !is_common(spec, "subresources") {
            check_scale(&version["subresources"]["scale"], &at.child("subresources"), errors);
        }
        if !is_common(spec, "additionalPrinterColumns") {
            check_columns(version, &at, errors);
        }
        if !is_common(spec, "selectableFields") {
            selectable::check(version, &at, errors);
        }
    }
    let mut known: Vec<&str> = items(versions).iter().map(|v| text(&v["name"])).collect();
    known.sort_unstable();
    if known.windows(2).any(|pair| pair[0] == pair[1]) {
        errors.push(FieldError::invalid(&at, versions.clone(), "must contain unique version names"));
    }
    if items(versions).iter().filter(|v| v["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&at, versions.clone(), why));
    }
}

/// What all versions have in common.
fn check_common(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(first) = items(&spec["versions"]).first() else { return };
    if is_common(spec, "subresources") {
        check_scale(&first["subresources"]["scale"], &path.child("subresources"), errors);
    }
    if is_common(spec, "additionalPrinterColumns") {
        check_columns(first, path, errors);
    }
    if is_common(spec, "selectableFields") {
        selectable::check(first, path, errors);
    }
}

fn check_deprecation(version: &Value, path: &Path, errors: &mut Errors) {
    let (at, warning) = (path.child("deprecationWarning"), &version["deprecationWarning"]);
    let Some(said) = warning.as_str() else { return };
    let mut push = |why: String| errors.push(FieldError::invalid(&at, warning.clone(), why));
    if version["deprecated"] != true {
        return push("can only be set for deprecated versions".into());
    }
    if said.len() > 256 {
        push("must be <= 256 characters long".into());
    }
    if said.is_empty() {
        push("must not be an empty string".into());
    }
    if let Some((index, _)) = said.char_indices().find(|(_, c)| c.is_control()) {
        let found = format!("non-printable character found at index {index}");
        push(format!("must only contain printable UTF-8 characters; {found}"));
    }
}

fn check_required_names(spec: &Value, path: &Path, errors: &mut Errors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        errors.required(&path.child(field), &spec["names"][field]);
    }
}

fn check_names(given: &Value, path: &Path, errors: &mut Errors) {
    const MIXED: &str = "may have mixed case, but should otherwise match: ";
    for (field, before) in [("plural", ""), ("singular", ""), ("kind", MIXED), ("listKind", MIXED)] {
        let value = &given[field];
        let checked = if before.is_empty() { text(value).to_owned() } else { text(value).to_lowercase() };
        if !is_empty(value) {
            joined(errors, &path.child(field), value, before, &names::dns1035_label(&checked));
        }
    }
    for (name, at) in indexed(&given["shortNames"], &path.child("shortNames")) {
        joined(errors, &at, name, "", &names::dns1035_label(text(name)));
    }
    if !is_empty(&given["kind"]) && given["kind"] == given["listKind"] {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), given["listKind"].clone(), why));
    }
    for (name, at) in indexed(&given["categories"], &path.child("categories")) {
        joined(errors, &at, name, "", &names::dns1035_label(text(name)));
    }
}

fn check_scale(scale: &Value, path: &Path, errors: &mut Errors) {
    if !scale.is_object() {
        return;
    }
    let places: [(&str, &[&str], &str, bool); 3] = [
        ("specReplicasPath", &[".spec."], "should be a json path under .spec", true),
        ("statusReplicasPath", &[".status."], "should be a json path under .status", true),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
            false,
        ),
    ];
    for (field, below, why, required) in places {
        let (at, value) = (path.child(&format!("scale.{field}")), &scale[field]);
        if is_empty(value) {
            if required {
                errors.push(FieldError::required(&at, ""));
            }
        } else if !text(value).starts_with('.') {
            errors.push(FieldError::invalid(&at, value.clone(), SIMPLE_PATH));
        } else if !below.iter().any(|prefix| text(value).starts_with(prefix)) {
            errors.push(FieldError::invalid(&at, value.clone(), why));
        }
    }
}

const SIMPLE_PATH: &str = "must be a simple json path starting with .";

fn check_columns(version: &Value, path: &Path, errors: &mut Errors) {
    for (column, at) in indexed(&version["additionalPrinterColumns"], &path.child("additionalPrinterColumns"))
    {
        errors.required(&at.child("name"), &column["name"]);
        let (kind, must) = (&column["type"], format!("must be one of {}", COLUMN_TYPES.join(",")));
        if is_empty(kind) {
            errors.push(FieldError::required(&at.child("type"), must));
        } else if !COLUMN_TYPES.contains(&text(kind)) {
            errors.push(FieldError::invalid(&at.child("type"), kind.clone(), must));
        }
        let format = &column["format"];
        if !is_empty(format) && !COLUMN_FORMATS.contains(&text(format)) {
            let must = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(&at.child("format"), format.clone(), must));
        }
        let (at, json_path) = (at.child("JSONPath"), &column["jsonPath"]);
        if errors.required(&at, json_path) && !text(json_path).starts_with('.') {
            errors.push(FieldError::invalid(&at, json_path.clone(), SIMPLE_PATH));
        }
    }
}

fn check_immutable(spec: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let before = &old["spec"];
    let conditions = items(&old["status"]["conditions"]);
    let established = conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True");
    let names = path.child("names");
    if established {
        errors.immutable(&path.child("scope"), &spec["scope"], &before["scope"]);
        errors.immutable(&names.child("kind"), &spec["names"]["kind"], &before["names"]["kind"]);
    }
    errors.immutable(&path.child("group"), &spec["group"], &before["group"]);
    errors.immutable(&names.child("plural"), &spec["names"]["plural"], &before["names"]["plural"]);
}

fn check_stored_versions(object: &Value, errors: &mut Errors) {
    let (at, stored) = (Path::new("status").child("storedVersions"), &object["status"]["storedVersions"]);
    if is_empty(stored) {
        let why = "must have at least one stored version";
        return errors.push(FieldError::invalid(&at, stored.clone(), why));
    }
    let versions = items(&object["spec"]["versions"]);
    for version in versions.iter().filter(|v| v["storage"] == true && !items(stored).contains(&v["name"])) {
        let why = format!("must have the storage version {}", text(&version["name"]));
        errors.push(FieldError::invalid(&at, stored.clone(), why));
    }
    for (name, at) in indexed(stored, &at).filter(|(name, _)| !versions.iter().any(|v| v["name"] == **name)) {
        let v = text(name);
        let why = format!(
            "missing from spec.versions; {v} was previously a storage version, and must remain in spec.versions \
             until a storage migration ensures no data remains persisted in {v} and removes {v} from \
             status.storedVersions"
        );
        errors.push(FieldError::invalid(&at, name.clone(), why));
    }
}

fn check_approval(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    if !is_protected(text(&object["spec"]["group"])) {
        return;
    }
    let annotation = |object: &Value| {
        let found = entries(&object["metadata"]["annotations"]).find(|(key, _)| *key == APPROVED);
        found.map(|(_, value)| text(value).to_owned()).unwrap_or_default()
    };
    let given = annotation(object);
    let (approval, reason) = Approval::of(&given);
    if old.is_some_and(|old| Approval::of(&annotation(old)).0 == approval) {
        return;
    }
    let at = Path::new("metadata").child("annotations").key(APPROVED);
    match approval {
        Approval::Missing => errors.push(FieldError::required(&at, reason)),
        Approval::Invalid => errors.push(FieldError::invalid(&at, given, reason)),
        Approval::Approved | Approval::Bypassed => {}
    }
}

#[cfg(test)]
mod tests;
