//! Equality and order of values. Numbers compare by what they are worth, whatever their type.

use std::cmp::Ordering;

use super::EvalError;
use super::containers::{List, Map};
use super::types::ListKind;
use super::value::Value;

/// Whether two values are the same; values of different types are not.
pub(super) fn equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, EvalError> {
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::List(a), Value::List(b)) => return lists(a, b),
        (Value::Map(a), Value::Map(b)) => return maps(a, b),
        (Value::Type(a), Value::Type(b)) => same_type(a, b),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => return equal(a, b),
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Opaque(a), Value::Opaque(b)) => a.is_same(b),
        _ => numbers(a, b) == Some(Ordering::Equal),
    })
}

/// Whether two types are the same as `type(x)` sees them: what lists and maps hold does not matter.
fn same_type(a: &super::Type, b: &super::Type) -> bool {
    use super::Type::{List, Map, Optional, Type};
    matches!((a, b), (List(_), List(_)) | (Map(_), Map(_)) | (Optional(_), Optional(_)) | (Type(_), Type(_)))
        || a == b
}

fn lists(a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match a.kind() {
        ListKind::Atomic => {
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal(&a?, &b?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        // Order does not matter, and no item is there twice.
        ListKind::Set | ListKind::Map(_) => {
            let others = b.to_vec()?;
            for item in a.iter() {
                if !contains(&others, &item?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// Whether one of the items is the same.
pub(super) fn contains(items: &[Value<'_>], wanted: &Value<'_>) -> Result<bool, EvalError> {
    for item in items {
        if equal(item, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn maps(a: &Map<'_>, b: &Map<'_>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for key in a.keys() {
        let (Some(a), Some(b)) = (a.get(&key), b.get(&key)) else { return Ok(false) };
        if !equal(&a?, &b?)? {
            return Ok(false);
        }
    }
    Ok(a.unseen_equal(b))
}

/// The order of two numbers; `None` if one is none, or not a number.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |v: &Value<'_>| match v {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        _ => None,
    };
    let float = |v: &Value<'_>| match v {
        Value::Double(n) => Some(*n),
        _ => None,
    };
    match (whole(a), whole(b), float(a), float(b)) {
        (Some(a), Some(b), ..) => Some(a.cmp(&b)),
        (None, None, Some(a), Some(b)) => a.partial_cmp(&b),
        (Some(a), None, _, Some(b)) => mixed(a, b),
        (None, Some(b), Some(a), _) => mixed(b, a).map(Ordering::reverse),
        _ => None,
    }
}

fn mixed(whole: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // Beyond 64 bits the float is the greater in magnitude.
    if float.abs() >= 1e20 {
        return Some(if float > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = float.floor();
    Some(whole.cmp(&(floor as i128)).then(if float > floor { Ordering::Less } else { Ordering::Equal }))
}

/// The order of two values that have one.
pub(super) fn order(a: &Value<'_>, b: &Value<'_>) -> Result<Ordering, EvalError> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Ok((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Ok(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Ok(a.cmp(b)),
        (Value::Double(a), _) if a.is_nan() => Err(EvalError::failed("NaN values cannot be ordered")),
        (_, Value::Double(b)) if b.is_nan() => Err(EvalError::failed("NaN values cannot be ordered")),
        _ => numbers(a, b).ok_or_else(EvalError::no_such_overload),
    }
}
