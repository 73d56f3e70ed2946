//! IngressClasses: `pkg/apis/networking/validation`.

use serde_json::Value;

use super::ingress::reference;
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, is_empty, text};
use crate::server::registry::strategy::{Context, Strategy};

const LONGEST_CONTROLLER: usize = 250;

/// The strategy of IngressClasses.
pub struct IngressClassStrategy;

impl Strategy for IngressClassStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(&object["spec"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let path = Path::new("spec").child("controller");
        errors.immutable(&path, &new["spec"]["controller"], &old["spec"]["controller"]);
        errors.0.extend(validate(&new["spec"]));
        errors.0
    }
}

pub(super) fn validate(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    let (controller, at) = (&spec["controller"], path.child("controller"));
    if errors.required(&at, controller) {
        if text(controller).len() > LONGEST_CONTROLLER {
            errors.push(FieldError::too_long(&at, LONGEST_CONTROLLER));
        }
        errors.invalid_all(&at, controller, names::domain_prefixed_path(text(controller)));
    }
    if !spec["parameters"].is_null() {
        parameters(&spec["parameters"], &path.child("parameters"), &mut errors);
    }
    errors.0
}

fn parameters(parameters: &Value, path: &Path, errors: &mut Errors) {
    reference(parameters, path, errors);
    let (scope, namespace, at) = (&parameters["scope"], &parameters["namespace"], path.child("namespace"));
    if !errors.required(&path.child("scope"), scope) {
        return;
    }
    match text(scope) {
        "Namespace" if namespace.is_null() => {
            errors.push(FieldError::required(&at, "`parameters.scope` is set to 'Namespace'"));
        }
        "Namespace" => errors.invalid_all(&at, namespace, names::dns1123_label(text(namespace))),
        "Cluster" if !is_empty(namespace) => {
            errors.push(FieldError::forbidden(&at, "`parameters.scope` is set to 'Cluster'"));
        }
        "Cluster" => {}
        other => {
            let at = path.child("scope");
            errors.push(FieldError::not_supported(&at, other, &["Cluster", "Namespace"]));
        }
    }
}
