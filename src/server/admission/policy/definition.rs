//! Policies and bindings, compiled.

use std::sync::Arc;

use serde_json::Value;

use crate::api::{GroupVersionKind, LabelSelector, Object, Reason};
use crate::server::admission::matching::{Conditions, Criteria};
use crate::server::cel::{Program, Type};
use crate::server::registry::strategies::policies::variables;
use crate::server::registry::strategies::webhooks::compile as compile_expression;

/// An expression, or why it cannot be evaluated: stored by a version that could.
pub(super) struct Expression {
    pub(super) text: String,
    pub(super) program: Result<Program, String>,
}

/// One thing that has to be true.
pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: Reason,
}

/// A ValidatingAdmissionPolicy with its bindings.
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) criteria: Criteria,
    /// A failure to evaluate it refuses the request.
    pub(super) fail: bool,
    pub(super) param_kind: Option<GroupVersionKind>,
    pub(super) conditions: Conditions,
    pub(super) variables: Vec<(String, Expression)>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<Expression>,
    pub(super) bindings: Vec<Binding>,
}

/// Which parameters a binding uses.
pub(super) struct ParamRef {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) selector: Option<Result<LabelSelector, String>>,
    /// Without parameters the request is refused.
    pub(super) required: bool,
}

/// A ValidatingAdmissionPolicyBinding.
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) criteria: Option<Criteria>,
    pub(super) params: Option<ParamRef>,
    pub(super) deny: bool,
    pub(super) warn: bool,
    pub(super) audit: bool,
}

/// All policies that are bound, in the order of their names.
pub(super) fn compile(policies: &[Arc<Object>], bindings: &[Arc<Object>]) -> Vec<Policy> {
    let bindings: Vec<Value> = bindings.iter().map(|b| b.value()).collect();
    let all = policies.iter().map(|policy| {
        let mine = bindings.iter().filter(|b| b["spec"]["policyName"] == policy.name());
        Policy::of(policy.name(), &policy.value()["spec"], mine.map(Binding::of).collect())
    });
    all.filter(|policy| !policy.bindings.is_empty()).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Expression {
    fn of(value: &Value, known: &[(&str, Type)], types: &[Type]) -> Self {
        let text = text(value);
        let program = compile_expression(&text, known, types);
        Self { text, program }
    }

    /// Whether it asks for a composed variable.
    pub(super) fn mentions(&self, variable: &str) -> bool {
        let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut rest = self.text.as_str();
        while let Some((_, after)) = rest.split_once("variables.") {
            if after.strip_prefix(variable).is_some_and(|rest| !rest.starts_with(part_of_name)) {
                return true;
            }
            rest = after;
        }
        false
    }
}

impl Policy {
    fn of(name: &str, spec: &Value, bindings: Vec<Binding>) -> Self {
        let kind = &spec["paramKind"];
        let param_kind = kind.is_object().then(|| {
            let (version, kind) = (text(&kind["apiVersion"]), text(&kind["kind"]));
            GroupVersionKind::from_api_version(&version, &kind)
        });
        let (params, composed) = (param_kind.is_some(), !list(&spec["variables"]).is_empty());
        let known = variables(params, true, composed);
        let of_messages = variables(params, false, composed);
        let validation = |v: &Value| Validation {
            expression: Expression::of(&v["expression"], &known, &[Type::Bool]),
            message: text(&v["message"]).trim().to_owned(),
            message_expression: v["messageExpression"]
                .as_str()
                .filter(|e| !e.is_empty())
                .map(|_| Expression::of(&v["messageExpression"], &of_messages, &[Type::String])),
            reason: serde_json::from_value(v["reason"].clone()).unwrap_or(Reason::Invalid),
        };
        let variable = |v: &Value| (text(&v["name"]), Expression::of(&v["expression"], &known, &[]));
        Self {
            name: name.to_owned(),
            criteria: Criteria::of_policy(&spec["matchConstraints"]),
            fail: spec["failurePolicy"] != "Ignore",
            conditions: Conditions::of(&spec["matchConditions"], &known),
            variables: list(&spec["variables"]).iter().map(variable).collect(),
            validations: list(&spec["validations"]).iter().map(validation).collect(),
            annotations: list(&spec["auditAnnotations"])
                .iter()
                .map(|a| Expression::of(&a["valueExpression"], &known, &[]))
                .collect(),
            param_kind,
            bindings,
        }
    }
}

impl Binding {
    fn of(binding: &Value) -> Self {
        let spec = &binding["spec"];
        let does = |action: &str| list(&spec["validationActions"]).iter().any(|a| a == action);
        let params = &spec["paramRef"];
        let selector = &params["selector"];
        Self {
            name: text(&binding["metadata"]["name"]),
            criteria: spec["matchResources"]
                .is_object()
                .then(|| Criteria::of_policy(&spec["matchResources"])),
            params: params.is_object().then(|| ParamRef {
                namespace: text(&params["namespace"]),
                name: text(&params["name"]),
                selector: selector
                    .is_object()
                    .then(|| LabelSelector::from_value(selector).map_err(|e| e.to_string())),
                required: params["parameterNotFoundAction"] == "Deny",
            }),
            deny: does("Deny"),
            warn: does("Warn"),
            audit: does("Audit"),
        }
    }
}
