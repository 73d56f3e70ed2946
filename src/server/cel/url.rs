//! URLs as Go's `net/url.ParseRequestURI` reads them.

/// A URL, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// As it was given.
    pub(crate) text: String,
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
}

impl Url {
    /// Reads an absolute URI or an absolute path; no fragment is split off.
    pub(crate) fn parse_request(text: &str) -> Option<Self> {
        if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return None;
        }
        let (scheme, rest) = scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if scheme.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(authority) if !scheme.is_empty() || !rest.starts_with("///") => {
                let end = authority.find('/').unwrap_or(authority.len());
                let (authority, path) = authority.split_at(end);
                (host(authority)?, path)
            }
            _ => (String::new(), rest),
        };
        if !escapes_are_right(path) {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            host,
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    /// The host without its port and brackets.
    pub(crate) fn hostname(&self) -> &str {
        if let Some(inner) = self.host.strip_prefix('[') {
            return inner.split(']').next().unwrap_or_default();
        }
        match self.host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.host,
        }
    }

    /// The port, or an empty text.
    pub(crate) fn port(&self) -> &str {
        let after = self.host.rsplit_once(']').map_or(self.host.as_str(), |(_, after)| after);
        after
            .rsplit_once(':')
            .map(|(_, port)| port)
            .filter(|p| p.bytes().all(|b| b.is_ascii_digit()))
            .unwrap_or_default()
    }

    /// The path with what must be escaped escaped.
    pub(crate) fn escaped_path(&self) -> String {
        let mut out = String::new();
        for byte in self.path.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    }

    /// The parameters of the query by name, each with its values in order.
    pub(crate) fn query(&self) -> Vec<(String, Vec<String>)> {
        let mut all: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(self.query.as_bytes()) {
            match all.iter_mut().find(|(n, _)| **n == *name) {
                Some((_, values)) => values.push(value.into_owned()),
                None => all.push((name.into_owned(), vec![value.into_owned()])),
            }
        }
        all
    }
}

/// Splits the scheme off; `None` where a colon comes first.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return None,
            ':' => return Some((&text[..at], &text[at + 1..])),
            _ => return Some(("", text)),
        }
    }
    Some(("", text))
}

fn host(authority: &str) -> Option<String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port_of = if host.starts_with('[') { host.split_once(']')?.1 } else { host };
    let port = port_of.rfind(':').map(|at| &port_of[at + 1..]).unwrap_or_default();
    let fine = |c: char| c.is_alphanumeric() || "-._~!$&'()*+,;=:[]%<>\"".contains(c);
    (port.bytes().all(|b| b.is_ascii_digit()) && host.chars().all(fine)).then(|| host.to_owned())
}

fn escapes_are_right(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'%')
        .all(|(at, _)| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let url = Url::parse_request("https://user@[::1]:80/a b/%20?k=1&k=2&x=a%20b").expect("a URL");
        assert_eq!((url.scheme.as_str(), url.host.as_str()), ("https", "[::1]:80"));
        assert_eq!((url.hostname(), url.port()), ("::1", "80"));
        assert_eq!(url.escaped_path(), "/a%20b/%20");
        let query = [("k", vec!["1", "2"]), ("x", vec!["a b"])];
        let query = query.map(|(k, v)| (k.to_owned(), v.into_iter().map(str::to_owned).collect::<Vec<_>>()));
        assert_eq!(url.query(), query);
        let plain = Url::parse_request("http://example.com").expect("a URL");
        assert_eq!((plain.hostname(), plain.port(), plain.path.as_str()), ("example.com", "", ""));
        for wrong in ["", "a", "../x", ":a", "http://a:b/", "/%zz", "http://[::1", "http://a b/"] {
            assert_eq!(Url::parse_request(wrong), None, "{wrong}");
        }
    }
}
