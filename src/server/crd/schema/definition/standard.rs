//! Goes over a schema: what OpenAPI has and CustomResourceDefinitions do not, extensions that do not fit together,
//! rules.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{cost, extensions, flag, given, properties, sub, subs, text};
use crate::api::{FieldError, Path};
use crate::server::cel::Decl;
use crate::server::crd::schema::decl::{self, Part};
use crate::server::crd::schema::structural::Structural;

/// Errors, those of rules for themselves: where the schema is wrong, rules are not looked at.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) schema: Vec<FieldError>,
    pub(super) rules: Vec<FieldError>,
}

impl Found {
    fn append(&mut self, other: Self) {
        self.schema.extend(other.schema);
        self.rules.extend(other.rules);
    }
}

/// What holds for a schema by what is above it.
#[derive(Clone, Debug, Default)]
struct Context {
    /// Why there may be no default; nothing if there may.
    no_defaults: Option<String>,
    in_meta: bool,
    /// The part of the schema above whose old and new values cannot be compared one by one.
    uncorrelatable: Option<Path>,
}

/// What rules need to know of a schema.
#[derive(Clone, Debug)]
pub(super) struct Rulable<'s> {
    pub(super) structural: &'s Structural,
    pub(super) whole: bool,
    pub(super) decl: Option<Arc<Decl>>,
    /// How many values of it there can be; `None` if nothing bounds them.
    pub(super) cardinality: Option<u64>,
}

impl<'s> Rulable<'s> {
    fn below(
        &self,
        of: &Map<String, Value>,
        structural: Option<&'s Structural>,
        part: &Part<'_>,
    ) -> Option<Self> {
        let structural = structural?;
        let decl = self.decl.as_ref().and_then(|decl| decl::part(decl, part));
        let cardinality = self.cardinality.zip(cost::factor(of)).map(|(n, factor)| n.saturating_mul(factor));
        Some(Self { structural, whole: structural.embedded, decl, cardinality })
    }
}

pub(super) struct Walk {
    pub(super) unchanged: bool,
    pub(super) total: cost::Total,
}

impl Walk {
    pub(super) fn new(unchanged: bool) -> Self {
        Self { unchanged, total: cost::Total::default() }
    }

    /// The whole schema; without `structural` rules are not looked at.
    pub(super) fn root(
        &mut self,
        schema: &Map<String, Value>,
        structural: Option<&Structural>,
        path: &Path,
    ) -> Found {
        let rulable = structural.map(|structural| Rulable {
            structural,
            whole: true,
            decl: None,
            cardinality: Some(1),
        });
        self.schema(schema, path, &Context::default(), true, rulable)
    }

    fn schema(
        &mut self,
        schema: &Map<String, Value>,
        path: &Path,
        context: &Context,
        root: bool,
        rulable: Option<Rulable<'_>>,
    ) -> Found {
        let rulable = rulable.map(|mut rulable| {
            if rulable.decl.is_none() && given(schema, "x-kubernetes-validations") {
                rulable.decl = decl::declare(rulable.structural, rulable.whole, "selfType");
            }
            rulable
        });
        let mut found = Found::default();
        forbidden(schema, path, context, &mut found.schema);
        if flag(schema, "uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            found.schema.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
        }
        self.additional(schema, path, context, rulable.as_ref(), &mut found);
        for (name, property) in properties(schema) {
            let mut below = context.clone();
            let whole = root || flag(schema, "x-kubernetes-embedded-resource");
            if whole && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
                below.in_meta = true;
                if root {
                    below.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            let map_type = text(schema, "x-kubernetes-map-type");
            if !matches!(map_type, "" | "granular" | "atomic") {
                below.uncorrelatable.get_or_insert_with(|| path.clone());
            }
            let next = rulable
                .as_ref()
                .and_then(|r| r.below(schema, r.structural.property(name), &Part::Field(name)));
            found.append(self.schema(property, &path.child("properties").key(name), &below, false, next));
        }
        self.junctors(schema, path, context, &mut found);
        self.items(schema, path, context, rulable.as_ref(), &mut found);
        extensions::check(schema, path, &mut found.schema);
        super::rules::check(
            self,
            schema,
            path,
            context.uncorrelatable.as_ref(),
            rulable.as_ref(),
            &mut found,
        );
        found
    }

    fn additional(
        &mut self,
        schema: &Map<String, Value>,
        path: &Path,
        context: &Context,
        rulable: Option<&Rulable<'_>>,
        found: &mut Found,
    ) {
        let Some(additional) = schema.get("additionalProperties").filter(|a| !a.is_null()) else { return };
        let path = path.child("additionalProperties");
        if properties(schema).next().is_some() && *additional != Value::Bool(true) {
            let detail = "additionalProperties and properties are mutual exclusive";
            found.schema.push(FieldError::forbidden(&path, detail));
        }
        let Some(additional) = additional.as_object() else { return };
        let mut below = context.clone();
        if below.in_meta {
            below.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
        }
        let next = rulable.and_then(|r| r.below(schema, r.structural.additional(), &Part::Value));
        found.append(self.schema(additional, &path, &below, false, next));
    }

    fn junctors(&mut self, schema: &Map<String, Value>, path: &Path, context: &Context, found: &mut Found) {
        if let Some(not) = sub(schema, "not") {
            found.append(self.schema(not, &path.child("not"), context, false, None));
        }
        for junctor in ["allOf", "oneOf", "anyOf"] {
            for (index, clause) in subs(schema, junctor) {
                found.append(self.schema(clause, &path.child(junctor).index(index), context, false, None));
            }
        }
    }

    fn items(
        &mut self,
        schema: &Map<String, Value>,
        path: &Path,
        context: &Context,
        rulable: Option<&Rulable<'_>>,
        found: &mut Found,
    ) {
        let mut below = context.clone();
        if text(schema, "x-kubernetes-list-type") != "map" {
            below.uncorrelatable.get_or_insert_with(|| path.clone());
        }
        let path = path.child("items");
        if let Some(items) = sub(schema, "items") {
            let next = rulable.and_then(|r| r.below(schema, r.structural.items.as_deref(), &Part::Item));
            found.append(self.schema(items, &path, &below, false, next));
        }
        for (index, items) in subs(schema, "items") {
            found.append(self.schema(items, &path.index(index), &below, false, None));
        }
    }
}

/// What OpenAPI has and CustomResourceDefinitions do not.
fn forbidden(schema: &Map<String, Value>, path: &Path, context: &Context, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    let kind = text(schema, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("type"), kind, &TYPES));
    }
    if let (Some(reason), true) = (&context.no_defaults, schema.get("default").is_some_and(|d| !d.is_null()))
    {
        errors.push(FieldError::forbidden(&path.child("default"), format!("must not be set {reason}")));
    }
    let unsupported = ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];
    for name in unsupported {
        let there = given(schema, name)
            || (matches!(name, "additionalItems" | "dependencies" | "$ref")
                && schema.get(name).is_some_and(|v| !v.is_null()));
        if there {
            errors.push(FieldError::forbidden(&path.child(name), format!("{name} is not supported")));
        }
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    }
    if schema.get("items").and_then(Value::as_array).is_some_and(|items| !items.is_empty()) {
        let detail = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(&path.child("items"), detail));
    }
    if context.in_meta && flag(schema, "x-kubernetes-embedded-resource") {
        let path = path.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(&path, "must not be used inside of resource meta"));
    }
}
