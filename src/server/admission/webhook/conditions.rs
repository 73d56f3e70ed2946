//! Match conditions: CEL expressions that must all be true for a webhook to be asked.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-matchconditions>

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::asking::Asking;
use super::review;
use crate::server::auth::authz::{Attributes, Authorizer};
use crate::server::auth::user::User;
use crate::server::cel::authorizer::{Attributes as Wanted, Authorizer as Authorizes, Decision};
use crate::server::cel::{EvalError, MATCH_CONDITIONS_BUDGET, Program, Type, Variables};
use crate::server::registry::Resource;
use crate::server::registry::strategies::webhooks::{VARIABLES, compile};

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The match conditions of a webhook.
#[derive(Default)]
pub(super) struct Conditions(Vec<Condition>);

struct Condition {
    text: String,
    /// Why it cannot be evaluated, if it was stored by a version that could.
    program: Result<Program, String>,
}

impl Conditions {
    /// From a configuration.
    pub(super) fn of(conditions: &Value) -> Self {
        let all = conditions.as_array().into_iter().flatten().map(|condition| {
            let text = condition["expression"].as_str().unwrap_or_default().to_owned();
            let program = compile(text.trim(), &VARIABLES, &[Type::Bool]);
            Condition { text, program }
        });
        Self(all.collect())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all are true. One that is false decides, whatever fails.
    ///
    /// # Errors
    /// What failed.
    pub(super) fn hold(
        &self,
        asking: &Asking<'_>,
        resource: &Resource,
        authorizer: &Arc<Authorizer>,
        objects: (Option<&Value>, Option<&Value>),
    ) -> Result<bool, String> {
        let show = |object: Option<&Value>| object.map(|o| asking.show(resource, o));
        let (object, old) = (show(objects.0), show(objects.1));
        let request = review::request(asking, resource);
        let authorizer = Arc::new(Asks { authorizer: Arc::clone(authorizer), user: asking.user.clone() });
        let variables = Variables::new()
            .json("object", object.as_ref())
            .json("oldObject", old.as_ref())
            .json("request", Some(&request))
            .value("authorizer", crate::server::cel::Value::authorizer(authorizer));
        let mut budget = MATCH_CONDITIONS_BUDGET;
        let mut failures = Vec::new();
        for condition in &self.0 {
            match condition.eval(&variables, &mut budget) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(Failure::OutOfBudget) => return Err(OUT_OF_BUDGET.to_owned()),
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
            Err(EvalError::CostExceeded) => Err(Failure::OutOfBudget),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Answers what expressions ask of `authorizer`.
struct Asks {
    authorizer: Arc<Authorizer>,
    user: User,
}

impl fmt::Debug for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asks").field("user", &self.user.name).finish_non_exhaustive()
    }
}

impl Authorizes for Asks {
    fn authorize(&self, wanted: &Wanted) -> Decision {
        let given = |text: &'_ str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let (subresource, namespace, name) =
            (given(&wanted.subresource), given(&wanted.namespace), given(&wanted.name));
        let attributes = Attributes {
            verb: &wanted.verb,
            group: &wanted.group,
            resource: &wanted.resource,
            subresource: subresource.as_deref(),
            namespace: namespace.as_deref(),
            name: name.as_deref(),
            path: wanted.path.as_deref(),
            field_selector: wanted.field_selector.as_deref(),
        };
        let account = wanted.service_account.as_ref().map(|(ns, name)| User::service_account(ns, name));
        match self.authorizer.check(account.as_ref().unwrap_or(&self.user), &attributes) {
            Ok(()) => Decision { allowed: true, ..Decision::default() },
            Err(reason) => Decision { reason, ..Decision::default() },
        }
    }
}
