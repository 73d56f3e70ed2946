//! The rules of one schema: written as they must be, compiling, not too expensive.

use serde_json::{Map, Value};

use super::cost::{RULE_LIMIT, too_much};
use super::given;
use super::standard::{Found, Rulable, Walk};
use crate::api::field::{ErrorType, quote};
use crate::api::{FieldError, Path};
use crate::server::cel::MOST_REQUEST_BYTES;
use crate::server::crd::schema::field_path;
use crate::server::crd::schema::rules::{CompiledRule, compile_rule};
use crate::server::crd::schema::structural::{Rule, Structural};

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What is wrong with them.
pub(super) fn check(
    walk: &mut Walk,
    schema: &Map<String, Value>,
    path: &Path,
    uncorrelatable: Option<&Path>,
    rulable: Option<&Rulable<'_>>,
    found: &mut Found,
) {
    if !given(schema, "x-kubernetes-validations") {
        return;
    }
    let path = path.child("x-kubernetes-validations");
    let Ok(parsed) = Structural::parse(&Value::Object(schema.clone())) else { return };
    for (index, rule) in parsed.rules.iter().enumerate() {
        written(rule, &parsed, &path.index(index), &mut found.schema);
    }
    let (true, Some(rulable)) = (found.schema.is_empty(), rulable) else { return };
    let Some(decl) = &rulable.decl else {
        let why = "internal error: failed to retrieve type information for x-kubernetes-validations";
        found.rules.push(FieldError::internal(&path, why));
        return;
    };
    // Where nothing bounds how many there are, the size of a request does.
    let cardinality = rulable.cardinality.unwrap_or(MOST_REQUEST_BYTES / (decl.min_size + 1));
    for (index, rule) in parsed.rules.iter().enumerate() {
        let compiled = compile_rule(rule, decl);
        let mut errors = Vec::new();
        judge(walk, rule, &compiled, cardinality, &path.index(index), uncorrelatable, &mut errors);
        found.rules.extend(errors);
    }
}

fn has_newlines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// Whether a rule is written as it must be.
fn written(rule: &Rule, schema: &Structural, path: &Path, errors: &mut Vec<FieldError>) {
    let (text, message) = (rule.rule.trim(), rule.message.trim());
    if text.is_empty() {
        errors.push(FieldError::required(&path.child("rule"), "rule is not specified"));
    } else if !rule.message.is_empty() && message.is_empty() {
        let path = path.child("message");
        errors.push(FieldError::invalid(&path, &*rule.message, "must be non-empty if specified"));
    } else if has_newlines(message) {
        let path = path.child("message");
        errors.push(FieldError::invalid(&path, &*rule.message, "must not contain line breaks"));
    } else if has_newlines(text) && message.is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required(&path.child("message"), detail));
    }
    if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(&path.child("messageExpression"), detail));
    }
    if !rule.reason.is_empty() && !REASONS.contains(&&*rule.reason) {
        errors.push(FieldError::not_supported(&path.child("reason"), &*rule.reason, &REASONS));
    }
    let at = path.child("fieldPath");
    let field = &*rule.field_path;
    if field.is_empty() {
        return;
    }
    if field.trim().is_empty() {
        errors.push(FieldError::invalid(&at, field, "must be non-empty if specified"));
    }
    if has_newlines(field) {
        errors.push(FieldError::invalid(&at, field, "must not contain line breaks"));
    }
    if field_path::normalize(field, schema).is_err() {
        errors.push(FieldError::invalid(&at, field, "must be a valid path"));
    }
}

/// Whether a rule compiles, and what it costs.
fn judge(
    walk: &mut Walk,
    rule: &Rule,
    compiled: &CompiledRule,
    cardinality: u64,
    path: &Path,
    uncorrelatable: Option<&Path>,
    errors: &mut Vec<FieldError>,
) {
    let at = path.child("rule");
    let (program, most) = match &compiled.rule {
        Ok((program, most)) => (Some(program), most.saturating_mul(cardinality)),
        Err(_) => (None, 0),
    };
    if !walk.unchanged && most > RULE_LIMIT {
        errors.push(FieldError::forbidden(&at, too_much("estimated rule cost", most, RULE_LIMIT)));
    }
    walk.total.add(&at, most);
    if let Err(why) = &compiled.rule {
        errors.push(refused(&at, rule, why));
    }
    let message_path = path.child("messageExpression");
    match &compiled.message {
        Some(Err(why)) => errors.push(refused(&message_path, rule, why)),
        Some(Ok((_, most))) => {
            if !walk.unchanged && *most > RULE_LIMIT {
                let detail = too_much("estimated messageExpression cost", *most, RULE_LIMIT);
                errors.push(FieldError::forbidden(&message_path, detail));
            }
            walk.total.add(&message_path, *most);
        }
        None => {}
    }
    if program.is_some_and(|p| p.uses("oldSelf")) {
        if let Some(above) = uncorrelatable {
            let detail =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {above}");
            errors.push(FieldError::invalid(&at, &*rule.rule, detail));
        }
    } else if let Some(optional) = rule.optional_old_self {
        let detail = "may not be set if oldSelf is not used in rule";
        errors.push(FieldError::invalid(&path.child("optionalOldSelf"), optional, detail));
    }
}

/// Upstream shows the whole rule, as Go prints it.
fn refused(path: &Path, rule: &Rule, why: &str) -> FieldError {
    let reason = if rule.reason.is_empty() { "nil" } else { "0xc000000000" };
    let optional = if rule.optional_old_self.is_some() { "0xc000000000" } else { "nil" };
    let shown = format!(
        "apiextensions.ValidationRule{{Rule:{}, Message:{}, MessageExpression:{}, Reason:(*apiextensions.FieldValueErrorReason)({reason}), FieldPath:{}, OptionalOldSelf:(*bool)({optional})}}",
        quote(&rule.rule),
        quote(&rule.message),
        quote(&rule.message_expression),
        quote(&rule.field_path),
    );
    let detail = format!("{shown}: {why}");
    FieldError { kind: ErrorType::Invalid, field: path.clone(), bad_value: None, detail }
}
