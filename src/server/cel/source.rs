//! Where in an expression something is, and how errors show it.

use std::fmt::Write as _;

use super::CompileError;

/// Something wrong at a place, a number of characters into the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issue {
    pub(super) at: u32,
    pub(super) message: String,
}

impl Issue {
    pub(super) fn new(at: u32, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// All that is wrong, as cel-go prints it: place, line, and a caret below.
pub(super) fn report(text: &str, mut issues: Vec<Issue>) -> CompileError {
    const MOST: usize = 100;
    issues.sort_by_key(|issue| issue.at);
    issues.truncate(MOST);
    let mut out = String::new();
    for issue in issues {
        if !out.is_empty() {
            out.push('\n');
        }
        show(text, &issue, &mut out);
    }
    CompileError(out)
}

fn show(text: &str, issue: &Issue, out: &mut String) {
    let before: Vec<char> = text.chars().take(issue.at as usize).collect();
    let line = before.iter().filter(|c| **c == '\n').count();
    let column = before.iter().rev().take_while(|c| **c != '\n').count();
    // Writing to a String cannot fail.
    let _ = write!(out, "ERROR: <input>:{}:{}: {}", line + 1, column + 1, issue.message);
    let Some(snippet) = text.split('\n').nth(line) else { return };
    let snippet = snippet.replace('\t', " ");
    let _ = write!(out, "\n | {snippet}\n | ");
    let mut characters = snippet.chars();
    for character in characters.by_ref().take(column) {
        out.push(if character.len_utf8() > 1 { '\u{ff0e}' } else { '.' });
    }
    out.push(if characters.next().is_some_and(|c| c.len_utf8() > 1) { '\u{ff3e}' } else { '^' });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issues_are_shown_in_their_line() {
        let error = report("a &&\n\tb", vec![Issue::new(6, "no")]);
        assert_eq!(error.0, "ERROR: <input>:2:2: no\n |  b\n | .^");
        let error = report("'ä' + x", vec![Issue::new(6, "second"), Issue::new(1, "first")]);
        assert_eq!(
            error.0,
            "ERROR: <input>:1:2: first\n | 'ä' + x\n | .＾\nERROR: <input>:1:7: second\n | 'ä' + x\n | .．....^"
        );
    }
}
