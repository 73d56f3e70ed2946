//! Pods: `pkg/registry/core/pod/strategy.go`.

mod create;
mod qos;
mod resize;
mod status;
mod update;
pub mod validate;
pub mod warnings;

use serde_json::{Value, json};

use super::check::text;
use crate::api::{FieldError, Status};
use crate::server::registry::strategy::{Context, Deletion, Strategy};

/// The strategy of pods.
pub struct PodStrategy;

impl Strategy for PodStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["metadata"]["generation"] = json!(1);
        create::prepare(object);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate::new_pod(object)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        update::validate(new, old)
    }

    fn prepare_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        match subresource {
            "status" => status::prepare(new, old),
            "ephemeralcontainers" => update::keep_all_but_ephemeral_containers(new, old),
            "resize" => resize::keep_all_but_resources(new, old),
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
            "status" => status::validate(new, old),
            "ephemeralcontainers" => update::validate_ephemeral_containers(new, old),
            "resize" => resize::validate(new, old),
            _ => Vec::new(),
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_pod(object)
    }

    fn warnings_on_update(&self, _: &Value, _: &Value) -> Vec<String> {
        // As upstream: pods are written by controllers, whom nobody warns.
        Vec::new()
    }

    fn begin_delete(&self, _: &Context<'_>, object: &Value, grace: Option<i64>) -> Deletion {
        let phase = text(&object["status"]["phase"]);
        if text(&object["spec"]["nodeName"]).is_empty() || matches!(phase, "Succeeded" | "Failed") {
            return Deletion::Now;
        }
        match grace.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(0) {
            0 => Deletion::Now,
            // A negative period is the shortest there is.
            ..0 => Deletion::Graceful(1),
            seconds => Deletion::Graceful(seconds),
        }
    }
}

#[cfg(test)]
mod tests;
