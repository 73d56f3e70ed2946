//! Finds the type of every part of an expression, and which overloads its calls may mean.

mod assign;
mod calls;
mod literals;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use assign::Bindings;

use super::ast::{Expr, Fold, Kind, Literal, Name};
use super::functions::Overload;
use super::source::Issue;
use super::types::Type;

/// What is known of an expression.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// The types of its parts, by number.
    pub(super) types: HashMap<u32, Type>,
    /// What its calls may mean, by number.
    pub(super) calls: HashMap<u32, Vec<&'static Overload>>,
    /// The variables it names.
    pub(super) names: HashSet<Name>,
}

/// Checks an expression; names that stand for a function or a type are put together on the way.
pub(super) fn check(expr: &mut Expr, variables: &[(&str, Type)]) -> Result<Checked, Vec<Issue>> {
    let mut checker = Checker {
        variables,
        locals: Vec::new(),
        bindings: Bindings::default(),
        checked: Checked::default(),
        issues: Vec::new(),
    };
    checker.expr(expr);
    let Checker { bindings, mut checked, mut issues, .. } = checker;
    for of in checked.types.values_mut() {
        *of = bindings.settled(of);
    }
    if issues.is_empty() {
        literals::check(expr, &checked, &mut issues);
    }
    if issues.is_empty() { Ok(checked) } else { Err(issues) }
}

struct Checker<'v> {
    variables: &'v [(&'v str, Type)],
    locals: Vec<(Name, Type)>,
    bindings: Bindings,
    checked: Checked,
    issues: Vec<Issue>,
}

/// Types that can be named.
fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "dyn" => Type::Dyn,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "string" => Type::String,
        "type" => Type::Type(Arc::new(Type::Dyn)),
        "uint" => Type::Uint,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "optional_type" => Type::optional(Type::Dyn),
        "net.IP" => Type::Opaque("net.IP"),
        "net.CIDR" => Type::Opaque("net.CIDR"),
        "kubernetes.URL" => Type::Opaque("kubernetes.URL"),
        "kubernetes.Quantity" => Type::Opaque("kubernetes.Quantity"),
        "kubernetes.Semver" => Type::Opaque("kubernetes.Semver"),
        _ => return None,
    })
}

/// The type that a name stands for.
pub(super) fn type_value(name: &str) -> Option<Type> {
    named_type(name)
}

/// `a.b.c`, if it is nothing but names.
fn qualified(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.to_string()),
        Kind::Select { operand, field, test: false } => Some(format!("{}.{field}", qualified(operand)?)),
        _ => None,
    }
}

fn root(expr: &Expr) -> Option<&Name> {
    match &expr.kind {
        Kind::Ident(name) => Some(name),
        Kind::Select { operand, .. } => root(operand),
        _ => None,
    }
}

impl Checker<'_> {
    fn variable(&self, name: &str) -> Option<Type> {
        let local = self.locals.iter().rev().find(|(n, _)| &**n == name).map(|(_, of)| of);
        local.or_else(|| self.variables.iter().find(|(n, _)| *n == name).map(|(_, of)| of)).cloned()
    }

    fn issue(&mut self, at: u32, message: String) -> Type {
        self.issues.push(Issue::new(at, message));
        // What follows from a mistake is not said.
        Type::Dyn
    }

    fn undeclared(&mut self, at: u32, name: &str) -> Type {
        self.issue(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn expr(&mut self, expr: &mut Expr) -> Type {
        let found = match &mut expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => {
                let name = Arc::clone(name);
                self.ident(expr.at, &name)
            }
            Kind::Select { .. } => self.select(expr),
            Kind::Call { .. } => self.call(expr),
            Kind::List { items, optional } => {
                let optional = std::mem::take(optional);
                let found = self.list(items, &optional);
                expr.kind = match std::mem::replace(&mut expr.kind, Kind::Literal(Literal::Null)) {
                    Kind::List { items, .. } => Kind::List { items, optional },
                    other => other,
                };
                found
            }
            Kind::Map { entries } => self.map(entries),
            Kind::Fold(fold) => self.fold(fold),
        };
        self.checked.types.insert(expr.id, found.clone());
        found
    }

    fn ident(&mut self, at: u32, name: &Name) -> Type {
        if let Some(found) = self.variable(name) {
            self.checked.names.insert(Arc::clone(name));
            return found;
        }
        match named_type(name) {
            Some(of) => Type::Type(Arc::new(of)),
            None => self.undeclared(at, name),
        }
    }

    fn select(&mut self, expr: &mut Expr) -> Type {
        // A variable may have a name of several parts.
        if let Some(name) = qualified(expr)
            && let Some(of) = self.variable(&name)
        {
            let name: Name = name.into();
            self.checked.names.insert(Arc::clone(&name));
            expr.kind = Kind::Ident(name);
            return of;
        }
        let unknown = root(expr).is_none_or(|name| self.variable(name).is_none());
        if unknown
            && let Some(name) = qualified(expr)
            && let Some(of) = named_type(&name)
        {
            expr.kind = Kind::Ident(name.into());
            return Type::Type(Arc::new(of));
        }
        let at = expr.at;
        let Kind::Select { operand, field, test } = &mut expr.kind else { return Type::Dyn };
        let (field, test) = (Arc::clone(field), *test);
        let of = self.expr(operand);
        let found = self.field(at, &of, &field);
        if test { Type::Bool } else { found }
    }

    /// The type of a field of a type.
    fn field(&mut self, at: u32, of: &Type, field: &str) -> Type {
        match self.bindings.resolved(of) {
            Type::Dyn | Type::Param(_) => Type::Dyn,
            Type::Map(entry) => entry.1.clone(),
            Type::Object(decl) => match decl.field(field) {
                Some(found) => found.decl.type_of(),
                None => self.issue(at, format!("undefined field '{field}'")),
            },
            Type::Optional(inner) => match self.field(at, &inner, field) {
                found @ Type::Optional(_) => found,
                found => Type::optional(found),
            },
            other => {
                let shown = self.bindings.settled(&other);
                self.issue(at, format!("type '{shown}' does not support field selection"))
            }
        }
    }

    fn list(&mut self, items: &mut [Expr], optional: &[usize]) -> Type {
        let mut joined: Option<Type> = None;
        for (index, item) in items.iter_mut().enumerate() {
            let mut found = self.expr(item);
            if optional.contains(&index) {
                found = self.unwrapped(item.at, found);
            }
            joined = Some(self.join(joined, found));
        }
        Type::list(joined.unwrap_or_else(|| self.bindings.fresh()))
    }

    fn map(&mut self, entries: &mut [super::ast::Entry]) -> Type {
        let (mut keys, mut values): (Option<Type>, Option<Type>) = (None, None);
        for entry in entries {
            let key = self.expr(&mut entry.key);
            keys = Some(self.join(keys, key));
            let mut value = self.expr(&mut entry.value);
            if entry.optional {
                value = self.unwrapped(entry.value.at, value);
            }
            values = Some(self.join(values, value));
        }
        let key = keys.unwrap_or_else(|| self.bindings.fresh());
        Type::map(key, values.unwrap_or_else(|| self.bindings.fresh()))
    }

    /// What an optional entry holds.
    fn unwrapped(&mut self, at: u32, found: Type) -> Type {
        match self.bindings.resolved(&found) {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn => Type::Dyn,
            other => {
                let shown = self.bindings.settled(&other);
                self.issue(at, format!("expected type 'optional_type({shown})' but found '{shown}'"))
            }
        }
    }

    /// The type of several items together; that literals must have the same is checked when all types are known.
    fn join(&mut self, before: Option<Type>, found: Type) -> Type {
        let Some(before) = before else { return found };
        if self.bindings.assign(&found, &before) && !matches!(self.bindings.resolved(&before), Type::Dyn) {
            before
        } else {
            Type::Dyn
        }
    }

    fn fold(&mut self, fold: &mut Fold) -> Type {
        let range = self.expr(&mut fold.range);
        let start = self.expr(&mut fold.start);
        let (first, second) = self.items_of(fold.range.at, &range, fold.second.is_some());
        let depth = self.locals.len();
        self.locals.push((Arc::clone(&fold.accumulator), start.clone()));
        self.locals.push((Arc::clone(&fold.variable), first));
        if let Some(name) = &fold.second {
            self.locals.push((Arc::clone(name), second));
        }
        let condition = self.expr(&mut fold.condition);
        self.expect(fold.condition.at, &Type::Bool, &condition);
        let step = self.expr(&mut fold.step);
        if !fold.is_bind() {
            self.expect(fold.step.at, &start, &step);
        }
        self.locals.truncate(depth + 1);
        let result = self.expr(&mut fold.result);
        self.locals.truncate(depth);
        result
    }

    /// The types of the variables that go over a range.
    fn items_of(&mut self, at: u32, range: &Type, two: bool) -> (Type, Type) {
        match self.bindings.resolved(range) {
            Type::List(item) if two => (Type::Int, (*item).clone()),
            Type::List(item) => ((*item).clone(), Type::Dyn),
            Type::Map(entry) => entry.as_ref().clone(),
            Type::Dyn | Type::Param(_) => (Type::Dyn, Type::Dyn),
            other => {
                let shown = self.bindings.settled(&other);
                let message = format!(
                    "expression of type '{shown}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.issue(at, message), Type::Dyn)
            }
        }
    }

    fn expect(&mut self, at: u32, wanted: &Type, found: &Type) {
        if !self.bindings.assign(found, wanted) {
            let (wanted, found) = (self.bindings.settled(wanted), self.bindings.settled(found));
            self.issue(at, format!("expected type '{wanted}' but found '{found}'"));
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
