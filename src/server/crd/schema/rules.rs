//! `x-kubernetes-validations`: rules in CEL, compiled once, evaluated for each object.

mod compile;

use std::sync::Arc;

use serde_json::{Map, Value};

pub(super) use compile::{Compiled, CompiledRule, Rules, compile_rule};

use super::correlate::{self, Correlated};
use super::structural::{Rule, Structural, Type};
use crate::api::field::ErrorType;
use crate::api::{FieldError, Path};
use crate::server::cel::{self, Decl, EvalError, Program, Variables};

/// How long the result of a `messageExpression` may be, in bytes.
const MOST_MESSAGE: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What is still equal to the object that is replaced, on the way down.
#[derive(Clone, Copy, Debug, Default)]
struct Ratchet<'v> {
    /// The value and its predecessor, if it has one.
    here: Option<Correlated<'v>>,
    /// Those of the nearest value above that has one.
    above: Option<Correlated<'v>>,
}

impl<'v> Ratchet<'v> {
    fn key(self, key: &str) -> Self {
        match self.here {
            None => self,
            // The type of an object was converted, its change is not seen.
            Some(_) if self.above.is_none() && matches!(key, "apiVersion" | "kind") => Self::default(),
            Some(here) => Self { here: here.key(key), above: Some(here) },
        }
    }

    fn index(self, index: usize) -> Self {
        match self.here {
            None => self,
            Some(here) => Self { here: here.index(index), above: Some(here) },
        }
    }

    fn unchanged(self) -> bool {
        self.here.or(self.above).is_some_and(Correlated::is_equal)
    }
}

/// The errors of all rules below a value.
pub(super) fn check(
    rules: &Rules,
    schema: &Structural,
    path: &Path,
    new: &Value,
    old: Option<&Value>,
) -> Vec<FieldError> {
    let mut run = Run { budget: cel::OBJECT_BUDGET, errors: Vec::new() };
    let here = old.map(|old| Correlated { new, old, schema });
    // The budget being used up is one of the errors.
    let _ = run.value(rules, schema, path, new, old, Ratchet { here, above: None });
    run.errors
}

/// The budget is used up, nothing more is evaluated.
struct Stop;

struct Run {
    budget: u64,
    errors: Vec<FieldError>,
}

impl Run {
    fn value(
        &mut self,
        rules: &Rules,
        schema: &Structural,
        path: &Path,
        new: &Value,
        old: Option<&Value>,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Stop> {
        if new.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        self.rules(rules, schema, path, new, old, ratchet)?;
        for part in &rules.all_of {
            self.value(part, schema, path, new, old, Ratchet { here: None, above: ratchet.above })?;
        }
        match new {
            Value::Object(fields) => {
                self.fields(rules, schema, path, fields, old.and_then(Value::as_object), ratchet)
            }
            Value::Array(items) => {
                let (Some(of_items), Some(schema_of_items)) = (&rules.items, &schema.items) else {
                    return Ok(());
                };
                let old = old.and_then(Value::as_array);
                for (index, item) in items.iter().enumerate() {
                    let before = old.and_then(|old| correlate::item_of(schema, old, item));
                    let ratchet = ratchet.index(index);
                    self.value(of_items, schema_of_items, &path.index(index), item, before, ratchet)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn fields(
        &mut self,
        rules: &Rules,
        schema: &Structural,
        path: &Path,
        fields: &Map<String, Value>,
        old: Option<&Map<String, Value>>,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Stop> {
        for (key, value) in fields {
            let before = old.and_then(|old| old.get(key));
            if let (Some(values), Some(schema)) = (&rules.additional, schema.additional()) {
                self.value(values, schema, &path.key(key), value, before, ratchet.key(key))?;
            }
            if let (Some(property), Some(schema)) = (rules.property(key), schema.property(key)) {
                self.value(property, schema, &path.child(key), value, before, ratchet.key(key))?;
            }
        }
        Ok(())
    }

    fn rules(
        &mut self,
        rules: &Rules,
        schema: &Structural,
        path: &Path,
        new: &Value,
        old: Option<&Value>,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Stop> {
        let Some((decl, compiled)) = rules.here() else { return Ok(()) };
        let kind = schema.kind.as_str();
        if self.budget == 0 {
            self.errors.push(FieldError::invalid(path, kind, OUT_OF_BUDGET));
            return Err(Stop);
        }
        for rule in compiled {
            self.rule(rule, decl, path, schema.kind, new, old, ratchet)?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "what a rule is evaluated on")]
    fn rule(
        &mut self,
        compiled: &Compiled,
        decl: &Arc<Decl>,
        path: &Path,
        kind: Type,
        new: &Value,
        old: Option<&Value>,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Stop> {
        let rule = &compiled.rule;
        let invalid = |detail: String| FieldError::invalid(path, kind.as_str(), detail);
        let program = match &compiled.program {
            Ok(Some(program)) => program,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.errors.push(invalid(format!("rule compile error: {error}")));
                return Ok(());
            }
        };
        let optional = rule.optional_old_self == Some(true);
        if compiled.uses_old_self && old.is_none() && !optional {
            // Transition rules compare with what was there.
            return Ok(());
        }
        let name = shown(rule);
        let holds = match evaluate(program, decl, new, old, optional, &mut self.budget) {
            Ok(value) => value.as_bool() == Some(true),
            Err(EvalError::BudgetExceeded) => {
                self.errors.push(invalid(OUT_OF_BUDGET.to_owned()));
                return Err(Stop);
            }
            Err(error @ EvalError::CostExceeded) => {
                let detail = format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                );
                self.errors.push(invalid(detail));
                return Err(Stop);
            }
            Err(EvalError::Failed(why)) => {
                let detail = if why.starts_with("no such overload") {
                    format!(
                        "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
                    )
                } else {
                    format!("{why} evaluating rule: {name}")
                };
                self.errors.push(invalid(detail));
                return Ok(());
            }
        };
        if holds {
            return Ok(());
        }
        let at = compiled.field_path.as_ref().map_or_else(|| path.clone(), |field| path.child(field));
        let let_through = !compiled.uses_old_self && ratchet.unchanged();
        let message = match self.message(compiled, decl, new, old, optional) {
            Ok(message) => message.unwrap_or_else(|| message_or_default(rule)),
            Err(why) => {
                if !let_through {
                    self.errors.push(FieldError::invalid(&at, kind.as_str(), why));
                }
                return Err(Stop);
            }
        };
        if !let_through {
            let shown = (!matches!(kind, Type::Object | Type::Array)).then(|| new.clone());
            self.errors.push(failed(&at, shown, message, &rule.reason));
        }
        Ok(())
    }

    /// What the rule's `messageExpression` says, if it says something.
    fn message(
        &mut self,
        compiled: &Compiled,
        decl: &Arc<Decl>,
        new: &Value,
        old: Option<&Value>,
        optional: bool,
    ) -> Result<Option<String>, String> {
        let Some(program) = &compiled.message else { return Ok(None) };
        let text = &compiled.rule.message_expression;
        match evaluate(program, decl, new, old, optional, &mut self.budget) {
            Ok(value) => {
                let message = value.as_str().unwrap_or_default().trim();
                let fine = !message.is_empty() && message.len() <= MOST_MESSAGE && !message.contains('\n');
                Ok(fine.then(|| message.to_owned()))
            }
            Err(EvalError::Failed(_)) => Ok(None),
            Err(EvalError::CostExceeded) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                crate::api::field::quote(text)
            )),
            Err(EvalError::BudgetExceeded) => {
                Err("messageExpression evaluation failed due to running out of cost \
                                                   budget, no further validation rules will be run"
                    .to_owned())
            }
        }
    }
}

fn evaluate<'a>(
    program: &'a Program,
    decl: &'a Decl,
    new: &'a Value,
    old: Option<&'a Value>,
    optional: bool,
    budget: &mut u64,
) -> Result<cel::Value<'a>, EvalError> {
    let mut variables = Variables::new().value("self", cel::Value::declared(new, decl)?);
    let old = old.map(|old| cel::Value::declared(old, decl)).transpose()?;
    match (old, optional) {
        (Some(old), true) => variables = variables.value("oldSelf", cel::Value::some(old)),
        (None, true) => variables = variables.value("oldSelf", cel::Value::none()),
        (Some(old), false) => variables = variables.value("oldSelf", old),
        (None, false) => {}
    }
    program.eval(&variables, budget)
}

fn failed(path: &Path, value: Option<Value>, detail: String, reason: &str) -> FieldError {
    match reason {
        "FieldValueForbidden" => FieldError::forbidden(path, detail),
        "FieldValueRequired" => FieldError::required(path, detail),
        "FieldValueDuplicate" => FieldError {
            kind: ErrorType::Duplicate,
            field: path.clone(),
            bad_value: value,
            detail: String::new(),
        },
        _ => FieldError { kind: ErrorType::Invalid, field: path.clone(), bad_value: value, detail },
    }
}

/// A rule as errors name it.
fn shown(rule: &Rule) -> &str {
    if rule.message.is_empty() { rule.rule.trim() } else { rule.message.trim() }
}

fn message_or_default(rule: &Rule) -> String {
    if rule.message.is_empty() {
        format!("failed rule: {}", shown(rule))
    } else {
        rule.message.trim().to_owned()
    }
}
