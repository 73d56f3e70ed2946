//! Arithmetic, order, indexes. What may leave an operand out (`&&`, `||`, `?:`) is only declared here.

use std::cmp::Ordering;

use jiff::SignedDuration;

use super::{Library, Run};
use crate::server::cel::EvalError;
use crate::server::cel::compare;
use crate::server::cel::containers::List;
use crate::server::cel::value::Value;

/// For what the interpreter does itself.
const ITSELF: Run = |_| Err(EvalError::no_such_overload());

pub(super) const LIBRARY: Library = &[
    ("conditional _?_:_ bool A A > A", ITSELF),
    ("logical_and _&&_ bool bool > bool", ITSELF),
    ("logical_or _||_ bool bool > bool", ITSELF),
    ("not_strictly_false @not_strictly_false bool > bool", ITSELF),
    ("map_insert cel.@mapInsert map(A,B) A B > map(A,B)", ITSELF),
    ("map_insert_map cel.@mapInsert map(A,B) map(A,B) > map(A,B)", ITSELF),
    ("logical_not !_ bool > bool", |a| match a {
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => Err(EvalError::no_such_overload()),
    }),
    ("equals _==_ A A > bool", |a| compare::equal(&a[0], &a[1]).map(Value::Bool)),
    ("not_equals _!=_ A A > bool", |a| compare::equal(&a[0], &a[1]).map(|same| Value::Bool(!same))),
    ("add_bytes _+_ bytes bytes > bytes", add),
    ("add_double _+_ double double > double", add),
    ("add_duration_duration _+_ duration duration > duration", add),
    ("add_duration_timestamp _+_ duration timestamp > timestamp", add),
    ("add_timestamp_duration _+_ timestamp duration > timestamp", add),
    ("add_int64 _+_ int int > int", add),
    ("add_list _+_ list(A) list(A) > list(A)", add),
    ("add_string _+_ string string > string", add),
    ("add_uint64 _+_ uint uint > uint", add),
    ("subtract_double _-_ double double > double", subtract),
    ("subtract_duration_duration _-_ duration duration > duration", subtract),
    ("subtract_int64 _-_ int int > int", subtract),
    ("subtract_timestamp_duration _-_ timestamp duration > timestamp", subtract),
    ("subtract_timestamp_timestamp _-_ timestamp timestamp > duration", subtract),
    ("subtract_uint64 _-_ uint uint > uint", subtract),
    ("multiply_double _*_ double double > double", multiply),
    ("multiply_int64 _*_ int int > int", multiply),
    ("multiply_uint64 _*_ uint uint > uint", multiply),
    ("divide_double _/_ double double > double", divide),
    ("divide_int64 _/_ int int > int", divide),
    ("divide_uint64 _/_ uint uint > uint", divide),
    ("modulo_int64 _%_ int int > int", modulo),
    ("modulo_uint64 _%_ uint uint > uint", modulo),
    ("negate_double -_ double > double", negate),
    ("negate_int64 -_ int > int", negate),
    ("in_list @in A list(A) > bool", contained),
    ("in_map @in A map(A,B) > bool", contained),
    ("index_list _[_] list(A) int > A", index),
    ("index_map _[_] map(A,B) A > B", index),
    ("optional_list_index_int _[_] optional(list(A)) int > optional(A)", optional_index),
    ("optional_map_index_value _[_] optional(map(A,B)) A > optional(B)", optional_index),
    ("list_optindex_optional_int _[?_] list(A) int > optional(A)", optional_index),
    ("optional_list_optindex_optional_int _[?_] optional(list(A)) int > optional(A)", optional_index),
    ("map_optindex_optional_value _[?_] map(A,B) A > optional(B)", optional_index),
    ("optional_map_optindex_optional_value _[?_] optional(map(A,B)) A > optional(B)", optional_index),
];

macro_rules! orders {
    ($(($word:literal, $symbol:literal, $run:expr),)*) => {
        &[$(
            (concat!($word, "_bool ", $symbol, " bool bool > bool"), $run),
            (concat!($word, "_int64 ", $symbol, " int int > bool"), $run),
            (concat!($word, "_int64_double ", $symbol, " int double > bool"), $run),
            (concat!($word, "_int64_uint64 ", $symbol, " int uint > bool"), $run),
            (concat!($word, "_uint64 ", $symbol, " uint uint > bool"), $run),
            (concat!($word, "_uint64_double ", $symbol, " uint double > bool"), $run),
            (concat!($word, "_uint64_int64 ", $symbol, " uint int > bool"), $run),
            (concat!($word, "_double ", $symbol, " double double > bool"), $run),
            (concat!($word, "_double_int64 ", $symbol, " double int > bool"), $run),
            (concat!($word, "_double_uint64 ", $symbol, " double uint > bool"), $run),
            (concat!($word, "_string ", $symbol, " string string > bool"), $run),
            (concat!($word, "_bytes ", $symbol, " bytes bytes > bool"), $run),
            (concat!($word, "_timestamp ", $symbol, " timestamp timestamp > bool"), $run),
            (concat!($word, "_duration ", $symbol, " duration duration > bool"), $run),
        )*]
    };
}

pub(super) const ORDER: Library = orders![
    ("less", "_<_", |a| ordered(a, Ordering::is_lt)),
    ("less_equals", "_<=_", |a| ordered(a, Ordering::is_le)),
    ("greater", "_>_", |a| ordered(a, Ordering::is_gt)),
    ("greater_equals", "_>=_", |a| ordered(a, Ordering::is_ge)),
];

fn ordered<'a>(args: &[Value<'a>], is: fn(Ordering) -> bool) -> Result<Value<'a>, EvalError> {
    compare::order(&args[0], &args[1]).map(|order| Value::Bool(is(order)))
}

fn int<'a>(result: Option<i64>) -> Result<Value<'a>, EvalError> {
    result.map(Value::Int).ok_or_else(|| EvalError::failed("integer overflow"))
}

fn uint<'a>(result: Option<u64>) -> Result<Value<'a>, EvalError> {
    result.map(Value::Uint).ok_or_else(|| EvalError::failed("unsigned integer overflow"))
}

fn duration<'a>(result: Option<i64>) -> Result<Value<'a>, EvalError> {
    result.map(Value::Duration).ok_or_else(|| EvalError::failed("duration overflow"))
}

fn moved<'a>(time: jiff::Timestamp, nanos: i64) -> Result<Value<'a>, EvalError> {
    let moved = time.checked_add(SignedDuration::from_nanos(nanos)).ok();
    // Years of CEL are 1 to 9999.
    let within = moved.filter(|t| t.as_second() >= -62_135_596_800);
    within.map(Value::Timestamp).ok_or_else(|| EvalError::failed("timestamp overflow"))
}

fn add<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => Ok(Value::text([&**a, &**b].concat())),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&**a, &**b].concat().into())),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_add(*b)),
        (Value::Timestamp(time), Value::Duration(nanos))
        | (Value::Duration(nanos), Value::Timestamp(time)) => moved(*time, *nanos),
        (Value::List(a), Value::List(b)) => concatenated(a, b),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Two lists as one; sets and lists with keys are merged.
fn concatenated<'a>(a: &List<'a>, b: &List<'a>) -> Result<Value<'a>, EvalError> {
    use crate::server::cel::types::ListKind;
    let mut items = a.to_vec()?;
    let kind = a.kind();
    match kind {
        ListKind::Atomic => items.extend(b.to_vec()?),
        ListKind::Set => {
            for item in b.iter() {
                let item = item?;
                if !compare::contains(&items, &item)? {
                    items.push(item);
                }
            }
        }
        ListKind::Map(keys) => {
            for item in b.iter() {
                let item = item?;
                match items.iter().position(|other| same_keys(keys, other, &item)) {
                    Some(at) => items[at] = item,
                    None => items.push(item),
                }
            }
        }
    }
    if *kind == ListKind::Atomic {
        return Ok(Value::list(items));
    }
    Ok(Value::List(List::Merged { items: std::sync::Arc::new(items), kind }))
}

fn same_keys(keys: &[Box<str>], a: &Value<'_>, b: &Value<'_>) -> bool {
    let (Value::Map(a), Value::Map(b)) = (a, b) else { return false };
    keys.iter().all(|key| match (a.field(key), b.field(key)) {
        (Some(Ok(a)), Some(Ok(b))) => compare::equal(&a, &b).unwrap_or_default(),
        (a, b) => a.is_none() && b.is_none(),
    })
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_sub(*b)),
        (Value::Timestamp(time), Value::Duration(nanos)) => {
            let back = nanos.checked_neg().ok_or_else(|| EvalError::failed("duration overflow"))?;
            moved(*time, back)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            duration(i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok())
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn multiply<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_mul(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_mul(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn divide<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            Err(EvalError::failed("division by zero"))
        }
        (Value::Int(a), Value::Int(b)) => int(a.checked_div(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_div(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn modulo<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            Err(EvalError::failed("modulus by zero"))
        }
        (Value::Int(a), Value::Int(b)) => int(a.checked_rem(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_rem(*b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn negate<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match &args[0] {
        Value::Int(n) => int(n.checked_neg()),
        Value::Double(n) => Ok(Value::Double(-n)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn contained<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match &args[1] {
        Value::List(list) => {
            for item in list.iter() {
                if compare::equal(&item?, &args[0])? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        Value::Map(map) => Ok(Value::Bool(map.get(&args[0]).is_some())),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A key or index as errors show it.
fn shown(key: &Value<'_>) -> String {
    super::conversions::to_text(key).unwrap_or_else(|_| "?".to_owned())
}

fn place(key: &Value<'_>) -> Option<i64> {
    match key {
        Value::Int(n) => Some(*n),
        Value::Uint(n) => i64::try_from(*n).ok(),
        Value::Double(n) if n.fract() == 0.0 => Some(*n as i64),
        _ => None,
    }
}

fn look_up<'a>(container: &Value<'a>, key: &Value<'a>) -> Result<Option<Value<'a>>, EvalError> {
    match container {
        Value::List(list) => {
            let index = place(key).ok_or_else(EvalError::no_such_overload)?;
            usize::try_from(index).ok().and_then(|index| list.get(index)).transpose()
        }
        Value::Map(map) => map.get(key).transpose(),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(crate) fn index<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (container, key) = (&args[0], &args[1]);
    look_up(container, key)?.ok_or_else(|| match container {
        Value::List(_) => EvalError::failed(format!("index out of bounds: {}", shown(key))),
        _ => EvalError::failed(format!("no such key: {}", shown(key))),
    })
}

fn optional_index<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let found = match &args[0] {
        Value::Optional(None) => None,
        Value::Optional(Some(container)) => look_up(container, &args[1])?,
        container => look_up(container, &args[1])?,
    };
    Ok(found.map_or(Value::none(), Value::some))
}
