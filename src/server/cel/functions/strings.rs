//! Text. Places are counted in characters.

use super::{Library, int, items, text};
use crate::server::cel::EvalError;
use crate::server::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("contains_string .contains string string > bool", |a| {
        Ok(Value::Bool(text(a, 0)?.contains(text(a, 1)?)))
    }),
    ("ends_with_string .endsWith string string > bool", |a| {
        Ok(Value::Bool(text(a, 0)?.ends_with(text(a, 1)?)))
    }),
    ("starts_with_string .startsWith string string > bool", |a| {
        Ok(Value::Bool(text(a, 0)?.starts_with(text(a, 1)?)))
    }),
    ("string_char_at_int .charAt string int > string", |a| {
        let (text, index) = (text(a, 0)?, int(a, 1)?);
        let length = text.chars().count();
        match usize::try_from(index) {
            Ok(index) if index == length => Ok(Value::text("")),
            Ok(index) if index < length => {
                Ok(Value::text(text.chars().skip(index).take(1).collect::<String>()))
            }
            _ => Err(EvalError::failed(format!("index out of range: {index}"))),
        }
    }),
    ("string_index_of_string .indexOf string string > int", |a| index_of(a, 0)),
    ("string_index_of_string_int .indexOf string string int > int", |a| index_of(a, int(a, 2)?)),
    ("string_last_index_of_string .lastIndexOf string string > int", |a| last_index_of(a, None)),
    ("string_last_index_of_string_int .lastIndexOf string string int > int", |a| {
        last_index_of(a, Some(int(a, 2)?))
    }),
    ("list_join .join list(string) > string", |a| join(a, "")),
    ("list_join_string .join list(string) string > string", |a| join(a, text(a, 1)?)),
    ("string_lower_ascii .lowerAscii string > string", |a| Ok(Value::text(text(a, 0)?.to_ascii_lowercase()))),
    ("string_upper_ascii .upperAscii string > string", |a| Ok(Value::text(text(a, 0)?.to_ascii_uppercase()))),
    ("string_trim .trim string > string", |a| Ok(Value::text(text(a, 0)?.trim()))),
    ("string_replace_string_string .replace string string string > string", |a| replace(a, -1)),
    ("string_replace_string_string_int .replace string string string int > string", |a| {
        replace(a, int(a, 3)?)
    }),
    ("string_split_string .split string string > list(string)", |a| split(a, -1)),
    ("string_split_string_int .split string string int > list(string)", |a| split(a, int(a, 2)?)),
    ("string_substring_int .substring string int > string", |a| {
        let end = text(a, 0)?.chars().count() as i64;
        substring(a, int(a, 1)?, end)
    }),
    ("string_substring_int_int .substring string int int > string", |a| substring(a, int(a, 1)?, int(a, 2)?)),
    ("string_format .format string list(dyn) > string", |a| {
        super::template::fill(text(a, 0)?, &items(a, 1)?).map(Value::text)
    }),
    ("strings_quote strings.quote string > string", |a| Ok(Value::text(quote(text(a, 0)?)))),
];

/// Text in double quotes, as `strings.quote` writes it.
fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::failed(format!("index out of range: {index}"))
}

fn index_of<'a>(args: &[Value<'a>], from: i64) -> Result<Value<'a>, EvalError> {
    let (text, wanted) = (text(args, 0)?, text(args, 1)?);
    let characters: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let start =
        usize::try_from(from).ok().filter(|f| *f < characters.len()).ok_or_else(|| out_of_range(from))?;
    let found = text[characters[start]..].find(wanted).map(|at| at + characters[start]);
    let place = found.and_then(|at| characters.binary_search(&at).ok());
    Ok(Value::Int(place.map_or(-1, |p| p as i64)))
}

fn last_index_of<'a>(args: &[Value<'a>], to: Option<i64>) -> Result<Value<'a>, EvalError> {
    let (text, wanted) = (text(args, 0)?, text(args, 1)?);
    let characters: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let last = match to {
        None => characters.len() - 1,
        Some(to) => {
            usize::try_from(to).ok().filter(|t| *t < characters.len()).ok_or_else(|| out_of_range(to))?
        }
    };
    let place = (0..=last).rev().find(|place| text[characters[*place]..].starts_with(wanted));
    Ok(Value::Int(place.map_or(-1, |p| p as i64)))
}

fn join<'a>(args: &[Value<'a>], separator: &str) -> Result<Value<'a>, EvalError> {
    let items = items(args, 0)?;
    let texts = items.iter().map(|i| i.as_str().ok_or_else(EvalError::no_such_overload));
    Ok(Value::text(texts.collect::<Result<Vec<_>, _>>()?.join(separator)))
}

fn replace<'a>(args: &[Value<'a>], count: i64) -> Result<Value<'a>, EvalError> {
    let (text, from, to) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let replaced = match usize::try_from(count) {
        Ok(count) => text.replacen(from, to, count),
        Err(_) => text.replace(from, to),
    };
    Ok(Value::text(replaced))
}

fn split<'a>(args: &[Value<'a>], count: i64) -> Result<Value<'a>, EvalError> {
    let (text, separator) = (text(args, 0)?, text(args, 1)?);
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match (limit, separator) {
        (0, _) => Vec::new(),
        // Between all characters, but not around them.
        (limit, "") => {
            let characters = text.char_indices().map(|(at, _)| at).take(limit).collect::<Vec<_>>();
            let ends = characters.iter().skip(1).copied().chain([text.len()]);
            characters.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
        }
        (limit, separator) => text.splitn(limit, separator).collect(),
    };
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn substring<'a>(args: &[Value<'a>], start: i64, end: i64) -> Result<Value<'a>, EvalError> {
    let text = text(args, 0)?;
    let length = text.chars().count() as i64;
    if start > end {
        let message = format!("invalid substring range. start: {start}, end: {end}");
        return Err(EvalError::failed(message));
    }
    for edge in [start, end] {
        if edge < 0 || edge > length {
            return Err(out_of_range(edge));
        }
    }
    let part: String = text.chars().skip(start as usize).take((end - start) as usize).collect();
    Ok(Value::text(part))
}
