//! A request as webhooks and policies are asked about it: everything but its object, which some change.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::Objects;
use crate::api::{GroupVersionKind, Status};
use crate::server::admission::{Attributes, Operation, Sent, Shown};
use crate::server::auth::user::User;
use crate::server::reader::Reader;
use crate::server::registry::{Live, Resource};

/// Kinds of this group are what admission is made of: nobody may lock the door to them.
const EXEMPT_GROUP: &str = "admissionregistration.k8s.io";
const EXEMPT_KINDS: [&str; 6] = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];

/// A request.
pub(in crate::server::admission) struct Asking<'a> {
    pub(in crate::server::admission) operation: Operation,
    /// The kind of the request's path, in its version.
    pub(in crate::server::admission) entry: &'a Arc<Resource>,
    pub(in crate::server::admission) subresource: &'a str,
    /// The namespace; for a namespace itself its own name.
    pub(in crate::server::admission) namespace: &'a str,
    /// Empty while it is to be generated.
    pub(in crate::server::admission) name: &'a str,
    pub(in crate::server::admission) user: &'a User,
    pub(in crate::server::admission) dry_run: bool,
    pub(in crate::server::admission) reader: &'a dyn Reader,
    pub(in crate::server::admission) sent: &'a dyn Sent,
    shown: Shown<'a>,
    registry: &'a Live,
    equivalents: OnceLock<Vec<Arc<Resource>>>,
}

impl<'a> Asking<'a> {
    /// What webhooks are asked; nothing about their own configurations, nor about what the server does by itself.
    pub(in crate::server::admission) fn of(attributes: &Attributes<'a>) -> Option<Self> {
        let asked = attributes.asked.filter(|asked| !matches!(asked.shown, Shown::Nobody))?;
        if asked.entry.group == EXEMPT_GROUP && EXEMPT_KINDS.contains(&&*asked.entry.kind) {
            return None;
        }
        let mut asking = Self {
            operation: attributes.operation,
            entry: asked.entry,
            subresource: attributes.subresource.unwrap_or_default(),
            namespace: attributes.namespace.unwrap_or_default(),
            name: attributes.name,
            user: attributes.user,
            dry_run: attributes.dry_run,
            reader: attributes.reader,
            sent: asked.sent,
            shown: asked.shown,
            registry: asked.registry,
            equivalents: OnceLock::new(),
        };
        if asking.is_namespace() {
            asking.namespace = asking.name;
        }
        Some(asking)
    }

    /// The request is about a namespace, or a part of it.
    pub(in crate::server::admission) fn is_namespace(&self) -> bool {
        self.entry.group.is_empty() && self.entry.plural == "namespaces"
    }

    /// The request's resource in other versions and groups, with the same subresource.
    pub(in crate::server::admission) fn equivalents(&self) -> &[Arc<Resource>] {
        self.equivalents.get_or_init(|| {
            let mut others = self.registry.equivalents(self.entry);
            others.retain(|o| self.subresource.is_empty() || o.subresource(self.subresource).is_some());
            others
        })
    }

    /// The resource of a kind.
    pub(in crate::server::admission) fn of_kind(&self, kind: &GroupVersionKind) -> Option<Arc<Resource>> {
        self.registry.of_kind(kind)
    }

    /// The kind of what is shown, if the request had been for this resource.
    pub(in crate::server::admission) fn kind_for(&self, resource: &Resource) -> GroupVersionKind {
        match self.shown {
            Shown::Whole(kind) => kind.clone(),
            Shown::As(face) => face.kind(),
            Shown::Itself | Shown::Nobody => resource.gvk(),
        }
    }

    /// What is shown of an object, if the request had been for this resource.
    ///
    /// # Errors
    /// It cannot be shown so.
    pub(in crate::server::admission) fn show(
        &self,
        resource: &Resource,
        object: &Value,
    ) -> Result<Value, Status> {
        match self.shown {
            Shown::Whole(_) => Ok(object.clone()),
            Shown::As(face) => face.show(object),
            Shown::Itself | Shown::Nobody => Ok(resource.from_stored(object.clone())),
        }
    }

    /// What is shown of the objects of the request.
    ///
    /// # Errors
    /// They cannot be shown so.
    pub(in crate::server::admission) fn show_all(
        &self,
        resource: &Resource,
        (object, old): Objects<'_>,
    ) -> Result<(Option<Value>, Option<Value>), Status> {
        let show = |object: Option<&Value>| object.map(|o| self.show(resource, o)).transpose();
        Ok((show(object)?, show(old)?))
    }

    /// Changes an object to what was made of what is shown.
    ///
    /// # Errors
    /// Why it cannot be so.
    pub(in crate::server::admission) fn take(
        &self,
        resource: &Resource,
        shown: Value,
        object: &mut Value,
    ) -> Result<(), Status> {
        match self.shown {
            Shown::Whole(_) => *object = shown,
            Shown::As(face) => face.take(&shown, object)?,
            Shown::Itself | Shown::Nobody => {
                *object = resource.to_stored(shown);
                // Custom kinds are worked on in the version of the request.
                if let (Some(custom), Some(own)) = (&resource.custom, &self.entry.custom) {
                    custom.convert_to_stored(object);
                    own.convert_from_stored(object);
                }
            }
        }
        Ok(())
    }

    /// The labels of an object are those of what is shown: a Scale has none.
    pub(in crate::server::admission) fn labelled<'o>(&self, object: Option<&'o Value>) -> Option<&'o Value> {
        object.filter(|_| !matches!(self.shown, Shown::As(_)))
    }

    /// The operation's name.
    pub(in crate::server::admission) fn operation_name(&self) -> &'static str {
        match self.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}
