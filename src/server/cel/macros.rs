//! Macros: `has`, and what goes over lists and maps. Each becomes a [`Fold`], as in cel-go, so that costs are the same.

use std::sync::Arc;

use super::ast::{ACCUMULATOR, Expr, Fold, Kind, Literal, Name};
use super::parser::Parser;
use super::source::Issue;

/// What became of a call with a target.
pub(super) enum Expanded {
    Macro(Expr),
    /// It is no macro.
    Call(Expr, Vec<Expr>),
}

/// `has(a.b)`; other calls come back.
pub(super) fn expand_global(
    parser: &mut Parser<'_>,
    at: u32,
    function: &str,
    mut args: Vec<Expr>,
) -> Result<Result<Expr, Vec<Expr>>, Issue> {
    if function != "has" || args.len() != 1 {
        return Ok(Err(args));
    }
    match args.remove(0).kind {
        Kind::Select { operand, field, test: false } => {
            Ok(Ok(parser.expr(at, Kind::Select { operand, field, test: true })))
        }
        _ => Err(Issue::new(at, "invalid argument to has() macro")),
    }
}

/// The macros of targets; other calls come back.
pub(super) fn expand(
    parser: &mut Parser<'_>,
    at: u32,
    function: &str,
    target: Expr,
    args: Vec<Expr>,
) -> Result<Expanded, Issue> {
    let expand = match (function, args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne", 2) => predicate,
        ("map", 2 | 3) | ("filter", 2) => list,
        ("all" | "exists" | "existsOne", 3) => predicate,
        ("transformList" | "transformMap", 3 | 4) | ("transformMapEntry", 3 | 4) => transform,
        ("optMap" | "optFlatMap", 2) => optional,
        ("sortBy", 2) => sort,
        _ => return Ok(Expanded::Call(target, args)),
    };
    let mut build = Build { parser, at };
    expand(&mut build, function, target, args).map(Expanded::Macro)
}

struct Build<'p, 't> {
    parser: &'p mut Parser<'t>,
    at: u32,
}

impl Build<'_, '_> {
    fn expr(&mut self, kind: Kind) -> Expr {
        self.parser.expr(self.at, kind)
    }

    fn bool(&mut self, value: bool) -> Expr {
        self.expr(Kind::Literal(Literal::Bool(value)))
    }

    fn int(&mut self, value: i64) -> Expr {
        self.expr(Kind::Literal(Literal::Int(value)))
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.expr(Kind::Ident(name.into()))
    }

    fn accumulator(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn list(&mut self, items: Vec<Expr>) -> Expr {
        self.expr(Kind::List { items, optional: Vec::new() })
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.parser.call(self.at, function, args)
    }

    fn method(&mut self, target: Expr, function: &str) -> Expr {
        self.expr(Kind::Call { function: function.into(), target: Some(Box::new(target)), args: Vec::new() })
    }

    fn fold(&mut self, fold: Fold) -> Expr {
        self.expr(Kind::Fold(Box::new(fold)))
    }

    /// `predicate ? step : accumulator`, or the step alone.
    fn conditional(&mut self, predicate: Option<Expr>, step: Expr) -> Expr {
        let Some(predicate) = predicate else { return step };
        let unchanged = self.accumulator();
        self.call("_?_:_", vec![predicate, step, unchanged])
    }
}

/// The variable an argument names.
fn variable(argument: &Expr) -> Result<Name, Issue> {
    match &argument.kind {
        Kind::Ident(name) if &**name == ACCUMULATOR => {
            Err(Issue::new(argument.at, "iteration variable overwrites accumulator variable"))
        }
        Kind::Ident(name) => Ok(Arc::clone(name)),
        _ => Err(Issue::new(argument.at, "argument must be a simple name")),
    }
}

/// Takes one or two variables off the front.
fn variables(args: &mut Vec<Expr>, two: bool) -> Result<(Name, Option<Name>), Issue> {
    let first = variable(&args.remove(0))?;
    if !two {
        return Ok((first, None));
    }
    let argument = args.remove(0);
    let second = variable(&argument)?;
    if first == second {
        let message = format!("duplicate variable name: {first}");
        return Err(Issue::new(argument.at, message));
    }
    Ok((first, Some(second)))
}

fn predicate(
    build: &mut Build<'_, '_>,
    function: &str,
    range: Expr,
    mut args: Vec<Expr>,
) -> Result<Expr, Issue> {
    let two = args.len() == 3;
    let (variable, second) = variables(&mut args, two)?;
    let predicate = args.remove(0);
    let accumulator = build.accumulator();
    let (start, condition, step, result) = match function {
        "all" => {
            let (start, held) = (build.bool(true), build.accumulator());
            let condition = build.call("@not_strictly_false", vec![held]);
            let step = build.call("_&&_", vec![accumulator, predicate]);
            (start, condition, step, build.accumulator())
        }
        "exists" => {
            let (start, held) = (build.bool(false), build.accumulator());
            let not = build.call("!_", vec![held]);
            let condition = build.call("@not_strictly_false", vec![not]);
            let step = build.call("_||_", vec![accumulator, predicate]);
            (start, condition, step, build.accumulator())
        }
        _ => {
            let (start, condition, one) = (build.int(0), build.bool(true), build.int(1));
            let more = build.call("_+_", vec![accumulator, one]);
            let step = build.conditional(Some(predicate), more);
            let (held, one) = (build.accumulator(), build.int(1));
            (start, condition, step, build.call("_==_", vec![held, one]))
        }
    };
    let accumulator = ACCUMULATOR.into();
    Ok(build.fold(Fold { range, variable, second, accumulator, start, condition, step, result }))
}

/// A fold that makes a list or a map.
fn collecting(
    build: &mut Build<'_, '_>,
    range: Expr,
    (variable, second): (Name, Option<Name>),
    start: Expr,
    step: Expr,
) -> Expr {
    let (condition, result) = (build.bool(true), build.accumulator());
    let accumulator = ACCUMULATOR.into();
    build.fold(Fold { range, variable, second, accumulator, start, condition, step, result })
}

fn list(build: &mut Build<'_, '_>, function: &str, range: Expr, mut args: Vec<Expr>) -> Result<Expr, Issue> {
    let (variable, _) = variables(&mut args, false)?;
    let item = if function == "filter" {
        build.ident(&variable)
    } else {
        args.pop().unwrap_or_else(|| build.bool(false))
    };
    let predicate = args.pop();
    let (start, accumulator, added) = (build.list(Vec::new()), build.accumulator(), build.list(vec![item]));
    let step = build.call("_+_", vec![accumulator, added]);
    let step = build.conditional(predicate, step);
    Ok(collecting(build, range, (variable, None), start, step))
}

fn transform(
    build: &mut Build<'_, '_>,
    function: &str,
    range: Expr,
    mut args: Vec<Expr>,
) -> Result<Expr, Issue> {
    let names = variables(&mut args, true)?;
    let value = args.pop().unwrap_or_else(|| build.bool(false));
    let predicate = args.pop();
    let accumulator = build.accumulator();
    let (start, step) = match function {
        "transformList" => {
            let (start, added) = (build.list(Vec::new()), build.list(vec![value]));
            (start, build.call("_+_", vec![accumulator, added]))
        }
        "transformMap" => {
            let (start, key) = (build.expr(Kind::Map { entries: Vec::new() }), build.ident(&names.0));
            (start, build.call("cel.@mapInsert", vec![accumulator, key, value]))
        }
        _ => {
            let start = build.expr(Kind::Map { entries: Vec::new() });
            (start, build.call("cel.@mapInsert", vec![accumulator, value]))
        }
    };
    let step = build.conditional(predicate, step);
    Ok(collecting(build, range, names, start, step))
}

/// `target.hasValue() ? optional.of(value named in expression) : optional.none()`
fn optional(
    build: &mut Build<'_, '_>,
    function: &str,
    target: Expr,
    mut args: Vec<Expr>,
) -> Result<Expr, Issue> {
    let (name, _) = variables(&mut args, false)?;
    let result = args.pop().unwrap_or_else(|| build.bool(false));
    let copy = renumbered(build, &target);
    let (present, value) = (build.method(target, "hasValue"), build.method(copy, "value"));
    let (range, condition, step) = (build.list(Vec::new()), build.bool(false), build.ident(&name));
    let variable = "#unused".into();
    let bound = build.fold(Fold {
        range,
        variable,
        second: None,
        accumulator: name,
        start: value,
        condition,
        step,
        result,
    });
    let some = if function == "optMap" { build.call("optional.of", vec![bound]) } else { bound };
    let none = build.call("optional.none", Vec::new());
    Ok(build.call("_?_:_", vec![present, some, none]))
}

/// `list.@sortByAssociatedKeys(list.map(v, key))`
fn sort(build: &mut Build<'_, '_>, _: &str, target: Expr, args: Vec<Expr>) -> Result<Expr, Issue> {
    let copy = renumbered(build, &target);
    let keys = list(build, "map", copy, args)?;
    let function = "@sortByAssociatedKeys".into();
    Ok(build.expr(Kind::Call { function, target: Some(Box::new(target)), args: vec![keys] }))
}

/// A copy whose parts have numbers of their own.
fn renumbered(build: &mut Build<'_, '_>, expr: &Expr) -> Expr {
    let mut copy = expr.clone();
    renumber(build, &mut copy);
    copy
}

fn renumber(build: &mut Build<'_, '_>, expr: &mut Expr) {
    expr.id = build.bool(false).id;
    match &mut expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => renumber(build, operand),
        Kind::Call { target, args, .. } => {
            if let Some(target) = target {
                renumber(build, target);
            }
            args.iter_mut().for_each(|arg| renumber(build, arg));
        }
        Kind::List { items, .. } => items.iter_mut().for_each(|item| renumber(build, item)),
        Kind::Map { entries } => {
            for entry in entries {
                renumber(build, &mut entry.key);
                renumber(build, &mut entry.value);
            }
        }
        Kind::Fold(fold) => {
            let Fold { range, start, condition, step, result, .. } = &mut **fold;
            [range, start, condition, step, result].into_iter().for_each(|part| renumber(build, part));
        }
    }
}
