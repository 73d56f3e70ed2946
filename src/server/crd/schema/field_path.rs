//! The `fieldPath` of a rule: a simple JSON path to a field below the schema that has the rule.

use super::structural::Structural;

/// The path as errors write it, without the dot before it.
///
/// # Errors
/// Why it leads to no field.
pub(super) fn normalize(path: &str, schema: &Structural) -> Result<String, String> {
    let tokens = tokens(path);
    let mut tokens = tokens.iter().map(String::as_str);
    let (mut at, mut out) = (schema, String::new());
    while let Some(token) = tokens.next() {
        let name = match token {
            "." => tokens.next().ok_or("unexpected end of JSON path")?.to_owned(),
            "[" => {
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                let inner =
                    quoted.strip_prefix('\'').and_then(|q| q.strip_suffix('\'')).filter(|_| quoted.len() > 1);
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescape(inner)?;
                match tokens.next() {
                    Some("]") => name,
                    Some(other) => return Err(format!("expected ] but got {other}")),
                    None => return Err("unexpected end of JSON path".to_owned()),
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        if !at.properties.is_empty() {
            at = at.property(&name).ok_or("does not refer to a valid field")?;
            out.push_str(if out.is_empty() { "" } else { "." });
            out.push_str(&name);
        } else {
            at = at.additional().ok_or("does not refer to a valid field")?;
            out.push_str(&format!("[{name}]"));
        }
    }
    Ok(out)
}

/// Delimiters, and the texts between them; quoted texts are whole.
fn tokens(path: &str) -> Vec<String> {
    let (mut tokens, mut open) = (Vec::new(), String::new());
    let mut characters = path.chars().peekable();
    while let Some(c) = characters.next() {
        if open.is_empty() && c == '\'' {
            open.push(c);
            let mut escaped = false;
            for c in characters.by_ref() {
                open.push(c);
                if c == '\'' && !escaped {
                    break;
                }
                escaped = c == '\\' && !escaped;
            }
            tokens.push(std::mem::take(&mut open));
        } else if matches!(c, '.' | '[' | ']') {
            if !open.is_empty() {
                tokens.push(std::mem::take(&mut open));
            }
            tokens.push(c.to_string());
        } else {
            open.push(c);
        }
    }
    if !open.is_empty() {
        tokens.push(open);
    }
    tokens
}

fn unescape(text: &str) -> Result<String, String> {
    let (mut out, mut characters) = (String::new(), text.chars());
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match characters.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(c @ ('\'' | '\\')) => c,
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!("invalid string literal: invalid escape char \\{other}"));
            }
        });
    }
    Ok(out)
}
