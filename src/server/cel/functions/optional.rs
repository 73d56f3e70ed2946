//! Values that may be missing. `or` and `orValue` evaluate their argument only if it is needed: the interpreter does.

use super::{Library, Run, items};
use crate::server::cel::EvalError;
use crate::server::cel::value::Value;

const ITSELF: Run = |_| Err(EvalError::no_such_overload());

pub(super) const LIBRARY: Library = &[
    ("optional_none optional.none > optional(A)", |_| Ok(Value::none())),
    ("optional_of optional.of A > optional(A)", |a| Ok(Value::some(a[0].clone()))),
    ("optional_ofNonZeroValue optional.ofNonZeroValue A > optional(A)", |a| {
        Ok(if is_zero(&a[0]) { Value::none() } else { Value::some(a[0].clone()) })
    }),
    ("optional_hasValue .hasValue optional(A) > bool", |a| match &a[0] {
        Value::Optional(value) => Ok(Value::Bool(value.is_some())),
        _ => Err(EvalError::no_such_overload()),
    }),
    ("optional_value .value optional(A) > A", |a| match &a[0] {
        Value::Optional(Some(value)) => Ok((**value).clone()),
        Value::Optional(None) => Err(EvalError::failed("optional.none() dereference")),
        _ => Err(EvalError::no_such_overload()),
    }),
    ("optional_or_optional .or optional(A) optional(A) > optional(A)", ITSELF),
    ("optional_orValue_value .orValue optional(A) A > A", ITSELF),
    ("optional_unwrap optional.unwrap list(optional(A)) > list(A)", unwrap),
    ("optional_unwrapOpt .unwrapOpt list(optional(A)) > list(A)", unwrap),
];

fn unwrap<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let items = items(args, 0)?.into_iter().filter_map(|item| match item {
        Value::Optional(value) => value.map(|v| Ok((*v).clone())),
        _ => Some(Err(EvalError::no_such_overload())),
    });
    items.collect::<Result<Vec<_>, _>>().map(Value::list)
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => true,
        Value::Double(n) => *n == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Optional(value) => value.is_none(),
        _ => false,
    }
}
