//! Regular expressions in the syntax of Go (RE2), run by the `regex` crate, which is as linear.

use std::sync::Arc;

/// A compiled expression. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Regexp(Arc<regex::Regex>);

/// What a compiled expression may take, in bytes.
const SIZE_LIMIT: usize = 2 << 20;

impl Regexp {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong, in the words of Go where it is common: ``error parsing regexp: missing closing ): `(` ``.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let translated = translate(pattern)?;
        let built = regex::RegexBuilder::new(&translated).size_limit(SIZE_LIMIT).nest_limit(200).build();
        built.map(|r| Self(Arc::new(r))).map_err(|error| in_words_of_go(pattern, &error))
    }

    /// Whether it matches somewhere in a text.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The first match in a text.
    pub(crate) fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.0.find(text).map(|m| m.as_str())
    }

    /// All matches that do not overlap, at most `limit` of them.
    pub(crate) fn find_all<'t>(&self, text: &'t str, limit: usize) -> Vec<&'t str> {
        self.0.find_iter(text).take(limit).map(|m| m.as_str()).collect()
    }
}

fn in_words_of_go(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let known = [
        ("unclosed group", "missing closing )"),
        ("unopened group", "unexpected )"),
        ("unclosed character class", "missing closing ]"),
        ("repetition operator missing expression", "missing argument to repetition operator"),
        ("invalid character class range", "invalid character class range"),
        ("invalid repetition count range", "invalid repeat count"),
        ("look-around", "invalid or unsupported Perl syntax"),
        ("unrecognized escape sequence", "invalid escape sequence"),
        ("Unicode property not found", "invalid character class range"),
        ("exceeds size limit", "expression too large"),
    ];
    let word = known.iter().find(|(theirs, _)| text.contains(theirs)).map(|(_, go)| *go);
    let word = word.map_or_else(|| text.lines().last().unwrap_or_default().to_owned(), str::to_owned);
    format!("error parsing regexp: {word}: `{pattern}`")
}

/// Writes an expression of Go in the syntax of the `regex` crate: Perl's classes are ASCII, brackets in classes and
/// lone braces are literal.
fn translate(pattern: &str) -> Result<String, String> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '\\' => at = escape(&chars, at, &mut out, false, pattern)?,
            '[' => at = class(&chars, at, &mut out, pattern)?,
            '{' if !is_repetition(&chars[at..], pattern)? => {
                out.push_str("\\{");
                at += 1;
            }
            '}' if !closes_repetition(&chars, at) => {
                out.push_str("\\}");
                at += 1;
            }
            c => {
                out.push(c);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Whether a brace opens `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(chars: &[char], pattern: &str) -> Result<bool, String> {
    let Some(end) = chars.iter().position(|c| *c == '}') else { return Ok(false) };
    let inside: String = chars[1..end].iter().collect();
    let (low, high) = inside.split_once(',').unwrap_or((&inside, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if low.is_empty() || !digits(low) || !digits(high) {
        return Ok(false);
    }
    // Go allows no more than a thousand.
    if [low, high].iter().any(|n| !n.is_empty() && n.parse::<u32>().map_or(true, |n| n > 1000)) {
        return Err(format!("error parsing regexp: invalid repeat count: `{{{inside}}}` in `{pattern}`"));
    }
    Ok(true)
}

fn closes_repetition(chars: &[char], at: usize) -> bool {
    let Some(open) = chars[..at].iter().rposition(|c| *c == '{') else { return false };
    let inside: String = chars[open..=at].iter().collect();
    is_repetition(&chars[open..=at], &inside).unwrap_or_default()
}

/// Writes what an escape means; answers where it ends.
fn escape(
    chars: &[char],
    at: usize,
    out: &mut String,
    in_class: bool,
    pattern: &str,
) -> Result<usize, String> {
    let Some(&next) = chars.get(at + 1) else {
        return Err("error parsing regexp: trailing backslash at end of expression: ``".to_owned());
    };
    match next {
        'd' => out.push_str("[0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\f\\r ]"),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        'Q' if !in_class => {
            let rest: String = chars[at + 2..].iter().collect();
            let literal = rest.split("\\E").next().unwrap_or_default();
            out.push_str(&regex::escape(literal));
            let past = if rest.contains("\\E") { 2 } else { 0 };
            return Ok(at + 2 + literal.chars().count() + past);
        }
        'p' | 'P' | 'x' if chars.get(at + 2) == Some(&'{') => {
            let missing =
                || format!("error parsing regexp: invalid escape sequence: `\\{next}` in `{pattern}`");
            let end = chars[at..].iter().position(|c| *c == '}').ok_or_else(missing)? + at + 1;
            out.extend(&chars[at..end]);
            return Ok(end);
        }
        '<' | '>' | 'Z' | 'C' => {
            return Err(format!("error parsing regexp: invalid escape sequence: `\\{next}` in `{pattern}`"));
        }
        c => out.extend(['\\', c]),
    }
    Ok(at + 2)
}

/// Writes a class in brackets; answers where it ends.
fn class(chars: &[char], start: usize, out: &mut String, pattern: &str) -> Result<usize, String> {
    let missing = || format!("error parsing regexp: missing closing ]: `{pattern}`");
    out.push('[');
    let mut at = start + 1;
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    loop {
        let c = *chars.get(at).ok_or_else(missing)?;
        match c {
            ']' if at > first => {
                out.push(']');
                return Ok(at + 1);
            }
            '[' if chars.get(at + 1) == Some(&':') => {
                let end = chars[at..].windows(2).position(|w| w == [':', ']']).ok_or_else(missing)? + at + 2;
                out.extend(&chars[at..end]);
                at = end;
            }
            '\\' => at = escape(chars, at, out, true, pattern)?,
            '[' | ']' | '&' | '~' => {
                out.extend(['\\', c]);
                at += 1;
            }
            // A hyphen at an end is literal, between two characters it is a range.
            '-' if at == first || chars.get(at + 1) == Some(&']') => {
                out.push_str("\\-");
                at += 1;
            }
            c => {
                out.push(c);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_go_match_as_in_go() {
        let table = [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢٣", false),
            (r"^[\w.]+$", "a_b.c", true),
            (r"^[^\s]+$", "a b", false),
            (r"^[\S]+$", "ab", true),
            (r"^[a[b]+$", "a[b", true),
            (r"^[]a]+$", "]a", true),
            (r"^[-a]+$", "-a", true),
            (r"^[a-]+$", "-a", true),
            (r"^[&&]+$", "&", true),
            (r"^a{2}$", "aa", true),
            (r"^a{x}$", "a{x}", true),
            (r"^{a}$", "{a}", true),
            (r"\Qa.b\E+", "a.bbb", true),
            (r"\Qa.b", "axb", false),
            (r"^(?i)ABC$", "abc", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^\p{Greek}+$", "αβγ", true),
            (r"^\p{L}+$", "äb", true),
            (r"^(?P<x>a)$", "a", true),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "a-b.c", true),
        ];
        for (pattern, text, matches) in table {
            let regexp = Regexp::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(regexp.is_match(text), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn errors_are_in_the_words_of_go() {
        let table = [
            ("(", "error parsing regexp: missing closing ): `(`"),
            ("[a", "error parsing regexp: missing closing ]: `[a`"),
            ("a)", "error parsing regexp: unexpected ): `a)`"),
            ("*", "error parsing regexp: missing argument to repetition operator: `*`"),
        ];
        for (pattern, text) in table {
            assert_eq!(Regexp::new(pattern).expect_err(pattern), text);
        }
        for wrong in ["(?=a)", r"a\", "a{1001}", "[z-a]", r"\p{Nothing}"] {
            assert!(Regexp::new(wrong).is_err(), "{wrong}");
        }
    }
}
