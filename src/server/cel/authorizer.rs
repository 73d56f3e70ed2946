//! What the variable `authorizer` asks.

use std::fmt::Debug;

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// A path that is no resource; then only `verb` and `service_account` count besides.
    pub path: Option<String>,
    /// The verb, as in `get`.
    pub verb: String,
    /// The API group of the resource.
    pub group: String,
    /// The plural name of the resource.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The namespace; empty for all, or for cluster-scoped resources.
    pub namespace: String,
    /// The name of the object, or empty.
    pub name: String,
    /// The field selector, if one was given.
    pub field_selector: Option<String>,
    /// The label selector, if one was given.
    pub label_selector: Option<String>,
    /// Namespace and name of the service account to ask for, in the place of the user of the request.
    pub service_account: Option<(String, String)>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why, or why not; may be empty.
    pub reason: String,
    /// What went wrong while it was decided.
    pub error: Option<String>,
}

/// Decides about what the user of a request, or a service account, wants to do.
pub trait Authorizer: Debug + Send + Sync {
    /// Decides.
    fn authorize(&self, attributes: &Attributes) -> Decision;
}
