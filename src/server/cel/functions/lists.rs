//! Lists.

use std::cmp::Ordering;

use super::{Library, int, items};
use crate::server::cel::EvalError;
use crate::server::cel::compare;
use crate::server::cel::value::Value;

macro_rules! per_type {
    ($($name:literal $result:literal $run:expr => [$($kind:literal),*];)*) => {
        &[$($((concat!("list_", $kind, "_", $name, " .", $name, " list(", $kind, ") > ", $result), $run),)*)*]
    };
}

/// As `per_type`, where the result is of the items' type.
macro_rules! of_type {
    ($($name:literal $run:expr => [$($kind:literal),*];)*) => {
        &[$($((concat!("list_", $kind, "_", $name, " .", $name, " list(", $kind, ") > ", $kind), $run),)*)*]
    };
}

pub(super) const SORTED: Library = per_type! {
    "isSorted" "bool" is_sorted => ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];
};

pub(super) const SUMS: Library = &[
    ("list_int_sum .sum list(int) > int", |a| sum(a, Value::Int(0))),
    ("list_uint_sum .sum list(uint) > uint", |a| sum(a, Value::Uint(0))),
    ("list_double_sum .sum list(double) > double", |a| sum(a, Value::Double(0.0))),
    ("list_duration_sum .sum list(duration) > duration", |a| sum(a, Value::Duration(0))),
];

pub(super) const PICKED: Library = of_type! {
    "min" |a| extreme(a, "min", Ordering::Less) => ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];
    "max" |a| extreme(a, "max", Ordering::Greater) => ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];
};

pub(super) const LIBRARY: Library = &[
    ("list_a_index_of .indexOf list(A) A > int", |a| place(a, false)),
    ("list_a_last_index_of .lastIndexOf list(A) A > int", |a| place(a, true)),
    ("list_slice .slice list(A) int int > list(A)", slice),
    ("list_flatten .flatten list(list(A)) > list(A)", |a| flatten(&items(a, 0)?, 1).map(Value::list)),
    ("list_flatten_int .flatten list(dyn) int > list(dyn)", |a| {
        let depth = int(a, 1)?;
        if depth < 0 {
            return Err(EvalError::failed("level must be non-negative"));
        }
        flatten(&items(a, 0)?, depth).map(Value::list)
    }),
    ("lists_range lists.range int > list(int)", |a| {
        let count = int(a, 0)?;
        // Whoever asks for more pays for it, and cannot.
        const MOST: i64 = 1_000_000;
        if count > MOST {
            return Err(EvalError::CostExceeded);
        }
        Ok(Value::list((0..count).map(Value::Int).collect()))
    }),
    ("list_distinct .distinct list(A) > list(A)", |a| {
        let mut kept: Vec<Value<'_>> = Vec::new();
        for item in items(a, 0)? {
            if !compare::contains(&kept, &item)? {
                kept.push(item);
            }
        }
        Ok(Value::list(kept))
    }),
    ("list_reverse .reverse list(A) > list(A)", |a| {
        let mut items = items(a, 0)?;
        items.reverse();
        Ok(Value::list(items))
    }),
    ("list_sort .sort list(A) > list(A)", |a| {
        let items = items(a, 0)?;
        sorted(items.clone(), items)
    }),
    ("list_sort_by_keys .@sortByAssociatedKeys list(A) list(B) > list(A)", |a| {
        sorted(items(a, 0)?, items(a, 1)?)
    }),
    ("list_first .first list(A) > optional(A)", |a| {
        Ok(items(a, 0)?.into_iter().next().map_or(Value::none(), Value::some))
    }),
    ("list_last .last list(A) > optional(A)", |a| Ok(items(a, 0)?.pop().map_or(Value::none(), Value::some))),
];

fn is_sorted<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    for pair in items(args, 0)?.windows(2) {
        if compare::order(&pair[0], &pair[1])?.is_gt() {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>], nothing: Value<'a>) -> Result<Value<'a>, EvalError> {
    let mut total = nothing;
    for item in items(args, 0)? {
        total = match (total, item) {
            (Value::Int(a), Value::Int(b)) => {
                Value::Int(a.checked_add(b).ok_or_else(|| EvalError::failed("integer overflow"))?)
            }
            (Value::Uint(a), Value::Uint(b)) => {
                Value::Uint(a.checked_add(b).ok_or_else(|| EvalError::failed("unsigned integer overflow"))?)
            }
            (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
            (Value::Duration(a), Value::Duration(b)) => {
                Value::Duration(a.checked_add(b).ok_or_else(|| EvalError::failed("duration overflow"))?)
            }
            _ => return Err(EvalError::no_such_overload()),
        };
    }
    Ok(total)
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Result<Value<'a>, EvalError> {
    let mut items = items(args, 0)?.into_iter();
    let empty = || EvalError::failed(format!("{name} called on empty list"));
    let mut best = items.next().ok_or_else(empty)?;
    for item in items {
        if compare::order(&item, &best)? == wanted {
            best = item;
        }
    }
    Ok(best)
}

fn place<'a>(args: &[Value<'a>], last: bool) -> Result<Value<'a>, EvalError> {
    let items = items(args, 0)?;
    let mut found = -1;
    for (index, item) in items.iter().enumerate() {
        if compare::equal(item, &args[1])? {
            found = index as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn slice<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (items, start, end) = (items(args, 0)?, int(args, 1)?, int(args, 2)?);
    let wrong = |why: &str| Err(EvalError::failed(format!("cannot slice({start}, {end}), {why}")));
    if start < 0 || end < 0 {
        return wrong("negative indexes not supported");
    }
    if start > end {
        return wrong("start index must be less than or equal to end index");
    }
    if end > items.len() as i64 {
        return wrong(&format!("list is length {}", items.len()));
    }
    Ok(Value::list(items[start as usize..end as usize].to_vec()))
}

fn flatten<'a>(items: &[Value<'a>], depth: i64) -> Result<Vec<Value<'a>>, EvalError> {
    let mut flat = Vec::new();
    for item in items {
        match item {
            Value::List(inner) if depth > 0 => flat.extend(flatten(&inner.to_vec()?, depth - 1)?),
            other => flat.push(other.clone()),
        }
    }
    Ok(flat)
}

fn sorted<'a>(items: Vec<Value<'a>>, keys: Vec<Value<'a>>) -> Result<Value<'a>, EvalError> {
    if let Some(first) = keys.first() {
        let comparable =
            |key: &Value<'_>| key.type_of() == first.type_of() && compare::order(key, first).is_ok();
        if !keys.iter().all(comparable) {
            return Err(EvalError::failed("list elements must have the same type"));
        }
    }
    let mut paired: Vec<(Value<'a>, Value<'a>)> = keys.into_iter().zip(items).collect();
    paired.sort_by(|(a, _), (b, _)| compare::order(a, b).unwrap_or(Ordering::Equal));
    Ok(Value::list(paired.into_iter().map(|(_, item)| item).collect()))
}
