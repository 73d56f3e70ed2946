//! `WWW-Authenticate` (RFC 9110, section 11.6.1): how a registry wants to be asked.

/// One way to prove who asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The parameter of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of these headers.
pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    for header in headers {
        for part in split(header) {
            // A part is `scheme`, `scheme name=value` or, of the same challenge, `name=value`.
            let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
            let parameter = if word.contains('=') { part } else { rest };
            if !word.contains('=') {
                let scheme = word.to_ascii_lowercase();
                challenges.push(Challenge { scheme, parameters: Vec::new() });
            }
            if let (Some(last), Some((name, value))) = (challenges.last_mut(), parameter.split_once('=')) {
                last.parameters.push((name.trim().to_ascii_lowercase(), unquoted(value.trim())));
            }
        }
    }
    challenges
}

/// The parts between commas that are not quoted.
fn split(header: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in header.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(header[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(header[start..].trim());
    parts.retain(|p| !p.is_empty());
    parts
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        text.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_as_registries_send_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        let found = parse([hub, "Basic realm=\"a \\\"b\\\", c\""].into_iter());
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].scheme.as_str(), found[1].scheme.as_str()), ("bearer", "basic"));
        assert_eq!(found[0].get("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(found[0].get("scope"), Some("repository:library/x:pull,push"));
        assert_eq!(found[1].get("realm"), Some("a \"b\", c"));
        let both = parse(["BASIC Realm=x, bearer realm=\"y\" , service=z, Negotiate"].into_iter());
        let schemes: Vec<_> = both.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "bearer", "negotiate"]);
        assert_eq!((both[1].get("realm"), both[1].get("service")), (Some("y"), Some("z")));
        for odd in ["", ",,", "=", "\"", "Bearer realm"] {
            assert!(parse([odd].into_iter()).iter().all(|c| c.get("realm").is_none()), "{odd}");
        }
    }
}
