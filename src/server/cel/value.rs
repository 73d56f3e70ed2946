//! Values and their types.

use std::sync::Arc;

use super::authorizer::Authorizer;

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Known only when evaluated.
    Dyn,
    /// True or false.
    Bool,
    /// Text.
    String,
    /// A type with functions of its own, by name.
    Opaque(&'static str),
}

impl Type {
    /// The type of the variable `authorizer`.
    pub const AUTHORIZER: Type = Type::Opaque("kubernetes.authorization.Authorizer");
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// null
    Null,
    /// True or false.
    Bool(bool),
    /// Text.
    String(Arc<str>),
    /// JSON of unknown type.
    Json(&'a serde_json::Value),
    /// Who asks what may be done.
    Authorizer(Arc<dyn Authorizer>),
}

impl<'a> Value<'a> {
    /// A JSON value whose type is not known beforehand.
    pub fn json(json: &'a serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(b) => Self::Bool(*b),
            serde_json::Value::String(s) => Self::String(s.as_str().into()),
            other => Self::Json(other),
        }
    }

    /// The variable `authorizer`.
    pub fn authorizer(authorizer: Arc<dyn Authorizer>) -> Self {
        Self::Authorizer(authorizer)
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }
}
