//! The Common Expression Language as Kubernetes speaks it.
//!
//! [`Program::compile`] parses and checks an expression once; [`Program::eval`] runs it over JSON objects that are
//! never copied, and counts its cost. <https://kubernetes.io/docs/reference/using-api/cel/>
//!
//! The `cel` crate is not used: it has no types to check an expression against a schema, no costs, neither counted
//! nor estimated, and none of Kubernetes' libraries; its parser alone is larger than all of this.

mod ast;
pub mod authorizer;
mod check;
mod compare;
mod containers;
mod cost;
mod estimate;
mod eval;
mod functions;
mod lexer;
mod macros;
pub(crate) mod numbers;
mod opaque;
mod parser;
pub(crate) mod regexp;
mod source;
pub(crate) mod time;
mod types;
pub(crate) mod url;
mod value;

#[cfg(test)]
mod tests;

pub use containers::{List, Map};
pub use opaque::{CheckKind, Cidr, Opaque};
pub use types::{Decl, Field, ListKind, RESERVED, Shape, Type, escape};
pub use value::{Key, Text, Value};

use std::collections::HashMap;
use std::sync::Arc;

use ast::{Expr, Kind, Literal};
use functions::Overload;
use regexp::Regexp;

/// What one evaluation may cost: upstream's `PerCallLimit`.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all rules of one object may cost together: upstream's `RuntimeCELCostBudget`.
pub const OBJECT_BUDGET: u64 = 10_000_000;
/// What all match conditions of one webhook may cost together: upstream's `RuntimeCELCostBudgetMatchConditions`.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;
/// How large a request can be, in bytes: no list, map or text is larger.
pub const MOST_REQUEST_BYTES: u64 = 3 * 1024 * 1024;

/// Why an expression cannot be used, as upstream prints it: `ERROR: <input>:1:5: undeclared reference to 'x' (in
/// container '')`, the line and a caret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(pub String);

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression itself failed, as in `no such key: x`.
    #[error("{0}")]
    Failed(String),
    /// It costs more than one evaluation may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
    /// It costs more than is left of the budget.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    BudgetExceeded,
}

impl EvalError {
    fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    fn no_such_overload() -> Self {
        Self::failed("no such overload")
    }
}

/// What an evaluation sees: a value for each variable the program was compiled with.
#[derive(Clone, Debug, Default)]
pub struct Variables<'a> {
    values: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Variables<'a> {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object whose type is not known beforehand; `None` is `null`.
    #[must_use]
    pub fn json(mut self, name: &'a str, json: Option<&'a serde_json::Value>) -> Self {
        self.values.push((name, json.map_or(Value::Null, Value::json)));
        self
    }

    /// Adds any value, as `Value::authorizer`.
    #[must_use]
    pub fn value(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.values.push((name, value));
        self
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

/// A compiled expression. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Program {
    expr: Arc<Expr>,
    result: Type,
    calls: Arc<HashMap<u32, Vec<&'static Overload>>>,
    /// Literal patterns, compiled, by the calls they are for.
    regexps: Arc<HashMap<u32, Regexp>>,
    names: Arc<[Box<str>]>,
}

impl Program {
    /// Parses and checks an expression over variables of these types (`Type::Dyn` for objects of any kind,
    /// `Type::AUTHORIZER` for `authorizer`).
    ///
    /// # Errors
    /// Syntax errors, undeclared names, wrong types; all of them in one text.
    pub fn compile(text: &str, variables: &[(&str, Type)]) -> Result<Self, CompileError> {
        Self::checked(text, variables).map(|(program, _)| program)
    }

    /// As [`Program::compile`], with the most that an evaluation can cost where all variables are as `root` declares.
    ///
    /// # Errors
    /// As for [`Program::compile`].
    pub fn compile_estimated(
        text: &str,
        variables: &[(&str, Type)],
        root: &Decl,
    ) -> Result<(Self, u64), CompileError> {
        let (program, checked) = Self::checked(text, variables)?;
        let most = estimate::most(&program.expr, &checked, root);
        Ok((program, most))
    }

    fn checked(text: &str, variables: &[(&str, Type)]) -> Result<(Self, check::Checked), CompileError> {
        let mut expr = parser::parse(text).map_err(|issue| source::report(text, vec![issue]))?;
        let mut checked =
            check::check(&mut expr, variables).map_err(|issues| source::report(text, issues))?;
        let result = checked.types.get(&expr.id).cloned().unwrap_or(Type::Dyn);
        let names = checked.names.iter().map(|name| Box::from(&**name)).collect();
        let regexps = literal_patterns(&expr)
            .map_err(|why| CompileError(format!("program instantiation failed: {why}")))?;
        let calls = Arc::new(std::mem::take(&mut checked.calls));
        checked.calls = (*calls).clone();
        let program = Self { expr: Arc::new(expr), result, calls, regexps: Arc::new(regexps), names };
        Ok((program, checked))
    }

    /// The type of its results: `Type::Dyn` if only evaluation tells.
    pub fn result_type(&self) -> &Type {
        &self.result
    }

    /// Whether it names a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.names.iter().any(|name| &**name == variable)
    }

    /// Evaluates it and takes the cost from `budget`; if it is used up nothing is left of it.
    ///
    /// # Errors
    /// What the expression failed with, or that the budget or [`PER_CALL_LIMIT`] is used up.
    pub fn eval<'a>(&'a self, variables: &Variables<'a>, budget: &mut u64) -> Result<Value<'a>, EvalError> {
        let mut run = eval::Run::new(self, variables, PER_CALL_LIMIT);
        let result = run.eval(&self.expr);
        match budget.checked_sub(run.cost) {
            Some(left) => {
                *budget = left;
                result
            }
            None => {
                *budget = 0;
                Err(if result == Err(EvalError::CostExceeded) {
                    EvalError::CostExceeded
                } else {
                    EvalError::BudgetExceeded
                })
            }
        }
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        eval::same(self, other)
    }
}

fn literal_patterns(expr: &Expr) -> Result<HashMap<u32, Regexp>, String> {
    let (mut patterns, mut failed) = (HashMap::new(), None);
    expr.visit(&mut |part| {
        let Kind::Call { function, target, args } = &part.kind else { return };
        if !matches!(&**function, "matches" | "find" | "findAll") {
            return;
        }
        let pattern = args.get(usize::from(target.is_none()));
        if let Some(Expr { kind: Kind::Literal(Literal::String(text)), .. }) = pattern {
            match Regexp::new(text) {
                Ok(regexp) => drop(patterns.insert(part.id, regexp)),
                Err(why) => failed = Some(why),
            }
        }
    });
    failed.map_or(Ok(patterns), Err)
}
