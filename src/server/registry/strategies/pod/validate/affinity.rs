//! Affinity to nodes and pods: `validateAffinity`.

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, entries, indexed, items, text};
use crate::server::registry::strategies::{node_selector, selector};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NO_SELECTOR: &str = "must not be specified when labelSelector is not set";

/// All that is wrong with `spec.affinity`.
pub fn validate(affinity: &Value, path: &Path, errors: &mut Errors) {
    of_nodes(&affinity["nodeAffinity"], &path.child("nodeAffinity"), errors);
    for field in ["podAffinity", "podAntiAffinity"] {
        of_pods(&affinity[field], &path.child(field), errors);
    }
}

fn of_nodes(affinity: &Value, path: &Path, errors: &mut Errors) {
    if !affinity[REQUIRED].is_null() {
        node_selector::validate(&affinity[REQUIRED], &path.child(REQUIRED), errors);
    }
    for (term, path) in indexed(&affinity[PREFERRED], &path.child(PREFERRED)) {
        weight(term, &path, errors);
        // Values that no label can have match nothing, which hurts no preference.
        node_selector::term(&term["preference"], false, &path.child("preference"), errors);
    }
}

fn weight(term: &Value, path: &Path, errors: &mut Errors) {
    let weight = term["weight"].as_i64().unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn of_pods(affinity: &Value, path: &Path, errors: &mut Errors) {
    for (term, path) in indexed(&affinity[REQUIRED], &path.child(REQUIRED)) {
        pod_term(term, &path, errors);
    }
    for (term, path) in indexed(&affinity[PREFERRED], &path.child(PREFERRED)) {
        weight(term, &path, errors);
        pod_term(&term["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
    }
}

/// `validatePodAffinityTerm`
fn pod_term(term: &Value, path: &Path, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        selector::validate(&term[field], &path.child(field), errors);
    }
    for namespace in items(&term["namespaces"]) {
        let reasons = names::dns1123_label(text(namespace));
        errors.invalid_all(&path.child("namespace"), namespace, reasons);
    }
    label_keys(term, path, errors);
    let (key, at) = (text(&term["topologyKey"]), path.child("topologyKey"));
    if key.is_empty() {
        errors.push(FieldError::required(&at, "can not be empty"));
    }
    errors.invalid_all(&at, &key.into(), names::qualified_name(key));
}

/// `validateMatchLabelKeysAndMismatchLabelKeys`. A pod's keys are in its selector already, once.
fn label_keys(term: &Value, path: &Path, errors: &mut Errors) {
    let wanted = &term["labelSelector"];
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let at = path.child(field);
        if wanted.is_null() && !items(&term[field]).is_empty() {
            errors.push(FieldError::forbidden(&at, NO_SELECTOR));
            continue;
        }
        for (key, path) in indexed(&term[field], &at) {
            errors.invalid_all(&path, key, names::qualified_name(text(key)));
        }
    }
    let keys: Vec<&str> = items(&term["matchLabelKeys"]).iter().map(text).collect();
    let mut given: Vec<&str> = entries(&wanted["matchLabels"]).map(|(key, _)| key).collect();
    for expression in items(&wanted["matchExpressions"]) {
        let key = text(&expression["key"]);
        if let Some(index) = keys.iter().position(|k| *k == key).filter(|_| given.contains(&key)) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(index), key, detail));
        }
        given.push(key);
    }
    let mismatched: Vec<&str> = items(&term["mismatchLabelKeys"]).iter().map(text).collect();
    for (index, key) in keys.iter().enumerate().filter(|(_, key)| mismatched.contains(*key)) {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(&path.child("matchLabelKeys").index(index), *key, detail));
    }
}
