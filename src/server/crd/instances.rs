//! What generic handlers leave to the strategy of custom objects.
//!
//! Follows `pkg/registry/customresource` of upstream's apiextensions-apiserver.

use std::sync::Arc;

use serde_json::{Value, json};

use super::version::Version;
use crate::api::field::quote;
use crate::api::{FieldError, GroupResource, Meta, Path, Status, names};
use crate::server::patch::go_type;
use crate::server::registry::strategy::{Context, Strategy, defaults};
use crate::server::registry::{Custom, ScalePaths};

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// The strategy of one version of a custom kind.
pub(super) struct Instances {
    pub(super) version: Arc<Version>,
    pub(super) resource: GroupResource,
    /// The status has a path of its own.
    pub(super) status: bool,
}

fn without_metadata(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten().filter(|(key, _)| *key != "metadata")
}

impl Instances {
    fn validate(&self, new: &Value, old: Option<&Value>, status: bool) -> Vec<FieldError> {
        let mut errors = match self.version.compiled() {
            Ok(schema) => schema.validate(new, old),
            Err(why) => vec![FieldError::internal(&Path::new("apiVersion"), why)],
        };
        if let Some(paths) = self.version.scale() {
            errors.extend(validate_scale(new, paths, status));
        }
        errors
    }
}

impl Strategy for Instances {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        if self.version.is_terminating() {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::forbidden(&self.resource, Meta::of(object).name(), why));
        }
        if let Some(fields) = object.as_object_mut().filter(|_| self.status) {
            fields.remove("status");
        }
        object["metadata"]["generation"] = json!(1);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        self.validate(object, None, false)
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        if self.status {
            defaults::keep(new, old, "status");
        }
        if !without_metadata(new).eq(without_metadata(old)) {
            new["metadata"]["generation"] = json!(Meta::of(old).generation() + 1);
        }
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate(new, Some(old), false)
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        self.validate(new, Some(old), subresource == "status")
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        Meta::of(object).finalizers().flat_map(finalizer_warnings).collect()
    }
}

fn finalizer_warnings(name: &str) -> Vec<String> {
    let of = |why: &str| format!("metadata.finalizers: {}: {why}", quote(name));
    let mut warnings: Vec<String> = names::qualified_name(name).iter().map(|why| of(why)).collect();
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        warnings.push(of(&format!(
            "prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        )));
    }
    warnings
}

fn validate_scale(object: &Value, paths: &ScalePaths, status: bool) -> Vec<FieldError> {
    let at = |path: &str| path.trim_start_matches('.').split('.').try_fold(object, |v, field| v.get(field));
    let mut errors = Vec::new();
    let wanted = (!status).then_some(&paths.spec_replicas);
    for path in wanted.into_iter().chain([&paths.status_replicas]) {
        let Some(value) = at(path) else { continue };
        let field = Path::new(path);
        match value.as_i64() {
            None => errors.push(FieldError::invalid(
                &field,
                0,
                format!("{path} accessor error: {value} is of the type {}, expected int64", go_type(value)),
            )),
            Some(n) if n < 0 => {
                errors.push(FieldError::invalid(&field, n, "should be a non-negative integer"))
            }
            Some(n) if n > i64::from(i32::MAX) => {
                let why = format!("should be less than or equal to {}", i32::MAX);
                errors.push(FieldError::invalid(&field, n, why));
            }
            Some(_) => {}
        }
    }
    let selector = paths.label_selector.as_ref().and_then(|path| Some((path, at(path)?)));
    if let Some((path, value)) = selector.filter(|(_, value)| !value.is_string()) {
        let why =
            format!("{path} accessor error: {value} is of the type {}, expected string", go_type(value));
        errors.push(FieldError::invalid(&Path::new(path), "", why));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_small_whole_numbers() {
        let paths = ScalePaths {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            label_selector: Some(".status.selector".into()),
        };
        let errors = |object: Value, status: bool| -> Vec<String> {
            validate_scale(&object, &paths, status).iter().map(ToString::to_string).collect()
        };
        assert!(errors(json!({}), false).is_empty());
        assert!(
            errors(json!({"spec": {"replicas": 3}, "status": {"replicas": 0, "selector": "a=b"}}), false)
                .is_empty()
        );
        assert_eq!(
            errors(json!({"spec": {"replicas": -1}}), false),
            [".spec.replicas: Invalid value: -1: should be a non-negative integer"]
        );
        assert!(errors(json!({"spec": {"replicas": -1}}), true).is_empty(), "a status update cannot mend it");
        assert_eq!(
            errors(json!({"status": {"replicas": 2147483648_i64}}), true),
            [".status.replicas: Invalid value: 2147483648: should be less than or equal to 2147483647"]
        );
    }

    #[test]
    fn finalizers_without_a_domain_are_warned_of() {
        assert!(finalizer_warnings("example.com/a").is_empty());
        assert!(finalizer_warnings("orphan").is_empty());
        assert_eq!(
            finalizer_warnings("mine"),
            [
                "metadata.finalizers: \"mine\": prefer a domain-qualified finalizer name to avoid accidental conflicts \
              with other finalizer writers"
            ]
        );
        assert!(finalizer_warnings("a.b")[0].contains("including a path (/)"));
    }
}
