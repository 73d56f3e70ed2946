//! ValidatingAdmissionPolicies and their bindings: `pkg/apis/admissionregistration/validation`.

mod typecheck;

use std::collections::HashSet;

use serde_json::{Value, json};

use super::check::{Errors, indexed, is_empty, items, text};
use super::webhooks::{POLICIES, VARIABLES, compile, validate_conditions};
use super::{rules, selector};
use crate::api::{FieldError, Meta, Path, Status, names};
use crate::server::cel::{RESERVED, Type};
use crate::server::registry::strategy::{Context, Strategy, defaults};

const MATCHES: [&str; 2] = ["Equivalent", "Exact"];
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION: usize = 5 * 1024;
const NOTHING: &str = "validations or auditAnnotations must contain at least one item";

/// What the expressions of a policy may name.
pub fn variables(params: bool, authorizer: bool, composed: bool) -> Vec<(&'static str, Type)> {
    let mut all: Vec<(&str, Type)> =
        VARIABLES.into_iter().filter(|(name, _)| authorizer || !name.starts_with("authorizer")).collect();
    if params {
        all.push(("params", Type::Dyn));
    }
    if composed {
        all.push(("variables", Type::Dyn));
    }
    all
}

/// ValidatingAdmissionPolicies.
pub struct PolicyStrategy;

impl Strategy for PolicyStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        defaults::prepare_create(object);
        checked(object);
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::prepare_update(new, old);
        if Meta::of(new).generation() != Meta::of(old).generation() {
            checked(new);
        }
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate_policy(object, None)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        validate_policy(new, Some(old))
    }
}

/// The status that says the expressions were looked at: they are when they are written.
fn checked(policy: &mut Value) {
    let generation = Meta::of(policy).generation();
    policy["status"]["observedGeneration"] = json!(generation);
    let warnings = typecheck::warnings(&policy["spec"]);
    policy["status"]["typeChecking"] =
        if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
}

/// ValidatingAdmissionPolicyBindings.
pub struct PolicyBindingStrategy;

impl Strategy for PolicyBindingStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate_binding(object)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        validate_binding(new)
    }
}

fn validate_policy(policy: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (spec, path) = (&policy["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    errors.one_of(&path.child("failurePolicy"), &spec["failurePolicy"], &POLICIES);
    let kind = &spec["paramKind"];
    if !kind.is_null() {
        validate_param_kind(kind, &path.child("paramKind"), &mut errors);
    }
    let constraints = path.child("matchConstraints");
    if spec["matchConstraints"].is_null() {
        errors.push(FieldError::required(&constraints, ""));
    } else {
        validate_match(&spec["matchConstraints"], &constraints, &mut errors);
        errors.required(&constraints.child("resourceRules"), &spec["matchConstraints"]["resourceRules"]);
    }
    let same = |field: &str| old.is_some_and(|old| old["spec"][field] == spec[field]);
    let (params, composed) = (!kind.is_null(), !is_empty(&spec["variables"]));
    if !(same("matchConditions") && same("paramKind")) {
        let at = path.child("matchConditions");
        validate_conditions(&spec["matchConditions"], &at, &variables(params, true, false), &mut errors);
    }
    let known = variables(params, true, composed);
    for (variable, path) in indexed(&spec["variables"], &path.child("variables")) {
        validate_variable(variable, &path, &known, &mut errors);
    }
    let (validations, annotations) = (path.child("validations"), path.child("auditAnnotations"));
    if is_empty(&spec["validations"]) && is_empty(&spec["auditAnnotations"]) {
        errors.push(FieldError::required(&validations, NOTHING));
        errors.push(FieldError::required(&annotations, NOTHING));
        return errors.0;
    }
    let of_messages = variables(params, false, composed);
    for (validation, path) in indexed(&spec["validations"], &validations) {
        validate_validation(validation, &path, &known, &of_messages, &mut errors);
    }
    validate_annotations(policy, &annotations, &known, &mut errors);
    errors.0
}

fn validate_param_kind(kind: &Value, path: &Path, errors: &mut Errors) {
    let (version, at) = (text(&kind["apiVersion"]), path.child("apiVersion"));
    if errors.required(&at, &kind["apiVersion"]) {
        let invalid = |value: &str, why: String| FieldError::invalid(&at, value, why);
        match version.split('/').collect::<Vec<_>>().as_slice() {
            [_, _, _, ..] => {
                errors.push(invalid(version, format!("unexpected GroupVersion string: {version}")));
            }
            parts => {
                let (group, version_part) = if let [group, v] = parts { (*group, *v) } else { ("", version) };
                let wrong = names::dns1123_subdomain(group);
                if !group.is_empty() && !wrong.is_empty() {
                    errors.push(invalid(group, wrong.join(",")));
                }
                let wrong = names::dns1035_label(version_part);
                if version_part.is_empty() {
                    errors.push(invalid(version, "version must be specified".to_owned()));
                } else if !wrong.is_empty() {
                    errors.push(invalid(version_part, wrong.join(",")));
                }
            }
        }
    }
    let (name, at) = (text(&kind["kind"]), path.child("kind"));
    if errors.required(&at, &kind["kind"]) {
        let wrong = names::dns1035_label(&name.to_lowercase());
        if !wrong.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.push(FieldError::invalid(&at, name, why));
        }
    }
}

fn validate_match(resources: &Value, path: &Path, errors: &mut Errors) {
    errors.one_of(&path.child("matchPolicy"), &resources["matchPolicy"], &MATCHES);
    for field in ["namespaceSelector", "objectSelector"] {
        let at = path.child(field);
        if resources[field].is_null() {
            errors.push(FieldError::required(&at, ""));
        } else {
            selector::validate(&resources[field], &at, errors);
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (rule, path) in indexed(&resources[field], &path.child(field)) {
            let mut seen = HashSet::new();
            for (name, path) in indexed(&rule["resourceNames"], &path.child("resourceNames")) {
                errors.invalid_all(&path, name, names::path_segment(text(name)));
                if !seen.insert(text(name)) {
                    errors.push(FieldError::duplicate(&path, name.clone()));
                }
            }
            rules::validate(rule, &path, errors);
        }
    }
}

/// An expression that is given compiles.
fn validate_expression(
    value: &Value,
    path: &Path,
    (known, types): (&[(&str, Type)], &[Type]),
    errors: &mut Errors,
) {
    if text(value).trim().is_empty() {
        errors.push(FieldError::required(path, "expression is not specified"));
    } else if let Err(why) = compile(text(value), known, types) {
        errors.push(FieldError::invalid(path, value.clone(), why));
    }
}

fn validate_variable(variable: &Value, path: &Path, known: &[(&str, Type)], errors: &mut Errors) {
    let (name, at) = (text(&variable["name"]), path.child("name"));
    let mut bytes = name.bytes();
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let identifier = bytes.next().is_some_and(letter) && bytes.all(|b| letter(b) || b.is_ascii_digit());
    if name.trim().is_empty() {
        errors.push(FieldError::required(&at, "name is not specified"));
    } else if !identifier || RESERVED.contains(&name) {
        errors.push(FieldError::invalid(&at, name, "name is not a valid CEL identifier"));
    }
    validate_expression(&variable["expression"], &path.child("expression"), (known, &[]), errors);
}

fn validate_validation(
    validation: &Value,
    path: &Path,
    known: &[(&str, Type)],
    of_messages: &[(&str, Type)],
    errors: &mut Errors,
) {
    let at = path.child("expression");
    validate_expression(&validation["expression"], &at, (known, &[Type::Bool]), errors);
    let (expression, at) = (&validation["messageExpression"], path.child("messageExpression"));
    if !is_empty(expression) {
        if text(expression).trim().is_empty() {
            errors.push(FieldError::invalid(&at, expression.clone(), "must be non-empty if specified"));
        } else {
            validate_expression(expression, &at, (of_messages, &[Type::String]), errors);
        }
    }
    let (message, at) = (text(&validation["message"]), path.child("message"));
    if !message.is_empty() && message.trim().is_empty() {
        errors.push(FieldError::invalid(&at, message, "message must be non-empty if specified"));
    } else if message.trim().contains(['\n', '\r']) {
        errors.push(FieldError::invalid(&at, message, "message must not contain line breaks"));
    }
    errors.optionally_one_of(&path.child("reason"), &validation["reason"], &REASONS);
}

fn validate_annotations(policy: &Value, path: &Path, known: &[(&str, Type)], errors: &mut Errors) {
    let all = &policy["spec"]["auditAnnotations"];
    if items(all).len() > MAX_ANNOTATIONS {
        let why = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(path, all.clone(), why));
    }
    let mut keys = HashSet::new();
    for (annotation, path) in indexed(all, path) {
        let (key, at) = (text(&annotation["key"]), path.child("key"));
        let full = format!("{}/{key}", Meta::of(policy).name());
        errors.invalid_all(&at, &json!(full), names::qualified_name(&full));
        let (value, of_value) = (&annotation["valueExpression"], path.child("valueExpression"));
        if text(value).trim().is_empty() {
            errors.push(FieldError::required(&of_value, "valueExpression is not specified"));
        } else if text(value).trim().len() > MAX_ANNOTATION {
            let why = format!("must not exceed {MAX_ANNOTATION} bytes in length");
            errors.push(FieldError::required(&of_value, why));
        } else {
            validate_expression(value, &of_value, (known, &[Type::String, Type::Null]), errors);
        }
        if !keys.insert(key) {
            errors.push(FieldError::duplicate(&at, key));
        }
    }
}

fn validate_binding(binding: &Value) -> Vec<FieldError> {
    let (spec, path) = (&binding["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    errors.named(&path.child("policyName"), &spec["policyName"], names::dns1123_subdomain);
    if !spec["paramRef"].is_null() {
        validate_param_ref(&spec["paramRef"], &path.child("paramRef"), &mut errors);
    }
    if !spec["matchResources"].is_null() {
        // Upstream's path, with its slip.
        validate_match(&spec["matchResources"], &path.child("matchResouces"), &mut errors);
    }
    let (actions, at) = (&spec["validationActions"], path.child("validationActions"));
    let mut seen = HashSet::new();
    for (action, path) in indexed(actions, &at) {
        errors.optionally_one_of(&path, action, &ACTIONS);
        if !seen.insert(text(action)) {
            errors.push(FieldError::duplicate(&path, action.clone()));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                   API response and headers serves no purpose)";
        errors.push(FieldError::invalid(&at, actions.clone(), why));
    }
    if seen.is_empty() {
        errors.push(FieldError::required(&at, "at least one validation action is required"));
    }
    errors.0
}

fn validate_param_ref(param: &Value, path: &Path, errors: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, chosen) = (text(&param["name"]), &param["selector"]);
    if !name.is_empty() {
        errors.invalid_all(&path.child("name"), &param["name"], names::path_segment(name));
        if !chosen.is_null() {
            errors.push(FieldError::forbidden(&path.child("name"), EXCLUSIVE));
        }
    }
    if !chosen.is_null() {
        selector::validate(chosen, &path.child("selector"), errors);
        if !name.is_empty() {
            errors.push(FieldError::forbidden(&path.child("selector"), EXCLUSIVE));
        }
    }
    if name.is_empty() && chosen.is_null() {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    let at = path.child("parameterNotFoundAction");
    errors.one_of(&at, &param["parameterNotFoundAction"], &["Deny", "Allow"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: Value) -> Value {
        let mut policy = json!({"metadata": {"name": "p"}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [
                {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "resourceNames": ["a"]}]},
            "validations": [{"expression": "true"}],
        }});
        json_patch::merge(&mut policy["spec"], &change);
        policy
    }

    #[test]
    fn what_is_wrong_with_a_policy_has_upstreams_words() {
        let wrong = |change: Value| {
            let errors = validate_policy(&policy(change), None);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(wrong(json!({})).is_empty());
        for (change, texts) in [
            (json!({"failurePolicy": null}), vec!["spec.failurePolicy: Required value"]),
            (json!({"matchConstraints": null}), vec!["spec.matchConstraints: Required value"]),
            (
                json!({"matchConstraints": {"resourceRules": null}}),
                vec!["spec.matchConstraints.resourceRules: Required value"],
            ),
            (
                json!({"validations": null}),
                vec![
                    "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                    "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
                ],
            ),
            (
                json!({"validations": [{"expression": " "}]}),
                vec!["spec.validations[0].expression: Required value: expression is not specified"],
            ),
            (
                json!({"validations": [{"expression": "true", "message": "a\nb", "reason": "x"}]}),
                vec![
                    "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
                    "spec.validations[0].reason: Unsupported value: \"x\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
                ],
            ),
            (
                json!({"variables": [{"name": "for", "expression": "true"}]}),
                vec!["spec.variables[0].name: Invalid value: \"for\": name is not a valid CEL identifier"],
            ),
            (json!({"paramKind": {"apiVersion": "v1"}}), vec!["spec.paramKind.kind: Required value"]),
        ] {
            assert_eq!(wrong(change), texts);
        }
    }

    #[test]
    fn what_is_wrong_with_a_binding_has_upstreams_words() {
        let wrong = |change: Value| {
            let mut binding = json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}});
            json_patch::merge(&mut binding["spec"], &change);
            validate_binding(&binding).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(wrong(json!({})).is_empty());
        for (change, text) in [
            (json!({"policyName": null}), "spec.policyName: Required value"),
            (
                json!({"validationActions": []}),
                "spec.validationActions: Required value: at least one validation action is required",
            ),
            (
                json!({"paramRef": {"parameterNotFoundAction": "Deny"}}),
                "spec.paramRef: Required value: one of name or selector must be specified",
            ),
            (json!({"paramRef": {"name": "a"}}), "spec.paramRef.parameterNotFoundAction: Required value"),
        ] {
            assert_eq!(wrong(change), [text]);
        }
        let both = wrong(json!({"validationActions": ["Deny", "Warn"]}));
        assert!(both[0].contains("must not contain both Deny and Warn"), "{both:?}");
    }

    #[test]
    fn the_status_says_that_the_expressions_were_looked_at() {
        let mut policy = policy(json!({}));
        defaults::prepare_create(&mut policy);
        checked(&mut policy);
        assert_eq!(policy["status"], json!({"observedGeneration": 1, "typeChecking": {}}));
    }
}
