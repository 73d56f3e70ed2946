//! Checks a policy's expressions against the types of the built-in kinds its rules name.
//!
//! What does not fit is no error: the policy may be right for another kind. It is told in
//! `status.typeChecking.expressionWarnings`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::check::{indexed, is_empty, items, text};
use super::super::webhooks::compile;
use super::variables;
use crate::api::schema::{Node, NodeRef};
use crate::api::{GroupVersionKind, Path, Schemas};
use crate::server::cel::{Decl, Field, ListKind, Shape, escape};
use crate::server::registry::resources;

/// So many kinds are checked at most.
const MAX_KINDS: usize = 10;

/// The warnings about a policy's spec.
pub(super) fn warnings(spec: &Value) -> Vec<Value> {
    let kinds = kinds(spec);
    let mut warnings = Vec::new();
    for (validation, path) in indexed(&spec["validations"], &Path::new("spec").child("validations")) {
        for field in ["expression", "messageExpression"] {
            let expression = text(&validation[field]);
            if expression.trim().is_empty() {
                continue;
            }
            let about = kinds.iter().filter_map(|(kind, object)| check(spec, expression, kind, object));
            let told: Vec<String> = about.collect();
            if !told.is_empty() {
                let field = path.child(field).to_string();
                warnings.push(json!({"fieldRef": field, "warning": told.join("\n")}));
            }
        }
    }
    warnings
}

fn check(spec: &Value, expression: &str, kind: &GroupVersionKind, object: &Arc<Decl>) -> Option<String> {
    let mut known = variables(!spec["paramKind"].is_null(), true, !is_empty(&spec["variables"]));
    for (name, of) in &mut known {
        if matches!(*name, "object" | "oldObject") {
            *of = object.type_of();
        }
    }
    compile(expression, &known, &[]).err().map(|why| format!("{kind}: {why}\n"))
}

/// The kinds that the rules name without stars.
fn kinds(spec: &Value) -> BTreeMap<GroupVersionKind, Arc<Decl>> {
    let mut found = BTreeMap::new();
    let all = resources::all();
    for rule in items(&spec["matchConstraints"]["resourceRules"]) {
        let names = |field: &str| -> BTreeSet<&str> { items(&rule[field]).iter().map(text).collect() };
        let (groups, versions, plurals) = (names("apiGroups"), names("apiVersions"), names("resources"));
        let named = all.iter().filter(|r| {
            groups.contains(&*r.group) && versions.contains(&*r.version) && plurals.contains(&*r.plural)
        });
        for resource in named {
            if let Some(schema) = Schemas::builtin().get(&resource.gvk())
                && found.len() < MAX_KINDS
            {
                let decl = Converter::default().decl(schema.root());
                found.insert(resource.gvk(), decl);
            }
        }
    }
    found
}

/// Makes declarations of types; equal types are one declaration.
#[derive(Default)]
struct Converter {
    made: HashMap<u32, Arc<Decl>>,
    /// Types that are being made: what contains itself is not known any further.
    open: BTreeSet<u32>,
}

impl Converter {
    fn decl(&mut self, node: NodeRef<'_>) -> Arc<Decl> {
        if let Some(decl) = self.made.get(&node.id()) {
            return Arc::clone(decl);
        }
        if !self.open.insert(node.id()) {
            return Arc::new(Decl::scalar(Shape::Json, 1));
        }
        let decl = Arc::new(Decl::scalar(self.shape(node), 1));
        self.open.remove(&node.id());
        self.made.insert(node.id(), Arc::clone(&decl));
        decl
    }

    fn shape(&mut self, node: NodeRef<'_>) -> Shape {
        match node.node() {
            Node::Any | Node::AnyObject => Shape::Json,
            Node::IntOrString => Shape::IntOrString,
            Node::String { bytes: true } => Shape::Bytes,
            Node::String { .. } | Node::Quantity => Shape::String,
            Node::Integer { .. } => Shape::Int,
            Node::Number => Shape::Double,
            Node::Bool => Shape::Bool,
            Node::Time | Node::MicroTime => Shape::DateTime,
            Node::Map { .. } => node.child("").map_or(Shape::Json, |value| Shape::Map(self.decl(value))),
            Node::List(_) => node.item().map_or(Shape::Json, |item| Shape::List {
                items: self.decl(item),
                kind: ListKind::default(),
            }),
            Node::Object(_) => {
                let fields = node.fields().filter_map(|field| {
                    let decl = self.decl(field.node());
                    Some((escape(field.name())?.into(), Field { property: field.name().into(), decl }))
                });
                Shape::Object { fields: fields.collect(), name: node.definition().into() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(expressions: &[&str]) -> Value {
        let validations: Vec<Value> = expressions.iter().map(|e| json!({"expression": e})).collect();
        json!({"matchConstraints": {"resourceRules": [
            {"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "*/scale"]}]},
            "variables": [{"name": "x", "expression": "1"}], "validations": validations})
    }

    #[test]
    fn what_does_not_fit_the_kinds_is_told() {
        let good = [
            "object.spec.replicas > 1",
            "object.metadata.labels['a'] == 'b' && variables.x == 1",
            "request.name != ''",
        ];
        assert_eq!(warnings(&spec(&good)), [Value::Null; 0]);
        let found = warnings(&spec(&["true", "object.replicas > 1", "object.spec.replicas > '1'"]));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["fieldRef"], "spec.validations[1].expression");
        let told = found[0]["warning"].as_str().unwrap();
        assert!(
            told.starts_with(
                "apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:7: undefined field 'replicas'"
            ),
            "{told}"
        );
        let told = found[1]["warning"].as_str().unwrap();
        assert!(told.contains("no matching overload for '_>_' applied to '(int, string)'"), "{told}");
    }

    #[test]
    fn types_that_contain_themselves_end() {
        let mut of_definitions = spec(&["object.spec.versions.all(v, v.served)"]);
        let rule = &mut of_definitions["matchConstraints"]["resourceRules"][0];
        (rule["apiGroups"], rule["resources"]) =
            (json!(["apiextensions.k8s.io"]), json!(["customresourcedefinitions"]));
        assert_eq!(warnings(&of_definitions), [Value::Null; 0]);
    }
}
