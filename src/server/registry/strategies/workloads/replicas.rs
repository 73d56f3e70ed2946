//! ReplicaSets and ReplicationControllers, which differ in what their selector is.

use serde_json::Value;

use super::{
    Selection, available_are_ready, changed, counts, has_labels, lasting_template, mismatch, selects,
    selects_template,
};
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, is_empty};
use crate::server::registry::strategies::pod::warnings;
use crate::server::registry::strategy::{Context, Strategy};

/// The strategy of ReplicaSets.
pub struct ReplicaSetStrategy;

/// The strategy of ReplicationControllers.
pub struct ReplicationControllerStrategy;

impl Strategy for ReplicaSetStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        replica_set(&object["spec"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors(replica_set(&new["spec"]));
        let at = Path::new("spec").child("selector");
        errors.immutable(&at, &new["spec"]["selector"], &old["spec"]["selector"]);
        errors.0
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        _: &Value,
    ) -> Vec<FieldError> {
        if subresource == "status" { status(&new["status"]) } else { Vec::new() }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_owner(object, &object["spec"]["template"], &Path::new("spec").child("template"))
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        warnings_on_update(new, old)
    }
}

impl Strategy for ReplicationControllerStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        controller(&object["spec"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        controller(&new["spec"])
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        _: &Value,
    ) -> Vec<FieldError> {
        if subresource == "status" { status(&new["status"]) } else { Vec::new() }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_owner(object, &object["spec"]["template"], &Path::new("spec").child("template"))
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        warnings_on_update(new, old)
    }
}

fn warnings_on_update(new: &Value, old: &Value) -> Vec<String> {
    let template = &new["spec"]["template"];
    if changed(new, old) {
        warnings::of_template(template, &Path::new("spec").child("template"))
    } else {
        Vec::new()
    }
}

/// `ValidateReplicaSetSpec`
fn replica_set(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    for field in ["replicas", "minReadySeconds"] {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    // Called a deployment upstream too.
    selects(spec, &path, Selection { kind: "deployment", required: true }, &mut errors);
    selects_template(spec, &path, &mut errors);
    lasting_template(&spec["template"], "ReplicaSet", &path.child("template"), &mut errors);
    errors.0
}

/// `ValidateReplicationControllerSpec`: the selector is a map of labels.
fn controller(spec: &Value) -> Vec<FieldError> {
    let (path, template) = (Path::new("spec"), &spec["template"]);
    let mut errors = Errors::default();
    errors.not_negative(&path.child("minReadySeconds"), &spec["minReadySeconds"]);
    errors.required(&path.child("selector"), &spec["selector"]);
    errors.not_negative(&path.child("replicas"), &spec["replicas"]);
    let at = path.child("template");
    if template.is_null() {
        errors.push(FieldError::required(&at, ""));
        return errors.0;
    }
    let labels = &template["metadata"]["labels"];
    if !is_empty(&spec["selector"]) && !has_labels(labels, &spec["selector"]) {
        mismatch(labels, &at, &mut errors);
    }
    lasting_template(template, "ReplicationController", &at, &mut errors);
    errors.0
}

fn status(status: &Value) -> Vec<FieldError> {
    const COUNTS: [&str; 5] =
        ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    let mut errors = Errors::default();
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    counts(status, &COUNTS, &parts, &mut errors);
    available_are_ready(status, "readyReplicas", &mut errors);
    errors.0
}
