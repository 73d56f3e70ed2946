//! Which names are valid: `apimachinery/pkg/util/validation`, RFC 1035, RFC 1123, RFC 6335.
//!
//! Each function answers what is wrong, in upstream's words; an empty list means valid.

const LABEL_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// The longest DNS label.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// `must be no more than N characters`.
pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// `must be between A and B, inclusive`.
pub fn range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn regex_error(message: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{regex}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn matches_label_1123(value: &str) -> bool {
    let b = value.as_bytes();
    matches!((b.first(), b.last()), (Some(&first), Some(&last)) if is_lower_alnum(first) && is_lower_alnum(last))
        && b.iter().all(|&c| is_lower_alnum(c) || c == b'-')
}

fn matches_subdomain(value: &str) -> bool {
    value.split('.').all(matches_label_1123)
}

fn matches_label_key(value: &str) -> bool {
    let b = value.as_bytes();
    matches!((b.first(), b.last()), (Some(first), Some(last)) if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
        && b.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

/// A DNS label of RFC 1123, as namespaces and containers are named.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = too_long(value, LABEL_MAX);
    if !matches_label_1123(value) {
        errors.push(if matches_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            const MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
                                   and must start and end with an alphanumeric character";
            regex_error(MESSAGE, LABEL_1123, &["my-name", "123-abc"])
        });
    }
    errors
}

/// A DNS subdomain of RFC 1123, as most objects are named.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    const MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                           and must start and end with an alphanumeric character";
    let mut errors = too_long(value, SUBDOMAIN_MAX);
    if !matches_subdomain(value) {
        errors.push(regex_error(MESSAGE, SUBDOMAIN_1123, &["example.com"]));
    }
    errors
}

/// A DNS label of RFC 1035, as Services are named.
pub fn dns1035_label(value: &str) -> Vec<String> {
    const MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', \
                           start with an alphabetic character, and end with an alphanumeric character";
    let mut errors = too_long(value, LABEL_MAX);
    if !matches_label_1123(value) || value.starts_with(|c: char| c.is_ascii_digit()) {
        errors.push(regex_error(MESSAGE, LABEL_1035, &["my-name", "abc-123"]));
    }
    errors
}

/// A subdomain whose first label is `*`.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    const MESSAGE: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
                           which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let mut errors = too_long(value, SUBDOMAIN_MAX);
    if !value.strip_prefix("*.").is_some_and(matches_subdomain) {
        errors.push(regex_error(MESSAGE, &format!("\\*\\.{SUBDOMAIN_1123}"), &["*.example.com"]));
    }
    errors
}

/// A qualified name, as label keys and finalizers are: `[prefix/]name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    const MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(dns1123_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}")));
            }
            *name
        }
        _ => {
            let what = regex_error(MESSAGE, LABEL_KEY, &EXAMPLES);
            return vec![format!(
                "a valid label key {what} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else {
        errors.extend(too_long(name, LABEL_MAX).into_iter().map(|m| format!("name part {m}")));
    }
    if !matches_label_key(name) {
        errors.push(format!("name part {}", regex_error(MESSAGE, LABEL_KEY, &EXAMPLES)));
    }
    errors
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    const MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                           and must start and end with an alphanumeric character";
    let mut errors = too_long(value, LABEL_MAX);
    if !value.is_empty() && !matches_label_key(value) {
        errors.push(regex_error(MESSAGE, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// The name of a port: an IANA service name of RFC 6335, lower case.
pub fn port_name(value: &str) -> Vec<String> {
    let mut errors = too_long(value, 15);
    if value.is_empty() || !value.bytes().all(|b| is_lower_alnum(b) || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// The number of a port.
pub fn port_number(value: i64) -> Vec<String> {
    if (1..=65535).contains(&value) { Vec::new() } else { vec![range_error(1, 65535)] }
}

/// A percentage, as in `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![regex_error(message, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned(),
        );
    }
    errors
}

/// A DNS subdomain whose labels may have underscores within, as search domains of resolvers do.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    const MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '.' or '_', \
                           and must start and end with an alphanumeric character";
    let mut errors = too_long(value, SUBDOMAIN_MAX);
    if !matches_subdomain(&value.replace('_', "-"))
        || value.split('.').any(|l| l.starts_with('_') || l.ends_with('_'))
    {
        let label = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        errors.push(regex_error(MESSAGE, &format!("{label}(\\.{label})*"), &["example.com"]));
    }
    errors
}

/// The name of an HTTP header in a probe.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_error(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// A name of one who acts, as in `example.com/controller`: a domain and a path.
pub fn domain_prefixed_path(value: &str) -> Vec<String> {
    const PATH: &str = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+";
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    let (domain, path) = match value.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => (domain, path),
        _ => return vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned()],
    };
    let mut errors = dns1123_subdomain(domain);
    if !path.bytes().all(allowed) {
        errors.push(regex_error("Invalid path", PATH, &[]));
    }
    errors
}

/// The key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = too_long(value, SUBDOMAIN_MAX);
    if value.is_empty()
        || !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(regex_error(message, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        v if v.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// The last segment of a path, as names of RBAC objects are: no `/`, no `%`, neither `.` nor `..`.
pub fn path_segment(value: &str) -> Vec<String> {
    match value {
        "." => return vec!["may not be '.'".to_owned()],
        ".." => return vec!["may not be '..'".to_owned()],
        _ => {}
    }
    ["/", "%"].into_iter().filter(|c| value.contains(c)).map(|c| format!("may not contain '{c}'")).collect()
}

fn too_long(value: &str, max: usize) -> Vec<String> {
    if value.len() > max { vec![max_len_error(max)] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> Vec<String>;

    #[test]
    fn valid_and_invalid() {
        let long63 = "a".repeat(63);
        let long64 = "a".repeat(64);
        let table: [(Check, &[&str], &[&str]); 9] = [
            (
                dns1123_label,
                &["a", "a-b", "1", "0a-9", &long63],
                &["", "A", "-a", "a-", "a.b", "a_b", &long64],
            ),
            (
                dns1123_subdomain,
                &["a", "a.b", "1.2.3", "a--b.c"],
                &["", ".", "a.", ".a", "a..b", "A.b", "a_b", "a.-b"],
            ),
            (dns1035_label, &["a", "a-1"], &["", "1a", "-a", "a-", "A", "a.b", &long64]),
            (wildcard_dns1123_subdomain, &["*.a.b", "*.a"], &["*", "*.", "*.*.a", "a.b", "*a.b"]),
            (
                qualified_name,
                &["a", "A_b.c-d", "x.io/a", "1/2"],
                &["", "/", "a/", "/a", "a/b/c", "-a", "a b", &long64],
            ),
            (label_value, &["", "a", "A.b_c-D", &long63], &["-a", "a-", "a b", "a/b", &long64]),
            (
                port_name,
                &["http", "a-1", "123456789012abc"],
                &["", "1", "a--b", "-a", "a-", "A", "1234567890123abc"],
            ),
            (config_map_key, &["a", "A_b.c-d", ".a"], &["", ".", "..", "...", "..a", "a b", "a/b"]),
            (percent, &["0%", "93%"], &["", "%", "1", "a%", "1%%"]),
        ];
        for (index, (check, valid, invalid)) in table.into_iter().enumerate() {
            for v in valid {
                let answer = check(v);
                assert!(answer.is_empty(), "row {index}, {v:?}: {answer:?}");
            }
            for v in invalid {
                assert!(!check(v).is_empty(), "row {index}: {v:?} is not valid");
            }
        }
    }

    #[test]
    fn texts_are_upstreams() {
        assert_eq!(
            dns1123_subdomain("A"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            label_value("a b"),
            [
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ]
        );
    }

    #[test]
    fn other_names() {
        assert!(port_number(1).is_empty() && port_number(65535).is_empty());
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert!(env_var_name("A.b-c 1").is_empty());
        assert!(!env_var_name("A=b").is_empty() && !env_var_name("").is_empty());
        assert!(path_segment("system:node").is_empty());
        assert_eq!(path_segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
    }
}
