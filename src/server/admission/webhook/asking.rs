//! A request as webhooks are asked about it: everything but its object, which mutating ones change.

use std::sync::Arc;

use serde_json::Value;

use crate::api::{GroupVersionKind, Status};
use crate::server::admission::{Attributes, Operation, Sent, Shown};
use crate::server::auth::user::User;
use crate::server::reader::Reader;
use crate::server::registry::{Registry, Resource, Storage};

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
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) operation: Operation,
    /// The kind of the request's path, in its version.
    pub(super) entry: &'a Arc<Resource>,
    pub(super) subresource: &'a str,
    /// The namespace; for a namespace itself its own name.
    pub(super) namespace: &'a str,
    /// Empty while it is to be generated.
    pub(super) name: &'a str,
    pub(super) user: &'a User,
    pub(super) dry_run: bool,
    pub(super) reader: &'a dyn Reader,
    pub(super) sent: &'a dyn Sent,
    shown: Shown<'a>,
    registry: &'a Registry,
}

impl<'a> Asking<'a> {
    /// What webhooks are asked; nothing about their own configurations, nor about what the server does by itself.
    pub(super) fn of(attributes: &Attributes<'a>) -> Option<Self> {
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
        };
        if asking.is_namespace() {
            asking.namespace = asking.name;
        }
        Some(asking)
    }

    /// The request is about a namespace, or a part of it.
    pub(super) fn is_namespace(&self) -> bool {
        self.entry.group.is_empty() && self.entry.plural == "namespaces"
    }

    /// The request's resource in other versions and groups, with the same subresource.
    pub(super) fn equivalents(&self) -> impl Iterator<Item = &'a Arc<Resource>> {
        let stored = self.entry.stored_name();
        let (entry, subresource) = (self.entry, self.subresource);
        let own = self.registry.entries().iter().filter(move |other| !Arc::ptr_eq(other, entry));
        own.filter(move |other| {
            !matches!(other.storage, Storage::Virtual)
                && other.stored_name() == stored
                && (subresource.is_empty() || other.subresource(subresource).is_some())
        })
    }

    /// The kind of what is shown, if the request had been for this resource.
    pub(super) fn kind_for(&self, resource: &Resource) -> GroupVersionKind {
        match self.shown {
            Shown::Whole(kind) => kind.clone(),
            Shown::As(face) => face.kind(),
            Shown::Itself | Shown::Nobody => resource.gvk(),
        }
    }

    /// What is shown of an object, if the request had been for this resource.
    pub(super) fn show(&self, resource: &Resource, object: &Value) -> Value {
        match self.shown {
            Shown::Whole(_) => object.clone(),
            Shown::As(face) => face.show(object),
            Shown::Itself | Shown::Nobody => resource.from_stored(object.clone()),
        }
    }

    /// Changes an object to what was made of what is shown.
    ///
    /// # Errors
    /// Why it cannot be so.
    pub(super) fn take(&self, resource: &Resource, shown: Value, object: &mut Value) -> Result<(), Status> {
        match self.shown {
            Shown::Whole(_) => *object = shown,
            Shown::As(face) => face.take(&shown, object)?,
            Shown::Itself | Shown::Nobody => *object = resource.to_stored(shown),
        }
        Ok(())
    }

    /// The labels of an object are those of what is shown: a Scale has none.
    pub(super) fn labelled<'o>(&self, object: Option<&'o Value>) -> Option<&'o Value> {
        object.filter(|_| !matches!(self.shown, Shown::As(_)))
    }

    /// The operation's name.
    pub(super) fn operation_name(&self) -> &'static str {
        match self.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}
