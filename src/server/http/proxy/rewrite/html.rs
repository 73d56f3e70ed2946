//! The links of an HTML page, which comes in pieces.

use super::Links;

/// Elements and their attributes that are addresses.
const ADDRESSES: [(&str, &[&str]); 26] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["formaction", "src", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("track", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content is text, whatever it looks like.
const TEXT: [&str; 4] = ["script", "style", "textarea", "title"];
/// A tag or comment is no longer than this; what is, is passed on unread.
const MAX_TAG: usize = 64 << 10;

/// A page on its way through.
pub(super) struct Page {
    links: Links,
    /// What is not passed on yet: the beginning of a tag.
    rest: Vec<u8>,
    /// The element whose text goes on up to its end tag.
    inside: Option<&'static str>,
}

impl Page {
    /// A page whose links are rewritten so.
    pub(super) fn new(links: Links) -> Self {
        Self { links, rest: Vec::new(), inside: None }
    }

    /// Takes a piece; gives what can be passed on.
    pub(super) fn feed(&mut self, data: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(data);
        let rest = std::mem::take(&mut self.rest);
        let (mut out, mut at) = (Vec::with_capacity(rest.len()), 0);
        while let Some(found) = rest[at..].iter().position(|b| *b == b'<') {
            out.extend_from_slice(&rest[at..at + found]);
            at += found;
            let Some(length) = tag_length(&rest[at..]) else { break };
            self.tag(&rest[at..at + length], &mut out);
            at += length;
        }
        if rest[at..].first() == Some(&b'<') && rest.len() - at <= MAX_TAG {
            self.rest = rest[at..].to_vec();
        } else {
            out.extend_from_slice(&rest[at..]);
        }
        out
    }

    /// What is left at the page's end.
    pub(super) fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    /// A whole tag, or the `<` of something else.
    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let name_end =
            tag.iter().skip(2).position(|b| !b.is_ascii_alphanumeric()).map_or(tag.len(), |n| n + 2);
        let name = String::from_utf8_lossy(&tag[1..name_end.max(1)]).to_ascii_lowercase();
        if let Some(inside) = self.inside {
            if name.strip_prefix('/') == Some(inside) {
                self.inside = None;
            }
            return out.extend_from_slice(tag);
        }
        self.inside = TEXT.into_iter().find(|text| *text == name);
        match ADDRESSES.iter().find(|(element, _)| *element == name) {
            Some((_, attributes)) => self.attributes(tag, name_end, attributes, out),
            None => out.extend_from_slice(tag),
        }
    }

    fn attributes(&self, tag: &[u8], mut at: usize, addresses: &[&str], out: &mut Vec<u8>) {
        let mut copied = 0;
        while let Some(equals) = tag[at..].iter().position(|b| *b == b'=').map(|n| n + at) {
            let name_start =
                tag[..equals].trim_ascii_end().iter().rposition(|b| is_break(*b)).map_or(0, |n| n + 1);
            let name = String::from_utf8_lossy(tag[name_start..equals].trim_ascii()).to_ascii_lowercase();
            let blanks = tag[equals + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            let mut start = equals + 1 + blanks;
            let end = match tag.get(start) {
                Some(quote @ (b'"' | b'\'')) => {
                    start += 1;
                    tag[start..].iter().position(|b| b == quote)
                }
                _ => tag[start..].iter().position(|b| b.is_ascii_whitespace() || *b == b'>'),
            };
            let end = end.map_or(tag.len(), |n| start + n);
            let value =
                std::str::from_utf8(&tag[start..end]).ok().filter(|_| addresses.contains(&name.as_str()));
            if let Some(value) = value.and_then(|value| self.links.rewrite(value)) {
                out.extend_from_slice(&tag[copied..start]);
                out.extend_from_slice(value.as_bytes());
                copied = end;
            }
            at = (end + 1).min(tag.len());
        }
        out.extend_from_slice(&tag[copied..]);
    }
}

fn is_break(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'/')
}

/// How long the tag or comment is that begins here, 1 if none does; `None` if its end is still to come.
fn tag_length(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"<!--") {
        return text.windows(3).skip(4).position(|w| w == b"-->").map(|n| n + 4 + 3);
    }
    if b"<!--".starts_with(text) {
        return None;
    }
    if !matches!(text[1], b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'!' | b'?') {
        return Some(1);
    }
    let mut quote = None;
    for (index, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(index + 1),
            (None, b'"' | b'\'') if text[..index].trim_ascii_end().last() == Some(&b'=') => {
                quote = Some(*byte)
            }
            (Some(open), close) if open == *close => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(page: &str, piece: usize) -> String {
        let links = Links { prefix: "/p".into(), hosts: ["h:1".into(), "me".into()] };
        let mut filter = Page::new(links);
        let mut out = Vec::new();
        for piece in page.as_bytes().chunks(piece) {
            out.extend(filter.feed(piece));
        }
        out.extend(filter.end());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn links_are_rewritten_whatever_the_pieces() {
        for (page, wanted) in [
            ("<a href=\"/x\">test</a>", "<a href=\"/p/x\">test</a>"),
            ("<A class=b HREF = '/x' id=\"/y\">", "<A class=b HREF = '/p/x' id=\"/y\">"),
            ("<img src=/x><img src=x>", "<img src=/p/x><img src=x>"),
            (
                "<script src=\"http://h:1/x\">a<b; '<a href=\"/y\">'</script><a href='/z'>",
                "<script src=\"/p/x\">a<b; '<a href=\"/y\">'</script><a href='/p/z'>",
            ),
            (
                "<!-- <a href='/x'> --><b title='>' href='/y'>1 < 2</b>",
                "<!-- <a href='/x'> --><b title='>' href='/y'>1 < 2</b>",
            ),
            ("<link data-a=\"href='/q'\" href=\"/x\"/>", "<link data-a=\"href='/q'\" href=\"/p/x\"/>"),
            ("no end <a href=\"/x", "no end <a href=\"/x"),
            ("<video poster=\"/a\" src=\"/b\">é", "<video poster=\"/p/a\" src=\"/p/b\">é"),
        ] {
            for piece in [1, 2, 7, 1000] {
                assert_eq!(through(page, piece), wanted, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_tag_is_not_kept_for_ever() {
        let mut page = Page::new(Links { prefix: "/p".into(), hosts: Default::default() });
        let long = [&b"<a "[..], &vec![b'x'; MAX_TAG]].concat();
        assert_eq!(page.feed(&long).len(), long.len());
    }
}
