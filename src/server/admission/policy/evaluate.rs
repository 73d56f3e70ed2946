//! Evaluates a policy.

use std::collections::BTreeMap;

use serde_json::Value;

use super::definition::{Expression, Policy, Validation};
use crate::api::Reason;
use crate::api::field::quote;
use crate::server::admission::matching::Scene;
use crate::server::cel::{self, EvalError, MATCH_CONDITIONS_BUDGET, OBJECT_BUDGET, Variables};

/// A message that an expression makes may have this many bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// Why a policy is not fulfilled.
pub(super) struct Denial {
    pub(super) message: String,
    pub(super) reason: Reason,
    /// The request is refused, whatever the binding says is to be done.
    pub(super) always: bool,
}

impl Denial {
    /// The policy could not be evaluated.
    pub(super) fn error(message: String) -> Self {
        Self { message, reason: Reason::Invalid, always: false }
    }
}

enum Failure {
    OutOfBudget,
    Failed(String),
}

impl Failure {
    fn text(self) -> String {
        match self {
            Self::OutOfBudget => EvalError::BudgetExceeded.to_string(),
            Self::Failed(why) => why,
        }
    }
}

/// What expressions see, and what they may still cost.
struct Stage<'a> {
    variables: Variables<'a>,
    /// The composed variables that have no value, and why.
    failed: BTreeMap<&'a str, String>,
    budget: u64,
}

/// What is wrong with a request; nothing if it fulfils the policy.
pub(super) fn evaluate(policy: &Policy, scene: &Scene, param: Option<&Value>) -> Vec<Denial> {
    let errors = |why: String| if policy.fail { vec![Denial::error(why)] } else { Vec::new() };
    let mut variables = scene.variables();
    if policy.param_kind.is_some() {
        variables = variables.json("params", param);
    }
    let mut budget = MATCH_CONDITIONS_BUDGET;
    match policy.conditions.hold(&variables, &mut budget) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(why) => return errors(why),
    }
    let mut stage = Stage { variables, failed: BTreeMap::new(), budget: OBJECT_BUDGET };
    stage.compose(policy);
    let mut denials = Vec::new();
    for validation in &policy.validations {
        match stage.eval(&validation.expression) {
            Err(Failure::OutOfBudget) => return errors(Failure::OutOfBudget.text()),
            Err(failure) => denials.extend(errors(failure.text())),
            Ok(value) if value.as_bool() == Some(true) => {}
            Ok(_) => {
                let (message, reason) = (stage.message(validation), validation.reason);
                denials.push(Denial { message, reason, always: false });
            }
        }
    }
    for annotation in &policy.annotations {
        let why = match stage.eval(annotation) {
            Ok(value) if value.as_str().is_some() || matches!(value, cel::Value::Null) => continue,
            Ok(_) => format!(
                "valueExpression '{}' resulted in unsupported return type. Return type must be either string or null.",
                annotation.text
            ),
            Err(_) if !policy.fail => continue,
            Err(failure) => failure.text(),
        };
        denials.push(Denial { always: true, ..Denial::error(why) });
    }
    denials
}

impl<'a> Stage<'a> {
    /// Gives the policy's own variables their values. One that fails is left out: only who asks for it fails too.
    fn compose(&mut self, policy: &'a Policy) {
        if policy.variables.is_empty() {
            return;
        }
        let base = self.variables.clone();
        let mut made: Vec<(&str, cel::Value<'a>)> = Vec::new();
        for (name, expression) in &policy.variables {
            self.variables = base.clone().value("variables", cel::Value::fields(made.iter().cloned()));
            match self.eval(expression) {
                Ok(value) => made.push((name, value)),
                Err(failure) => drop(self.failed.insert(name, failure.text())),
            }
        }
        self.variables = base.value("variables", cel::Value::fields(made));
    }

    fn eval(&mut self, expression: &'a Expression) -> Result<cel::Value<'a>, Failure> {
        let program = expression.program.as_ref().map_err(|why| Failure::Failed(why.clone()))?;
        program.eval(&self.variables, &mut self.budget).map_err(|error| {
            if error == EvalError::BudgetExceeded {
                return Failure::OutOfBudget;
            }
            let missing = self.failed.iter().find(|(name, _)| expression.mentions(name));
            let why = match missing {
                Some((name, why)) => {
                    format!("composited variable {} fails to evaluate: {why}", quote(name))
                }
                None => error.to_string(),
            };
            Failure::Failed(format!("expression '{}' resulted in error: {why}", expression.text))
        })
    }

    /// What is said of a validation that failed: what its own expression makes, its text, or the expression.
    fn message(&mut self, validation: &'a Validation) -> String {
        let made = validation.message_expression.as_ref().and_then(|e| self.eval(e).ok());
        let made = made.as_ref().and_then(|value| value.as_str()).map(str::trim);
        match made.filter(|m| !m.is_empty() && m.len() <= MAX_MESSAGE && !m.contains('\n')) {
            Some(made) => made.to_owned(),
            None if validation.message.is_empty() => {
                format!("failed expression: {}", validation.expression.text.trim())
            }
            None => validation.message.clone(),
        }
    }
}
