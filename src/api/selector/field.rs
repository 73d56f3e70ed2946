//! Field selectors, as in `metadata.name=a,status.phase!=Running`.

use std::fmt;

use super::Error;

/// A selector of fields. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// One condition of a [`FieldSelector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field's name, as in `spec.nodeName`.
    pub field: String,
    /// Whether it must equal the value, or must not.
    pub equal: bool,
    /// The value.
    pub value: String,
}

impl FieldSelector {
    /// Reads the text form. In values `\`, `,` and `=` are escaped by a backslash.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = split(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|p| !p.is_empty()) {
            let (field, equal, value) = term(part)
                .ok_or_else(|| Error(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            terms.push(FieldTerm { field: field.to_owned(), equal, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// The conditions, all of which must hold.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether fields match; `get` answers a field's value, and a field it does not know is empty.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|t| (get(&t.field).unwrap_or_default() == t.value) == t.equal)
    }

    /// The value that `field` must have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}

/// Splits at the commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Splits at the first operator.
fn term(part: &str) -> Option<(&str, bool, &str)> {
    let bytes = part.as_bytes();
    let at = (0..bytes.len()).find(|i| bytes[*i] == b'=' || bytes[*i..].starts_with(b"!="))?;
    let (field, rest) = part.split_at(at);
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some(value) = rest.strip_prefix(operator) {
            return Some((field, equal, value));
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence = other.map_or_else(|| "\\".to_owned(), |c| format!("\\{c}"));
                    return Err(Error(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(Error(format!(
                    "invalid field selector: unescaped character in value: {}",
                    c as u32
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_terms() {
        let s =
            FieldSelector::parse("status.phase!=Running,metadata.name==a\\,b,,spec.x=").expect("a selector");
        let terms: Vec<_> = s.terms().iter().map(|t| (t.field.as_str(), t.equal, t.value.as_str())).collect();
        assert_eq!(
            terms,
            [("metadata.name", true, "a,b"), ("spec.x", true, ""), ("status.phase", false, "Running")]
        );
        assert_eq!(s.exact("metadata.name"), Some("a,b"));
        assert_eq!(s.exact("status.phase"), None);
        assert!(FieldSelector::parse("").expect("everything").is_everything());
    }

    #[test]
    fn errors_are_upstreams() {
        let table = [
            ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
            ("é", "invalid selector: 'é'; can't understand 'é'"),
            ("a=b\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ];
        for (text, error) in table {
            assert_eq!(FieldSelector::parse(text).expect_err(text).to_string(), error);
        }
    }

    #[test]
    fn matches_values() {
        let s = FieldSelector::parse("a=1,b!=2").expect("a selector");
        let get = |b: &'static str| move |f: &str| if f == "a" { Some("1") } else { Some(b) };
        assert!(s.matches(get("3")) && !s.matches(get("2")));
        assert!(!s.matches(|_| None));
    }

    proptest! {
        #[test]
        fn text_form_is_read_back(values in prop::collection::vec("[a-c\\\\,=é]{0,6}", 0..4)) {
            let terms = values.into_iter().map(|value| FieldTerm { field: "f".into(), equal: true, value }).collect();
            let selector = FieldSelector { terms };
            let mut again = FieldSelector::parse(&selector.to_string()).expect("its own text");
            let mut expected = selector.terms.clone();
            expected.sort_by(|a, b| a.value.cmp(&b.value));
            again.terms.sort_by(|a, b| a.value.cmp(&b.value));
            prop_assert_eq!(again.terms, expected);
        }
    }
}
