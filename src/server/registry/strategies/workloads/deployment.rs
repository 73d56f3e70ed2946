//! Deployments: `ValidateDeployment`, `pkg/registry/apps/deployment/strategy.go`.

use serde_json::{Value, json};

use super::rollout::{at_most_all, count_or_percent, is_zero};
use super::{
    Selection, available_are_ready, changed, collisions, counts, lasting_template, selects, selects_template,
};
use crate::api::{FieldError, Path, Status};
use crate::server::registry::strategies::check::{Errors, text};
use crate::server::registry::strategies::pod::warnings;
use crate::server::registry::strategy::{Context, Strategy, defaults};

/// The strategy of Deployments.
pub struct DeploymentStrategy;

impl Strategy for DeploymentStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(&object["spec"])
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::prepare_update(new, old);
        // Its revision and change cause are annotations, which its controller copies.
        if new["spec"] == old["spec"] && new["metadata"]["annotations"] != old["metadata"]["annotations"] {
            new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(1) + 1);
        }
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors(validate(&new["spec"]));
        let at = Path::new("spec").child("selector");
        errors.immutable(&at, &new["spec"]["selector"], &old["spec"]["selector"]);
        errors.0
    }

    fn prepare_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if subresource == "status" {
            defaults::prepare_status(new, old);
            defaults::keep(&mut new["metadata"], &old["metadata"], "labels");
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
        const COUNTS: [&str; 7] = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "collisionCount",
        ];
        let mut errors = Errors::default();
        if subresource == "status" {
            let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
            counts(&new["status"], &COUNTS, &parts, &mut errors);
            available_are_ready(&new["status"], "readyReplicas", &mut errors);
            collisions(new, old, &mut errors);
        }
        errors.0
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_owner(object, &object["spec"]["template"], &Path::new("spec").child("template"))
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        let template = &new["spec"]["template"];
        if changed(new, old) {
            warnings::of_template(template, &Path::new("spec").child("template"))
        } else {
            Vec::new()
        }
    }
}

fn validate(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    errors.not_negative(&path.child("replicas"), &spec["replicas"]);
    selects(spec, &path, Selection { kind: "deployment", required: true }, &mut errors);
    selects_template(spec, &path, &mut errors);
    lasting_template(&spec["template"], "ReplicaSet", &path.child("template"), &mut errors);
    strategy(&spec["strategy"], &path.child("strategy"), &mut errors);
    for field in ["minReadySeconds", "revisionHistoryLimit"] {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    let (deadline, at) = (&spec["progressDeadlineSeconds"], path.child("progressDeadlineSeconds"));
    errors.not_negative(&at, deadline);
    let ready = spec["minReadySeconds"].as_i64().unwrap_or_default();
    if deadline.as_i64().is_some_and(|deadline| deadline <= ready) {
        errors.push(FieldError::invalid(&at, deadline.clone(), "must be greater than minReadySeconds"));
    }
    errors.0
}

/// `ValidateDeploymentStrategy`
fn strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let (rolling, at) = (&strategy["rollingUpdate"], path.child("rollingUpdate"));
    match text(&strategy["type"]) {
        "Recreate" if !rolling.is_null() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(&at, detail));
        }
        "Recreate" => {}
        "RollingUpdate" if rolling.is_null() => {
            errors.push(FieldError::required(&at, "this should be defaulted and never be nil"));
        }
        "RollingUpdate" => rolling_update(rolling, &at, errors),
        _ => errors.push(FieldError::not_supported(path, strategy.clone(), &["Recreate", "RollingUpdate"])),
    }
}

fn rolling_update(rolling: &Value, path: &Path, errors: &mut Errors) {
    let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
    let at = path.child("maxUnavailable");
    count_or_percent(unavailable, &at, errors);
    count_or_percent(surge, &path.child("maxSurge"), errors);
    if is_zero(unavailable) && is_zero(surge) {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(&at, unavailable.clone(), detail));
    }
    at_most_all(unavailable, &at, errors);
}
