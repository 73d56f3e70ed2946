//! The functions of expressions: what they take, and what they do. A library is a table; a row is one overload.
//!
//! A row's declaration is `id name argument… > result`; the name of a member begins with a dot, and its first
//! argument is what it is a member of.

mod authorization;
mod conversions;
mod formats;
mod lists;
mod net;
mod operators;
mod optional;
mod quantity;
mod regex;
mod semver;
mod sets;
mod strings;
mod template;
mod times;
mod urls;

pub(super) use formats::format_size;
pub(super) use regex::matches_compiled;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::EvalError;
use super::types::Type;
use super::value::Value;

/// What a function does. The types of its arguments are those it declares.
pub(super) type Run = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>, EvalError>;

type Library = &'static [(&'static str, Run)];

const LIBRARIES: [Library; 18] = [
    authorization::LIBRARY,
    conversions::LIBRARY,
    formats::LIBRARY,
    lists::LIBRARY,
    lists::PICKED,
    lists::SORTED,
    lists::SUMS,
    net::LIBRARY,
    operators::LIBRARY,
    operators::ORDER,
    optional::LIBRARY,
    quantity::LIBRARY,
    regex::LIBRARY,
    semver::LIBRARY,
    sets::LIBRARY,
    strings::LIBRARY,
    times::LIBRARY,
    urls::LIBRARY,
];

/// One way to call a function.
#[derive(Debug)]
pub(super) struct Overload {
    pub(super) id: &'static str,
    pub(super) member: bool,
    pub(super) params: Vec<Type>,
    pub(super) result: Type,
    pub(super) run: Run,
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut functions: HashMap<&'static str, Vec<Overload>> = HashMap::new();
    for (declaration, run) in LIBRARIES.into_iter().flatten() {
        if let Some((name, overload)) = declare(declaration, *run) {
            functions.entry(name).or_default().push(overload);
        }
    }
    functions
});

/// The overloads of a function; none if there is no such function.
pub(super) fn overloads(name: &str) -> &'static [Overload] {
    FUNCTIONS.get(name).map_or(&[], Vec::as_slice)
}

/// The name of a type with functions, by its short name.
fn opaque(short: &str) -> Option<&'static str> {
    Some(match short {
        "url" => "kubernetes.URL",
        "quantity" => "kubernetes.Quantity",
        "ip" => "net.IP",
        "cidr" => "net.CIDR",
        "semver" => "kubernetes.Semver",
        "format" => "kubernetes.NamedFormat",
        "authorizer" => "kubernetes.authorization.Authorizer",
        "path_check" => "kubernetes.authorization.PathCheck",
        "group_check" => "kubernetes.authorization.GroupCheck",
        "resource_check" => "kubernetes.authorization.ResourceCheck",
        "decision" => "kubernetes.authorization.Decision",
        _ => return None,
    })
}

/// Reads a declaration; a test reads them all.
fn declare(declaration: &'static str, run: Run) -> Option<(&'static str, Overload)> {
    let (left, result) = declaration.split_once(" > ")?;
    let mut words = left.split(' ');
    let (id, name) = (words.next()?, words.next()?);
    let params = words.map(parse_type).collect::<Option<Vec<_>>>()?;
    let member = name.starts_with('.');
    let name = name.strip_prefix('.').unwrap_or(name);
    Some((name, Overload { id, member, params, result: parse_type(result)?, run }))
}

fn parse_type(text: &str) -> Option<Type> {
    let (head, inner) = match text.split_once('(') {
        Some((head, rest)) => (head, rest.strip_suffix(')')?),
        None => (text, ""),
    };
    Some(match head {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "list" => Type::list(parse_type(inner)?),
        "optional" => Type::optional(parse_type(inner)?),
        "type" => Type::Type(parse_type(inner)?.into()),
        "map" => {
            let (key, value) = inner.split_once(',')?;
            Type::map(parse_type(key)?, parse_type(value)?)
        }
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        "C" => Type::Param(2),
        other => Type::Opaque(opaque(other)?),
    })
}

/// Whether a value is of a type; what lists and maps hold is not looked at.
pub(super) fn fits(value: &Value<'_>, wanted: &Type) -> bool {
    match wanted {
        Type::Dyn | Type::Param(_) => true,
        Type::Null => matches!(value, Value::Null),
        Type::Bool => matches!(value, Value::Bool(_)),
        Type::Int => matches!(value, Value::Int(_)),
        Type::Uint => matches!(value, Value::Uint(_)),
        Type::Double => matches!(value, Value::Double(_)),
        Type::String => matches!(value, Value::String(_)),
        Type::Bytes => matches!(value, Value::Bytes(_)),
        Type::Timestamp => matches!(value, Value::Timestamp(_)),
        Type::Duration => matches!(value, Value::Duration(_)),
        Type::List(_) => matches!(value, Value::List(_)),
        Type::Map(_) | Type::Object(_) => matches!(value, Value::Map(_)),
        Type::Optional(_) => matches!(value, Value::Optional(_)),
        Type::Type(_) => matches!(value, Value::Type(_)),
        Type::Opaque(name) => matches!(value, Value::Opaque(o) if o.type_name() == *name),
    }
}

/// Whether all values of a list are of the type its declaration names: of several overloads for lists the one that
/// fits is meant.
pub(super) fn holds(value: &Value<'_>, wanted: &Type) -> bool {
    match (value, wanted) {
        (Value::List(list), Type::List(item)) if !matches!(**item, Type::Param(_) | Type::Dyn) => {
            list.iter().all(|value| value.is_ok_and(|v| fits(&v, item)))
        }
        _ => true,
    }
}

fn text<'v>(args: &'v [Value<'_>], index: usize) -> Result<&'v str, EvalError> {
    args.get(index).and_then(Value::as_str).ok_or_else(EvalError::no_such_overload)
}

fn int(args: &[Value<'_>], index: usize) -> Result<i64, EvalError> {
    match args.get(index) {
        Some(Value::Int(n)) => Ok(*n),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn items<'a>(args: &[Value<'a>], index: usize) -> Result<Vec<Value<'a>>, EvalError> {
    match args.get(index) {
        Some(Value::List(list)) => list.to_vec(),
        _ => Err(EvalError::no_such_overload()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_can_be_read() {
        let mut ids = std::collections::HashSet::new();
        for (declaration, run) in LIBRARIES.into_iter().flatten() {
            let (name, overload) = declare(declaration, *run).unwrap_or_else(|| panic!("{declaration}"));
            assert!(ids.insert((name, overload.id)), "{declaration}");
            assert!(!overload.member || !overload.params.is_empty(), "{declaration}");
        }
        assert!(ids.len() > 250, "{}", ids.len());
    }
}
