//! Calls: which overloads their arguments allow.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Checker, qualified, root};
use crate::server::cel::ast::{Expr, Kind, Literal, Name};
use crate::server::cel::functions::{Overload, overloads};
use crate::server::cel::types::Type;

impl Checker<'_> {
    pub(super) fn call(&mut self, expr: &mut Expr) -> Type {
        self.join_name(expr);
        let (id, at) = (expr.id, expr.at);
        let Kind::Call { function, target, args } = &mut expr.kind else { return Type::Dyn };
        let function: Name = Arc::clone(function);
        if &*function == "_?._" {
            return self.optional_select(at, args);
        }
        let known = overloads(&function);
        if target.is_none() && known.is_empty() {
            return self.undeclared(at, &function);
        }
        let mut types = Vec::with_capacity(args.len() + 1);
        let member = target.is_some();
        if let Some(target) = target {
            types.push(self.expr(target));
            if known.is_empty() {
                return self.undeclared(at, &function);
            }
        }
        for arg in args {
            types.push(self.expr(arg));
        }
        self.resolve(id, at, &function, member, known, &types)
    }

    /// `sets.contains(a, b)` calls no member of `sets` but the function of that name.
    fn join_name(&self, expr: &mut Expr) {
        let Kind::Call { function, target, .. } = &mut expr.kind else { return };
        let Some(of) = target.as_deref() else { return };
        let unknown = root(of).is_some_and(|name| self.variable(name).is_none());
        let Some(name) = qualified(of).filter(|_| unknown) else { return };
        let joined = format!("{name}.{function}");
        if !overloads(&joined).is_empty() {
            *function = joined.into();
            *target = None;
        }
    }

    /// `a.?b`
    fn optional_select(&mut self, at: u32, args: &mut [Expr]) -> Type {
        let [operand, field] = args else { return Type::Dyn };
        let of = self.expr(operand);
        let Kind::Literal(Literal::String(name)) = &field.kind else { return Type::Dyn };
        let name = Arc::clone(name);
        self.checked.types.insert(field.id, Type::String);
        match self.field(at, &of, &name) {
            found @ Type::Optional(_) => found,
            found => Type::optional(found),
        }
    }

    fn resolve(
        &mut self,
        id: u32,
        at: u32,
        function: &str,
        member: bool,
        known: &'static [Overload],
        types: &[Type],
    ) -> Type {
        let mut result: Option<Type> = None;
        let mut found: Vec<&'static Overload> = Vec::new();
        for overload in known.iter().filter(|o| o.member == member && o.params.len() == types.len()) {
            let mut map = HashMap::new();
            let params: Vec<Type> =
                overload.params.iter().map(|p| self.bindings.instance(p, &mut map)).collect();
            let pairs: Vec<(Type, Type)> = types.iter().cloned().zip(params).collect();
            if !self.bindings.assign_all(&pairs) {
                continue;
            }
            found.push(overload);
            let of = self.bindings.instance(&overload.result, &mut map);
            result = Some(match result {
                None => of,
                Some(before) if before.is_dyn() => before,
                Some(before) if self.bindings.settled(&before) == self.bindings.settled(&of) => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> = types.iter().map(|t| self.bindings.settled(t).to_string()).collect();
            let signature = match shown.split_first() {
                Some((target, args)) if member => format!("{target}.({})", args.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            let message = format!("found no matching overload for '{function}' applied to '{signature}'");
            return self.issue(at, message);
        };
        self.checked.calls.insert(id, found);
        result
    }
}
