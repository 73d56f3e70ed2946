//! Pods: `pkg/registry/core/pod/strategy.go`.

pub mod binding;
mod qos;
mod update;
pub mod validate;

use serde_json::{Value, json};

use super::check::text;
use crate::api::{FieldError, Path, Status};
use crate::server::registry::strategy::{Context, Deletion, Strategy, defaults};

/// The strategy of pods.
pub struct PodStrategy;

impl Strategy for PodStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        let class = qos::class(&object["spec"]);
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if object["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": crate::api::meta::now(),
            }]);
        }
        object["status"] = status;
        object["metadata"]["generation"] = json!(1);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let path = Path::new("spec");
        let mut errors = validate::pod(object, &path);
        if object["spec"]["ephemeralContainers"].as_array().is_some_and(|c| !c.is_empty()) {
            errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
        }
        errors
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate::pod(new, &Path::new("spec"));
        errors.extend(update::validate(&new["spec"], &old["spec"]));
        errors
    }

    fn prepare_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        match subresource {
            "status" => {
                defaults::prepare_status(new, old);
                // The class is decided when the pod is made; a status without it keeps it.
                let class = &old["status"]["qosClass"];
                if !class.is_null() && text(&new["status"]["qosClass"]).is_empty() {
                    new["status"]["qosClass"] = class.clone();
                }
            }
            "ephemeralcontainers" => update::keep_all_but_ephemeral_containers(new, old),
            "resize" => update::keep_all_but_resources(new, old),
            _ => {}
        }
        Ok(())
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        match subresource {
            "ephemeralcontainers" => {
                let mut errors = validate::pod(new, &Path::new("spec"));
                errors.extend(update::validate_ephemeral_containers(&new["spec"], &old["spec"]));
                errors
            }
            "resize" => validate::pod(new, &Path::new("spec")),
            _ => Vec::new(),
        }
    }

    fn begin_delete(&self, _: &Context<'_>, object: &Value, grace: Option<i64>) -> Deletion {
        let phase = text(&object["status"]["phase"]);
        if text(&object["spec"]["nodeName"]).is_empty() || matches!(phase, "Succeeded" | "Failed") {
            return Deletion::Now;
        }
        match grace.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30) {
            0 => Deletion::Now,
            // A negative period is the shortest there is.
            ..0 => Deletion::Graceful(1),
            seconds => Deletion::Graceful(seconds),
        }
    }
}

#[cfg(test)]
mod tests;
