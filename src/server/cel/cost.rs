//! What calls cost when they are made, in the units of upstream's `CostTracker` and `library.CostEstimator`.

use super::opaque::Opaque;
use super::value::Value;

/// What it costs to make a list.
pub(super) const CREATE_LIST: u64 = 10;
/// What it costs to make a map.
pub(super) const CREATE_MAP: u64 = 30;
/// What it costs to go over one character.
pub(super) const TRAVERSAL: f64 = 0.1;
/// What one character of a regular expression counts.
pub(super) const REGEX: f64 = 0.25;
/// What it costs to ask what somebody may do: an expression can ask twice.
pub(super) const AUTHORIZATION: u64 = 350_000;
/// How long the regular expression of a format of names is at most.
pub(super) const FORMAT_REGEX: u64 = 128;

pub(super) fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

/// Whether the cost of a function is that of its result.
pub(super) fn depends_on_result(function: &str) -> bool {
    matches!(function, "join" | "reverse" | "slice" | "lists.range")
}

/// What it costs to go over a value.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Value::List(list) => list.iter().flatten().map(|item| traversal(&item)).sum(),
        Value::Map(map) => {
            let keys = map.keys();
            let values = keys.iter().filter_map(|key| map.get(key)).flatten();
            keys.iter().map(traversal).sum::<u64>() + values.map(|value| traversal(&value)).sum::<u64>()
        }
        _ => 1,
    }
}

/// What a call costs.
pub(super) fn of_call(function: &str, overload: &str, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, Value::size);
    let strings = |index: usize, times: f64| scaled(size(index), times * TRAVERSAL);
    let matching = |subject: u64, pattern: u64| {
        let subject = ((1.0 + subject as f64) * TRAVERSAL).ceil() as u64;
        subject.saturating_mul(scaled(pattern, REGEX))
    };
    match function {
        "check" => AUTHORIZATION,
        "fieldSelector" | "labelSelector" => {
            let length = size(1);
            CREATE_LIST + scaled(length, TRAVERSAL) + scaled(scaled(length, 0.5), 50.0)
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" => strings(0, 1.0),
        "replace" | "split" => strings(0, 2.0),
        "join" => scaled(result.map_or(1, Value::size), 2.0 * TRAVERSAL),
        "find" | "findAll" | "matches" => matching(size(0), size(1)),
        "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => strings(0, 1.0),
        "ip" if overload != "cidr_ip" => strings(0, 1.0),
        "ip.isCanonical" => strings(0, 2.0),
        "containsIP" => {
            let parsed = if overload == "cidr_contains_ip_string" { strings(1, 1.0) } else { 0 };
            strings(0, 2.0) + parsed
        }
        "containsCIDR" => {
            let parsed = if overload == "cidr_contains_cidr_string" { strings(1, 1.0) } else { 0 };
            strings(0, 2.0) + strings(0, 1.0) + 1 + parsed
        }
        "validate" => matching(size(1), size(0)),
        "_==_" | "_!=_" if args.iter().any(is_cheap) => 1,
        "_==_" | "_!=_" => scaled(size(0).min(size(1)), TRAVERSAL),
        "startsWith" | "endsWith" => strings(1, 1.0),
        "@in" if overload == "in_list" => size(1),
        "contains" => strings(0, 1.0).saturating_mul(strings(1, 1.0)),
        "sets.contains" | "sets.intersects" => pairs(args, 1),
        "sets.equivalent" => pairs(args, 2),
        "distinct" | "sort" => self_compared(args.first()),
        "@sortByAssociatedKeys" => self_compared(args.get(1)),
        "flatten" => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => u64::try_from(*depth).unwrap_or_default(),
                _ => 1,
            };
            size(0).saturating_mul(depth).saturating_add(1 + CREATE_LIST)
        }
        "reverse" | "slice" | "lists.range" => result.map_or(0, Value::size) + 1 + CREATE_LIST,
        _ => by_overload(overload, args),
    }
}

fn pairs(args: &[Value<'_>], factor: u64) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, Value::size);
    size(0).saturating_mul(size(1)).saturating_mul(factor).saturating_add(1)
}

/// Every item compared with every other, in both ways.
fn self_compared(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 + CREATE_LIST };
    let factor = match list.get(0) {
        Some(Ok(Value::String(_) | Value::Bytes(_))) => 2.0 + TRAVERSAL,
        _ => 2.0,
    };
    let pairs = (list.len() as u64).saturating_mul(list.len() as u64);
    ((pairs as f64 * factor) as u64).saturating_add(1 + CREATE_LIST)
}

/// Values that are compared at once.
fn is_cheap(value: &Value<'_>) -> bool {
    matches!(value, Value::Opaque(o) if !matches!(**o, Opaque::Authorizer(_)))
}

fn by_overload(overload: &str, args: &[Value<'_>]) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, Value::size);
    match overload {
        "string_to_bytes" | "bytes_to_string" | "strings_quote" | "string_format" => {
            scaled(size(0), TRAVERSAL)
        }
        "less_string"
        | "less_equals_string"
        | "greater_string"
        | "greater_equals_string"
        | "less_bytes"
        | "less_equals_bytes"
        | "greater_bytes"
        | "greater_equals_bytes" => scaled(size(0).min(size(1)), TRAVERSAL),
        "add_string" | "add_bytes" => scaled(size(0) + size(1), TRAVERSAL),
        _ => 1,
    }
}
