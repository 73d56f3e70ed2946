//! ValidatingAdmissionPolicies and their bindings: `pkg/apis/admissionregistration/validation`.
//!
//! What can be said without compiling an expression.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{Errors, indexed, is_empty, items, text};
use super::selector;
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy, defaults};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

/// The strategy of ValidatingAdmissionPolicies.
pub struct PolicyStrategy;

impl Strategy for PolicyStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        policy(&object["spec"])
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::prepare_update(new, old);
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        policy(&new["spec"])
    }
}

fn policy(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    errors.one_of(&path.child("failurePolicy"), &spec["failurePolicy"], &["Fail", "Ignore"]);
    if !spec["paramKind"].is_null() {
        param_kind(&spec["paramKind"], &path.child("paramKind"), &mut errors);
    }
    let at = path.child("matchConstraints");
    if spec["matchConstraints"].is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        match_resources(&spec["matchConstraints"], &at, &mut errors);
        errors.required(&at.child("resourceRules"), &spec["matchConstraints"]["resourceRules"]);
    }
    if is_empty(&spec["validations"]) && is_empty(&spec["auditAnnotations"]) {
        for field in ["validations", "auditAnnotations"] {
            let detail = "validations or auditAnnotations must be non-empty";
            errors.push(FieldError::required(&path.child(field), detail));
        }
    }
    named(&spec["matchConditions"], names::qualified_name, &path.child("matchConditions"), &mut errors);
    named(&spec["variables"], |_| Vec::new(), &path.child("variables"), &mut errors);
    for (validation, path) in indexed(&spec["validations"], &path.child("validations")) {
        validate_validation(validation, &path, &mut errors);
    }
    let mut keys = BTreeSet::new();
    for (annotation, path) in indexed(&spec["auditAnnotations"], &path.child("auditAnnotations")) {
        let key = &annotation["key"];
        if errors.required(&path.child("key"), key) && !keys.insert(text(key)) {
            errors.push(FieldError::duplicate(&path.child("key"), key.clone()));
        }
        errors.required(&path.child("valueExpression"), &annotation["valueExpression"]);
    }
    errors.0
}

/// Expressions with names, no name twice.
fn named(list: &Value, rule: fn(&str) -> Vec<String>, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (item, path) in indexed(list, path) {
        errors.named(&path.child("name"), &item["name"], rule);
        if text(&item["expression"]).trim().is_empty() {
            errors.push(FieldError::required(&path.child("expression"), ""));
        }
        if !is_empty(&item["name"]) && !seen.insert(text(&item["name"])) {
            errors.push(FieldError::duplicate(&path.child("name"), item["name"].clone()));
        }
    }
}

fn validate_validation(validation: &Value, path: &Path, errors: &mut Errors) {
    let (expression, message) = (text(&validation["expression"]), text(&validation["message"]));
    if expression.trim().is_empty() {
        errors.push(FieldError::required(&path.child("expression"), "expression is not specified"));
    }
    let at = path.child("message");
    let broken = |text: &str| text.trim().contains(['\n', '\r']);
    if !message.is_empty() && message.trim().is_empty() {
        let detail = "message must be non-empty if specified";
        errors.push(FieldError::invalid(&at, message, detail));
    } else if broken(message) {
        errors.push(FieldError::invalid(&at, message, "message must not contain line breaks"));
    } else if message.is_empty() && broken(expression) {
        let detail = "message must be specified if expression contains line breaks";
        errors.push(FieldError::required(&at, detail));
    }
    errors.optionally_one_of(&path.child("reason"), &validation["reason"], &REASONS);
}

fn param_kind(kind: &Value, path: &Path, errors: &mut Errors) {
    let (version, at) = (&kind["apiVersion"], path.child("apiVersion"));
    if errors.required(&at, version) {
        let parts: Vec<&str> = text(version).split('/').collect();
        let (group, number) = match parts.as_slice() {
            [number] => ("", *number),
            [group, number] => (*group, *number),
            _ => {
                let detail = format!("unexpected GroupVersion string: {}", text(version));
                errors.push(FieldError::invalid(&at, version.clone(), detail));
                ("", "v1")
            }
        };
        for (part, wrong) in [
            (group, if group.is_empty() { Vec::new() } else { names::dns1123_subdomain(group) }),
            (number, names::dns1035_label(number)),
        ] {
            if !wrong.is_empty() {
                errors.push(FieldError::invalid(&at, part, wrong.join(",")));
            }
        }
    }
    let (name, at) = (&kind["kind"], path.child("kind"));
    if errors.required(&at, name) {
        let wrong = names::dns1035_label(&text(name).to_lowercase());
        if !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.push(FieldError::invalid(&at, name.clone(), detail));
        }
    }
}

fn match_resources(resources: &Value, path: &Path, errors: &mut Errors) {
    errors.one_of(&path.child("matchPolicy"), &resources["matchPolicy"], &["Equivalent", "Exact"]);
    // Upstream's path has another name than the second field.
    for (field, called) in [("namespaceSelector", "namespaceSelector"), ("objectSelector", "labelSelector")] {
        if resources[field].is_null() {
            errors.push(FieldError::required(&path.child(called), ""));
        } else {
            selector::validate(&resources[field], &path.child(called), errors);
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (rule, path) in indexed(&resources[field], &path.child(field)) {
            named_rule(rule, &path, errors);
        }
    }
}

fn named_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (name, path) in indexed(&rule["resourceNames"], &path.child("resourceNames")) {
        errors.invalid_all(&path, name, names::path_segment(text(name)));
        if !seen.insert(text(name)) {
            errors.push(FieldError::duplicate(&path, name.clone()));
        }
    }
    let at = path.child("operations");
    errors.required(&at, &rule["operations"]);
    let all = |value: &Value| text(value) == "*";
    if items(&rule["operations"]).len() > 1 && items(&rule["operations"]).iter().any(all) {
        let detail = "if '*' is present, must not specify other operations";
        errors.push(FieldError::invalid(&at, rule["operations"].clone(), detail));
    }
    for (operation, path) in indexed(&rule["operations"], &at) {
        if !OPERATIONS.contains(&text(operation)) {
            errors.push(FieldError::not_supported(&path, operation.clone(), &OPERATIONS));
        }
    }
    for (field, what) in
        [("apiGroups", "API groups"), ("apiVersions", "API versions"), ("resources", "resources")]
    {
        let at = path.child(field);
        errors.required(&at, &rule[field]);
        if field != "resources" && items(&rule[field]).len() > 1 && items(&rule[field]).iter().any(all) {
            let detail = format!("if '*' is present, must not specify other {what}");
            errors.push(FieldError::invalid(&at, rule[field].clone(), detail));
        }
        if field != "apiGroups" {
            for (value, path) in indexed(&rule[field], &at).filter(|(value, _)| is_empty(value)) {
                let _ = value;
                errors.push(FieldError::required(&path, ""));
            }
        }
    }
    errors.optionally_one_of(&path.child("scope"), &rule["scope"], &["*", "Cluster", "Namespaced"]);
}

/// The strategy of ValidatingAdmissionPolicyBindings.
pub struct BindingStrategy;

impl Strategy for BindingStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        binding(&object["spec"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        binding(&new["spec"])
    }
}

fn binding(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    errors.named(&path.child("policyName"), &spec["policyName"], names::dns1123_subdomain);
    if !spec["paramRef"].is_null() {
        param_ref(&spec["paramRef"], &path.child("paramRef"), &mut errors);
    }
    if !spec["matchResources"].is_null() {
        match_resources(&spec["matchResources"], &path.child("matchResources"), &mut errors);
    }
    actions(&spec["validationActions"], &path.child("validationActions"), &mut errors);
    errors.0
}

fn param_ref(reference: &Value, path: &Path, errors: &mut Errors) {
    let (name, chosen) = (&reference["name"], &reference["selector"]);
    errors.optionally_named(&path.child("name"), name, names::path_segment);
    if !is_empty(name) && !chosen.is_null() {
        let detail = "name and selector are mutually exclusive";
        errors.push(FieldError::forbidden(&path.child("name"), detail));
        errors.push(FieldError::forbidden(&path.child("selector"), detail));
    }
    selector::validate(chosen, &path.child("selector"), errors);
    if is_empty(name) && chosen.is_null() {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    let (action, at) = (&reference["parameterNotFoundAction"], path.child("parameterNotFoundAction"));
    errors.one_of(&at, action, &["Allow", "Deny"]);
}

fn actions(list: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (action, path) in indexed(list, path) {
        if !ACTIONS.contains(&text(action)) {
            errors.push(FieldError::not_supported(&path, action.clone(), &ACTIONS));
        }
        if !seen.insert(text(action)) {
            errors.push(FieldError::duplicate(&path, action.clone()));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, list.clone(), detail));
    }
    errors.required(path, list);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn told(errors: Vec<FieldError>, wanted: &[&str]) {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, wanted);
    }

    fn resources(rule: Value) -> Value {
        json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [rule]})
    }

    #[test]
    fn a_policy_says_what_it_matches_and_what_must_hold() {
        let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
        let good = json!({"failurePolicy": "Fail", "matchConstraints": resources(rule), "validations": [{"expression": "true"}]});
        told(policy(&good), &[]);
        told(
            policy(&json!({"failurePolicy": "Fail", "paramKind": {"kind": "A_", "apiVersion": "a/b/c"}})),
            &[
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "spec.paramKind.kind: Invalid value: \"A_\": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
                "spec.matchConstraints: Required value",
                "spec.validations: Required value: validations or auditAnnotations must be non-empty",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must be non-empty",
            ],
        );
        let odd = json!({"apiGroups": ["*", "a"], "apiVersions": [], "resources": ["pods"], "operations": ["*", "MAKE"], "resourceNames": ["a", "a"]});
        told(
            policy(&json!({"failurePolicy": "X", "matchConstraints": resources(odd),
                "validations": [{"expression": "a\n&& b", "reason": "Odd"}, {"message": " "}]})),
            &[
                "spec.failurePolicy: Unsupported value: \"X\": supported values: \"Fail\", \"Ignore\"",
                "spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: \"a\"",
                "spec.matchConstraints.resourceRules[0].operations: Invalid value: [\"*\",\"MAKE\"]: if '*' is present, must not specify other operations",
                "spec.matchConstraints.resourceRules[0].operations[1]: Unsupported value: \"MAKE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
                "spec.matchConstraints.resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other API groups",
                "spec.matchConstraints.resourceRules[0].apiVersions: Required value",
                "spec.validations[0].message: Required value: message must be specified if expression contains line breaks",
                "spec.validations[0].reason: Unsupported value: \"Odd\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\", \"Unauthorized\"",
                "spec.validations[1].expression: Required value: expression is not specified",
                "spec.validations[1].message: Invalid value: \" \": message must be non-empty if specified",
            ],
        );
    }

    #[test]
    fn a_binding_says_what_happens() {
        told(binding(&json!({"policyName": "p", "validationActions": ["Deny"]})), &[]);
        told(
            binding(
                &json!({"paramRef": {"name": "a", "selector": {}}, "validationActions": ["Deny", "Warn", "Odd"]}),
            ),
            &[
                "spec.policyName: Required value",
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.parameterNotFoundAction: Required value",
                "spec.validationActions[2]: Unsupported value: \"Odd\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Odd\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            ],
        );
    }
}
