//! Match conditions: CEL expressions that must all be true for a webhook or policy to be asked.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-matchconditions>

use std::fmt;

use serde_json::Value;

use crate::server::cel::{EvalError, Program, Type, Variables};
use crate::server::registry::strategies::webhooks::compile;

/// The match conditions of a webhook or policy.
#[derive(Default)]
pub(in crate::server::admission) struct Conditions(Vec<Condition>);

struct Condition {
    text: String,
    /// Why it cannot be evaluated, if it was stored by a version that could.
    program: Result<Program, String>,
}

impl Conditions {
    /// From a configuration.
    pub(in crate::server::admission) fn of(conditions: &Value, variables: &[(&str, Type)]) -> Self {
        let all = conditions.as_array().into_iter().flatten().map(|condition| {
            let text = condition["expression"].as_str().unwrap_or_default().to_owned();
            let program = compile(text.trim(), variables, &[Type::Bool]);
            Condition { text, program }
        });
        Self(all.collect())
    }

    /// Whether there are none.
    pub(in crate::server::admission) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all are true. One that is false decides, whatever fails. Their cost is taken from `budget`.
    ///
    /// # Errors
    /// What failed.
    pub(in crate::server::admission) fn hold(
        &self,
        variables: &Variables<'_>,
        budget: &mut u64,
    ) -> Result<bool, String> {
        let mut failures = Vec::new();
        for condition in &self.0 {
            match condition.eval(variables, budget) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(Failure::OutOfBudget) => return Err(EvalError::BudgetExceeded.to_string()),
                Err(Failure::Failed(why)) => failures.push(why),
            }
        }
        match failures.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

enum Failure {
    Failed(String),
    OutOfBudget,
}

impl Condition {
    fn eval(&self, variables: &Variables<'_>, budget: &mut u64) -> Result<bool, Failure> {
        let program = self.program.as_ref().map_err(|why| Failure::Failed(why.clone()))?;
        let failed = |why: &dyn fmt::Display| {
            Failure::Failed(format!("expression '{}' resulted in error: {why}", self.text))
        };
        match program.eval(variables, budget) {
            Ok(value) => value.as_bool().ok_or_else(|| failed(&"it does not evaluate to bool")),
            Err(EvalError::BudgetExceeded) => Err(Failure::OutOfBudget),
            Err(error) => Err(failed(&error)),
        }
    }
}
