//! The request as its client sees it, for webhooks and policies; plugins see objects as they are stored.

use std::sync::Arc;

use serde_json::Value;

use crate::api::{GroupVersionKind, Status};
use crate::server::registry::{Live, Resource};

/// How a subresource shows an object as one of another kind, as `scale` shows deployments.
pub trait Face: Send + Sync {
    /// The other kind.
    fn kind(&self) -> GroupVersionKind;
    /// What it shows of a stored object.
    ///
    /// # Errors
    /// Why it cannot show it.
    fn show(&self, stored: &Value) -> Result<Value, Status>;
    /// Changes a stored object to what was made of what is shown.
    ///
    /// # Errors
    /// Why it cannot be so.
    fn take(&self, shown: &Value, stored: &mut Value) -> Result<(), Status>;
}

/// As what webhooks and policies see the object of a request.
#[derive(Clone, Copy, Default)]
pub enum Shown<'a> {
    /// As one of the request's kind and version.
    #[default]
    Itself,
    /// As one of another kind.
    As(&'a dyn Face),
    /// The object is none that is stored but one of this kind, such as a Binding or the options of an exec.
    Whole(&'a GroupVersionKind),
    /// Not at all: the server writes on its own account, or they saw the request in another form.
    Nobody,
}

/// What came with a request.
pub trait Sent: Send + Sync {
    /// `CreateOptions`, `UpdateOptions`, `PatchOptions` or `DeleteOptions` of `meta/v1`; null for a connection.
    fn options(&self) -> Value;
}

/// A request as its client made it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The kind of the request's path, in its version.
    pub entry: &'a Arc<Resource>,
    /// As what its object is shown.
    pub shown: Shown<'a>,
    /// What came with it.
    pub sent: &'a dyn Sent,
    /// All kinds, to find the request's in other versions.
    pub registry: &'a Live,
}
