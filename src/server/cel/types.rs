//! The types of expressions, and declarations: what is known of JSON before it is there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The type of an expression.
#[derive(Clone, Debug)]
pub enum Type {
    /// Known only when evaluated.
    Dyn,
    /// null
    Null,
    /// True or false.
    Bool,
    /// A signed number of 64 bits.
    Int,
    /// An unsigned number of 64 bits.
    Uint,
    /// A floating point number.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A point in time.
    Timestamp,
    /// A length of time.
    Duration,
    /// A list of values of one type.
    List(Arc<Type>),
    /// Keys to values.
    Map(Arc<(Type, Type)>),
    /// An object with known fields.
    Object(Arc<Decl>),
    /// A value that may be missing.
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    /// A type with functions of its own, by name.
    Opaque(&'static str),
    /// Any one type, the same wherever it stands in a function's declaration.
    Param(u32),
}

impl Type {
    /// The type of the variable `authorizer`.
    pub const AUTHORIZER: Type = Type::Opaque("kubernetes.authorization.Authorizer");

    /// The type of the variable `authorizer.requestResource`.
    pub const RESOURCE_CHECK: Type = Type::Opaque("kubernetes.authorization.ResourceCheck");

    /// A list.
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(item))
    }

    /// A map.
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    /// An optional value.
    pub fn optional(value: Type) -> Self {
        Self::Optional(Arc::new(value))
    }

    /// Whether it is known only when evaluated.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b))
            | (Self::Optional(a), Self::Optional(b))
            | (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b) || a.name() == b.name(),
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (Self::Param(a), Self::Param(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(entry) => write!(f, "map({}, {})", entry.0, entry.1),
            Self::Object(decl) => f.write_str(decl.name()),
            Self::Optional(value) => write!(f, "optional_type({value})"),
            Self::Type(of) => write!(f, "type({of})"),
            Self::Opaque(name) => f.write_str(name),
            Self::Param(n) => write!(f, "{}", char::from(b'A' + (n % 26) as u8)),
        }
    }
}

/// How the items of a declared list are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// By their place.
    #[default]
    Atomic,
    /// By what they are; order does not matter.
    Set,
    /// By these fields; order does not matter.
    Map(Vec<Box<str>>),
}

/// What JSON is, and how much of it there can be.
#[derive(Clone, Debug)]
pub struct Decl {
    /// What it is.
    pub shape: Shape,
    /// How many characters, items or entries it has at most: for estimates of cost.
    pub max_elements: u64,
    /// How many bytes it takes at least.
    pub min_size: u64,
    /// Whether null is a value of it.
    pub nullable: bool,
}

/// What JSON is.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Whatever it says it is.
    Json,
    /// A whole number or text.
    IntOrString,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// Text.
    String,
    /// Text that is base64.
    Bytes,
    /// Text that is a duration.
    Duration,
    /// Text that is a date.
    Date,
    /// Text that is a time.
    DateTime,
    /// A list.
    List {
        /// What its items are.
        items: Arc<Decl>,
        /// How they are told apart.
        kind: ListKind,
    },
    /// Any keys to values.
    Map(Arc<Decl>),
    /// Known fields.
    Object {
        /// What errors call it.
        name: Box<str>,
        /// By their names in expressions.
        fields: BTreeMap<Box<str>, Field>,
    },
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name in JSON.
    pub property: Box<str>,
    /// What it is.
    pub decl: Arc<Decl>,
}

/// JSON of which nothing is known.
pub(super) static JSON: Decl = Decl { shape: Shape::Json, max_elements: 0, min_size: 1, nullable: true };

/// The keys of a declared map, which upstream estimates to have no length.
pub(super) static KEY: Decl = Decl { shape: Shape::String, max_elements: 0, min_size: 2, nullable: false };

impl Decl {
    /// A scalar of no measured length.
    pub fn scalar(shape: Shape, min_size: u64) -> Self {
        Self { shape, max_elements: 0, min_size, nullable: false }
    }

    /// An object with these fields, all of them visible under their own names.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (&'static str, Decl)>) -> Self {
        let fields = fields.into_iter().map(|(name, decl)| {
            let property = escape(name).unwrap_or_else(|| name.to_owned());
            (property.into(), Field { property: name.into(), decl: Arc::new(decl) })
        });
        Self::scalar(Shape::Object { name: name.into(), fields: fields.collect() }, 2)
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        match &self.shape {
            Shape::Object { name, .. } => name,
            _ => "",
        }
    }

    /// The type of expressions that are this.
    pub fn type_of(self: &Arc<Self>) -> Type {
        match &self.shape {
            Shape::Json | Shape::IntOrString => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Duration => Type::Duration,
            Shape::Date | Shape::DateTime => Type::Timestamp,
            Shape::List { items, .. } => Type::list(items.type_of()),
            Shape::Map(values) => Type::map(Type::String, values.type_of()),
            Shape::Object { .. } => Type::Object(Arc::clone(self)),
        }
    }

    /// A field by its name in expressions.
    pub fn field(&self, name: &str) -> Option<&Field> {
        match &self.shape {
            // Words that are kept for other uses may stand for fields as they are.
            Shape::Object { fields, .. } => fields.get(name).or_else(|| {
                let escaped = RESERVED.contains(&name).then(|| format!("__{name}__"))?;
                fields.get(&*escaped)
            }),
            _ => None,
        }
    }
}

/// Words of the language, which no name can be.
pub const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
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
    "while",
];

/// The name of a property in expressions: `a-b` is `a__dash__b`. `None` if it has none.
pub fn escape(property: &str) -> Option<String> {
    let first = property.chars().next()?;
    if first.is_ascii_digit() {
        return None;
    }
    if RESERVED.contains(&property) {
        return Some(format!("__{property}__"));
    }
    let mut out = String::with_capacity(property.len());
    let mut rest = property;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            out.push_str("__underscores__");
            rest = after;
            continue;
        }
        match c {
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => out.push(c),
            _ => return None,
        }
        rest = &rest[1..];
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_escaped_as_upstream_escapes_them() {
        let table = [
            ("a", Some("a")),
            ("a.b-c/d", Some("a__dot__b__dash__c__slash__d")),
            ("namespace", Some("__namespace__")),
            ("a__b", Some("a__underscores__b")),
            ("a_b", Some("a_b")),
            ("$a", None),
            ("1a", None),
            ("", None),
            ("ä", None),
        ];
        for (property, escaped) in table {
            assert_eq!(escape(property).as_deref(), escaped, "{property}");
        }
    }
}
