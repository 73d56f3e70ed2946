//! Runs a checked expression, and counts what it costs.

use std::sync::Arc;

use super::ast::{ACCUMULATOR, Entry, Expr, Fold, Kind, Literal};
use super::containers::{List, Map};
use super::functions::{self, Overload};
use super::value::{Entries, Text, Value};
use super::{EvalError, Program, Variables, check, compare, cost};

type Evaluated<'a> = Result<Value<'a>, EvalError>;

/// One run of a program.
pub(super) struct Run<'p, 'v> {
    program: &'p Program,
    variables: &'v Variables<'p>,
    /// Variables of folds, the innermost last.
    locals: Vec<(&'p str, Evaluated<'p>)>,
    pub(super) cost: u64,
    limit: u64,
}

impl<'p, 'v> Run<'p, 'v> {
    pub(super) fn new(program: &'p Program, variables: &'v Variables<'p>, limit: u64) -> Self {
        Self { program, variables, locals: Vec::new(), cost: 0, limit }
    }

    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    pub(super) fn eval(&mut self, expr: &'p Expr) -> Evaluated<'p> {
        match &expr.kind {
            Kind::List { .. } | Kind::Map { .. } | Kind::Call { .. } if expr.is_constant() => {
                self.constant(expr)
            }
            Kind::Literal(literal) => Ok(literal_value(literal)),
            Kind::Ident(name) => self.ident(name),
            Kind::Select { operand, field, test } => self.select(operand, field, *test),
            Kind::Call { function, target, args } => self.call(expr.id, function, target.as_deref(), args),
            Kind::List { items, optional } => self.list(items, optional),
            Kind::Map { entries } => self.map(entries),
            Kind::Fold(fold) if fold.is_bind() => self.bind(fold),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    /// What is known beforehand costs nothing.
    fn constant(&mut self, expr: &'p Expr) -> Evaluated<'p> {
        let before = self.cost;
        let value = match &expr.kind {
            Kind::Call { function, target, args } => self.call(expr.id, function, target.as_deref(), args),
            Kind::List { items, optional } => self.list(items, optional),
            Kind::Map { entries } => self.map(entries),
            _ => self.eval(expr),
        };
        self.cost = before;
        value
    }

    /// A variable or field that is one of several: upstream counts the way to it, not itself.
    fn attribute(&mut self, expr: &'p Expr) -> Evaluated<'p> {
        let value = self.eval(expr);
        if expr.is_attribute() {
            self.cost = self.cost.saturating_sub(1);
        }
        value
    }

    fn ident(&mut self, name: &'p str) -> Evaluated<'p> {
        if let Some((_, value)) = self.locals.iter().rev().find(|(n, _)| *n == name) {
            let value = value.clone();
            self.charge(1)?;
            return value;
        }
        if let Some(value) = self.variables.get(name) {
            let value = value.clone();
            self.charge(1)?;
            return Ok(value);
        }
        // The name of a type is a constant.
        match check::type_value(name) {
            Some(of) => Ok(Value::Type(of)),
            None => Err(EvalError::failed(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&mut self, operand: &'p Expr, field: &str, test: bool) -> Evaluated<'p> {
        let value = self.eval(operand)?;
        if test {
            // A test itself is free.
            return Ok(Value::Bool(match &value {
                Value::Map(map) => map.field(field).transpose()?.is_some(),
                Value::Optional(Some(inner)) => match &**inner {
                    Value::Map(map) => map.field(field).transpose()?.is_some(),
                    _ => return Err(EvalError::no_such_overload()),
                },
                Value::Optional(None) => false,
                _ => return Err(EvalError::no_such_overload()),
            }));
        }
        self.charge(1)?;
        match &value {
            Value::Map(map) => map
                .field(field)
                .transpose()?
                .ok_or_else(|| EvalError::failed(format!("no such key: {field}"))),
            Value::Optional(_) => optional_field(&value, field),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn list(&mut self, items: &'p [Expr], optional: &[usize]) -> Evaluated<'p> {
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let value = self.eval(item)?;
            match value {
                Value::Optional(inner) if optional.contains(&index) => {
                    values.extend(inner.map(|v| (*v).clone()))
                }
                value => values.push(value),
            }
        }
        self.charge(cost::CREATE_LIST)?;
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'p [Entry]) -> Evaluated<'p> {
        let mut made = Entries::new();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let value = match (self.eval(&entry.value)?, entry.optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => (*inner).clone(),
                (value, _) => value,
            };
            insert(&mut made, key, value)?;
        }
        self.charge(cost::CREATE_MAP)?;
        Ok(Value::Map(Map::Made(Arc::new(made))))
    }

    fn call(
        &mut self,
        id: u32,
        function: &'p str,
        target: Option<&'p Expr>,
        args: &'p [Expr],
    ) -> Evaluated<'p> {
        match (function, args) {
            ("_&&_", [left, right]) => return self.logical(left, right, false),
            ("_||_", [left, right]) => return self.logical(left, right, true),
            ("_?_:_", [condition, then, otherwise]) => {
                return match self.eval(condition)? {
                    Value::Bool(true) => self.attribute(then),
                    Value::Bool(false) => self.attribute(otherwise),
                    _ => Err(EvalError::no_such_overload()),
                };
            }
            ("@not_strictly_false", [held]) => {
                let value = self.eval(held);
                self.charge(1)?;
                return match value {
                    Err(EvalError::Failed(_)) => Ok(Value::Bool(true)),
                    other => other,
                };
            }
            ("_?._", [operand, Expr { kind: Kind::Literal(Literal::String(field)), .. }]) => {
                let value = self.eval(operand)?;
                self.charge(1)?;
                return optional_field(&value, field);
            }
            ("or" | "orValue", [other]) if target.is_some() => return self.or(function, target, other),
            ("_+_", [left, right]) if is_accumulator(left) => {
                if let Kind::List { items, .. } = &right.kind {
                    return self.append(items);
                }
            }
            ("cel.@mapInsert", _) => return self.insert(args),
            _ => {}
        }
        if let ("_[_]" | "_[?_]", [container, key]) = (function, args) {
            let values = [self.eval(container)?, self.attribute(key)?];
            return self.invoke(id, function, &values);
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        let mut failed = None;
        for arg in target.into_iter().chain(args) {
            match self.eval(arg) {
                Ok(value) => values.push(value),
                Err(EvalError::Failed(why)) => failed = failed.or(Some(why)),
                Err(other) => return Err(other),
            }
        }
        match failed {
            None => self.invoke(id, function, &values),
            // A call is counted though what it is called with failed.
            Some(why) => {
                self.charge(1)?;
                Err(EvalError::Failed(why))
            }
        }
    }

    fn invoke(&mut self, id: u32, function: &'p str, values: &[Value<'p>]) -> Evaluated<'p> {
        let known: &[&'static Overload] = self.program.calls.get(&id).map_or(&[], Vec::as_slice);
        let fits = |o: &&&'static Overload| o.params.iter().zip(values).all(|(p, v)| functions::fits(v, p));
        let overload = match known {
            [only] => fits(&only).then_some(*only),
            several => {
                let mut fitting = several.iter().filter(fits);
                let first = fitting.next();
                // Of overloads for lists of different items, the one whose items these are.
                let exact =
                    |o: &&&'static Overload| o.params.iter().zip(values).all(|(p, v)| functions::holds(v, p));
                first.filter(exact).or_else(|| fitting.find(exact)).copied()
            }
        };
        let overload = overload.ok_or_else(EvalError::no_such_overload)?;
        // What it costs to make a long result is charged before it is made.
        let regexp = self.program.regexps.get(&id);
        if !cost::depends_on_result(function) {
            self.charge(cost::of_call(function, overload.id, values, None))?;
        }
        let result = match regexp {
            Some(regexp) => functions::matches_compiled(function, values, regexp)?,
            None => (overload.run)(values)?,
        };
        if cost::depends_on_result(function) {
            self.charge(cost::of_call(function, overload.id, values, Some(&result)))?;
        }
        Ok(result)
    }

    /// `&&`, `||`: a side that decides wins over one that failed.
    fn logical(&mut self, left: &'p Expr, right: &'p Expr, decides: bool) -> Evaluated<'p> {
        let left = self.eval(left);
        match &left {
            Ok(Value::Bool(value)) if *value == decides => return left,
            Err(EvalError::CostExceeded) => return left,
            _ => {}
        }
        let right = self.eval(right);
        match (left, right) {
            (_, Err(EvalError::CostExceeded)) => Err(EvalError::CostExceeded),
            (_, Ok(Value::Bool(value))) if value == decides => Ok(Value::Bool(value)),
            (Err(error), _) | (Ok(Value::Bool(_)), Err(error)) => Err(error),
            (Ok(Value::Bool(_)), Ok(Value::Bool(value))) => Ok(Value::Bool(value)),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn or(&mut self, function: &str, target: Option<&'p Expr>, other: &'p Expr) -> Evaluated<'p> {
        let Some(target) = target else { return Err(EvalError::no_such_overload()) };
        let value = self.eval(target)?;
        match value {
            Value::Optional(Some(inner)) if function == "orValue" => Ok((*inner).clone()),
            Value::Optional(Some(_)) => Ok(value),
            Value::Optional(None) => self.eval(other),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// What a fold has made so far is taken, not copied: its next step is made of it.
    fn take_accumulator(&mut self) -> Evaluated<'p> {
        let slot = self.locals.iter_mut().rev().find(|(name, _)| *name == ACCUMULATOR);
        slot.map_or_else(
            || Err(EvalError::no_such_overload()),
            |(_, value)| std::mem::replace(value, Ok(Value::Null)),
        )
    }

    fn append(&mut self, items: &'p [Expr]) -> Evaluated<'p> {
        let mut added = Vec::with_capacity(items.len());
        for item in items {
            added.push(self.eval(item)?);
        }
        self.charge(2 + cost::CREATE_LIST)?;
        match self.take_accumulator()? {
            Value::List(List::Made(mut made)) => {
                Arc::make_mut(&mut made).extend(added);
                Ok(Value::List(List::Made(made)))
            }
            Value::List(other) => {
                let mut all = other.to_vec()?;
                all.extend(added);
                Ok(Value::list(all))
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn insert(&mut self, args: &'p [Expr]) -> Evaluated<'p> {
        let mut added = Vec::new();
        match args {
            [_, key, value] => added.push((self.eval(key)?, self.eval(value)?)),
            [_, map] => {
                let Value::Map(map) = self.eval(map)? else { return Err(EvalError::no_such_overload()) };
                for key in map.keys() {
                    if let Some(value) = map.get(&key) {
                        added.push((key, value?));
                    }
                }
            }
            _ => return Err(EvalError::no_such_overload()),
        }
        self.charge(2)?;
        let Value::Map(Map::Made(mut made)) = self.take_accumulator()? else {
            return Err(EvalError::no_such_overload());
        };
        for (key, value) in added {
            insert(Arc::make_mut(&mut made), key, value)?;
        }
        Ok(Value::Map(Map::Made(made)))
    }

    fn bind(&mut self, fold: &'p Fold) -> Evaluated<'p> {
        let value = self.eval(&fold.start);
        self.locals.push((&fold.accumulator, value));
        let result = self.eval(&fold.result);
        self.locals.pop();
        result
    }

    fn fold(&mut self, fold: &'p Fold) -> Evaluated<'p> {
        let range = self.eval(&fold.range)?;
        let start = self.eval(&fold.start);
        let depth = self.locals.len();
        self.locals.push((&fold.accumulator, start));
        let folded = self.fold_over(fold, &range);
        self.locals.truncate(depth + 1);
        let result = folded.and_then(|()| self.eval(&fold.result));
        self.locals.truncate(depth);
        result
    }

    fn fold_over(&mut self, fold: &'p Fold, range: &Value<'p>) -> Result<(), EvalError> {
        match range {
            Value::List(list) => {
                for index in 0..list.len() {
                    let Some(item) = list.get(index) else { break };
                    let first =
                        if fold.second.is_some() { Ok(Value::Int(index as i64)) } else { item.clone() };
                    if !self.step(fold, first, item)? {
                        break;
                    }
                }
                Ok(())
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = if fold.second.is_some() { map.get(&key) } else { None };
                    if !self.step(fold, Ok(key), value.unwrap_or(Ok(Value::Null)))? {
                        break;
                    }
                }
                Ok(())
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// One item; answers whether another is wanted.
    fn step(
        &mut self,
        fold: &'p Fold,
        first: Evaluated<'p>,
        second: Evaluated<'p>,
    ) -> Result<bool, EvalError> {
        let slot = self.locals.len() - 1;
        self.locals.push((&fold.variable, first));
        if let Some(name) = &fold.second {
            self.locals.push((name, second));
        }
        let wanted = !matches!(self.eval(&fold.condition)?, Value::Bool(false));
        if wanted {
            let next = self.eval(&fold.step);
            // A failure may still be outweighed where the condition looks at it; elsewhere it is the end.
            let looked_at = !matches!(fold.condition.kind, Kind::Literal(_));
            match next {
                Err(error) if error == EvalError::CostExceeded || !looked_at => return Err(error),
                next => self.locals[slot].1 = next,
            }
        }
        self.locals.truncate(slot + 1);
        Ok(wanted)
    }
}

fn is_accumulator(expr: &Expr) -> bool {
    matches!(&expr.kind, Kind::Ident(name) if &**name == ACCUMULATOR)
}

fn insert<'a>(entries: &mut Entries<'a>, key: Value<'a>, value: Value<'a>) -> Result<(), EvalError> {
    let index = key.key().ok_or_else(|| EvalError::failed("unsupported key type"))?;
    if entries.contains_key(&index) {
        return Err(EvalError::failed("insert failed: key already exists"));
    }
    entries.insert(index, (key, value));
    Ok(())
}

fn optional_field<'a>(value: &Value<'a>, field: &str) -> Evaluated<'a> {
    let container = match value {
        Value::Optional(None) => return Ok(Value::none()),
        Value::Optional(Some(inner)) => inner,
        other => other,
    };
    match container {
        Value::Map(map) => Ok(map.field(field).transpose()?.map_or(Value::none(), Value::some)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn literal_value(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(n) => Value::Int(*n),
        Literal::Uint(n) => Value::Uint(*n),
        Literal::Double(n) => Value::Double(*n),
        Literal::String(text) => Value::String(Text::Shared(Arc::clone(text))),
        Literal::Bytes(bytes) => Value::Bytes(Arc::clone(bytes)),
    }
}

/// Whether two values are the same, for those outside.
pub(super) fn same(a: &Value<'_>, b: &Value<'_>) -> bool {
    compare::equal(a, b).unwrap_or_default()
}
