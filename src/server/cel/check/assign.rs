//! Which types may stand for which others; types that are open until they are used.

use std::collections::HashMap;
use std::sync::Arc;

use crate::server::cel::types::Type;

/// What open types turned out to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Bindings {
    known: HashMap<u32, Type>,
    next: u32,
}

/// Declarations use the numbers below.
const FIRST: u32 = 100;

impl Bindings {
    /// A type that is not known yet.
    pub(super) fn fresh(&mut self) -> Type {
        self.next += 1;
        Type::Param(FIRST + self.next)
    }

    /// A declared type with fresh types in the place of its parameters.
    pub(super) fn instance(&mut self, declared: &Type, map: &mut HashMap<u32, Type>) -> Type {
        match declared {
            Type::Param(n) => match map.get(n) {
                Some(known) => known.clone(),
                None => {
                    let fresh = self.fresh();
                    map.insert(*n, fresh.clone());
                    fresh
                }
            },
            Type::List(item) => Type::list(self.instance(item, map)),
            Type::Optional(value) => Type::optional(self.instance(value, map)),
            Type::Type(of) => Type::Type(Arc::new(self.instance(of, map))),
            Type::Map(entry) => {
                let key = self.instance(&entry.0, map);
                Type::map(key, self.instance(&entry.1, map))
            }
            other => other.clone(),
        }
    }

    /// What a type is, as far as it is known, on its outside.
    pub(super) fn resolved(&self, of: &Type) -> Type {
        let mut of = of;
        while let Type::Param(n) = of {
            match self.known.get(n) {
                Some(known) => of = known,
                None => break,
            }
        }
        of.clone()
    }

    /// What a type is all through; what is open still may be anything.
    pub(super) fn settled(&self, of: &Type) -> Type {
        match self.resolved(of) {
            Type::Param(_) => Type::Dyn,
            Type::List(item) => Type::list(self.settled(&item)),
            Type::Optional(value) => Type::optional(self.settled(&value)),
            Type::Type(of) => Type::Type(Arc::new(self.settled(&of))),
            Type::Map(entry) => Type::map(self.settled(&entry.0), self.settled(&entry.1)),
            other => other,
        }
    }

    /// Whether the one may stand for the other; what that says of open types is kept if so.
    pub(super) fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.assign_all(&[(from.clone(), to.clone())])
    }

    /// As [`Bindings::assign`], for several at once.
    pub(super) fn assign_all(&mut self, pairs: &[(Type, Type)]) -> bool {
        let before = self.known.clone();
        let fits = pairs.iter().all(|(from, to)| self.fits(from, to));
        if !fits {
            self.known = before;
        }
        fits
    }

    fn fits(&mut self, from: &Type, to: &Type) -> bool {
        let (from, to) = (self.resolved(from), self.resolved(to));
        match (&from, &to) {
            (Type::Param(a), Type::Param(b)) if a == b => true,
            (other, Type::Param(n)) | (Type::Param(n), other) => {
                if self.contains(other, *n) {
                    return false;
                }
                self.known.insert(*n, other.clone());
                true
            }
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null
                    | Type::Object(_)
                    | Type::Timestamp
                    | Type::Duration
                    | Type::Opaque(_)
                    | Type::Optional(_)
            ),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Whether an open type is part of another.
    fn contains(&self, of: &Type, wanted: u32) -> bool {
        match self.resolved(of) {
            Type::Param(n) => n == wanted,
            Type::List(item) => self.contains(&item, wanted),
            Type::Optional(value) => self.contains(&value, wanted),
            Type::Type(of) => self.contains(&of, wanted),
            Type::Map(entry) => self.contains(&entry.0, wanted) || self.contains(&entry.1, wanted),
            _ => false,
        }
    }
}
