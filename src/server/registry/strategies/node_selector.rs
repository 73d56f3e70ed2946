//! Selectors of nodes: `ValidateNodeSelector`.

use serde_json::Value;

use super::check::{Errors, entries, indexed, is_empty, items, text};
use crate::api::{FieldError, Path, names};

/// Labels of nodes that users should not use any more, and why: `pkg/api/node/util.go`.
const OLD_LABELS: [(&str, &str); 8] = [
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
];

/// Why a label of nodes should not be used any more.
pub fn deprecated(label: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == label).map(|(_, why)| *why)
}

/// What clients are warned of: labels of old in a `NodeSelector`.
pub fn warnings(selector: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (term, path) in indexed(&selector["nodeSelectorTerms"], &path.child("nodeSelectorTerms")) {
        warnings.extend(expression_warnings(&term["matchExpressions"], &path));
    }
    warnings
}

/// The same, in expressions of a term.
pub fn expression_warnings(expressions: &Value, path: &Path) -> Vec<String> {
    let old = indexed(expressions, &path.child("matchExpressions")).filter_map(|(item, path)| {
        let key = text(&item["key"]);
        Some(format!("{}: {key} is {}", path.child("key"), deprecated(key)?))
    });
    old.collect()
}

/// What clients are warned of: labels of old in a `LabelSelector` of nodes.
pub fn label_warnings(selector: &Value, path: &Path) -> Vec<String> {
    let mut warnings = expression_warnings(&selector["matchExpressions"], path);
    for (label, _) in entries(&selector["matchLabels"]) {
        let why = deprecated(label);
        warnings.extend(why.map(|why| format!("{}: {why}", path.child("matchLabels").child(label))));
    }
    warnings
}

const NO_OPERATOR: &str = "not a valid selector operator";

/// What is wrong with a `NodeSelector`.
pub fn validate(selector: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("nodeSelectorTerms");
    if is_empty(&selector["nodeSelectorTerms"]) {
        errors.push(FieldError::required(&at, "must have at least one node selector term"));
    }
    for (item, path) in indexed(&selector["nodeSelectorTerms"], &at) {
        term(item, true, &path, errors);
    }
}

/// What is wrong with a term; only where `strict`, with values that no label can have.
pub fn term(term: &Value, strict: bool, path: &Path, errors: &mut Errors) {
    for (item, path) in indexed(&term["matchExpressions"], &path.child("matchExpressions")) {
        expression(item, strict, &path, errors);
    }
    for (item, path) in indexed(&term["matchFields"], &path.child("matchFields")) {
        field(item, &path, errors);
    }
}

fn expression(item: &Value, strict: bool, path: &Path, errors: &mut Errors) {
    let (count, values) = (items(&item["values"]).len(), path.child("values"));
    match (text(&item["operator"]), count) {
        ("In" | "NotIn", 0) => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&values, detail));
        }
        ("Exists" | "DoesNotExist", 1..) => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&values, detail));
        }
        ("Gt" | "Lt", n) if n != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(&values, detail));
        }
        ("In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt", _) => {}
        (other, _) => errors.push(FieldError::invalid(&path.child("operator"), other, NO_OPERATOR)),
    }
    let key = text(&item["key"]);
    errors.invalid_all(&path.child("key"), &key.into(), names::qualified_name(key));
    for (value, path) in indexed(&item["values"], &values).filter(|_| strict) {
        errors.invalid_all(&path, value, names::label_value(text(value)));
    }
}

fn field(item: &Value, path: &Path, errors: &mut Errors) {
    match text(&item["operator"]) {
        "In" | "NotIn" if items(&item["values"]).len() != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(&path.child("values"), detail));
        }
        "In" | "NotIn" => {}
        other => errors.push(FieldError::invalid(&path.child("operator"), other, NO_OPERATOR)),
    }
    if text(&item["key"]) != "metadata.name" {
        let detail = "not a valid field selector key";
        errors.push(FieldError::invalid(&path.child("key"), text(&item["key"]), detail));
        return;
    }
    for (value, path) in indexed(&item["values"], &path.child("values")) {
        errors.invalid_all(&path, value, names::dns1123_subdomain(text(value)));
    }
}
