//! Admission: what is checked and filled in beyond a kind's own rules, because it depends on other objects.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>. Each plugin is a file;
//! [`Chain::standard`] is their order.

use serde_json::Value;

use crate::api::Status;
use crate::server::auth::user::User;
use crate::server::reader::Reader;
use crate::server::registry::Resource;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed, or one of its subresources is.
    Update,
    /// It is deleted.
    Delete,
    /// A stream to it is opened: exec, attach, port-forward, proxy.
    Connect,
}

/// A request, as plugins see it.
pub struct Attributes<'a> {
    /// What it does.
    pub operation: Operation,
    /// To which kind.
    pub resource: &'a Resource,
    /// To which part of the object.
    pub subresource: Option<&'a str>,
    /// The request's namespace, if the kind is namespaced.
    pub namespace: Option<&'a str>,
    /// The object's name; empty while it is to be generated.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a User,
    /// Nothing will be committed.
    pub dry_run: bool,
    /// The object as it will be; for a subresource of another kind, that kind's.
    pub object: Option<&'a mut Value>,
    /// The object as it is.
    pub old: Option<&'a Value>,
    /// The newest committed objects.
    pub reader: &'a dyn Reader,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// One rule. Both hooks do nothing unless implemented.
pub trait Plugin: Send + Sync {
    /// Changes the object, or refuses it.
    ///
    /// # Errors
    /// Why the request is refused.
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let _ = attributes;
        Ok(())
    }

    /// Refuses the object as all plugins and the kind's strategy made it.
    ///
    /// # Errors
    /// Why the request is refused.
    fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let _ = attributes;
        Ok(())
    }
}

/// All plugins, in order.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// The plugins upstream has on by default, as far as kedge has what they are about.
    pub fn standard() -> Self {
        Self { plugins: Vec::new() }
    }

    /// Lets every plugin change the object.
    ///
    /// # Errors
    /// What the first plugin that refuses says.
    pub async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        self.plugins.iter().try_for_each(|p| p.mutate(attributes))
    }

    /// Asks every plugin whether the finished object may be committed.
    ///
    /// # Errors
    /// What the first plugin that refuses says.
    pub async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        self.plugins.iter().try_for_each(|p| p.validate(attributes))
    }
}
