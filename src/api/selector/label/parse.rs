//! The text form of label selectors.

use super::{Error, Operator, Requirement};
use crate::api::field::{FieldError, Path};
use crate::api::names;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
    Error,
}

const SYMBOLS: [(&str, Token); 11] = [
    (")", Token::Close),
    (",", Token::Comma),
    ("!", Token::Not),
    ("==", Token::DoubleEquals),
    ("=", Token::Equals),
    (">", Token::Greater),
    ("in", Token::In),
    ("<", Token::Less),
    ("!=", Token::NotEquals),
    ("notin", Token::NotIn),
    ("(", Token::Open),
];

fn known(text: &str) -> Option<Token> {
    SYMBOLS.iter().find(|(symbol, _)| *symbol == text).map(|(_, token)| *token)
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The next token of a text, what it says, and what follows.
fn next(text: &str) -> (Token, String, &str) {
    let text = text.trim_start_matches(is_space);
    let Some(first) = text.chars().next() else {
        return (Token::End, String::new(), "");
    };
    if !is_symbol(first) {
        let end = text.find(|c| is_symbol(c) || is_space(c)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return (known(word).unwrap_or(Token::Identifier), word.to_owned(), rest);
    }
    // The longest known symbol; symbols are ASCII, so each prefix is a text.
    let run = text.find(|c| !is_symbol(c)).unwrap_or(text.len());
    match (1..=run.min(2)).rev().find_map(|len| known(&text[..len]).map(|token| (token, len))) {
        Some((token, len)) => (token, text[..len].to_owned(), &text[len..]),
        None => (Token::Error, format!("error expected: keyword found '{}'", &text[..run]), &text[run..]),
    }
}

/// Tokens of a selector. Where values are read, `in` and `notin` are words like others.
struct Tokens {
    tokens: Vec<(Token, String)>,
    at: usize,
}

fn as_value(token: Token) -> Token {
    if matches!(token, Token::In | Token::NotIn) { Token::Identifier } else { token }
}

impl Tokens {
    fn of(mut text: &str) -> Self {
        let mut tokens = Vec::new();
        loop {
            let (token, literal, rest) = next(text);
            tokens.push((token, literal));
            if token == Token::End {
                return Self { tokens, at: 0 };
            }
            text = rest;
        }
    }

    fn peek(&self) -> (Token, &str) {
        // The last token is the end, which is never passed.
        let (token, literal) = &self.tokens[self.at.min(self.tokens.len() - 1)];
        (*token, literal)
    }

    fn peek_value(&self) -> (Token, String) {
        let (token, literal) = self.peek();
        (as_value(token), literal.to_owned())
    }

    fn take(&mut self) -> (Token, String) {
        let (token, literal) = self.peek();
        let taken = (token, literal.to_owned());
        self.at += 1;
        taken
    }

    fn take_value(&mut self) -> (Token, String) {
        let (token, literal) = self.take();
        (as_value(token), literal)
    }
}

/// Reads a selector.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, Error> {
    let mut tokens = Tokens::of(text);
    let mut requirements = Vec::new();
    loop {
        let (token, literal) = tokens.peek_value();
        match token {
            Token::End => return Ok(requirements),
            Token::Identifier | Token::Not => {}
            _ => {
                return Err(Error(format!("found '{literal}', expected: !, identifier, or 'end of string'")));
            }
        }
        let requirement = requirement(&mut tokens);
        requirements.push(requirement.map_err(|e| Error(format!("unable to parse requirement: {e}")))?);
        let (token, literal) = tokens.take_value();
        match token {
            Token::End => return Ok(requirements),
            Token::Comma => {
                let (token, literal) = tokens.peek_value();
                if !matches!(token, Token::Identifier | Token::Not) {
                    return Err(Error(format!("found '{literal}', expected: identifier after ','")));
                }
            }
            _ => {
                return Err(Error(format!("found '{literal}', expected: ',' or 'end of string'")));
            }
        }
    }
}

fn requirement(tokens: &mut Tokens) -> Result<Requirement, Error> {
    let (mut token, mut key) = tokens.take_value();
    let negated = token == Token::Not;
    if negated {
        (token, key) = tokens.take_value();
    }
    if token != Token::Identifier {
        return Err(Error(format!("found '{key}', expected: identifier")));
    }
    let wrong = names::qualified_name(&key);
    if !wrong.is_empty() {
        let error = FieldError::invalid(&Path::default(), key, wrong.join("; "));
        return Err(Error(error.to_string()));
    }
    if negated {
        return Requirement::new(key, Operator::DoesNotExist, Vec::new());
    }
    if matches!(tokens.peek_value().0, Token::End | Token::Comma) {
        return Requirement::new(key, Operator::Exists, Vec::new());
    }
    let (token, literal) = tokens.take();
    let operator = match token {
        Token::In => Operator::In,
        Token::NotIn => Operator::NotIn,
        Token::Equals => Operator::Equals,
        Token::DoubleEquals => Operator::DoubleEquals,
        Token::NotEquals => Operator::NotEquals,
        Token::Greater => Operator::GreaterThan,
        Token::Less => Operator::LessThan,
        _ => {
            return Err(Error(format!("found '{literal}', expected: in, notin, =, ==, !=, gt, lt")));
        }
    };
    let values = match operator {
        Operator::In | Operator::NotIn => values(tokens)?,
        _ => vec![exact_value(tokens)?],
    };
    Requirement::new(key, operator, values)
}

fn exact_value(tokens: &mut Tokens) -> Result<String, Error> {
    if matches!(tokens.peek_value().0, Token::End | Token::Comma) {
        return Ok(String::new());
    }
    match tokens.take_value() {
        (Token::Identifier, value) => Ok(value),
        (_, literal) => Err(Error(format!("found '{literal}', expected: identifier"))),
    }
}

fn values(tokens: &mut Tokens) -> Result<Vec<String>, Error> {
    let (token, literal) = tokens.take_value();
    if token != Token::Open {
        return Err(Error(format!("found '{literal}' expected: '('")));
    }
    let (token, literal) = tokens.peek_value();
    match token {
        Token::Close => {
            tokens.take();
            Ok(vec![String::new()])
        }
        Token::Identifier | Token::Comma => {
            let values = list(tokens)?;
            if tokens.take().0 != Token::Close {
                return Err(Error(format!("found '{literal}', expected: ')'")));
            }
            Ok(values)
        }
        _ => Err(Error(format!("found '{literal}', expected: ',', ')' or identifier"))),
    }
}

/// Values between commas; nothing between two commas is the empty value.
fn list(tokens: &mut Tokens) -> Result<Vec<String>, Error> {
    let mut values = Vec::new();
    loop {
        let (token, literal) = tokens.take_value();
        match token {
            Token::Identifier => {
                values.push(literal);
                let (token, literal) = tokens.peek_value();
                match token {
                    Token::Comma => {}
                    Token::Close => return Ok(values),
                    _ => return Err(Error(format!("found '{literal}', expected: ',' or ')'"))),
                }
            }
            Token::Comma => {
                let following = tokens.peek_value().0;
                if values.is_empty() || matches!(following, Token::Close | Token::Comma) {
                    values.push(String::new());
                }
                if following == Token::Close {
                    return Ok(values);
                }
            }
            _ => {
                return Err(Error(format!("found '{literal}', expected: ',', or identifier")));
            }
        }
    }
}
