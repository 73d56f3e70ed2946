//! Lists as sets.

use super::{Library, items};
use crate::server::cel::EvalError;
use crate::server::cel::compare::contains;
use crate::server::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("list_sets_contains_list sets.contains list(A) list(A) > bool", |a| {
        subset(&items(a, 1)?, &items(a, 0)?).map(Value::Bool)
    }),
    ("list_sets_equivalent_list sets.equivalent list(A) list(A) > bool", |a| {
        let (left, right) = (items(a, 0)?, items(a, 1)?);
        Ok(Value::Bool(subset(&left, &right)? && subset(&right, &left)?))
    }),
    ("list_sets_intersects_list sets.intersects list(A) list(A) > bool", |a| {
        let others = items(a, 1)?;
        for item in items(a, 0)? {
            if contains(&others, &item)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
];

fn subset(part: &[Value<'_>], whole: &[Value<'_>]) -> Result<bool, EvalError> {
    for item in part {
        if !contains(whole, item)? {
            return Ok(false);
        }
    }
    Ok(true)
}
