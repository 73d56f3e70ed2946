//! Label and field selectors: `apimachinery/pkg/labels` and `pkg/fields`.

use serde_json::Value;

/// Why a text is no selector; the text of a 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub(crate) String);

/// A selector of labels. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    nothing: bool,
}

impl LabelSelector {
    /// Selects everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects nothing.
    pub fn nothing() -> Self {
        Self { nothing: true }
    }

    /// Reads the text form, as in `app=web,tier in (a, b),!old`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let _ = text;
        todo!()
    }

    /// Reads a `meta/v1.LabelSelector`: null selects nothing, an empty one everything.
    pub fn from_value(selector: &Value) -> Result<Self, Error> {
        let _ = selector;
        todo!()
    }

    /// From equalities only, as a Service's selector.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let _ = labels.into_iter();
        todo!()
    }

    /// Whether labels match; `get` answers a label's value.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        let _ = get;
        todo!()
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        !self.nothing
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

/// A selector of fields. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// One condition of a [`FieldSelector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field's name, as in `spec.nodeName`.
    pub field: String,
    /// Whether it must equal the value, or must not.
    pub equal: bool,
    /// The value.
    pub value: String,
}

impl FieldSelector {
    /// Reads the text form, as in `metadata.name=a,status.phase!=Running`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let _ = text;
        todo!()
    }

    /// The conditions, all of which must hold.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether fields match; `get` answers a field's value, and a field it does not know is empty.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms
            .iter()
            .all(|t| (get(&t.field).unwrap_or_default() == t.value) == t.equal)
    }

    /// The value that `field` must have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|t| t.equal && t.field == field)
            .map(|t| t.value.as_str())
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }
}
