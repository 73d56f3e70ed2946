//! What an expression says, macros expanded.

use std::sync::Arc;

/// A name.
pub(super) type Name = Arc<str>;

/// A part of an expression.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    /// Its number, unlike any other's of the expression.
    pub(super) id: u32,
    /// How many characters into the text it is.
    pub(super) at: u32,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Literal(Literal),
    Ident(Name),
    /// A field; with `test` whether there is one.
    Select {
        operand: Box<Expr>,
        field: Name,
        test: bool,
    },
    Call {
        function: Name,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    /// Items; those of `optional` are left out if they have no value.
    List {
        items: Vec<Expr>,
        optional: Vec<usize>,
    },
    Map {
        entries: Vec<Entry>,
    },
    Fold(Box<Fold>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Expr,
    pub(super) value: Expr,
    pub(super) optional: bool,
}

/// What macros over lists and maps come down to: a value made over from item to item.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub(super) range: Expr,
    /// The variable of items, or of keys and indices if there are two.
    pub(super) variable: Name,
    pub(super) second: Option<Name>,
    pub(super) accumulator: Name,
    pub(super) start: Expr,
    /// While it holds the fold goes on.
    pub(super) condition: Expr,
    pub(super) step: Expr,
    pub(super) result: Expr,
}

/// The accumulator of the macros' folds; no name that can be written.
pub(super) const ACCUMULATOR: &str = "@result";

impl Fold {
    /// Whether it only gives a value a name: it never goes over anything.
    pub(super) fn is_bind(&self) -> bool {
        matches!(&self.range.kind, Kind::List { items, .. } if items.is_empty())
            && matches!(self.condition.kind, Kind::Literal(Literal::Bool(false)))
            && &*self.accumulator != ACCUMULATOR
    }
}

/// Functions whose result for a literal is known beforehand.
const CONVERSIONS: [&str; 10] =
    ["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];

impl Expr {
    /// Whether its value is known beforehand; that costs nothing when it is evaluated.
    pub(super) fn is_constant(&self) -> bool {
        match &self.kind {
            Kind::Literal(_) => true,
            Kind::List { items, optional } => optional.is_empty() && items.iter().all(Self::is_constant),
            Kind::Map { entries } => {
                entries.iter().all(|e| !e.optional && e.key.is_constant() && e.value.is_constant())
            }
            Kind::Call { function, target: None, args } => {
                args.len() == 1 && CONVERSIONS.contains(&&**function) && args[0].is_constant()
            }
            _ => false,
        }
    }

    /// Whether it only follows a variable to a field.
    pub(super) fn is_attribute(&self) -> bool {
        match &self.kind {
            Kind::Ident(_) => true,
            Kind::Select { operand, test: false, .. } => operand.is_attribute(),
            _ => false,
        }
    }

    /// Calls a function with each part, itself first.
    pub(super) fn visit<'e>(&'e self, see: &mut dyn FnMut(&'e Expr)) {
        see(self);
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => operand.visit(see),
            Kind::Call { target, args, .. } => {
                if let Some(target) = target {
                    target.visit(see);
                }
                args.iter().for_each(|arg| arg.visit(see));
            }
            Kind::List { items, .. } => items.iter().for_each(|item| item.visit(see)),
            Kind::Map { entries } => {
                for entry in entries {
                    entry.key.visit(see);
                    entry.value.visit(see);
                }
            }
            Kind::Fold(fold) => {
                let Fold { range, start, condition, step, result, .. } = &**fold;
                [range, start, condition, step, result].into_iter().for_each(|part| part.visit(see));
            }
        }
    }
}
