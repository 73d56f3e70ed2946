//! The regular expression of a `pattern`, compiled when it is first needed.

use std::sync::OnceLock;

use crate::server::cel::regexp;

/// A regular expression in Go's syntax.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Result<regexp::Regexp, String>>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// A pattern; nothing is compiled yet.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    /// As it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches somewhere in a text.
    ///
    /// # Errors
    /// It is no regular expression.
    pub(crate) fn is_match(&self, text: &str) -> Result<bool, String> {
        let compiled = self.compiled.get_or_init(|| regexp::Regexp::new(&self.text));
        compiled.as_ref().map(|r| r.is_match(text)).map_err(Clone::clone)
    }
}
