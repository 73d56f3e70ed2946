//! StorageClasses and VolumeAttributesClasses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::source::parameters;
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, same, text};
use crate::server::registry::strategies::node_selector;
use crate::server::registry::strategy::{Context, Strategy};

/// The strategy of StorageClasses.
pub struct ClassStrategy;

impl Strategy for ClassStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        provisioner(&object["provisioner"], &Path::new("provisioner"), &mut errors);
        parameters(&object["parameters"], false, &Path::new("parameters"), &mut errors);
        let policies = ["Delete", "Retain"];
        errors.optionally_one_of(&Path::new("reclaimPolicy"), &object["reclaimPolicy"], &policies);
        let (modes, at) = (["Immediate", "WaitForFirstConsumer"], Path::new("volumeBindingMode"));
        errors.one_of(&at, &object["volumeBindingMode"], &modes);
        topologies(&object["allowedTopologies"], &mut errors);
        errors.0
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        stay(&["parameters", "provisioner", "reclaimPolicy"], new, old, &mut errors);
        let field = "volumeBindingMode";
        errors.immutable(&Path::new(field), &new[field], &old[field]);
        errors.0
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        for (term, path) in indexed(&object["allowedTopologies"], &Path::new("allowedTopologies")) {
            for (label, path) in indexed(&term["matchLabelExpressions"], &path.child("matchLabelExpressions"))
            {
                let why = node_selector::deprecated(text(&label["key"]));
                warnings.extend(why.map(|why| format!("{}: {why}", path.child("key"))));
            }
        }
        warnings
    }
}

fn stay(fields: &[&str], new: &Value, old: &Value, errors: &mut Errors) {
    for field in fields.iter().filter(|f| !same(&new[**f], &old[**f])) {
        let detail = format!("updates to {field} are forbidden.");
        errors.push(FieldError::forbidden(&Path::new(field), detail));
    }
}

fn provisioner(name: &Value, path: &Path, errors: &mut Errors) {
    if errors.required(path, name) {
        let lower = text(name).to_lowercase();
        errors.invalid_all(path, &lower.as_str().into(), names::qualified_name(&lower));
    }
}

fn topologies(terms: &Value, errors: &mut Errors) {
    let mut seen: Vec<&Value> = Vec::new();
    for (term, path) in indexed(terms, &Path::new("allowedTopologies")) {
        let at = path.child("matchLabelExpressions");
        let mut keys = BTreeSet::new();
        for (label, path) in indexed(&term["matchLabelExpressions"], &at) {
            let values = path.child("values");
            if items(&label["values"]).is_empty() {
                errors.push(FieldError::required(&values, ""));
            }
            let mut here = BTreeSet::new();
            for (value, path) in indexed(&label["values"], &values) {
                if !here.insert(text(value)) {
                    errors.push(FieldError::duplicate(&path, value.clone()));
                }
            }
            let (key, at) = (&label["key"], path.child("key"));
            errors.invalid_all(&at, key, names::qualified_name(text(key)));
            if !keys.insert(text(key)) {
                errors.push(FieldError::duplicate(&at, key.clone()));
            }
        }
        if seen.iter().any(|before| same(before, term)) && !is_empty(term) {
            errors.push(FieldError::duplicate(&at, ""));
        }
        seen.push(term);
    }
}

/// The strategy of VolumeAttributesClasses.
pub struct AttributesClassStrategy;

impl Strategy for AttributesClassStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        provisioner(&object["driverName"], &Path::new("driverName"), &mut errors);
        parameters(&object["parameters"], true, &Path::new("parameters"), &mut errors);
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        stay(&["driverName", "parameters"], new, old, &mut errors);
        errors.0.extend(self.validate_create(cx, new));
        errors.0
    }
}
