//! The formats of strings that schemas know, as `kube-openapi/pkg/validation/strfmt` reads them.

use std::sync::LazyLock;

use regex::Regex;

use super::structural::{Structural, Type};
use crate::server::cel::time;

type Check = fn(&str) -> bool;

/// Formats without their hyphens.
const FORMATS: [(&str, Check); 28] = [
    ("bsonobjectid", |s| s.len() == 24 && s.bytes().all(|b| b.is_ascii_hexdigit())),
    ("byte", |s| matches(&BASE64, s)),
    ("cidr", is_cidr),
    ("creditcard", is_credit_card),
    ("date", |s| time::parse_date(s).is_some()),
    ("datetime", is_date_time),
    ("duration", |s| time::parse_duration_of_schemas(s).is_some()),
    ("email", is_email),
    ("hexcolor", |s| matches(&HEX_COLOR, s)),
    ("hostname", is_hostname),
    ("ipv4", is_ipv4),
    ("ipv6", |s| s.contains(':') && s.parse::<std::net::Ipv6Addr>().is_ok()),
    ("isbn", |s| is_isbn10(s) || is_isbn13(s)),
    ("isbn10", is_isbn10),
    ("isbn13", is_isbn13),
    ("k8slongname", |s| s.len() <= 253 && s.split('.').all(is_label)),
    ("k8sshortname", |s| s.len() <= 63 && is_label(s)),
    ("mac", is_mac),
    ("password", |_| true),
    ("rgbcolor", |s| matches(&RGB_COLOR, s)),
    ("ssn", |s| s.len() == 11 && matches(&SSN, s)),
    ("uri", is_request_uri),
    ("uuid", |s| is_uuid(s, None)),
    ("uuid3", |s| is_uuid(s, Some('3'))),
    ("uuid4", |s| is_uuid(s, Some('4'))),
    ("uuid5", |s| is_uuid(s, Some('5'))),
    // Two that are no strings; they are never looked up for one.
    ("int32", |_| true),
    ("int64", |_| true),
];

/// The check of a format of strings, if the format is known.
pub(super) fn of_string(format: &str) -> Option<Check> {
    let name = format.replace('-', "");
    FORMATS.iter().find(|(n, _)| *n == name).filter(|(n, _)| !n.starts_with("int")).map(|(_, check)| *check)
}

/// The format of a schema, or an empty text if it is not known for the schema's type.
pub(super) fn effective(schema: &Structural) -> &str {
    let format = schema.format();
    let known = match schema.kind {
        _ if format.is_empty() => false,
        Type::None | Type::String => of_string(format).is_some(),
        _ if schema.int_or_string => of_string(format).is_some(),
        Type::Integer => matches!(format, "int32" | "int64"),
        Type::Number => matches!(format, "float" | "double"),
        Type::Object | Type::Array | Type::Boolean => false,
    };
    if known { format } else { "" }
}

macro_rules! regexes {
    ($($name:ident = $pattern:expr;)*) => {
        $(static $name: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($pattern).ok());)*
    };
}

regexes! {
    BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$";
    HEX_COLOR = "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    RGB_COLOR = r"^rgb\(\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*\)$";
    SSN = "^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$";
    CREDIT_CARD = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$";
    HOSTNAME = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
    CLOCK = "^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$";
}

fn matches(regex: &LazyLock<Option<Regex>>, text: &str) -> bool {
    regex.as_ref().is_some_and(|r| r.is_match(text))
}

fn is_label(text: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    ends(text.bytes().next())
        && ends(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_ipv4(text: &str) -> bool {
    let (_, address) = text.rsplit_once(':').unwrap_or(("", text));
    let parts: Vec<&str> = address.split('.').collect();
    let plain = parts.len() == 4
        && parts.iter().all(|p| {
            (1..=3).contains(&p.trim_start_matches('0').len().max(1))
                && p.bytes().all(|b| b.is_ascii_digit())
                && p.parse::<u32>().is_ok_and(|n| n <= 255)
        });
    plain && (address.len() == text.len() || text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let max = if address.contains(':') { 128 } else { 32 };
    let known =
        if address.contains(':') { address.parse::<std::net::Ipv6Addr>().is_ok() } else { is_ipv4(address) };
    known
        && !length.is_empty()
        && length.bytes().all(|b| b.is_ascii_digit())
        && length.parse::<u32>().is_ok_and(|n| n <= max)
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len())
            && parts.iter().all(|p| p.len() == width && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    // Hyphens may be missing, each for itself.
    let mut digits = String::with_capacity(32);
    for (at, c) in text.char_indices() {
        let boundary = matches!(digits.len(), 8 | 12 | 16 | 20) && !text[..at].ends_with('-');
        match c {
            '-' if boundary => {}
            c if c.is_ascii_hexdigit() => digits.push(c.to_ascii_lowercase()),
            _ => return false,
        }
    }
    let mut digit = digits.chars();
    let (third, fourth) = (digit.nth(12), digit.nth(3));
    digits.len() == 32
        && !text.ends_with('-')
        && version.is_none_or(|v| third == Some(v))
        && (!matches!(version, Some('4' | '5')) || matches!(fourth, Some('8' | '9' | 'a' | 'b')))
}

fn is_isbn10(text: &str) -> bool {
    let digits: Vec<u32> = isbn_digits(text);
    digits.len() == 10
        && digits[..9].iter().all(|d| *d < 10)
        && digits.iter().zip(1..).map(|(d, i)| d * i).sum::<u32>() % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let digits = isbn_digits(text);
    digits.len() == 13
        && digits.iter().all(|d| *d < 10)
        && digits.iter().zip([1, 3].iter().cycle()).map(|(d, f)| d * f).sum::<u32>() % 10 == 0
}

/// Digits without spaces and hyphens; X is 10, anything else 99.
fn isbn_digits(text: &str) -> Vec<u32> {
    let kept = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
    kept.map(|c| if c == 'X' { 10 } else { c.to_digit(10).unwrap_or(99) }).collect()
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !matches(&CREDIT_CARD, &digits) {
        return false;
    }
    let luhn = digits.chars().rev().filter_map(|c| c.to_digit(10)).enumerate().map(|(i, d)| match i % 2 {
        0 => d,
        _ if d > 4 => d * 2 - 9,
        _ => d * 2,
    });
    luhn.sum::<u32>() % 10 == 0
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(clock)) = (parts.next(), parts.next()) else { return false };
    let Some(captures) = CLOCK.as_ref().and_then(|r| r.captures(clock)) else { return false };
    time::parse_date(date).is_some() && &captures[1] <= "23" && &captures[2] <= "59" && &captures[3] <= "59"
}

fn is_hostname(text: &str) -> bool {
    matches(&HOSTNAME, text) && text.len() <= 255 && text.split('.').all(|label| label.len() <= 63)
}

/// An address as in RFC 5322, with or without a name: `Ann <ann@example.com>`.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.split_once('<') {
        Some((_, rest)) => match rest.strip_suffix('>') {
            Some(address) => address,
            None => return false,
        },
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let dotted = |s: &str| !s.is_empty() && s.split('.').all(|p| !p.is_empty() && p.chars().all(atom));
    let quoted = |s: &str| s.len() >= 2 && s.starts_with('"') && s.ends_with('"');
    let literal = |s: &str| s.starts_with('[') && s.ends_with(']');
    (dotted(local) || quoted(local)) && (dotted(domain) || literal(domain))
}

/// A URI as requests have it: absolute, or a path from the root.
fn is_request_uri(text: &str) -> bool {
    crate::server::cel::url::Url::parse_request(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_as_upstream_reads_them() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "date-time",
                &["2020-01-02T03:04:05Z", "2020-01-02t03:04:05.123+01:00"],
                &["2020-01-02", "x", ""],
            ),
            ("date", &["2020-02-29"], &["2021-02-29", "2020-1-2", "x"]),
            ("duration", &["1h", "1h30m", "5 days", "0"], &["x", "", "1"]),
            ("byte", &["aGk=", "YWJj"], &["a", "a===", "a b=", ""]),
            ("uri", &["http://a/b?c#d", "/a", "a:b"], &["a", "", "http://[::1"]),
            ("email", &["a@b", "Ann <a@b.c>", "a.b+c@d.e"], &["a", "@b", "a@", "a..b@c"]),
            ("hostname", &["a", "a.b.com", "1.example.com"], &["-a", "a_b", "a..b", ""]),
            ("ipv4", &["1.2.3.4", "001.2.3.4"], &["1.2.3", "256.1.1.1", "::1", "a.b.c.d"]),
            ("ipv6", &["::1", "fe80::1", "::ffff:1.2.3.4"], &["1.2.3.4", ":::", "x"]),
            ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "/8"]),
            ("mac", &["00:11:22:33:44:55", "0011.2233.4455"], &["00:11", "00:11:22:33:44:5g"]),
            (
                "uuid",
                &["123e4567-e89b-12d3-a456-426614174000", "123E4567E89B12D3A456426614174000"],
                &["x", "123"],
            ),
            ("uuid4", &["123e4567-e89b-42d3-a456-426614174000"], &["123e4567-e89b-12d3-a456-426614174000"]),
            ("isbn10", &["0321751043", "0-8044-2957-X"], &["0321751044"]),
            ("isbn13", &["978-0321751041"], &["978-0321751042"]),
            ("creditcard", &["4111 1111 1111 1111"], &["4111111111111112", "1"]),
            ("ssn", &["123-45-6789"], &["123456789", "x"]),
            ("hexcolor", &["#FFF", "ffffff"], &["#FF", "#GGG"]),
            ("rgbcolor", &["rgb(1, 2,255)"], &["rgb(1,2,256)", "rgb(1,2)"]),
            ("password", &["", "x"], &[]),
            ("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f"]),
            ("k8s-short-name", &["a-b"], &["A", "a.b", "-a"]),
            ("k8s-long-name", &["a-b.c"], &["A", "a..b"]),
        ];
        for (format, good, bad) in table {
            let check = of_string(format).unwrap_or_else(|| panic!("{format}"));
            for text in *good {
                assert!(check(text), "{format} {text}");
            }
            for text in *bad {
                assert!(!check(text), "{format} {text}");
            }
        }
        assert!(of_string("something").is_none());
        assert!(of_string("int32").is_none());
    }

    #[test]
    fn every_pattern_compiles() {
        for regex in [&BASE64, &HEX_COLOR, &RGB_COLOR, &SSN, &CREDIT_CARD, &HOSTNAME, &CLOCK] {
            assert!(regex.is_some());
        }
    }
}
