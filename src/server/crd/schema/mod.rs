//! What a CustomResourceDefinition says of its objects: pruning, defaults, types, values and rules.
//!
//! [`check_definition`] refuses schemas that are not structural; [`CustomSchema`] is one version's schema, ready to
//! be applied to objects.

mod correlate;
mod decl;
mod defaults;
mod definition;
mod field_path;
mod formats;
mod lists;
mod metadata;
mod pattern;
mod rules;
mod structural;
mod values;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::api::field::ErrorType;
use crate::api::{FieldError, GroupVersionKind, Path, Schema};
use rules::Rules;
use structural::Structural;

/// The schema of one version of a custom kind, ready for use. Cheap to clone.
///
/// Most kinds of a cluster with many definitions have no object that anybody touches: what is needed to judge
/// objects is made when the first one comes.
#[derive(Clone, Debug)]
pub struct CustomSchema {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: GroupVersionKind,
    /// The schema as deflated JSON; empty without one.
    source: Box<[u8]>,
    preserve_unknown: bool,
    schema: OnceLock<Schema>,
    structural: OnceLock<Structural>,
    rules: OnceLock<Option<Rules>>,
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
        if let Some(openapi) = openapi {
            Structural::parse(openapi)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                kind: gvk.clone(),
                source: openapi.map(deflate).unwrap_or_default(),
                preserve_unknown,
                schema: OnceLock::new(),
                structural: OnceLock::new(),
                rules: OnceLock::new(),
            }),
        })
    }

    /// The types: for decoding, apply and merge.
    pub fn schema(&self) -> &Schema {
        let inner = &*self.inner;
        inner.schema.get_or_init(|| {
            Schema::custom(&inner.kind, inflate(&inner.source).as_ref(), inner.preserve_unknown)
        })
    }

    fn structural(&self) -> &Structural {
        self.inner.structural.get_or_init(|| {
            let openapi = inflate(&self.inner.source);
            // It was parsed once already.
            openapi.and_then(|openapi| Structural::parse(&openapi).ok()).unwrap_or_default()
        })
    }

    /// Drops the fields that the schema does not have.
    pub fn prune(&self, object: &mut Value) {
        self.schema().prune(object);
    }

    /// Fills in the schema's defaults; nulls of fields that may not be null are dropped first.
    pub fn default(&self, object: &mut Value) {
        let structural = self.structural();
        defaults::prune_nulls(object, Some(structural));
        defaults::apply(object, structural);
    }

    /// What is wrong with an object: types, bounds, list keys, rules. `old` is the object it replaces: what is wrong
    /// already and unchanged is let through, and transition rules compare with it.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let (structural, root) = (self.structural(), Path::default());
        let mut errors = values::check(&root, structural, new, old);
        metadata::check(&root, structural, new, false, &mut errors);
        let mut before = Vec::new();
        if let Some(old) = old {
            lists::check(&root, structural, old, &mut before);
        }
        if before.is_empty() {
            lists::check(&root, structural, new, &mut errors);
        }
        let blocking = |e: &FieldError| {
            use ErrorType::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
            matches!(e.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
        };
        let Some(rules) = self.inner.rules.get_or_init(|| Rules::compile(structural, true)) else {
            return errors;
        };
        if errors.iter().any(blocking) {
            let detail = "some validation rules were not checked because the object was invalid; \
                          correct the existing errors to complete validation";
            errors.push(FieldError::invalid(&root, Value::Null, detail));
        } else {
            errors.extend(rules::check(rules, structural, &root, new, old));
        }
        errors
    }
}

fn deflate(openapi: &Value) -> Box<[u8]> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    // Neither JSON of a Value nor memory can fail.
    let _ = serde_json::to_writer(&mut encoder, openapi);
    encoder.finish().unwrap_or_default().into_boxed_slice()
}

fn inflate(source: &[u8]) -> Option<Value> {
    serde_json::from_reader(flate2::read::DeflateDecoder::new(source)).ok()
}

/// What is wrong with the schemas of a CustomResourceDefinition's `spec` (`versions[*].schema`); paths begin with
/// `spec`. `old_spec` is the definition it replaces: rules that were accepted once are not checked for cost again.
pub fn check_definition(crd_spec: &Value, old_spec: Option<&Value>) -> Vec<FieldError> {
    definition::check(crd_spec, old_spec)
}

/// Warnings about the schemas of a CustomResourceDefinition's `spec`: formats nobody knows, sets of what is no scalar.
/// `old_spec` is the definition it replaces, whose warnings are not repeated.
pub fn definition_warnings(crd_spec: &Value, old_spec: Option<&Value>) -> Vec<String> {
    definition::warnings::of(crd_spec, old_spec)
}
