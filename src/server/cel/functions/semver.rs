//! Semantic versions.

use std::cmp::Ordering;

use semver::Version;

use super::{Library, text};
use crate::server::cel::EvalError;
use crate::server::cel::opaque::Opaque;
use crate::server::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("string_to_semver semver string > semver", |a| parse(text(a, 0)?, false).map(made)),
    ("string_bool_to_semver semver string bool > semver", |a| {
        parse(text(a, 0)?, a[1].as_bool() == Some(true)).map(made)
    }),
    ("is_semver_string isSemver string > bool", |a| Ok(Value::Bool(parse(text(a, 0)?, false).is_ok()))),
    ("is_semver_string_bool isSemver string bool > bool", |a| {
        Ok(Value::Bool(parse(text(a, 0)?, a[1].as_bool() == Some(true)).is_ok()))
    }),
    ("semver_major .major semver > int", |a| Ok(Value::Int(of(a, 0)?.major as i64))),
    ("semver_minor .minor semver > int", |a| Ok(Value::Int(of(a, 0)?.minor as i64))),
    ("semver_patch .patch semver > int", |a| Ok(Value::Int(of(a, 0)?.patch as i64))),
    ("semver_is_greater_than .isGreaterThan semver semver > bool", |a| Ok(Value::Bool(compare(a)?.is_gt()))),
    ("semver_is_less_than .isLessThan semver semver > bool", |a| Ok(Value::Bool(compare(a)?.is_lt()))),
    ("semver_compare_to .compareTo semver semver > int", |a| Ok(Value::Int(compare(a)? as i64))),
];

fn made<'a>(version: Version) -> Value<'a> {
    Value::opaque(Opaque::Semver(version))
}

fn of<'v>(args: &'v [Value<'_>], index: usize) -> Result<&'v Version, EvalError> {
    match args.get(index) {
        Some(Value::Opaque(opaque)) => match &**opaque {
            Opaque::Semver(version) => Ok(version),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    Ok(of(args, 0)?.cmp_precedence(of(args, 1)?))
}

fn parse(text: &str, normalize: bool) -> Result<Version, EvalError> {
    let text = if normalize { normalized(text) } else { text.to_owned() };
    let version: Result<Version, _> = text.parse();
    version
        .ok()
        .filter(|v| [v.major, v.minor, v.patch].iter().all(|n| i64::try_from(*n).is_ok()))
        .ok_or_else(|| EvalError::failed("No Major.Minor.Patch elements found"))
}

/// Without a `v` before it and leading zeros, and with the parts that are missing.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut parts: Vec<&str> = core.split('.').collect();
    for part in &mut parts {
        let trimmed = part.trim_start_matches('0');
        *part = if trimmed.is_empty() && !part.is_empty() { "0" } else { trimmed };
    }
    // Only a whole version may have more after it.
    while parts.len() < 3 && rest.is_empty() {
        parts.push("0");
    }
    format!("{}{rest}", parts.join("."))
}
