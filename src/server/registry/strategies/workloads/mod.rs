//! Workloads: `pkg/apis/apps/validation`, `pkg/registry/apps`, and their like in other groups.

mod autoscaler;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod job;
mod replicas;
mod revision;
mod rollout;
mod statefulset;

use serde_json::Value;

use super::check::{Errors, entries, is_empty, text};
use super::{pod, selector};
use crate::api::{FieldError, LabelSelector, Path};
pub use autoscaler::AutoscalerStrategy;
pub use cronjob::CronJobStrategy;
pub use daemonset::DaemonSetStrategy;
pub use deployment::DeploymentStrategy;
pub use disruption::DisruptionBudgetStrategy;
pub use job::JobStrategy;
pub use replicas::{ReplicaSetStrategy, ReplicationControllerStrategy};
pub use revision::{ControllerRevisionStrategy, PodTemplateStrategy};
pub use statefulset::StatefulSetStrategy;

/// What a workload's selector has to do with its template.
#[derive(Clone, Copy, Debug)]
struct Selection {
    /// As the error text calls the kind.
    kind: &'static str,
    /// A missing selector is an error of its own.
    required: bool,
}

/// What is wrong with a selector.
fn selects(spec: &Value, path: &Path, selection: Selection, errors: &mut Errors) {
    let (selector, at) = (&spec["selector"], path.child("selector"));
    if selector.is_null() {
        if selection.required {
            errors.push(FieldError::required(&at, ""));
        }
        return;
    }
    selector::validate(selector, &at, errors);
    if is_empty(&selector["matchLabels"]) && is_empty(&selector["matchExpressions"]) {
        let detail = format!("empty selector is invalid for {}", selection.kind);
        errors.push(FieldError::invalid(&at, selector.clone(), detail));
    }
}

/// A selector selects the pods of the template beside it. A missing one selects none.
fn selects_template(spec: &Value, path: &Path, errors: &mut Errors) {
    let (wanted, labels) = (&spec["selector"], &spec["template"]["metadata"]["labels"]);
    let own = |key: &str| labels.get(key).map(text);
    match LabelSelector::from_value(wanted) {
        _ if wanted.is_null() => mismatch(labels, &path.child("template"), errors),
        Ok(selector) if !selector.is_everything() && !selector.matches(own) => {
            mismatch(labels, &path.child("template"), errors);
        }
        _ => {}
    }
}

fn mismatch(labels: &Value, template: &Path, errors: &mut Errors) {
    let at = template.child("metadata").child("labels");
    errors.push(FieldError::invalid(&at, labels.clone(), "`selector` does not match template `labels`"));
}

/// A template of pods that are replaced when they end, in a workload that the error text calls so.
fn lasting_template(template: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    errors.0.extend(pod::validate::template(template, path));
    lasts(template, kind, path, errors);
}

/// Pods that are replaced when they end are restarted always, and have no deadline.
fn lasts(template: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let (pod, at) = (&template["spec"], path.child("spec"));
    if pod["restartPolicy"] != "Always" {
        let policy = text(&pod["restartPolicy"]);
        errors.push(FieldError::not_supported(&at.child("restartPolicy"), policy, &["Always"]));
    }
    if !pod["activeDeadlineSeconds"].is_null() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&at.child("activeDeadlineSeconds"), detail));
    }
}

const MORE_THAN_ALL: &str = "cannot be greater than status.replicas";

/// Counts of a status: none is negative, and none of `parts` is greater than all replicas.
fn counts(status: &Value, fields: &[&str], parts: &[&str], errors: &mut Errors) {
    let path = Path::new("status");
    fields.iter().for_each(|field| errors.not_negative(&path.child(field), &status[*field]));
    let count = |field: &str| status[field].as_i64().unwrap_or_default();
    for field in parts.iter().filter(|field| count(field) > count("replicas")) {
        errors.push(FieldError::invalid(&path.child(field), count(field), MORE_THAN_ALL));
    }
}

/// No more replicas are available than are ready.
fn available_are_ready(status: &Value, ready: &str, errors: &mut Errors) {
    let count = |field: &str| status[field].as_i64().unwrap_or_default();
    if count("availableReplicas") > count("readyReplicas") {
        let at = Path::new("status").child("availableReplicas");
        let detail = format!("cannot be greater than {ready}");
        errors.push(FieldError::invalid(&at, status["availableReplicas"].clone(), detail));
    }
}

/// How often a name was taken already only grows.
fn collisions(new: &Value, old: &Value, errors: &mut Errors) {
    let count = |status: &Value| status["collisionCount"].as_i64();
    if let Some(before) = count(&old["status"])
        && count(&new["status"]).is_none_or(|now| now < before)
    {
        let at = Path::new("status").child("collisionCount");
        let now = count(&new["status"]).unwrap_or_default();
        errors.push(FieldError::invalid(&at, now, "cannot be decremented"));
    }
}

/// Whether the specs differ, so that a change is worth a warning.
fn changed(new: &Value, old: &Value) -> bool {
    new["metadata"]["generation"] != old["metadata"]["generation"]
}

/// Whether all of these labels are among those.
fn has_labels(labels: &Value, wanted: &Value) -> bool {
    entries(wanted).all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests;
