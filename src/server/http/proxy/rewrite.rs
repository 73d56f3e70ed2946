//! What a proxied server says of its own addresses, as the proxy's client has to say it: redirects and the links of
//! HTML pages lead back through the proxy. Rules as apimachinery's `proxy.Transport`.

mod html;

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::server::http::body::{Body, BoxError};
use html::Page;

/// Where a server is behind the proxy.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// The path below which the proxy shows it, without a slash at the end.
    pub(super) prefix: String,
    /// Host and port as the proxy knows it, and as the client called it.
    pub(super) hosts: [String; 2],
}

impl Links {
    /// An address the server gave, as the client can use it: other hosts and relative paths stay as they are.
    fn rewrite(&self, link: &str) -> Option<String> {
        let path = match link.split_once("//") {
            Some((scheme, rest)) if scheme.is_empty() || is_scheme(scheme) => {
                let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                self.hosts.iter().any(|own| own == host).then_some(path)?
            }
            _ => link,
        };
        if !path.starts_with('/') {
            return None;
        }
        Some(if path.starts_with(&self.prefix) { path.to_owned() } else { format!("{}{path}", self.prefix) })
    }

    /// Rewrites a redirect, or else the links of a page.
    pub(super) fn answer(self, headers: &mut HeaderMap, body: Body) -> Body {
        if let Some(location) = headers.get(LOCATION).cloned() {
            let rewritten = location.to_str().ok().and_then(|l| self.rewrite(l));
            if let Some(location) = rewritten.and_then(|l| HeaderValue::from_str(&l).ok()) {
                headers.insert(LOCATION, location);
            }
            return body;
        }
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let is_html = text(CONTENT_TYPE).split(';').next().is_some_and(|kind| kind.trim() == "text/html");
        let filter = match text(CONTENT_ENCODING) {
            _ if !is_html => return body,
            "" => Filter::Plain(Page::new(self)),
            "gzip" => Filter::Gzip(Box::new(GzDecoder::new(Rewriting::new(self)))),
            _ => return body,
        };
        headers.remove(CONTENT_LENGTH);
        filter.over(body)
    }
}

fn is_scheme(text: &str) -> bool {
    let name = text.strip_suffix(':').unwrap_or_default();
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// What a page's bytes go through.
enum Filter {
    Plain(Page),
    Gzip(Box<GzDecoder<Rewriting>>),
}

impl Filter {
    /// What is to be sent for a piece of the body; `None` is its end.
    fn piece(&mut self, data: Option<Bytes>) -> io::Result<Bytes> {
        match (self, data) {
            (Self::Plain(page), Some(data)) => Ok(page.feed(&data).into()),
            (Self::Plain(page), None) => Ok(page.end().into()),
            (Self::Gzip(decoder), Some(data)) => {
                decoder.write_all(&data)?;
                decoder.flush()?;
                Ok(decoder.get_mut().take())
            }
            (Self::Gzip(decoder), None) => {
                decoder.try_finish()?;
                decoder.get_mut().end()
            }
        }
    }

    fn over(self, body: Body) -> Body {
        let step = |(mut filter, mut body): (Self, Option<Body>)| async move {
            let data = match body.as_mut()?.frame().await {
                Some(Ok(frame)) => Some(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Some((Err(error), (filter, None))),
                None => None,
            };
            let rest = body.filter(|_| data.is_some());
            let piece = filter.piece(data).map(Frame::data).map_err(BoxError::from);
            Some((piece, (filter, rest)))
        };
        StreamBody::new(futures::stream::unfold((self, Some(body)), step)).boxed_unsync()
    }
}

/// Takes a page in plain text and compresses what becomes of it.
struct Rewriting {
    page: Page,
    encoder: GzEncoder<Vec<u8>>,
}

impl Rewriting {
    fn new(links: Links) -> Self {
        Self { page: Page::new(links), encoder: GzEncoder::new(Vec::new(), Compression::default()) }
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(self.encoder.get_mut()).into()
    }

    fn end(&mut self) -> io::Result<Bytes> {
        self.encoder.write_all(&self.page.end())?;
        self.encoder.try_finish()?;
        Ok(self.take())
    }
}

impl Write for Rewriting {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.encoder.write_all(&self.page.feed(data))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http::body;

    fn links() -> Links {
        Links { prefix: "/api/p/proxy".into(), hosts: ["10.0.0.1:80".into(), "localhost:8001".into()] }
    }

    #[test]
    fn own_addresses_lead_through_the_proxy() {
        for (link, wanted) in [
            ("/a?b#c", Some("/api/p/proxy/a?b#c")),
            ("http://10.0.0.1:80/a/", Some("/api/p/proxy/a/")),
            ("//localhost:8001/a", Some("/api/p/proxy/a")),
            ("/api/p/proxy/a", Some("/api/p/proxy/a")),
            ("http://10.0.0.2/a", None),
            ("http://10.0.0.1:80", None),
            ("a/b", None),
            ("#top", None),
            ("mailto:a@b", None),
            ("go?to=http://10.0.0.1:80/a", None),
        ] {
            assert_eq!(links().rewrite(link).as_deref(), wanted, "{link}");
        }
    }

    #[tokio::test]
    async fn pages_and_redirects_are_rewritten_and_all_else_left_alone() {
        let page = "<a href=\"/x\">test</a>";
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(page.as_bytes()).unwrap();
        let packed = encoder.finish().unwrap();
        for (kind, encoding, sent, changes) in [
            ("text/html; charset=utf-8", "", page.as_bytes(), true),
            ("text/html", "gzip", &packed, true),
            ("text/html", "br", page.as_bytes(), false),
            ("text/plain", "", page.as_bytes(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(CONTENT_LENGTH, 9.into());
            if !encoding.is_empty() {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            let answer = links().answer(&mut headers, body::full(sent.to_vec()));
            let mut bytes = answer.collect().await.unwrap().to_bytes().to_vec();
            if encoding == "gzip" {
                let mut plain = GzDecoder::new(Vec::new());
                plain.write_all(&bytes).unwrap();
                bytes = plain.finish().unwrap();
            }
            let wanted = if changes { "<a href=\"/api/p/proxy/x\">test</a>" } else { page };
            assert_eq!(String::from_utf8(bytes).unwrap(), wanted, "{kind} {encoding}");
            assert_eq!(headers.contains_key(CONTENT_LENGTH), !changes);
        }
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("/y"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        let answer = links().answer(&mut headers, body::full(page));
        assert_eq!(headers[LOCATION], "/api/p/proxy/y");
        assert_eq!(answer.collect().await.unwrap().to_bytes(), page);
    }
}
