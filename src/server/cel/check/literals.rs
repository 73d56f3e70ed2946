//! Literals that would fail whenever they are evaluated: durations, times, regular expressions.

use super::Checked;
use crate::server::cel::ast::{Expr, Kind, Literal};
use crate::server::cel::regexp::Regexp;
use crate::server::cel::source::Issue;
use crate::server::cel::time;

/// Reports them.
pub(super) fn check(expr: &Expr, checked: &Checked, issues: &mut Vec<Issue>) {
    expr.visit(&mut |part| {
        let Kind::Call { function, args, .. } = &part.kind else { return };
        if !checked.calls.contains_key(&part.id) {
            return;
        }
        let right: fn(&str) -> bool = match &**function {
            "duration" => |text| time::parse_duration(text).is_some(),
            "timestamp" => |text| time::parse_time(text).is_some(),
            "matches" => |text| Regexp::new(text).is_ok(),
            _ => return,
        };
        let Some(literal) = args.last() else { return };
        if let Kind::Literal(Literal::String(text)) = &literal.kind
            && !right(text)
        {
            issues.push(Issue::new(literal.at, format!("invalid {function} argument")));
        }
    });
}
