//! Values. Those of JSON are seen through their declarations and never copied.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::authorizer::{Attributes, Authorizer};
use super::containers::{List, Map};
use super::opaque::{CheckKind, Opaque};
use super::types::{Decl, JSON, Shape, Type};
use super::{EvalError, time};

/// Text of JSON, or made.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Of JSON.
    Borrowed(&'a str),
    /// Made.
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// null
    Null,
    /// True or false.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A floating point number.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A point in time.
    Timestamp(Timestamp),
    /// A length of time in nanoseconds.
    Duration(i64),
    /// A list.
    List(List<'a>),
    /// A map or an object.
    Map(Map<'a>),
    /// A type.
    Type(Type),
    /// A value that may be missing.
    Optional(Option<Arc<Value<'a>>>),
    /// A value with functions of its own.
    Opaque(Arc<Opaque>),
}

/// The key of a map that was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// True or false.
    Bool(bool),
    /// A number.
    Int(i128),
    /// Text.
    String(Arc<str>),
}

/// A map that was made.
pub(super) type Entries<'a> = BTreeMap<Key, (Value<'a>, Value<'a>)>;

impl<'a> Value<'a> {
    /// A JSON value whose type is not known beforehand.
    pub fn json(json: &'a Json) -> Self {
        // Nothing is expected of it, so it can be no other.
        Self::declared(json, &JSON).unwrap_or(Self::Null)
    }

    /// A JSON value as it is declared.
    ///
    /// # Errors
    /// It is something else.
    pub fn declared(json: &'a Json, decl: &'a Decl) -> Result<Self, EvalError> {
        let wrong = |wanted: &str| {
            Err(EvalError::Failed(format!("invalid data, expected {wanted}, got {}", what(json))))
        };
        match (&decl.shape, json) {
            (_, Json::Null) if decl.nullable => Ok(Self::Null),
            (_, Json::Null) => {
                Err(EvalError::Failed("invalid data, got null for schema with nullable=false".to_owned()))
            }
            (Shape::Json, json) => Ok(Self::untyped(json)),
            (Shape::IntOrString, Json::String(text)) => Ok(Self::String(Text::Borrowed(text))),
            (Shape::IntOrString | Shape::Int, Json::Number(n)) => match n.as_i64() {
                Some(n) => Ok(Self::Int(n)),
                None => Ok(Self::Int(n.as_f64().unwrap_or_default() as i64)),
            },
            (Shape::IntOrString, _) => wrong("XIntOrString value to be either a string or integer"),
            (Shape::Bool, Json::Bool(b)) => Ok(Self::Bool(*b)),
            (Shape::Bool, _) => wrong("bool"),
            (Shape::Int, _) => wrong("int"),
            (Shape::Double, Json::Number(n)) => Ok(Self::Double(n.as_f64().unwrap_or_default())),
            (Shape::Double, _) => wrong("float"),
            (
                Shape::String | Shape::Bytes | Shape::Duration | Shape::Date | Shape::DateTime,
                Json::String(text),
            ) => Self::formatted(text, &decl.shape),
            (Shape::String | Shape::Bytes | Shape::Duration | Shape::Date | Shape::DateTime, _) => {
                wrong("string")
            }
            (Shape::List { .. }, Json::Array(items)) => Ok(Self::List(List::Json { items, decl })),
            (Shape::List { .. }, _) => wrong("an array for the provided schema with type=array"),
            (Shape::Map(_) | Shape::Object { .. }, Json::Object(fields)) => {
                Ok(Self::Map(Map::Json { fields, decl }))
            }
            (Shape::Map(_) | Shape::Object { .. }, _) => {
                wrong("a map for the provided schema with type=object")
            }
        }
    }

    fn untyped(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(n) => Self::Int(n),
                None => Self::Double(n.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Self::String(Text::Borrowed(text)),
            Json::Array(items) => Self::List(List::Json { items, decl: &JSON }),
            Json::Object(fields) => Self::Map(Map::Json { fields, decl: &JSON }),
        }
    }

    fn formatted(text: &'a str, shape: &Shape) -> Result<Self, EvalError> {
        use base64::Engine as _;
        let wrong = |what: &str| EvalError::Failed(format!("Invalid {what} {text}"));
        match shape {
            Shape::Bytes => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(text);
                decoded.map(|b| Self::Bytes(b.into())).map_err(|_| wrong("byte formatted string"))
            }
            Shape::Duration => {
                time::parse_duration_of_schemas(text).map(Self::Duration).ok_or_else(|| wrong("duration"))
            }
            Shape::Date => {
                time::parse_date(text).map(Self::Timestamp).ok_or_else(|| wrong("date formatted string"))
            }
            Shape::DateTime => {
                time::parse_time(text).map(Self::Timestamp).ok_or_else(|| wrong("date-time formatted string"))
            }
            _ => Ok(Self::String(Text::Borrowed(text))),
        }
    }

    /// The variable `authorizer`.
    pub fn authorizer(authorizer: Arc<dyn Authorizer>) -> Self {
        Self::opaque(Opaque::Authorizer(authorizer))
    }

    pub(super) fn opaque(opaque: Opaque) -> Self {
        Self::Opaque(Arc::new(opaque))
    }

    /// The variable `authorizer.requestResource`: a question about the request's own resource, but for its verb.
    pub fn request_resource(authorizer: Arc<dyn Authorizer>, attributes: Attributes) -> Self {
        Self::opaque(Opaque::Check(authorizer, CheckKind::Resource, attributes))
    }

    /// A map of names to values, as the composed `variables` of policies.
    pub fn fields<'n>(entries: impl IntoIterator<Item = (&'n str, Value<'a>)>) -> Self {
        let entries = entries.into_iter().map(|(name, value)| {
            let name: Arc<str> = name.into();
            (Key::String(Arc::clone(&name)), (Self::text(name), value))
        });
        Self::Map(Map::Made(Arc::new(entries.collect())))
    }

    /// Text that was made.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    pub(super) fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Made(Arc::new(items)))
    }

    /// A value that is there.
    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// A value that is missing.
    pub fn none() -> Self {
        Self::Optional(None)
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

    /// It as the key of a map, if it can be one.
    pub(super) fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(b) => Key::Bool(*b),
            Self::Int(n) => Key::Int(i128::from(*n)),
            Self::Uint(n) => Key::Int(i128::from(*n)),
            Self::Double(n) if n.fract() == 0.0 && n.abs() < 1e18 => Key::Int(*n as i128),
            Self::String(Text::Shared(text)) => Key::String(Arc::clone(text)),
            Self::String(text) => Key::String((**text).into()),
            _ => return None,
        })
    }

    /// Its type. What lists and maps hold is not looked at.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Duration(_) => Type::Duration,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(map) => map.type_of(),
            Self::Type(of) => Type::Type(Arc::new(of.clone())),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Opaque(opaque) => Type::Opaque(opaque.type_name()),
        }
    }

    /// How many characters, bytes, items or entries it has; 1 for other values. For costs.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Optional(Some(value)) => value.size(),
            Self::Opaque(opaque) => opaque.size(),
            _ => 1,
        }
    }
}

fn what(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(n) if n.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}
