//! Role-based access control: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>.

pub mod bootstrap;
pub mod escalation;
mod index;
mod rule;

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Attributes;
use crate::server::auth::user::User;
use crate::server::reader::Reader;
use index::{Bound, Index};
pub use rule::Rule;

/// Answers from an index of all roles and bindings, which is made anew at the first question after
/// one of them changed.
#[derive(Default)]
pub struct Rbac {
    index: ArcSwapOption<Index>,
}

impl Rbac {
    fn index(&self, reader: &dyn Reader) -> Arc<Index> {
        if let Some(index) = self.index.load_full().filter(|i| i.is_current(reader)) {
            return index;
        }
        let index = Arc::new(Index::build(reader));
        self.index.store(Some(Arc::clone(&index)));
        index
    }

    /// Whether a role of the user's allows this.
    ///
    /// # Errors
    /// If none does, why; empty when there is nothing to tell.
    pub fn allows(&self, reader: &dyn Reader, user: &User, wanted: &Attributes<'_>) -> Result<(), String> {
        self.find(reader, user, wanted, |_, _| ())
    }

    /// The same, with what gives the right.
    ///
    /// # Errors
    /// As [`Rbac::allows`].
    pub fn explain(
        &self,
        reader: &dyn Reader,
        user: &User,
        wanted: &Attributes<'_>,
    ) -> Result<String, String> {
        self.find(reader, user, wanted, |bound, group| {
            format!("RBAC: allowed by {}", bound.describe(user, group))
        })
    }

    fn find<T>(
        &self,
        reader: &dyn Reader,
        user: &User,
        wanted: &Attributes<'_>,
        grounds: impl FnOnce(&Bound, &str) -> T,
    ) -> Result<T, String> {
        let mut missing = Vec::new();
        let namespace = wanted.namespace.filter(|n| !n.is_empty());
        let index = self.index(reader);
        if let Some((bound, group)) = index.any_rule(user, namespace, &mut missing, |r| r.allows(wanted)) {
            return Ok(grounds(bound, group));
        }
        Err(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// All rules the user has in a namespace, or in the cluster, and why some may be missing.
    pub fn rules(
        &self,
        reader: &dyn Reader,
        user: &User,
        namespace: Option<&str>,
    ) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut missing) = (Vec::new(), Vec::new());
        self.index(reader).any_rule(user, namespace, &mut missing, |rule| {
            rules.push(rule.clone());
            false
        });
        (rules, missing)
    }
}
