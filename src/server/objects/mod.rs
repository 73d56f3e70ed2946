//! The one way an object is created, changed, deleted and listed, whatever its kind.
//!
//! Requests from the wire and from this process come here with a decoded value; what differs between
//! kinds is in their [`Resource`] and its strategy. Writes go through admission, strategy and
//! validation to the store; reads come from the watch cache.

mod commit;
mod create;
mod delete;
mod list;
mod meta;
mod notices;
mod sent;
mod update;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::admission::{self, Asked, Attributes, Notice, Operation, Shown};
use super::auth::user::User;
use super::cache::{Cache, Kind, key};
use super::reader::Reader;
use super::registry::strategy::Context;
use super::registry::{Live, Resource};
use crate::api::{FieldValidation, Object, Schema, Status};
use crate::store::Store;

pub use delete::{DeleteOptions, Deleted, Propagation};
pub use list::{ListOptions, Listed, Match, Refused as ListRefused};
pub use update::Change;

/// All objects of the cluster.
pub struct Objects {
    /// What kinds there are.
    pub registry: Arc<Live>,
    /// Where reads come from.
    pub cache: Arc<Cache>,
    /// Where writes go to.
    pub store: Store,
    /// What they pass before.
    pub admission: admission::Chain,
}

/// A write of one kind in one namespace.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The kind whose objects are stored.
    pub resource: &'a Arc<Resource>,
    /// The kind in the version of the request: another one if that shows stored objects in another form.
    pub entry: &'a Arc<Resource>,
    /// The namespace, if it has one.
    pub namespace: Option<&'a str>,
    /// Who writes.
    pub user: &'a User,
    /// How.
    pub options: &'a WriteOptions,
    /// As what webhooks see the object.
    pub shown: Shown<'a>,
}

/// What a client may say about a write: `CreateOptions`, `UpdateOptions` and `PatchOptions` of `meta/v1`.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Do everything but the commit.
    pub dry_run: bool,
    /// Who owns the fields that are written.
    pub field_manager: String,
    /// What is done about unknown fields.
    pub field_validation: FieldValidation,
    /// An apply takes fields from other managers.
    pub force: bool,
    /// They are `PatchOptions`.
    pub patch: bool,
    /// The client named the field manager, which is taken from its user agent else.
    pub named: bool,
}

/// A write that succeeded.
#[derive(Debug)]
pub struct Written {
    /// The object's JSON.
    pub bytes: Bytes,
    /// It is new.
    pub created: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

impl<'a> Call<'a> {
    /// A write of the server on its own account, of which webhooks are not asked.
    pub fn own(
        resource: &'a Arc<Resource>,
        namespace: Option<&'a str>,
        user: &'a User,
        options: &'a WriteOptions,
    ) -> Self {
        Self { resource, entry: resource, namespace, user, options, shown: Shown::Nobody }
    }

    fn key(&self, name: &str) -> Bytes {
        key(&self.resource.group, &self.resource.plural, self.namespace, name)
    }

    fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.resource.group_resource(), name)
    }
}

/// What one admission pass is about.
#[derive(Clone, Copy)]
struct Review<'a> {
    operation: Operation,
    subresource: Option<&'a str>,
    name: &'a str,
    write: &'a WriteOptions,
    delete: Option<&'a DeleteOptions>,
}

impl<'a> Review<'a> {
    fn new(call: &Call<'a>, operation: Operation, subresource: Option<&'a str>, name: &'a str) -> Self {
        Self { operation, subresource, name, write: call.options, delete: None }
    }
}

/// What admission said of an object beside yes.
#[derive(Clone, Default)]
struct Said {
    /// Texts for `Warning` headers.
    warnings: Vec<String>,
    /// Events about it.
    notices: Vec<Notice>,
}

impl Said {
    fn take(&mut self, mut attributes: Attributes<'_>) {
        self.warnings.append(&mut attributes.warnings);
        self.notices.append(&mut attributes.notices);
    }
}

impl Objects {
    /// The cache of a resource's stored objects.
    ///
    /// # Errors
    /// 404 for a resource of which nothing is stored.
    pub fn kind(&self, resource: &Resource) -> Result<Arc<Kind>, Status> {
        self.cache.kind(&resource.stored_name()).ok_or_else(Status::no_such_path)
    }

    /// One object.
    ///
    /// # Errors
    /// 404.
    pub fn get(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Arc<Object>, Status> {
        let found = self.kind(resource)?.get(namespace, name);
        found.ok_or_else(|| Status::not_found(&resource.group_resource(), name))
    }

    /// Builds the strategies' allocators from what is stored. Called once, before any request.
    pub fn restore(&self) {
        for resource in self.registry.builtin().entries() {
            if let Ok(kind) = self.kind(resource)
                && kind.name() == resource.group_resource().to_string()
            {
                let all = kind.all(&super::cache::Scope::All);
                all.iter().for_each(|object| resource.strategy.restore(&object.value()));
            }
        }
    }

    fn context<'a>(&'a self, call: &Call<'a>) -> Context<'a> {
        Context {
            user: call.user,
            namespace: call.namespace,
            reader: &*self.cache,
            dry_run: call.options.dry_run,
        }
    }

    async fn mutate(
        &self,
        call: &Call<'_>,
        review: &Review<'_>,
        object: Option<&mut Value>,
        old: Option<&Value>,
        said: &mut Said,
    ) -> Result<(), Status> {
        let mut attributes = self.attributes(call, review, object, old);
        self.admission.mutate(&mut attributes).await?;
        if let (Some(custom), Some(object)) = (&call.resource.custom, attributes.object.as_deref_mut()) {
            custom.settle(object);
        }
        said.take(attributes);
        Ok(())
    }

    async fn validate(
        &self,
        call: &Call<'_>,
        review: &Review<'_>,
        object: Option<&mut Value>,
        old: Option<&Value>,
        said: &mut Said,
    ) -> Result<(), Status> {
        let mut attributes = self.attributes(call, review, object, old);
        self.admission.validate(&mut attributes).await?;
        said.take(attributes);
        Ok(())
    }

    fn attributes<'a>(
        &'a self,
        call: &Call<'a>,
        review: &'a Review<'a>,
        object: Option<&'a mut Value>,
        old: Option<&'a Value>,
    ) -> Attributes<'a> {
        Attributes {
            operation: review.operation,
            resource: call.resource,
            subresource: review.subresource,
            namespace: call.namespace,
            name: review.name,
            user: call.user,
            dry_run: call.options.dry_run,
            object,
            old,
            reader: &*self.cache as &dyn Reader,
            warnings: Vec::new(),
            notices: Vec::new(),
            asked: Some(Asked {
                entry: call.entry,
                shown: call.shown,
                sent: review,
                registry: &self.registry,
            }),
        }
    }

    /// Admission of a stream to an object: exec, attach, port-forward, proxy. `options` is what upstream makes of
    /// its query, such as `PodExecOptions`. The answer are texts for `Warning` headers.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn connect(
        &self,
        call: &Call<'_>,
        name: &str,
        subresource: &str,
        options: &mut Value,
    ) -> Result<Vec<String>, Status> {
        let review = Review::new(call, Operation::Connect, Some(subresource), name);
        let mut said = Said::default();
        self.mutate(call, &review, Some(options), None, &mut said).await?;
        self.validate(call, &review, Some(options), None, &mut said).await?;
        Ok(said.warnings)
    }

    /// Asks webhooks about what is posted to a subresource, or to a kind of which nothing is stored: a Binding, an
    /// Eviction. The answer are texts for `Warning` headers.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn ask(
        &self,
        call: &Call<'_>,
        name: &str,
        subresource: Option<&str>,
        object: &mut Value,
    ) -> Result<Vec<String>, Status> {
        let review = Review::new(call, Operation::Create, subresource, name);
        let mut attributes = self.attributes(call, &review, Some(object), None);
        self.admission.ask(&mut attributes).await?;
        Ok(attributes.warnings)
    }
}

/// The schema of a kind.
///
/// # Errors
/// 500 if there is none, which would be a gap in the table of kinds.
pub fn schema_of(resource: &Resource) -> Result<Schema, Status> {
    resource.schema()
}
