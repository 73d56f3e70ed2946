//! JSONPath as client-go speaks it, for printer columns.
//!
//! <https://kubernetes.io/docs/reference/kubectl/jsonpath/>, without templates: fields, quoted fields, indices,
//! slices, unions, wildcards, recursive descent and filters.

use serde_json::Value;

/// A path is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("unterminated {0}")]
    Unterminated(&'static str),
    #[error("unexpected {0:?} at offset {1}")]
    Unexpected(char, usize),
    #[error("{0:?} is no index, slice, name or filter")]
    Subscript(String),
}

/// A path that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A field of an object.
    Field(String),
    /// All items of a list, all values of an object.
    All,
    /// The values themselves and all below.
    Below,
    /// Items of a list: from, to, by; a single one has `None` for `by`.
    Items(Vec<Slice>),
    /// Fields of an object, one after the other.
    Fields(Vec<String>),
    /// Items for which this holds.
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq)]
enum Slice {
    One(i64),
    Range(Option<i64>, Option<i64>, i64),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    /// Nothing: the left side exists.
    comparison: Option<(Comparison, Operand)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    /// From the item on.
    Path(JsonPath),
    Constant(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
}

/// The longest first, so that none is taken for a shorter one.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut steps = Vec::new();
        let mut rest = text.trim();
        rest = rest.strip_prefix(['$', '@']).unwrap_or(rest);
        while let Some(first) = rest.chars().next() {
            rest = match first {
                '.' if rest.starts_with("..") => {
                    steps.push(Step::Below);
                    let after = &rest[2..];
                    if after.starts_with('[') { after } else { field(after, &mut steps)? }
                }
                '.' if rest.len() == 1 => "",
                '.' => field(&rest[1..], &mut steps)?,
                '[' => {
                    let end = closing(rest).ok_or(Error::Unterminated("array"))?;
                    steps.push(subscript(rest[1..end].trim())?);
                    &rest[end + 1..]
                }
                // A field without a dot before it can only be the first.
                c if steps.is_empty() && c != ']' => field(rest, &mut steps)?,
                c => return Err(Error::Unexpected(c, text.len() - rest.len())),
            };
        }
        Ok(Self(steps))
    }

    /// What the path leads to.
    pub(super) fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.find(value)).collect();
        }
        found
    }
}

/// Reads a field's name, whose dots may be escaped.
fn field<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, Error> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            '.' | '[' | ' ' => {
                end = at;
                break;
            }
            ']' | '{' | '}' => return Err(Error::Unexpected(c, at)),
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => {}
        "*" => steps.push(Step::All),
        _ => steps.push(Step::Field(name)),
    }
    Ok(text[end..].trim_start())
}

/// Where the bracket closes that opens the text.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            _ if std::mem::take(&mut escaped) => {}
            ('\\', _) => escaped = true,
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            ('[', None) => depth += 1,
            (']', None) => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn subscript(text: &str) -> Result<Step, Error> {
    let bad = || Error::Subscript(text.to_owned());
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(inner) = text.strip_prefix("?(") {
        return filter(inner.strip_suffix(')').ok_or(Error::Unterminated("filter"))?).map(Step::Filter);
    }
    if text.starts_with(['\'', '"']) {
        let names: Option<Vec<String>> = text.split(',').map(|part| quoted(part.trim())).collect();
        return names.map(Step::Fields).ok_or_else(bad);
    }
    let slices: Option<Vec<Slice>> = text.split(',').map(|part| slice(part.trim())).collect();
    slices.filter(|_| !text.is_empty()).map(Step::Items).ok_or_else(bad)
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace("\\'", "'").replace("\\\"", "\"").replace("\\.", "."))
}

fn slice(text: &str) -> Option<Slice> {
    let number = |part: &str| if part.is_empty() { Some(None) } else { part.parse().ok().map(Some) };
    match text.split(':').collect::<Vec<_>>()[..] {
        [one] => one.parse().ok().map(Slice::One),
        [from, to] => Some(Slice::Range(number(from)?, number(to)?, 1)),
        [from, to, by] => Some(Slice::Range(number(from)?, number(to)?, number(by)?.unwrap_or(1))),
        _ => None,
    }
}

fn filter(text: &str) -> Result<Filter, Error> {
    let found =
        COMPARISONS.iter().filter_map(|(sign, is)| outside_quotes(text, sign).map(|at| (at, *sign, *is)));
    // Of two that begin at the same place the longer one comes first.
    match found.min_by_key(|(at, ..)| *at) {
        None => Ok(Filter { left: operand(text)?, comparison: None }),
        Some((at, sign, is)) => {
            let right = operand(&text[at + sign.len()..])?;
            Ok(Filter { left: operand(&text[..at])?, comparison: Some((is, right)) })
        }
    }
}

fn outside_quotes(text: &str, wanted: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            _ if text[at..].starts_with(wanted) => return Some(at),
            _ => {}
        }
    }
    None
}

fn operand(text: &str) -> Result<Operand, Error> {
    let text = text.trim();
    if text.starts_with('@') {
        return JsonPath::parse(text).map(Operand::Path);
    }
    if let Some(text) = quoted(text) {
        return Ok(Operand::Constant(text.into()));
    }
    serde_json::from_str(text).map(Operand::Constant).map_err(|_| Error::Subscript(text.to_owned()))
}

impl Step {
    fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Fields(names) => names.iter().filter_map(|name| value.get(name)).collect(),
            Self::All => children(value),
            Self::Below => {
                let mut found = vec![value];
                let mut next = 0;
                while next < found.len() {
                    found.extend(children(found[next]));
                    next += 1;
                }
                found
            }
            Self::Items(slices) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                slices.iter().flat_map(|slice| slice.of(items)).collect()
            }
            Self::Filter(filter) => children(value).into_iter().filter(|item| filter.holds(item)).collect(),
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

impl Slice {
    fn of<'v>(&self, items: &'v [Value]) -> Vec<&'v Value> {
        let len = items.len() as i64;
        let place = |index: i64| if index < 0 { index + len } else { index };
        match *self {
            Self::One(index) => {
                usize::try_from(place(index)).ok().and_then(|i| items.get(i)).into_iter().collect()
            }
            Self::Range(from, to, by) if by > 0 => {
                let from = place(from.unwrap_or(0)).clamp(0, len) as usize;
                let to = place(to.unwrap_or(len)).clamp(from as i64, len) as usize;
                items[from..to].iter().step_by(usize::try_from(by).unwrap_or(usize::MAX)).collect()
            }
            Self::Range(..) => Vec::new(),
        }
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let left = self.left.of(item);
        let Some((is, right)) = &self.comparison else { return !left.is_empty() };
        let right = right.of(item);
        // As upstream: both sides must be one value.
        let ([left], [right]) = (left.as_slice(), right.as_slice()) else { return false };
        let order = match (left, right) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            _ => None,
        };
        match is {
            Comparison::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
            Comparison::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
            Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
            Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        }
    }
}

impl Operand {
    fn of<'a>(&'a self, item: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Path(path) => path.find(item),
            Self::Constant(value) => vec![value],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_client_go_finds() {
        let object = json!({"spec": {"replicas": 3, "list": ["a", "b", "c"], "nested": [{"x": 1}, {"x": 2}]},
            "metadata": {"labels": {"app.kubernetes.io/name": "n"}},
            "status": {"conditions": [{"type": "Ready", "status": "True", "n": 5}, {"type": "Synced", "status": "False", "n": 7}]}});
        for (path, wanted) in [
            (".spec.replicas", json!([3])),
            ("$.spec.replicas", json!([3])),
            ("spec.replicas", json!([3])),
            (".spec.missing", json!([])),
            (".spec.list[0]", json!(["a"])),
            (".spec.list[-1]", json!(["c"])),
            (".spec.list[7]", json!([])),
            (".spec.list[*]", json!(["a", "b", "c"])),
            (".spec.list[0:2]", json!(["a", "b"])),
            (".spec.list[::2]", json!(["a", "c"])),
            (".spec.list[0,2]", json!(["a", "c"])),
            (".spec.nested[*].x", json!([1, 2])),
            (".spec.nested..x", json!([1, 2])),
            ("..replicas", json!([3])),
            (".metadata.labels.app\\.kubernetes\\.io/name", json!(["n"])),
            (".metadata.labels['app\\.kubernetes\\.io/name']", json!(["n"])),
            (".metadata.labels[\"app.kubernetes.io/name\"]", json!(["n"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Synced')].status", json!(["False"])),
            (".status.conditions[?( @.type != 'Ready' )].type", json!(["Synced"])),
            (".status.conditions[?(@.n>5)].type", json!(["Synced"])),
            (".status.conditions[?(@.n<=5)].type", json!(["Ready"])),
            (".status.conditions[?(@.missing)].type", json!([])),
            (".status.conditions[?(@.n)].type", json!(["Ready", "Synced"])),
        ] {
            let parsed = JsonPath::parse(path).unwrap_or_else(|e| panic!("{path}: {e}"));
            let found: Value = parsed.find(&object).into_iter().cloned().collect();
            assert_eq!(found, wanted, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [".a[", ".a[x]", ".a[?(@.b]", ".a[?(@.b==x)]", ".a]", ".a[]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
