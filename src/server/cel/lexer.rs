//! Splits an expression into tokens. <https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>

use super::source::Issue;

/// A token and where it begins, in characters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spanned {
    pub(super) token: Token,
    pub(super) at: u32,
    /// As it is written.
    pub(super) text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// An operator or a bracket.
    Symbol(&'static str),
    Ident(String),
    /// An identifier in backquotes.
    Quoted(String),
    Int(String),
    Uint(String),
    Float(f64),
    String(String),
    Bytes(Vec<u8>),
    End,
}

/// Longer ones first.
const SYMBOLS: [&str; 26] = [
    "==", "!=", "<=", ">=", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%", "<", ">", "=", "&",
];

/// The tokens of a text, [`Token::End`] last.
pub(super) fn tokens(text: &str) -> Result<Vec<Spanned>, Issue> {
    let chars: Vec<char> = text.chars().collect();
    let mut lexer = Lexer { chars: &chars, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let start = lexer.at;
        let Some(token) = lexer.token()? else {
            tokens.push(Spanned { token: Token::End, at: start as u32, text: "<EOF>".to_owned() });
            return Ok(tokens);
        };
        tokens.push(Spanned { token, at: start as u32, text: chars[start..lexer.at].iter().collect() });
    }
}

struct Lexer<'c> {
    chars: &'c [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek(0) {
            if matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}') {
                self.at += 1;
            } else if c == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn unrecognized(&self, start: usize) -> Issue {
        let end = (self.at + 1).min(self.chars.len()).max(start);
        let text: String = self.chars[start..end].iter().collect();
        Issue::new(start as u32, format!("Syntax error: token recognition error at: '{text}'"))
    }

    fn token(&mut self) -> Result<Option<Token>, Issue> {
        let Some(c) = self.peek(0) else { return Ok(None) };
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_some_and(|d| d.is_ascii_digit())) {
            return self.number().map(Some);
        }
        if let Some(string) = self.prefixed_string()? {
            return Ok(Some(string));
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let start = self.at;
            while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                self.at += 1;
            }
            return Ok(Some(Token::Ident(self.chars[start..self.at].iter().collect())));
        }
        if c == '`' {
            return self.quoted().map(Some);
        }
        let rest: String = self.chars[self.at..].iter().take(2).collect();
        // A single equals sign or ampersand is none.
        match SYMBOLS[..24].iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Some(Token::Symbol(symbol)))
            }
            None => Err(self.unrecognized(self.at)),
        }
    }

    fn quoted(&mut self) -> Result<Token, Issue> {
        let start = self.at;
        self.at += 1;
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ');
        while self.peek(0).is_some_and(fine) {
            self.at += 1;
        }
        if self.peek(0) != Some('`') || self.at == start + 1 {
            return Err(self.unrecognized(start));
        }
        self.at += 1;
        Ok(Token::Quoted(self.chars[start + 1..self.at - 1].iter().collect()))
    }

    fn digits(&mut self, radix: u32) {
        while self.peek(0).is_some_and(|c| c.is_digit(radix)) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<Token, Issue> {
        let start = self.at;
        let hexadecimal = self.peek(0) == Some('0')
            && self.peek(1) == Some('x')
            && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit());
        let mut float = false;
        if hexadecimal {
            self.at += 2;
            self.digits(16);
        } else {
            self.digits(10);
            if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
                float = true;
                self.at += 1;
                self.digits(10);
            }
            let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
            if matches!(self.peek(0), Some('e' | 'E'))
                && self.peek(1 + sign).is_some_and(|c| c.is_ascii_digit())
            {
                float = true;
                self.at += 1 + sign;
                self.digits(10);
            }
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if float {
            let number: f64 = text.parse().unwrap_or(f64::INFINITY);
            if number.is_infinite() {
                return Err(Issue::new(start as u32, "invalid double literal"));
            }
            return Ok(Token::Float(number));
        }
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return Ok(Token::Uint(text));
        }
        Ok(Token::Int(text))
    }

    /// A string, with `r` (raw) and `b` (bytes) before it, or none.
    fn prefixed_string(&mut self) -> Result<Option<Token>, Issue> {
        let start = self.at;
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        loop {
            match self.peek(ahead) {
                Some('r' | 'R') if !raw => raw = true,
                Some('b' | 'B') if !bytes && !raw => bytes = true,
                Some('"' | '\'') => break,
                _ => return Ok(None),
            }
            ahead += 1;
        }
        self.at += ahead;
        let content = self.string(start, raw, bytes)?;
        if bytes {
            return Ok(Some(Token::Bytes(content)));
        }
        match String::from_utf8(content) {
            Ok(text) => Ok(Some(Token::String(text))),
            Err(_) => Err(Issue::new(start as u32, "invalid unicode code point")),
        }
    }

    /// The content of a string, from its opening quotes on.
    fn string(&mut self, start: usize, raw: bool, bytes: bool) -> Result<Vec<u8>, Issue> {
        let quote = self.peek(0).unwrap_or('"');
        let long = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        self.at += if long { 3 } else { 1 };
        let mut content = Vec::new();
        loop {
            let Some(c) = self.peek(0) else {
                self.at = self.chars.len();
                return Err(self.unrecognized(start));
            };
            let closing =
                c == quote && (!long || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote)));
            if closing {
                self.at += if long { 3 } else { 1 };
                return Ok(content);
            }
            if !long && matches!(c, '\n' | '\r') {
                return Err(self.unrecognized(start));
            }
            if c == '\\' && !raw {
                self.escape(start, bytes, &mut content)?;
            } else {
                self.at += 1;
                let mut buffer = [0; 4];
                content.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }

    fn escape(&mut self, start: usize, bytes: bool, content: &mut Vec<u8>) -> Result<(), Issue> {
        let c = self.peek(1).ok_or_else(|| self.unrecognized(start))?;
        let simple = match c {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '\'' | '"' | '`' | '?' => Some(c as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            content.push(byte);
            self.at += 2;
            return Ok(());
        }
        let (from, length, radix) = match c {
            'x' | 'X' => (2, 2, 16),
            'u' if !bytes => (2, 4, 16),
            'U' if !bytes => (2, 8, 16),
            '0'..='3' => (1, 3, 8),
            _ => return Err(self.unrecognized(start)),
        };
        let digits: String = self.chars.iter().skip(self.at + from).take(length).collect();
        let code = u32::from_str_radix(&digits, radix).ok().filter(|_| digits.len() == length);
        let code = code.ok_or_else(|| self.unrecognized(start))?;
        self.at += from + length;
        match char::from_u32(code) {
            _ if bytes => content.push(code as u8),
            Some(character) => {
                let mut buffer = [0; 4];
                content.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            }
            None => return Err(Issue::new(start as u32, "invalid unicode code point")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Token> {
        tokens(text).unwrap_or_else(|e| panic!("{text}: {e:?}")).into_iter().map(|t| t.token).collect()
    }

    #[test]
    fn tokens_are_told_apart() {
        assert_eq!(
            kinds("a.b == 1u // c\n && 0x1F != 1.5e3"),
            [
                Token::Ident("a".into()),
                Token::Symbol("."),
                Token::Ident("b".into()),
                Token::Symbol("=="),
                Token::Uint("1".into()),
                Token::Symbol("&&"),
                Token::Int("0x1F".into()),
                Token::Symbol("!="),
                Token::Float(1500.0),
                Token::End
            ]
        );
        let strings =
            [(r#""a\n\x41\u00e4""#, "a\nAä"), (r"r'\d'", r"\d"), ("'''a'b\n'''", "a'b\n"), (r"'\101'", "A")];
        for (text, content) in strings {
            assert_eq!(kinds(text), [Token::String(content.into()), Token::End], "{text}");
        }
        assert_eq!(kinds(r"b'\xff'"), [Token::Bytes(vec![255]), Token::End]);
        assert_eq!(kinds("`a-b`"), [Token::Quoted("a-b".into()), Token::End]);
    }

    #[test]
    fn what_is_no_token_is_said() {
        for text in ["a = b", "'a", "\"a\nb\"", "#", r"'\q'", "1 & 2", "``", r"'\ud800'"] {
            assert!(tokens(text).is_err(), "{text}");
        }
        let issue = tokens("a $ b").expect_err("no token");
        assert_eq!(issue, Issue::new(2, "Syntax error: token recognition error at: '$'"));
    }
}
