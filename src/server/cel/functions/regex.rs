//! Regular expressions.

use super::{Library, int, text};
use crate::server::cel::EvalError;
use crate::server::cel::regexp::Regexp;
use crate::server::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("matches matches string string > bool", |a| run("matches", a)),
    ("matches_string .matches string string > bool", |a| run("matches", a)),
    ("string_find_string .find string string > string", |a| run("find", a)),
    ("string_find_all_string .findAll string string > list(string)", |a| run("findAll", a)),
    ("string_find_all_string_int .findAll string string int > list(string)", |a| run("findAll", a)),
];

fn run<'a>(function: &str, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let pattern = text(args, 1)?;
    let regexp = Regexp::new(pattern).map_err(EvalError::failed)?;
    matches_compiled(function, args, &regexp)
}

/// One of the library's functions with its pattern compiled beforehand.
pub(in crate::server::cel) fn matches_compiled<'a>(
    function: &str,
    args: &[Value<'a>],
    regexp: &Regexp,
) -> Result<Value<'a>, EvalError> {
    let subject = text(args, 0)?;
    Ok(match function {
        "find" => Value::text(regexp.find(subject).unwrap_or_default()),
        "findAll" => {
            let limit = if args.len() > 2 {
                usize::try_from(int(args, 2)?).unwrap_or(usize::MAX)
            } else {
                usize::MAX
            };
            Value::list(regexp.find_all(subject, limit).into_iter().map(Value::text).collect())
        }
        _ => Value::Bool(regexp.is_match(subject)),
    })
}
