//! Workloads: `pkg/apis/apps/validation`, `pkg/registry/apps`.

pub mod batch;
mod rollout;
mod statefulset;

use serde_json::Value;

use super::check::{Errors, is_empty, text};
use super::{pod, selector};
use crate::api::{FieldError, Path, Status};
use crate::server::registry::strategy::{Context, Strategy, defaults};
pub use statefulset::StatefulSetStrategy;

/// Deployments, ReplicaSets, DaemonSets and ReplicationControllers, which differ in little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// `deployments.apps`
    Deployment,
    /// `replicasets.apps`
    ReplicaSet,
    /// `daemonsets.apps`
    DaemonSet,
    /// `replicationcontrollers`
    ReplicationController,
}

impl Strategy for Workload {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        self.validate(object)
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::prepare_update(new, old);
        let annotations = |object: &Value| object["metadata"]["annotations"].clone();
        // A deployment's revision and change cause are annotations, which its controller copies.
        if *self == Self::Deployment && new["spec"] == old["spec"] && annotations(new) != annotations(old) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
            new["metadata"]["generation"] = (generation + 1).into();
        }
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors(self.validate(new));
        if *self != Self::ReplicationController {
            let path = Path::new("spec").child("selector");
            errors.immutable(&path, &new["spec"]["selector"], &old["spec"]["selector"]);
        }
        errors.0
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        _: &Value,
    ) -> Vec<FieldError> {
        let mut errors = Errors::default();
        if subresource == "status" {
            status(&new["status"], &Path::new("status"), &mut errors);
        }
        errors.0
    }
}

impl Workload {
    /// As error texts call it. A ReplicaSet's are a Deployment's, also upstream.
    fn called(self) -> &'static str {
        match self {
            Self::Deployment | Self::ReplicaSet => "deployment",
            Self::DaemonSet => "daemonset",
            Self::ReplicationController => "replicationcontroller",
        }
    }

    fn validate(self, object: &Value) -> Vec<FieldError> {
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let mut errors = Errors::default();
        for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
            errors.not_negative(&path.child(field), &spec[field]);
        }
        match self {
            Self::ReplicationController => of_controller(spec, &path, &mut errors),
            _ => selector::of_workload(spec, &path, self.called(), &mut errors),
        }
        template(spec, &path, &mut errors);
        match self {
            Self::Deployment => rollout::deployment(spec, &path, &mut errors),
            Self::DaemonSet => rollout::daemon_set(spec, &path, &mut errors),
            _ => {}
        }
        errors.0
    }
}

/// A ReplicationController's selector is a map.
fn of_controller(spec: &Value, path: &Path, errors: &mut Errors) {
    let (selector, labels) = (&spec["selector"], &spec["template"]["metadata"]["labels"]);
    if !errors.required(&path.child("selector"), selector) {
        return;
    }
    let matches = super::check::entries(selector).all(|(key, value)| labels.get(key) == Some(value));
    if !matches {
        let at = path.child("template").child("metadata").child("labels");
        errors.push(FieldError::invalid(&at, labels.clone(), "`selector` does not match template `labels`"));
    }
}

/// A template of pods that are replaced when they end.
fn template(spec: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("template");
    if spec["template"].is_null() {
        errors.push(FieldError::required(&at, ""));
        return;
    }
    errors.0.extend(pod::validate::template(&spec["template"], &at));
    let pod = &spec["template"]["spec"];
    let policy = &pod["restartPolicy"];
    if !is_empty(policy) && text(policy) != "Always" {
        let at = at.child("spec").child("restartPolicy");
        errors.0.retain(|e| e.field != at);
        errors.push(FieldError::not_supported(&at, policy.clone(), &["Always"]));
    }
    if !pod["activeDeadlineSeconds"].is_null() {
        let at = at.child("spec").child("activeDeadlineSeconds");
        errors.push(FieldError::forbidden(&at, "activeDeadlineSeconds in ReplicaSet is not Supported"));
    }
}

/// Counts of a status.
fn status(status: &Value, path: &Path, errors: &mut Errors) {
    const COUNTS: [&str; 6] = [
        "replicas",
        "readyReplicas",
        "availableReplicas",
        "updatedReplicas",
        "unavailableReplicas",
        "observedGeneration",
    ];
    for field in COUNTS {
        errors.not_negative(&path.child(field), &status[field]);
    }
    let total = status["replicas"].as_i64().unwrap_or_default();
    for field in ["readyReplicas", "availableReplicas", "updatedReplicas"] {
        if status["replicas"].is_i64() && status[field].as_i64().is_some_and(|n| n > total) {
            let detail = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(&path.child(field), status[field].clone(), detail));
        }
    }
}

#[cfg(test)]
mod tests;
