//! Complete: what junctors speak of is also specified outside of them.

use serde_json::{Map, Value};

use super::{properties, sub, subs};
use crate::api::{FieldError, Path};

type Schema = Map<String, Value>;

/// What is spoken of but not specified.
pub(super) fn check(schema: &Schema, path: &Path, errors: &mut Vec<FieldError>) {
    values(schema, Some(schema), path, path, errors);
}

/// `said`: the schema in a junctor; `spec`: the one outside that should specify it.
fn values(said: &Schema, spec: Option<&Schema>, at: &Path, from: &Path, errors: &mut Vec<FieldError>) {
    if let Some(not) = sub(said, "not") {
        nested(not, spec, at, &from.child("not"), errors);
    }
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for (index, clause) in subs(said, junctor) {
            nested(clause, spec, at, &from.child(junctor).index(index), errors);
        }
    }
}

fn nested(said: &Schema, spec: Option<&Schema>, at: &Path, from: &Path, errors: &mut Vec<FieldError>) {
    let Some(spec) = spec else {
        errors.push(FieldError::required(at, format!("because it is defined in {from}")));
        return;
    };
    values(said, Some(spec), at, from, errors);
    if let Some(items) = sub(said, "items") {
        nested(items, sub(spec, "items"), &at.child("items"), &from.child("items"), errors);
    }
    for (name, property) in properties(said) {
        let specified = properties(spec).find(|(n, _)| *n == name).map(|(_, schema)| schema);
        let [at, from] = [at, from].map(|path| path.child("properties").key(name));
        nested(property, specified, &at, &from, errors);
    }
}
