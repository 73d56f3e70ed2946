//! Lists and maps: of JSON, or made by expressions.

use std::sync::Arc;

use serde_json::Value as Json;

use super::EvalError;
use super::types::{Decl, JSON, ListKind, Shape, Type};
use super::value::{Entries, Text, Value};

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// Of JSON.
    Json {
        /// Its items.
        items: &'a [Json],
        /// What it is declared to be.
        decl: &'a Decl,
    },
    /// Made.
    Made(Arc<Vec<Value<'a>>>),
    /// Made of lists whose items are told apart by more than their place.
    Merged {
        /// Its items.
        items: Arc<Vec<Value<'a>>>,
        /// How they are told apart.
        kind: &'a ListKind,
    },
}

impl<'a> List<'a> {
    /// How many items it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Json { items, .. } => items.len(),
            Self::Made(items) | Self::Merged { items, .. } => items.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An item.
    ///
    /// # Errors
    /// It is not what it is declared to be.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Self::Json { items, decl } => {
                let decl = match &decl.shape {
                    Shape::List { items, .. } => items,
                    _ => &JSON,
                };
                items.get(index).map(|item| Value::declared(item, decl))
            }
            Self::Made(items) | Self::Merged { items, .. } => items.get(index).cloned().map(Ok),
        }
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// All items.
    ///
    /// # Errors
    /// One is not what it is declared to be.
    pub fn to_vec(&self) -> Result<Vec<Value<'a>>, EvalError> {
        self.iter().collect()
    }

    /// How its items are told apart.
    pub(super) fn kind(&self) -> &'a ListKind {
        match self {
            Self::Json { decl: Decl { shape: Shape::List { kind, .. }, .. }, .. } => kind,
            Self::Merged { kind, .. } => kind,
            _ => &ListKind::Atomic,
        }
    }
}

/// A map or an object.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// Of JSON.
    Json {
        /// Its fields.
        fields: &'a serde_json::Map<String, Json>,
        /// What it is declared to be.
        decl: &'a Decl,
    },
    /// Made.
    Made(Arc<Entries<'a>>),
}

impl<'a> Map<'a> {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Json { fields, .. } => fields.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether what expressions do not see is the same in both.
    pub(super) fn unseen_equal(&self, other: &Self) -> bool {
        let (Self::Json { fields, decl }, Self::Json { fields: others, .. }) = (self, other) else {
            return true;
        };
        let Shape::Object { fields: known, .. } = &decl.shape else { return true };
        let seen = |name: &str| known.values().any(|field| &*field.property == name);
        fields.iter().filter(|(name, _)| !seen(name)).all(|(name, value)| others.get(name) == Some(value))
    }

    /// The value at a name.
    pub(super) fn field(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Self::Json { fields, decl } => match &decl.shape {
                Shape::Object { .. } => {
                    let field = decl.field(name)?;
                    fields.get(&*field.property).map(|json| Value::declared(json, &field.decl))
                }
                Shape::Map(values) => fields.get(name).map(|json| Value::declared(json, values)),
                _ => fields.get(name).map(|json| Ok(Value::json(json))),
            },
            Self::Made(_) => self.get(&Value::String(Text::Shared(name.into()))),
        }
    }

    /// The value at a key.
    pub(super) fn get(&self, key: &Value<'_>) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Self::Json { .. } => self.field(key.as_str()?),
            Self::Made(entries) => entries.get(&key.key()?).map(|(_, value)| Ok(value.clone())),
        }
    }

    /// Its keys.
    pub(super) fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json { fields, decl: Decl { shape: Shape::Object { fields: known, .. }, .. } } => known
                .iter()
                .filter(|(_, f)| fields.contains_key(&*f.property))
                .map(|(name, _)| Value::String(Text::Borrowed(name)))
                .collect(),
            Self::Json { fields, .. } => {
                fields.keys().map(|key| Value::String(Text::Borrowed(key))).collect()
            }
            Self::Made(entries) => entries.values().map(|(key, _)| key.clone()).collect(),
        }
    }

    pub(super) fn type_of(&self) -> Type {
        match self {
            Self::Json { decl, .. } if matches!(decl.shape, Shape::Object { .. }) => {
                Type::Object(Arc::new((*decl).clone()))
            }
            _ => Type::map(Type::Dyn, Type::Dyn),
        }
    }
}
