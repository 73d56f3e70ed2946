//! Parses an expression: precedence, calls, literals. Macros are expanded on the way.

use super::ast::{Entry, Expr, Kind, Literal, Name};
use super::lexer::{Spanned, Token, tokens};
use super::macros;
use super::source::Issue;

/// How deep an expression may be nested.
const MOST_DEPTH: u32 = 200;
/// How long one may be, in characters.
const MOST_LENGTH: usize = 100_000;

/// Names that are kept for other uses.
const RESERVED: [&str; 16] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
];

/// What may stand where an expression begins, as the grammar's errors list it.
const EXPECTED: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, \
                        STRING, BYTES, IDENTIFIER}";

/// Parses a text.
pub(super) fn parse(text: &str) -> Result<Expr, Issue> {
    let length = text.chars().count();
    if length > MOST_LENGTH {
        let message =
            format!("expression code point size exceeds limit: size: {length}, limit {MOST_LENGTH}");
        return Err(Issue::new(0, message));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, next: 0, ids: 0, depth: 0 };
    let expr = parser.expression()?;
    match parser.peek() {
        Token::End => {}
        _ => {
            let last = parser.tokens.get(parser.next + 1).is_some_and(|t| t.token == Token::End);
            let word = if last { "extraneous" } else { "mismatched" };
            return Err(parser.wrong(&format!("{word} input"), "<EOF>"));
        }
    }
    // Chains of operators nest too.
    if depth(&expr) > 2 * MOST_DEPTH {
        return Err(Issue::new(0, format!("expression recursion limit exceeded: {MOST_DEPTH}")));
    }
    Ok(expr)
}

/// How deep a tree is, found without recursion.
fn depth(expr: &Expr) -> u32 {
    let (mut open, mut most) = (vec![(expr, 1)], 0);
    while let Some((expr, level)) = open.pop() {
        most = most.max(level);
        let mut push = |child| open.push((child, level + 1));
        match &expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => push(operand),
            Kind::Call { target, args, .. } => {
                target.iter().for_each(|t| push(t));
                args.iter().for_each(push);
            }
            Kind::List { items, .. } => items.iter().for_each(push),
            Kind::Map { entries } => entries.iter().for_each(|e| {
                push(&e.key);
                push(&e.value);
            }),
            Kind::Fold(fold) => {
                [&fold.range, &fold.start, &fold.condition, &fold.step, &fold.result]
                    .into_iter()
                    .for_each(push);
            }
        }
    }
    most
}

pub(super) struct Parser<'t> {
    tokens: &'t [Spanned],
    next: usize,
    ids: u32,
    depth: u32,
}

/// The function of a binary operator and how tightly it binds.
fn operator(token: &Token) -> Option<(&'static str, u8)> {
    let Token::Symbol(symbol) = token else {
        return matches!(token, Token::Ident(name) if name == "in").then_some(("@in", 3));
    };
    Some(match *symbol {
        "||" => ("_||_", 1),
        "&&" => ("_&&_", 2),
        "==" => ("_==_", 3),
        "!=" => ("_!=_", 3),
        "<" => ("_<_", 3),
        "<=" => ("_<=_", 3),
        ">" => ("_>_", 3),
        ">=" => ("_>=_", 3),
        "+" => ("_+_", 4),
        "-" => ("_-_", 4),
        "*" => ("_*_", 5),
        "/" => ("_/_", 5),
        "%" => ("_%_", 5),
        _ => return None,
    })
}

impl Parser<'_> {
    /// A part of an expression, with a number of its own.
    pub(super) fn expr(&mut self, at: u32, kind: Kind) -> Expr {
        self.ids += 1;
        Expr { id: self.ids, at, kind }
    }

    /// A call of a function that is no member.
    pub(super) fn call(&mut self, at: u32, function: &str, args: Vec<Expr>) -> Expr {
        self.expr(at, Kind::Call { function: function.into(), target: None, args })
    }

    fn spanned(&self) -> &Spanned {
        // The last token is the end, and nothing goes past it.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &Token {
        &self.spanned().token
    }

    fn at(&self) -> u32 {
        self.spanned().at
    }

    fn wrong(&self, what: &str, expected: &str) -> Issue {
        let message = format!("Syntax error: {what} '{}' expecting {expected}", self.spanned().text);
        Issue::new(self.at(), message)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Issue> {
        if self.take(symbol) {
            return Ok(());
        }
        if *self.peek() == Token::End {
            let message = format!("Syntax error: missing '{symbol}' at '<EOF>'");
            return Err(Issue::new(self.at(), message));
        }
        Err(self.wrong("mismatched input", &format!("'{symbol}'")))
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Issue>) -> Result<T, Issue> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            let message = format!("expression recursion limit exceeded: {MOST_DEPTH}");
            return Err(Issue::new(self.at(), message));
        }
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn expression(&mut self) -> Result<Expr, Issue> {
        self.deeper(|p| {
            let condition = p.binary(1)?;
            let at = p.at();
            if !p.take("?") {
                return Ok(condition);
            }
            let then = p.binary(1)?;
            p.expect(":")?;
            let otherwise = p.expression()?;
            Ok(p.call(at, "_?_:_", vec![condition, then, otherwise]))
        })
    }

    fn binary(&mut self, least: u8) -> Result<Expr, Issue> {
        let mut left = self.unary()?;
        while let Some((function, binds)) = operator(self.peek()).filter(|(_, binds)| *binds >= least) {
            if binds <= 2 {
                left = self.chain(left, function, binds)?;
                continue;
            }
            let at = self.at();
            self.next += 1;
            let right = self.binary(binds + 1)?;
            left = self.call(at, function, vec![left, right]);
        }
        Ok(left)
    }

    /// `a && b && c`: as a balanced tree, for they may be many.
    fn chain(&mut self, first: Expr, function: &str, binds: u8) -> Result<Expr, Issue> {
        let (mut terms, mut places) = (vec![first], Vec::new());
        while operator(self.peek()).is_some_and(|(f, _)| f == function) {
            places.push(self.at());
            self.next += 1;
            terms.push(self.binary(binds + 1)?);
        }
        Ok(self.balance(function, terms, &places))
    }

    fn balance(&mut self, function: &str, mut terms: Vec<Expr>, places: &[u32]) -> Expr {
        let middle = terms.len().div_ceil(2);
        let right = terms.split_off(middle);
        if right.is_empty() {
            // One term is its own tree; `terms` has at least one.
            return terms.swap_remove(0);
        }
        let left = self.balance(function, terms, &places[..middle - 1]);
        let right = self.balance(function, right, &places[middle..]);
        self.call(places[middle - 1], function, vec![left, right])
    }

    fn unary(&mut self) -> Result<Expr, Issue> {
        let at = self.at();
        let symbol = match self.peek() {
            Token::Symbol("!") => "!",
            Token::Symbol("-") => "-",
            _ => return self.member(),
        };
        let mut count = 0;
        while self.take(symbol) {
            count += 1;
        }
        // A minus belongs to the number after it.
        if symbol == "-" && count % 2 == 1 && matches!(self.peek(), Token::Int(_) | Token::Float(_)) {
            self.next -= 1;
            let literal = self.member()?;
            return Ok(literal);
        }
        if !matches!(self.peek(), Token::Symbol("!" | "-")) {
            let operand = self.member()?;
            if count % 2 == 0 {
                return Ok(operand);
            }
            let function = if symbol == "!" { "!_" } else { "-_" };
            return Ok(self.call(at, function, vec![operand]));
        }
        Err(self.wrong("mismatched input", EXPECTED))
    }

    fn member(&mut self) -> Result<Expr, Issue> {
        let mut expr = self.primary()?;
        loop {
            let at = self.at();
            if self.take(".") {
                let optional = self.take("?");
                expr = self.selection(at, expr, optional)?;
            } else if self.take("[") {
                let function = if self.take("?") { "_[?_]" } else { "_[_]" };
                let index = self.expression()?;
                self.expect("]")?;
                expr = self.call(at, function, vec![expr, index]);
            } else {
                return Ok(expr);
            }
        }
    }

    fn selection(&mut self, at: u32, operand: Expr, optional: bool) -> Result<Expr, Issue> {
        let field: Name = match self.peek() {
            Token::Ident(name) if name != "in" && !matches!(name.as_str(), "true" | "false" | "null") => {
                name.as_str().into()
            }
            Token::Quoted(name) => name.as_str().into(),
            _ => return Err(self.wrong("mismatched input", "IDENTIFIER")),
        };
        let place = self.at();
        self.next += 1;
        if optional {
            let literal = self.expr(place, Kind::Literal(Literal::String(field)));
            return Ok(self.call(at, "_?._", vec![operand, literal]));
        }
        let open = self.at();
        if !self.take("(") {
            return Ok(self.expr(at, Kind::Select { operand: Box::new(operand), field, test: false }));
        }
        let args = self.arguments()?;
        self.member_call(open, operand, field, args)
    }

    fn member_call(&mut self, at: u32, target: Expr, function: Name, args: Vec<Expr>) -> Result<Expr, Issue> {
        match macros::expand(self, at, &function, target, args)? {
            macros::Expanded::Macro(expr) => Ok(expr),
            macros::Expanded::Call(target, args) => {
                Ok(self.expr(at, Kind::Call { function, target: Some(Box::new(target)), args }))
            }
        }
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Issue> {
        let mut args = Vec::new();
        if self.take(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if !self.take(",") {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, Issue> {
        let at = self.at();
        if self.take("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.take("[") {
            return self.list(at);
        }
        if self.take("{") {
            return self.map(at);
        }
        let negative = self.take("-");
        let token = self.peek().clone();
        let literal = match &token {
            Token::Int(digits) => {
                Literal::Int(integer(digits, negative).ok_or_else(|| Issue::new(at, "invalid int literal"))?)
            }
            Token::Float(number) => Literal::Double(if negative { -number } else { *number }),
            Token::Uint(digits) => {
                Literal::Uint(unsigned(digits).ok_or_else(|| Issue::new(at, "invalid uint literal"))?)
            }
            Token::String(text) => Literal::String(text.as_str().into()),
            Token::Bytes(bytes) => Literal::Bytes(bytes.as_slice().into()),
            Token::Ident(name) if name == "true" => Literal::Bool(true),
            Token::Ident(name) if name == "false" => Literal::Bool(false),
            Token::Ident(name) if name == "null" => Literal::Null,
            Token::Ident(_) | Token::Symbol(".") => return self.identifier(at),
            _ => return Err(self.wrong("mismatched input", EXPECTED)),
        };
        self.next += 1;
        Ok(self.expr(at, Kind::Literal(literal)))
    }

    fn identifier(&mut self, at: u32) -> Result<Expr, Issue> {
        let rooted = self.take(".");
        let Token::Ident(name) = self.peek().clone() else {
            return Err(self.wrong("mismatched input", "IDENTIFIER"));
        };
        if name == "in" {
            return Err(self.wrong("mismatched input", EXPECTED));
        }
        if RESERVED.contains(&name.as_str()) || name == "while" {
            return Err(Issue::new(self.at(), format!("reserved identifier: {name}")));
        }
        self.next += 1;
        let open = self.at();
        if self.take("(") {
            let args = self.arguments()?;
            return match macros::expand_global(self, open, &name, args)? {
                Ok(expr) => Ok(expr),
                Err(args) => Ok(self.call(open, &name, args)),
            };
        }
        if self.is_struct() {
            return Err(Issue::new(self.at(), format!("undeclared reference to '{name}' (in container '')")));
        }
        let name = if rooted { format!(".{name}") } else { name };
        Ok(self.expr(at, Kind::Ident(name.trim_start_matches('.').into())))
    }

    /// Whether a brace follows, which would make an object of a named type: there are none.
    fn is_struct(&self) -> bool {
        matches!(self.peek(), Token::Symbol("{"))
    }

    fn list(&mut self, at: u32) -> Result<Expr, Issue> {
        let (mut items, mut optional) = (Vec::new(), Vec::new());
        while !self.take("]") {
            if self.take("?") {
                optional.push(items.len());
            }
            items.push(self.expression()?);
            if !self.take(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(self.expr(at, Kind::List { items, optional }))
    }

    fn map(&mut self, at: u32) -> Result<Expr, Issue> {
        let mut entries = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let key = self.expression()?;
            self.expect(":")?;
            let value = self.expression()?;
            entries.push(Entry { key, value, optional });
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(self.expr(at, Kind::Map { entries }))
    }
}

fn unsigned(digits: &str) -> Option<u64> {
    match digits.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => digits.parse().ok(),
    }
}

fn integer(digits: &str, negative: bool) -> Option<i64> {
    let magnitude = i128::from(unsigned(digits)?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}
