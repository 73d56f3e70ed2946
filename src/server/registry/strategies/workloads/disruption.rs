//! PodDisruptionBudgets: `pkg/apis/policy/validation`.

use serde_json::Value;

use super::rollout::{at_most_all, count_or_percent};
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::Errors;
use crate::server::registry::strategies::{conditions, selector};
use crate::server::registry::strategy::{Context, Strategy};

/// The strategy of PodDisruptionBudgets.
pub struct DisruptionBudgetStrategy;

impl Strategy for DisruptionBudgetStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let mut errors = Errors::default();
        let bounds = ["minAvailable", "maxUnavailable"];
        if bounds.iter().all(|bound| !spec[*bound].is_null()) {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(&path, spec.clone(), detail));
        }
        for bound in bounds {
            count_or_percent(&spec[bound], &path.child(bound), &mut errors);
            at_most_all(&spec[bound], &path.child(bound), &mut errors);
        }
        selector::validate(&spec["selector"], &path.child("selector"), &mut errors);
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        let at = path.child("unhealthyPodEvictionPolicy");
        errors.optionally_one_of(&at, &spec["unhealthyPodEvictionPolicy"], &policies);
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        self.validate_create(cx, new)
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        _: &Value,
    ) -> Vec<FieldError> {
        let (status, path) = (&new["status"], Path::new("status"));
        let mut errors = Errors::default();
        if subresource == "status" {
            conditions::validate(&status["conditions"], &path.child("conditions"), &mut errors);
            for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
                errors.not_negative(&path.child(field), &status[field]);
            }
        }
        errors.0
    }
}
