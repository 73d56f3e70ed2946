//! The language and Kubernetes' libraries, in tables.

mod compile;
mod cost;
mod language;
mod libraries;
mod robust;

use serde_json::Value as Json;

use super::*;

/// Evaluates over `self` of unknown type.
fn evaluate(text: &str, object: &Json) -> Result<String, String> {
    let program = Program::compile(text, &[("self", Type::Dyn)]).map_err(|e| e.0)?;
    let variables = Variables::new().json("self", Some(object));
    let mut budget = OBJECT_BUDGET;
    program.eval(&variables, &mut budget).map(|v| show(&v)).map_err(|e| e.to_string())
}

/// A value as the tables write it.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => format!("'{}'", &**text),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => format!("{n}u"),
        Value::Double(n) => format!("{n:?}"),
        Value::Bool(b) => b.to_string(),
        Value::Null => "null".to_owned(),
        Value::Duration(n) => format!("duration('{}')", time::format_duration(*n)),
        Value::Timestamp(t) => format!("timestamp('{}')", time::format_time(*t)),
        Value::List(list) => {
            let items: Vec<String> =
                list.iter().map(|v| v.map_or_else(|e| e.to_string(), |v| show(&v))).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entry = |key: &Value<'_>| {
                let value = map.get(key).map(|v| v.map_or_else(|e| e.to_string(), |v| show(&v)));
                format!("{}: {}", show(key), value.unwrap_or_default())
            };
            let entries: Vec<String> = map.keys().iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Optional(None) => "none".to_owned(),
        Value::Optional(Some(inner)) => format!("some({})", show(inner)),
        Value::Type(of) => format!("type {of}"),
        Value::Bytes(bytes) => format!("b'{}'", String::from_utf8_lossy(bytes)),
        Value::Opaque(opaque) => format!("<{}>", opaque.type_name()),
    }
}

#[track_caller]
fn table(rows: &[(&str, &str)], object: &Json) {
    for (text, wanted) in rows {
        let result = evaluate(text, object);
        assert_eq!(result.as_deref(), Ok(*wanted), "{text}");
    }
}

#[track_caller]
fn failures(rows: &[(&str, &str)], object: &Json) {
    for (text, wanted) in rows {
        let result = evaluate(text, object);
        assert_eq!(result, Err((*wanted).to_owned()), "{text}");
    }
}
