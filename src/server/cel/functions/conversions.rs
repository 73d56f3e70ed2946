//! From type to type, and sizes.

use super::Library;
use crate::server::cel::EvalError;
use crate::server::cel::numbers::go_float;
use crate::server::cel::opaque::Opaque;
use crate::server::cel::time;
use crate::server::cel::types::Type;
use crate::server::cel::value::{Text, Value};

pub(super) const LIBRARY: Library = &[
    ("size_bytes size bytes > int", size),
    ("size_list size list(A) > int", size),
    ("size_map size map(A,B) > int", size),
    ("size_string size string > int", size),
    ("bytes_size .size bytes > int", size),
    ("list_size .size list(A) > int", size),
    ("map_size .size map(A,B) > int", size),
    ("string_size .size string > int", size),
    ("type type A > type(A)", |a| Ok(Value::Type(a[0].type_of()))),
    ("to_dyn dyn A > dyn", |a| Ok(a[0].clone())),
    ("bool_to_bool bool bool > bool", |a| Ok(a[0].clone())),
    ("string_to_bool bool string > bool", |a| match a[0].as_str() {
        Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(Value::Bool(true)),
        Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(Value::Bool(false)),
        _ => Err(unconverted(&a[0], "bool")),
    }),
    ("bytes_to_bytes bytes bytes > bytes", |a| Ok(a[0].clone())),
    ("string_to_bytes bytes string > bytes", |a| Ok(Value::Bytes(super::text(a, 0)?.as_bytes().into()))),
    ("double_to_double double double > double", to_double),
    ("int64_to_double double int > double", to_double),
    ("string_to_double double string > double", to_double),
    ("uint64_to_double double uint > double", to_double),
    ("int64_to_int64 int int > int", to_int),
    ("double_to_int64 int double > int", to_int),
    ("duration_to_int64 int duration > int", to_int),
    ("string_to_int64 int string > int", to_int),
    ("timestamp_to_int64 int timestamp > int", to_int),
    ("uint64_to_int64 int uint > int", to_int),
    ("uint64_to_uint64 uint uint > uint", to_uint),
    ("double_to_uint64 uint double > uint", to_uint),
    ("int64_to_uint64 uint int > uint", to_uint),
    ("string_to_uint64 uint string > uint", to_uint),
    ("bool_to_string string bool > string", to_string),
    ("bytes_to_string string bytes > string", to_string),
    ("double_to_string string double > string", to_string),
    ("duration_to_string string duration > string", to_string),
    ("int64_to_string string int > string", to_string),
    ("string_to_string string string > string", to_string),
    ("timestamp_to_string string timestamp > string", to_string),
    ("uint64_to_string string uint > string", to_string),
    ("ip_to_string string ip > string", to_string),
    ("cidr_to_string string cidr > string", to_string),
    ("duration_to_duration duration duration > duration", |a| Ok(a[0].clone())),
    ("int64_to_duration duration int > duration", |a| Ok(Value::Duration(super::int(a, 0)?))),
    ("string_to_duration duration string > duration", |a| {
        time::parse_duration(super::text(a, 0)?)
            .map(Value::Duration)
            .ok_or_else(|| unconverted(&a[0], "duration"))
    }),
    ("timestamp_to_timestamp timestamp timestamp > timestamp", |a| Ok(a[0].clone())),
    ("int64_to_timestamp timestamp int > timestamp", |a| {
        let seconds = super::int(a, 0)?;
        let time = jiff::Timestamp::from_second(seconds).ok().filter(|t| t.as_second() >= -62_135_596_800);
        time.map(Value::Timestamp).ok_or_else(|| EvalError::failed("timestamp overflow"))
    }),
    ("string_to_timestamp timestamp string > timestamp", |a| {
        time::parse_time(super::text(a, 0)?)
            .map(Value::Timestamp)
            .ok_or_else(|| unconverted(&a[0], "timestamp"))
    }),
];

fn size<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Ok(Value::Int(args[0].size() as i64))
}

fn unconverted(value: &Value<'_>, to: &str) -> EvalError {
    let from = value.type_of();
    EvalError::failed(format!("type conversion error from '{from}' to '{to}'"))
}

fn to_double<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Ok(Value::Double(match &args[0] {
        Value::Double(n) => *n,
        Value::Int(n) => *n as f64,
        Value::Uint(n) => *n as f64,
        Value::String(text) => match text.trim() == &**text {
            true => text.parse().map_err(|_| {
                EvalError::failed(format!(
                    "strconv.ParseFloat: parsing {}: invalid syntax",
                    crate::api::field::quote(text)
                ))
            })?,
            false => return Err(unconverted(&args[0], "double")),
        },
        other => return Err(unconverted(other, "double")),
    }))
}

fn to_int<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let overflow = || EvalError::failed("integer overflow");
    Ok(Value::Int(match &args[0] {
        Value::Int(n) => *n,
        Value::Uint(n) => i64::try_from(*n).map_err(|_| overflow())?,
        // The edges are excluded, for a float cannot tell them from what is beyond.
        Value::Double(n) if *n > i64::MIN as f64 && *n < i64::MAX as f64 => *n as i64,
        Value::Double(_) => return Err(overflow()),
        Value::Duration(nanos) => *nanos,
        Value::Timestamp(time) => time.as_second(),
        Value::String(text) => text.parse().map_err(|_| {
            EvalError::failed(format!(
                "strconv.ParseInt: parsing {}: invalid syntax",
                crate::api::field::quote(text)
            ))
        })?,
        other => return Err(unconverted(other, "int")),
    }))
}

fn to_uint<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let overflow = || EvalError::failed("unsigned integer overflow");
    Ok(Value::Uint(match &args[0] {
        Value::Uint(n) => *n,
        Value::Int(n) => u64::try_from(*n).map_err(|_| overflow())?,
        Value::Double(n) if *n >= 0.0 && *n < u64::MAX as f64 => *n as u64,
        Value::Double(_) => return Err(overflow()),
        Value::String(text) => text.parse().map_err(|_| {
            EvalError::failed(format!(
                "strconv.ParseUint: parsing {}: invalid syntax",
                crate::api::field::quote(text)
            ))
        })?,
        other => return Err(unconverted(other, "uint")),
    }))
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match &args[0] {
        Value::String(_) => Ok(args[0].clone()),
        other => to_text(other).map(Value::text),
    }
}

/// A scalar as text.
pub(super) fn to_text(value: &Value<'_>) -> Result<String, EvalError> {
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => go_float(*n),
        Value::String(Text::Borrowed(text)) => (*text).to_owned(),
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes);
            text.map_err(|_| EvalError::failed("invalid UTF-8 in bytes, cannot convert to string"))?
                .to_owned()
        }
        Value::Timestamp(at) => time::format_time(*at),
        Value::Duration(nanos) => time::format_duration(*nanos),
        Value::Type(of) => match of {
            Type::List(_) => "list".to_owned(),
            Type::Map(_) => "map".to_owned(),
            Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
            Type::Duration => "google.protobuf.Duration".to_owned(),
            Type::Null => "null_type".to_owned(),
            other => other.to_string(),
        },
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Ip(address) => address.to_string(),
            Opaque::Cidr(cidr) => cidr.to_string(),
            _ => return Err(unconverted(value, "string")),
        },
        Value::List(_) | Value::Map(_) | Value::Optional(_) => return Err(unconverted(value, "string")),
    })
}
