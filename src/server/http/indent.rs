//! Indents JSON that is written already, piece by piece: for people who read answers.

use bytes::{Bytes, BytesMut};

/// Where in the text the last piece ended.
#[derive(Debug, Default)]
pub(super) struct Indent {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// An object or array has begun and nothing of it was written yet.
    opened: bool,
}

impl Indent {
    /// The next piece of the text, indented; a newline follows the end.
    pub(super) fn piece(&mut self, mut text: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(text.len() * 2);
        while let Some(&byte) = text.first() {
            if self.in_string {
                text = self.string(text, &mut out);
                continue;
            }
            text = &text[1..];
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => {}
                b'{' | b'[' => {
                    self.begin(&mut out);
                    out.extend_from_slice(&[byte]);
                    (self.depth, self.opened) = (self.depth + 1, true);
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.opened) {
                        self.line(&mut out);
                    }
                    out.extend_from_slice(&[byte]);
                    if self.depth == 0 {
                        out.extend_from_slice(b"\n");
                    }
                }
                b',' => {
                    out.extend_from_slice(b",");
                    self.line(&mut out);
                }
                b':' => out.extend_from_slice(b": "),
                _ => {
                    self.begin(&mut out);
                    out.extend_from_slice(&[byte]);
                    self.in_string = byte == b'"';
                }
            }
        }
        out.freeze()
    }

    /// Copies what of a string there is; gives what follows it.
    fn string<'t>(&mut self, text: &'t [u8], out: &mut BytesMut) -> &'t [u8] {
        let mut end = 0;
        while end < text.len() && self.in_string {
            match text[end] {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            end += 1;
        }
        out.extend_from_slice(&text[..end]);
        &text[end..]
    }

    fn begin(&mut self, out: &mut BytesMut) {
        if std::mem::take(&mut self.opened) {
            self.line(out);
        }
    }

    fn line(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"\n");
        for _ in 0..self.depth {
            out.extend_from_slice(b"  ");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pieces(text: &str, size: usize) -> String {
        let mut indent = Indent::default();
        let out: Vec<Bytes> = text.as_bytes().chunks(size).map(|p| indent.piece(p)).collect();
        String::from_utf8(out.concat()).unwrap()
    }

    #[test]
    fn the_same_as_from_a_value_however_it_is_cut() {
        let value: Value =
            json!({"a": [], "b": {}, "c": [1, {"d": "x,{\"]\\", "e": [[true], null]}], "f": "ü\\u0041"});
        for size in [1, 2, 7, 1000] {
            assert_eq!(pieces(&value.to_string(), size), format!("{value:#}\n"));
        }
        assert_eq!(pieces("[{}, { } ]\n", 3), "[\n  {},\n  {}\n]\n");
    }
}
