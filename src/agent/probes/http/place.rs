//! Where a request goes.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::Url;

/// What may not stand in a request line; what is escaped already stays as it is.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// A URL of the schemes `http` and `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// With TLS.
    pub https: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// The port stands in the URL.
    shows_port: bool,
}

impl Place {
    /// A place whose path may lack its slash.
    pub(super) fn new(https: bool, host: &str, port: u16, path: &str) -> Self {
        let path = path.split('#').next().unwrap_or_default();
        let path = utf8_percent_encode(path, ESCAPED).to_string();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { https, host, port, path, shows_port: true }
    }

    /// `host:port` as it is dialled and sent; a default port is left out where the URL had none.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.shows_port { format!("{host}:{}", self.port) } else { host }
    }

    /// As messages show it.
    pub(super) fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Where a `Location` seen here leads; `None` if it is no URL of HTTP.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let next = Url::parse(&self.url()).ok()?.join(location).ok()?;
        let https = match next.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let query = next.query().map(|q| format!("?{q}")).unwrap_or_default();
        let moved = is_absolute(location);
        Some(Self {
            https,
            host: next.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: next.port_or_known_default()?,
            path: format!("{}{query}", next.path()),
            shows_port: if moved { next.port().is_some() } else { self.shows_port },
        })
    }
}

/// Whether a `Location` has a host of its own.
pub(super) fn is_absolute(location: &str) -> bool {
    location.starts_with("//") || Url::parse(location).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_show_their_port() {
        assert_eq!(Place::new(false, "10.0.0.1", 80, "").url(), "http://10.0.0.1:80/");
        assert_eq!(
            Place::new(true, "fd00::1", 8443, "a b?x=%20#f").url(),
            "https://[fd00::1]:8443/a%20b?x=%20"
        );
    }

    #[test]
    fn locations_lead_on() {
        let place = Place::new(false, "10.0.0.1", 8080, "/a/b?x");
        for (location, expected) in [
            ("/c?d=e", Some("http://10.0.0.1:8080/c?d=e")),
            ("c", Some("http://10.0.0.1:8080/a/c")),
            ("http://10.0.0.1/", Some("http://10.0.0.1/")),
            ("https://10.0.0.1:8443/x", Some("https://10.0.0.1:8443/x")),
            ("//other:1/x", Some("http://other:1/x")),
            ("ftp://10.0.0.1/", None),
            ("http://[", None),
        ] {
            let next = place.join(location).map(|p| p.url());
            assert_eq!(next.as_deref(), expected, "{location}");
        }
        assert_eq!(place.join("http://10.0.0.1/").map(|p| p.port), Some(80));
    }
}
