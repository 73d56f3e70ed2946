//! Literals: those that would fail whenever they are evaluated (durations, times, regular expressions), and lists and
//! maps whose items are of several types.

use super::Checked;
use crate::server::cel::ast::{Expr, Fold, Kind, Literal};
use crate::server::cel::regexp::Regexp;
use crate::server::cel::source::Issue;
use crate::server::cel::time;
use crate::server::cel::types::Type;

/// Reports them.
pub(super) fn check(expr: &Expr, checked: &Checked, issues: &mut Vec<Issue>) {
    expr.visit(&mut |part| {
        let Kind::Call { function, args, .. } = &part.kind else { return };
        let right: fn(&str) -> bool = match &**function {
            "duration" => |text| time::parse_duration(text).is_some(),
            "timestamp" => |text| time::parse_time(text).is_some(),
            "matches" => |text| Regexp::new(text).is_ok(),
            _ => return,
        };
        let Some(literal) = args.last() else { return };
        let wrong = match &literal.kind {
            Kind::Literal(Literal::String(text)) => !right(text),
            // The years 1 to 9999.
            Kind::Literal(Literal::Int(seconds)) if &**function == "timestamp" => {
                !(-62_135_596_800..=253_402_300_799).contains(seconds)
            }
            _ => false,
        };
        if wrong {
            issues.push(Issue::new(literal.at, format!("invalid {function} argument")));
        }
    });
    mixed(expr, checked, issues);
}

/// Lists and maps of several types, but for those that `format` writes.
fn mixed(expr: &Expr, checked: &Checked, issues: &mut Vec<Issue>) {
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => mixed(operand, checked, issues),
        Kind::Call { function, .. } if &**function == "format" => {}
        Kind::Call { target, args, .. } => {
            target.iter().for_each(|target| mixed(target, checked, issues));
            args.iter().for_each(|arg| mixed(arg, checked, issues));
        }
        Kind::List { items, optional } => {
            let found = items.iter().enumerate().map(|(i, item)| (item, optional.contains(&i)));
            same(found, checked, issues);
            items.iter().for_each(|item| mixed(item, checked, issues));
        }
        Kind::Map { entries } => {
            same(entries.iter().map(|e| (&e.key, false)), checked, issues);
            same(entries.iter().map(|e| (&e.value, e.optional)), checked, issues);
            for entry in entries {
                mixed(&entry.key, checked, issues);
                mixed(&entry.value, checked, issues);
            }
        }
        Kind::Fold(fold) => {
            let Fold { range, start, condition, step, result, .. } = &**fold;
            [range, start, condition, step, result].into_iter().for_each(|part| mixed(part, checked, issues));
        }
    }
}

/// Reports the first that is of another type than those before it.
fn same<'e>(items: impl Iterator<Item = (&'e Expr, bool)>, checked: &Checked, issues: &mut Vec<Issue>) {
    let mut wanted: Option<&Type> = None;
    for (item, optional) in items {
        let found = match checked.types.get(&item.id) {
            Some(Type::Optional(inner)) if optional => inner,
            Some(found) => found,
            None => continue,
        };
        match wanted {
            None => wanted = Some(found),
            Some(wanted) if fits(wanted, found) => {}
            Some(wanted) => {
                issues.push(Issue::new(item.at, format!("expected type '{wanted}' but found '{found}'")));
                return;
            }
        }
    }
}

fn fits(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn, _) | (_, Type::Dyn) => true,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => fits(a, b),
        (Type::Map(a), Type::Map(b)) => fits(&a.0, &b.0) && fits(&a.1, &b.1),
        _ => a == b,
    }
}
