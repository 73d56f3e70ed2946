//! Authorisation: <https://kubernetes.io/docs/reference/access-authn-authz/authorization/>.
//!
//! Asked in this order until one says yes: members of `system:masters` may everything; nodes what concerns
//! their own pods ([`node`]); anyone what RBAC's roles and bindings allow ([`rbac`]).

pub mod attributes;

use std::sync::Arc;

use super::user::User;
use crate::api::Status;
use crate::server::reader::Reader;
use crate::server::request_info::RequestInfo;
pub use attributes::Attributes;

/// Says whether a user may do something.
pub struct Authorizer {
    reader: Arc<dyn Reader>,
}

impl Authorizer {
    /// Roles, bindings and pods are looked up in `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }

    /// Whether a request may go on.
    ///
    /// # Errors
    /// 403 with upstream's text.
    pub fn authorize(&self, user: &User, request: &RequestInfo) -> Result<(), Status> {
        let _ = (&self.reader, user, request);
        todo!()
    }
}
