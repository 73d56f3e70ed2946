//! From rules to programs.

use std::sync::Arc;

use crate::server::cel::{CompileError, Decl, Program, Type};
use crate::server::crd::schema::decl::{self, Part};
use crate::server::crd::schema::field_path;
use crate::server::crd::schema::structural::{Rule, Structural};

/// The rules of a schema and of those below it; only what has rules is there.
#[derive(Debug, Default)]
pub(in crate::server::crd::schema) struct Rules {
    decl: Option<Arc<Decl>>,
    compiled: Vec<Compiled>,
    pub(super) items: Option<Box<Rules>>,
    pub(super) additional: Option<Box<Rules>>,
    properties: Vec<(Box<str>, Rules)>,
    pub(super) all_of: Vec<Rules>,
}

/// A rule, ready to be evaluated.
#[derive(Debug)]
pub(in crate::server::crd::schema) struct Compiled {
    pub(super) rule: Rule,
    /// Nothing for a rule that says nothing.
    pub(super) program: Result<Option<Program>, String>,
    pub(super) message: Option<Program>,
    pub(super) field_path: Option<String>,
    pub(super) uses_old_self: bool,
}

impl Rules {
    /// Compiles the rules of a schema; `root`: it is of whole objects.
    pub(in crate::server::crd::schema) fn compile(schema: &Structural, root: bool) -> Option<Self> {
        schema.has_rules().then(|| Self::of(schema, schema, root, None)).flatten()
    }

    pub(super) fn here(&self) -> Option<(&Arc<Decl>, &[Compiled])> {
        self.decl.as_ref().filter(|_| !self.compiled.is_empty()).map(|decl| (decl, self.compiled.as_slice()))
    }

    pub(super) fn property(&self, name: &str) -> Option<&Self> {
        self.properties.iter().find(|(n, _)| **n == *name).map(|(_, rules)| rules)
    }

    /// The rules that `source` has for what `node` describes; both are the same but in `allOf`.
    fn of(source: &Structural, node: &Structural, root: bool, decl: Option<Arc<Decl>>) -> Option<Self> {
        let decl = match decl {
            None if !source.rules.is_empty() => decl::declare(node, root, "selfType"),
            known => known,
        };
        let below = |part: &Part<'_>| decl.as_ref().and_then(|decl| decl::part(decl, part));
        let mut rules = Self::default();
        if let (Some(source), Some(node)) = (&source.items, &node.items) {
            rules.items = Self::of(source, node, node.embedded, below(&Part::Item)).map(Box::new);
        }
        if let (Some(source), Some(node)) = (source.additional(), node.additional()) {
            rules.additional = Self::of(source, node, node.embedded, below(&Part::Value)).map(Box::new);
        }
        for (name, source) in &source.properties {
            let Some(node) = node.property(name) else { continue };
            if let Some(found) = Self::of(source, node, node.embedded, below(&Part::Field(name))) {
                rules.properties.push((name.clone(), found));
            }
        }
        for source in source.values.iter().flat_map(|v| &v.all_of) {
            rules.all_of.extend(Self::of(source, node, root, decl.clone()));
        }
        if let Some(decl) = decl.as_ref().filter(|_| !source.rules.is_empty()) {
            rules.compiled = source.rules.iter().map(|rule| Compiled::of(rule, node, decl)).collect();
        }
        let any = !rules.compiled.is_empty()
            || rules.items.is_some()
            || rules.additional.is_some()
            || !rules.properties.is_empty()
            || !rules.all_of.is_empty();
        rules.decl = decl.filter(|_| !rules.compiled.is_empty());
        any.then_some(rules)
    }
}

/// What compiling a rule came to: programs with the most they can cost.
pub(in crate::server::crd::schema) struct CompiledRule {
    pub(in crate::server::crd::schema) rule: Result<(Program, u64), String>,
    /// The `messageExpression`, if there is one.
    pub(in crate::server::crd::schema) message: Option<Result<(Program, u64), String>>,
}

/// Compiles a rule that says something, and its message.
pub(in crate::server::crd::schema) fn compile_rule(rule: &Rule, decl: &Arc<Decl>) -> CompiledRule {
    let of = decl.type_of();
    let old = if rule.optional_old_self == Some(true) { Type::optional(of.clone()) } else { of.clone() };
    let variables = [("self", of), ("oldSelf", old)];
    let compile = |text: &str, what: &str, wanted: &Type, must: &str| {
        let compiled = Program::compile_estimated(text, &variables, decl).map_err(|CompileError(why)| {
            match why.starts_with("ERROR") {
                true => format!("{what}compilation failed: {why}"),
                false => format!("{what}{why}"),
            }
        })?;
        if compiled.0.result_type() == wanted { Ok(compiled) } else { Err(must.to_owned()) }
    };
    let program = compile(&rule.rule, "", &Type::Bool, "cel expression must evaluate to a bool");
    let message = (!rule.message_expression.is_empty() && program.is_ok()).then(|| {
        let must = "messageExpression must evaluate to a string";
        compile(&rule.message_expression, "messageExpression ", &Type::String, must)
    });
    CompiledRule { rule: program, message }
}

impl Compiled {
    fn of(rule: &Rule, node: &Structural, decl: &Arc<Decl>) -> Self {
        let CompiledRule { rule: program, message } = compile_rule(rule, decl);
        let uses_old_self = program.as_ref().is_ok_and(|(program, _)| program.uses("oldSelf"));
        let program = if rule.rule.trim().is_empty() { Ok(None) } else { program.map(|(p, _)| Some(p)) };
        let field_path = Some(&rule.field_path).filter(|p| !p.is_empty());
        Self {
            rule: rule.clone(),
            program,
            message: message.and_then(Result::ok).map(|(program, _)| program),
            field_path: field_path.and_then(|p| field_path::normalize(p, node).ok()),
            uses_old_self,
        }
    }
}
