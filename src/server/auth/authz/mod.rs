//! Authorisation: <https://kubernetes.io/docs/reference/access-authn-authz/authorization/>.
//!
//! Asked in this order until one says yes: members of `system:masters` may everything; nodes what concerns
//! their own pods ([`node`]); anyone what RBAC's roles and bindings allow ([`rbac`]).

pub mod attributes;
pub mod node;
pub mod rbac;
pub mod references;
pub mod review;

use std::sync::Arc;

use super::user::{MASTERS, User};
use crate::api::field::quote;
use crate::api::{GroupResource, Status};
use crate::server::reader::Reader;
use crate::server::request_info::RequestInfo;
pub use attributes::Attributes;

/// Says whether a user may do something.
pub struct Authorizer {
    reader: Arc<dyn Reader>,
    rbac: rbac::Rbac,
}

impl Authorizer {
    /// Roles, bindings and pods are looked up in `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader, rbac: rbac::Rbac::default() }
    }

    /// Whether a request may go on.
    ///
    /// # Errors
    /// 403 with upstream's text.
    pub fn authorize(&self, user: &User, request: &RequestInfo) -> Result<(), Status> {
        let wanted = Attributes::of(request);
        self.check(user, &wanted).map_err(|reason| forbidden(user, &wanted, &reason))
    }

    /// Whether the user may do this.
    ///
    /// # Errors
    /// If not, why; empty when there is nothing to tell.
    pub fn check(&self, user: &User, wanted: &Attributes<'_>) -> Result<(), String> {
        self.ask(user, wanted, || self.rbac.allows(&*self.reader, user, wanted))
    }

    /// The same, with what gives the right; empty when there is nothing to tell.
    ///
    /// # Errors
    /// As [`Authorizer::check`].
    pub fn explain(&self, user: &User, wanted: &Attributes<'_>) -> Result<String, String> {
        self.ask(user, wanted, || self.rbac.explain(&*self.reader, user, wanted))
    }

    fn ask<T: Default>(
        &self,
        user: &User,
        wanted: &Attributes<'_>,
        rbac: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        if user.in_group(MASTERS) {
            return Ok(T::default());
        }
        let reason = match user.node_name() {
            Some(name) => match node::authorize(&*self.reader, name, wanted) {
                Ok(()) => return Ok(T::default()),
                Err(reason) => reason,
            },
            None => String::new(),
        };
        rbac().map_err(|rbac| match (reason.is_empty(), rbac.is_empty()) {
            (false, false) => format!("{reason}\n{rbac}"),
            _ => reason + &rbac,
        })
    }

    /// The RBAC rules a user has in a namespace, or in the cluster.
    pub fn rules(&self, user: &User, namespace: Option<&str>) -> (Vec<rbac::Rule>, Vec<String>) {
        self.rbac.rules(&*self.reader, user, namespace)
    }
}

/// Whether roles and bindings let a user do this. For hooks that have no [`Authorizer`] and ask seldom:
/// the index of roles is made for this one question.
pub fn allowed(reader: &dyn Reader, user: &User, wanted: &Attributes<'_>) -> bool {
    user.in_group(MASTERS) || rbac::Rbac::default().allows(reader, user, wanted).is_ok()
}

/// The 403 of somebody who may not do this.
pub fn forbidden(user: &User, wanted: &Attributes<'_>, reason: &str) -> Status {
    let mut why = describe(user, wanted);
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    let resource = GroupResource::new(wanted.group.to_owned(), wanted.resource.to_owned());
    Status::forbidden(&resource, wanted.name.unwrap_or_default(), why)
}

fn describe(user: &User, wanted: &Attributes<'_>) -> String {
    let (name, verb) = (quote(&user.name), wanted.verb);
    if let Some(path) = wanted.path {
        return format!("User {name} cannot {verb} path {}", quote(path));
    }
    let resource = match wanted.subresource {
        Some(subresource) => quote(&format!("{}/{subresource}", wanted.resource)),
        None => quote(wanted.resource),
    };
    let scope = match wanted.namespace.filter(|n| !n.is_empty()) {
        Some(namespace) => format!("in the namespace {}", quote(namespace)),
        None => "at the cluster scope".to_owned(),
    };
    format!("User {name} cannot {verb} resource {resource} in API group {} {scope}", quote(wanted.group))
}

#[cfg(test)]
mod tests;
