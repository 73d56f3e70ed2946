//! Runs one plugin on one object.

use serde_json::Value;

use super::{Attributes, Notice, Operation, Plugin};
use crate::api::Status;
use crate::server::auth::testing::Fake;
use crate::server::auth::user::User;
use crate::server::registry::Resource;

/// A request to be admitted.
pub struct Request<'a> {
    pub operation: Operation,
    pub resource: Resource,
    pub subresource: Option<&'a str>,
    pub user: User,
    pub old: Option<Value>,
}

impl Request<'_> {
    /// The creation of an object.
    pub fn create(kind: &'static str, plural: &'static str) -> Self {
        Self::of("", kind, plural)
    }

    /// The creation of an object of a group.
    pub fn of(group: &'static str, kind: &'static str, plural: &'static str) -> Self {
        let resource = Resource::new(group, "v1", kind, plural);
        Self { operation: Operation::Create, resource, subresource: None, user: User::loopback(), old: None }
    }

    /// The object as the plugin leaves it.
    pub fn admit(&self, plugin: &dyn Plugin, reader: &Fake, object: Value) -> Result<Value, Status> {
        self.run(plugin, reader, object).map(|admitted| admitted.object)
    }

    /// What a plugin makes of the object, and what it says of it.
    pub fn run(&self, plugin: &dyn Plugin, reader: &Fake, mut object: Value) -> Result<Admitted, Status> {
        let before = object.clone();
        let meta = crate::api::Meta::of(&before);
        let namespace = Some(meta.namespace()).filter(|n| !n.is_empty());
        let mut attributes = Attributes {
            operation: self.operation,
            resource: &self.resource,
            subresource: self.subresource,
            namespace,
            name: meta.name(),
            user: &self.user,
            dry_run: false,
            object: Some(&mut object),
            old: self.old.as_ref(),
            reader,
            warnings: Vec::new(),
            notices: Vec::new(),
            asked: None,
        };
        plugin.mutate(&mut attributes)?;
        let (mut warnings, notices) = (attributes.warnings.clone(), attributes.notices.clone());
        plugin.validate(&attributes, &mut warnings)?;
        Ok(Admitted { object, warnings, notices })
    }
}

/// What a plugin made of an object.
pub struct Admitted {
    pub object: Value,
    pub warnings: Vec<String>,
    pub notices: Vec<Notice>,
}
