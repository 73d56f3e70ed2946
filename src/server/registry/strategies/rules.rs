//! Rules of webhooks and policies: `RuleWithOperations` of `admissionregistration.k8s.io/v1`.

use std::collections::HashSet;

use serde_json::Value;

use super::check::{Errors, indexed, items, text};
use crate::api::{FieldError, Path};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const ANY: &str = "*";

/// What is wrong with a rule.
pub fn validate(rule: &Value, path: &Path, errors: &mut Errors) {
    alone(&rule["operations"], &path.child("operations"), "operations", errors);
    for (operation, path) in indexed(&rule["operations"], &path.child("operations")) {
        if !OPERATIONS.contains(&text(operation)) {
            errors.push(FieldError::not_supported(&path, operation.clone(), &OPERATIONS));
        }
    }
    alone(&rule["apiGroups"], &path.child("apiGroups"), "API groups", errors);
    let at = path.child("apiVersions");
    alone(&rule["apiVersions"], &at, "API versions", errors);
    for (version, path) in indexed(&rule["apiVersions"], &at) {
        errors.required(&path, version);
    }
    validate_resources(&rule["resources"], &path.child("resources"), errors);
    errors.optionally_one_of(&path.child("scope"), &rule["scope"], &SCOPES);
}

/// A list has something in it, and nothing beside a star.
fn alone(list: &Value, path: &Path, what: &str, errors: &mut Errors) {
    if items(list).is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if items(list).len() > 1 && items(list).iter().any(|i| i == ANY) {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(path, list.clone(), detail));
    }
}

fn validate_resources(resources: &Value, path: &Path, errors: &mut Errors) {
    if items(resources).is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut whole, mut everywhere) = (HashSet::new(), HashSet::new());
    let mut plain = false;
    for (item, path) in indexed(resources, path) {
        let both = text(item);
        if !errors.required(&path, item) {
            continue;
        }
        let Some((resource, sub)) = both.split_once('/') else {
            plain = both != ANY;
            continue;
        };
        let mut invalid = |star: String| {
            let detail = format!("if '{star}' is present, must not specify {both}");
            errors.push(FieldError::invalid(&path, both, detail));
        };
        if whole.contains(resource) {
            invalid(format!("{resource}/*"));
        }
        if everywhere.contains(sub) {
            invalid(format!("*/{sub}"));
        }
        if sub == ANY {
            whole.insert(resource);
        }
        if resource == ANY {
            everywhere.insert(sub);
        }
    }
    let has = |wanted: &str| items(resources).iter().any(|i| i == wanted);
    let mut invalid = |detail: &str| errors.push(FieldError::invalid(path, resources.clone(), detail));
    if items(resources).len() > 1 && has("*/*") {
        invalid("if '*/*' is present, must not specify other resources");
    }
    if has(ANY) && plain {
        invalid("if '*' is present, must not specify other resources without subresources");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stars_stand_alone() {
        let wrong = |change: Value| {
            let mut rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
            json_patch::merge(&mut rule, &change);
            let mut errors = Errors::default();
            validate(&rule, &Path::new("rule"), &mut errors);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(wrong(json!({})).is_empty());
        assert!(wrong(json!({"resources": ["pods/*", "*/scale", "*"]})).is_empty());
        for (change, text) in [
            (json!({"operations": []}), "rule.operations: Required value"),
            (
                json!({"operations": ["*", "CREATE"]}),
                "rule.operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
            ),
            (
                json!({"operations": ["GET"]}),
                "rule.operations[0]: Unsupported value: \"GET\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
            ),
            (
                json!({"apiGroups": ["*", "a"]}),
                "rule.apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other API groups",
            ),
            (json!({"apiVersions": [""]}), "rule.apiVersions[0]: Required value"),
            (
                json!({"resources": ["pods/*", "pods/status"]}),
                "rule.resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status",
            ),
            (
                json!({"resources": ["*/*", "pods"]}),
                "rule.resources: Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not specify other resources",
            ),
            (
                json!({"resources": ["*", "pods"]}),
                "rule.resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
            ),
            (
                json!({"scope": "x"}),
                "rule.scope: Unsupported value: \"x\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ),
        ] {
            assert_eq!(wrong(change), [text]);
        }
    }
}
