//! `'%s is %d'.format([name, number])`

use std::fmt::Write as _;

use crate::server::cel::EvalError;
use crate::server::cel::value::Value;

/// Fills the clauses of a template with values.
pub(super) fn fill(template: &str, args: &[Value<'_>]) -> Result<String, EvalError> {
    let (mut out, mut next) = (String::new(), 0);
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let digits =
            rest.strip_prefix('.').map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count() + 1);
        let precision = rest.get(1..digits).and_then(|d| d.parse::<usize>().ok()).map(|p| p.min(1000));
        let clause = rest[digits..].chars().next();
        let clause = clause.ok_or_else(|| EvalError::failed("unexpected end of string"))?;
        rest = &rest[digits + clause.len_utf8()..];
        let value = args.get(next);
        let value = value.ok_or_else(|| EvalError::failed(format!("index {next} out of range")))?;
        next += 1;
        out.push_str(&write(clause, precision, value)?);
    }
    out.push_str(rest);
    Ok(out)
}

fn write(clause: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, EvalError> {
    let wrong = |what: &str| {
        EvalError::failed(format!(
            "error during formatting: {what}, was given {}",
            super::conversions::to_text(&Value::Type(value.type_of())).unwrap_or_default()
        ))
    };
    Ok(match (clause, value) {
        ('s', value) => shown(value)?,
        ('d', Value::Int(n)) => n.to_string(),
        ('d', Value::Uint(n)) => n.to_string(),
        ('d', Value::Double(n)) if !n.is_finite() => super::conversions::to_text(value)?,
        ('d', _) => return Err(wrong("decimal clause can only be used on integers")),
        ('f', number) => match float(number) {
            Some(n) if n.is_finite() => format!("{n:.*}", precision.unwrap_or(6)),
            Some(_) => super::conversions::to_text(number)?,
            None => return Err(wrong("fixed-point clause can only be used on doubles")),
        },
        ('e', number) => match float(number) {
            Some(n) if n.is_finite() => scientific(n, precision.unwrap_or(6)),
            Some(_) => super::conversions::to_text(number)?,
            None => return Err(wrong("scientific clause can only be used on doubles")),
        },
        ('b', Value::Int(n)) => signed(*n, |n| format!("{n:b}")),
        ('b', Value::Uint(n)) => format!("{n:b}"),
        ('b', Value::Bool(b)) => u8::from(*b).to_string(),
        ('b', _) => return Err(wrong("only integers and bools can be formatted as binary")),
        ('o', Value::Int(n)) => signed(*n, |n| format!("{n:o}")),
        ('o', Value::Uint(n)) => format!("{n:o}"),
        ('o', _) => return Err(wrong("octal clause can only be used on integers")),
        ('x' | 'X', Value::Int(n)) => cased(clause, signed(*n, |n| format!("{n:x}"))),
        ('x' | 'X', Value::Uint(n)) => cased(clause, format!("{n:x}")),
        ('x' | 'X', Value::String(text)) => cased(clause, hex::encode(text.as_bytes())),
        ('x' | 'X', Value::Bytes(bytes)) => cased(clause, hex::encode(bytes)),
        ('x' | 'X', _) => {
            return Err(wrong("only integers, byte buffers, and strings can be formatted as hex"));
        }
        (other, _) => {
            let message =
                format!("could not parse formatting clause: unrecognized formatting clause \"{other}\"");
            return Err(EvalError::failed(message));
        }
    })
}

fn float(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(n) => Some(*n),
        Value::Int(n) => Some(*n as f64),
        Value::Uint(n) => Some(*n as f64),
        _ => None,
    }
}

fn signed(number: i64, write: fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", write(number.unsigned_abs()))
}

fn cased(clause: char, text: String) -> String {
    if clause == 'X' { text.to_uppercase() } else { text }
}

/// As the format of upstream's language has it: `1.234500×10⁰³`.
fn scientific(number: f64, precision: usize) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let raised = format!("{:02}", exponent.abs());
    let raised = raised.bytes().filter_map(|b| DIGITS.get(usize::from(b.wrapping_sub(b'0'))));
    let sign = if exponent < 0 { "⁻" } else { "" };
    format!("{digits}×10{sign}{}", raised.collect::<String>())
}

/// A value as `%s` shows it.
fn shown(value: &Value<'_>) -> Result<String, EvalError> {
    let mut out = String::new();
    match value {
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                // Writing to a String cannot fail.
                let _ = write!(out, "{comma}{}", shown(&item?)?);
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for key in map.keys() {
                if let Some(value) = map.get(&key) {
                    entries.push(format!("{}: {}", shown(&key)?, shown(&value?)?));
                }
            }
            entries.sort();
            let _ = write!(out, "{{{}}}", entries.join(", "));
        }
        scalar => out = super::conversions::to_text(scalar)?,
    }
    Ok(out)
}
