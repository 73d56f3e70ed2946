//! ControllerRevisions, which keep what a template was, and PodTemplates.

use serde_json::{Value, json};

use crate::api::{FieldError, Path, Status};
use crate::server::registry::strategies::check::Errors;
use crate::server::registry::strategies::pod::{validate, warnings};
use crate::server::registry::strategy::{Context, Strategy};

/// The strategy of ControllerRevisions.
pub struct ControllerRevisionStrategy;

impl Strategy for ControllerRevisionStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        if object["data"].is_null() {
            errors.push(FieldError::required(&Path::new("data"), "data is mandatory"));
        }
        errors.not_negative(&Path::new("revision"), &object["revision"]);
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors(self.validate_create(cx, new));
        errors.immutable(&Path::new("data"), &new["data"], &old["data"]);
        errors.0
    }
}

/// The strategy of PodTemplates.
pub struct PodTemplateStrategy;

impl Strategy for PodTemplateStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["metadata"]["generation"] = json!(1);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate::template(&object["template"], &Path::new("template"))
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        let changed = i64::from(new["template"] != old["template"]);
        new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(1) + changed);
        Ok(())
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        self.validate_create(cx, new)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_template(&object["template"], &Path::new("template"))
    }
}
