//! Every resource kind, one table entry each.
//!
//! Routes, discovery, OpenAPI, list, watch, patch and table output derive from a [`Resource`]; there
//! is no handler per kind. What only one kind needs is in its [`Strategy`].

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::api::identity::Name;
use crate::api::object::SelectableField;
use crate::api::{FieldError, GroupKind, GroupResource, GroupVersionKind, Object, Schema, Schemas, Status};
use crate::store::Durability;

mod custom;
mod live;
pub mod printers;
mod resources;
pub mod strategies;
pub mod strategy;
mod table;
mod views;

pub use custom::{Custom, ScalePaths};
pub use live::{Family, Live, version_rank};
pub use table::Registry;

use strategy::{Plain, Strategy};

/// One resource kind in one version.
#[derive(Clone)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: Name,
    /// Such as `v1`.
    pub version: Name,
    /// Such as `Pod`.
    pub kind: Name,
    /// Such as `PodList`.
    pub list_kind: Name,
    /// Such as `pods`.
    pub plural: Name,
    /// Such as `pod`.
    pub singular: Name,
    /// Objects live in namespaces.
    pub namespaced: bool,
    /// Such as `po`.
    pub short_names: Vec<Name>,
    /// Such as `all`, for `kubectl get all`.
    pub categories: Vec<Name>,
    /// What can be done with objects; see [`verbs`].
    pub verbs: &'static [&'static str],
    /// Beside the main resource.
    pub subresources: Vec<Subresource>,
    /// What is wrong with a name; empty if nothing.
    pub name_rule: fn(&str) -> Vec<String>,
    /// A delete answers the deleted object, and not a `Status`.
    pub returns_deleted: bool,
    /// A `PUT` of a name that is not there makes it.
    pub create_on_update: bool,
    /// A `PUT` need not say which resource version it is of.
    pub unconditional_update: bool,
    /// What clients are warned of who use it at all.
    pub deprecation: Option<&'static str>,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// Where the objects are.
    pub storage: Storage,
    /// Fields a field selector may name, beside `metadata.name` and `metadata.namespace`.
    pub fields: Vec<SelectableField>,
    /// Columns of `kubectl get`.
    pub columns: &'static [Column],
    /// What only this kind needs.
    pub strategy: Arc<dyn Strategy>,
    /// Of a kind that users defined.
    pub custom: Option<Arc<dyn Custom>>,
}

/// Where the objects of a resource are.
#[derive(Clone, Copy, Debug)]
pub enum Storage {
    /// Under its own key prefix.
    Own,
    /// Objects are another resource's, seen in another version: the group and version its objects
    /// are stored in, and how they are converted.
    View(&'static View),
    /// Nothing is stored: the request is answered by a handler of its own, such as a review.
    Virtual,
}

/// One resource shown as another, as `events.k8s.io` shows core events.
pub struct View {
    /// Group of the stored resource.
    pub group: &'static str,
    /// Plural of the stored resource.
    pub plural: &'static str,
    /// From the stored form to this one.
    pub from_stored: fn(&mut Value),
    /// From this form to the stored one.
    pub to_stored: fn(&mut Value),
    /// What is wrong with a stored form that was written in this one, and what it was before, beyond
    /// what the stored kind's strategy found.
    pub validate: fn(&Value, Option<&Value>, &mut Vec<FieldError>),
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("group", &self.group)
            .field("plural", &self.plural)
            .finish_non_exhaustive()
    }
}

/// A part of an object with its own path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Such as `status`.
    pub name: Name,
    /// What is sent and answered, if not the resource's own kind.
    pub kind: Option<GroupVersionKind>,
    /// What can be done with it.
    pub verbs: &'static [&'static str],
}

/// A printer column: one cell of a row of a `meta.k8s.io/v1 Table`.
#[derive(Clone, Copy)]
pub struct Column {
    /// Title, in upstream's spelling.
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the object's name, else empty.
    pub format: &'static str,
    /// 0 is always shown, more only by `-o wide`.
    pub priority: i32,
    /// What it shows.
    pub description: &'static str,
    /// Makes the cell.
    pub cell: fn(&Value, &Clock) -> Value,
}

/// The moment a table is made; ages count back from it.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub jiff::Timestamp);

impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({} {})", self.api_version(), self.plural)
    }
}

/// Sets of verbs, as discovery names them.
pub mod verbs {
    /// Ordinary objects.
    pub const ALL: &[&str] =
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    /// Of a custom kind whose definition is being deleted.
    pub const TERMINATING: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];
    /// As [`ALL`], without deleting many at once.
    pub const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
    /// Reviews and bindings.
    pub const CREATE: &[&str] = &["create"];
    /// `status` and `scale`.
    pub const GET_PATCH_UPDATE: &[&str] = &["get", "patch", "update"];
    /// Read only.
    pub const GET: &[&str] = &["get"];
    /// Read only, as component statuses.
    pub const GET_LIST: &[&str] = &["get", "list"];
    /// Streams: exec, attach, portforward.
    pub const CREATE_GET: &[&str] = &["create", "get"];
    /// Proxies.
    pub const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
    /// Finalisation of namespaces.
    pub const UPDATE: &[&str] = &["update"];
}

impl Resource {
    /// A namespaced resource that is plain data.
    pub fn new(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            plural: plural.into(),
            singular: kind.to_ascii_lowercase().into(),
            namespaced: true,
            short_names: Vec::new(),
            categories: Vec::new(),
            verbs: verbs::ALL,
            subresources: Vec::new(),
            name_rule: crate::api::names::dns1123_subdomain,
            returns_deleted: false,
            create_on_update: false,
            unconditional_update: true,
            deprecation: None,
            durability: Durability::Synced,
            storage: Storage::Own,
            fields: Vec::new(),
            columns: &[],
            strategy: Arc::new(Plain),
            custom: None,
        }
    }

    /// Its objects belong to no namespace.
    #[must_use]
    pub fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    /// Names for fast typists.
    #[must_use]
    pub fn short(mut self, names: &[&'static str]) -> Self {
        self.short_names = names.iter().map(|n| Name::Borrowed(*n)).collect();
        self
    }

    /// A member of `kubectl get all`.
    #[must_use]
    pub fn all(self) -> Self {
        self.category("all")
    }

    /// A member of `kubectl get <category>`.
    #[must_use]
    pub fn category(mut self, category: &'static str) -> Self {
        self.categories.push(category.into());
        self
    }

    /// What can be done with its objects.
    #[must_use]
    pub fn verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.verbs = verbs;
        self
    }

    /// Nothing of it is stored; it is created, and the answer is the result.
    #[must_use]
    pub fn review(mut self) -> Self {
        (self.storage, self.verbs) = (Storage::Virtual, verbs::CREATE);
        self
    }

    /// Its objects are those of another resource.
    #[must_use]
    pub fn view(mut self, view: &'static View) -> Self {
        self.storage = Storage::View(view);
        self
    }

    /// Acknowledged when in memory.
    #[must_use]
    pub fn lazy(mut self) -> Self {
        self.durability = Durability::Lazy;
        self
    }

    /// Names follow another rule than that of DNS subdomains.
    #[must_use]
    pub fn names(mut self, rule: fn(&str) -> Vec<String>) -> Self {
        self.name_rule = rule;
        self
    }

    /// A delete answers the deleted object.
    #[must_use]
    pub fn returns_deleted(mut self) -> Self {
        self.returns_deleted = true;
        self
    }

    /// Who uses it is warned.
    #[must_use]
    pub fn deprecated(mut self, warning: &'static str) -> Self {
        self.deprecation = Some(warning);
        self
    }

    /// A `PUT` of a name that is not there makes it.
    #[must_use]
    pub fn create_on_update(mut self) -> Self {
        self.create_on_update = true;
        self
    }

    /// A `PUT` must say which resource version it is of.
    #[must_use]
    pub fn conditional_update(mut self) -> Self {
        self.unconditional_update = false;
        self
    }

    /// Fields a field selector may name.
    #[must_use]
    pub fn fields(mut self, fields: Vec<SelectableField>) -> Self {
        self.fields = fields;
        self
    }

    /// Printer columns.
    #[must_use]
    pub fn columns(mut self, columns: &'static [Column]) -> Self {
        self.columns = columns;
        self
    }

    /// With a status of its own path.
    #[must_use]
    pub fn status(self) -> Self {
        self.sub("status", verbs::GET_PATCH_UPDATE)
    }

    /// With a subresource of the resource's own kind.
    #[must_use]
    pub fn sub(mut self, name: &'static str, verbs: &'static [&'static str]) -> Self {
        self.subresources.push(Subresource { name: name.into(), kind: None, verbs });
        self
    }

    /// With a subresource of another kind: group, version, kind.
    #[must_use]
    pub fn sub_kind(
        mut self,
        name: &'static str,
        (group, version, kind): (&'static str, &'static str, &'static str),
        verbs: &'static [&'static str],
    ) -> Self {
        let kind = Some(GroupVersionKind::new(group, version, kind));
        self.subresources.push(Subresource { name: name.into(), kind, verbs });
        self
    }

    /// What discovery says can be done with objects.
    pub fn listed_verbs(&self) -> &'static [&'static str] {
        let ends = self.custom.as_ref().is_some_and(|c| c.is_terminating());
        if ends { verbs::TERMINATING } else { self.verbs }
    }

    /// Whether its objects are stored and cached just as they are served.
    pub fn is_stored_form(&self) -> bool {
        matches!(self.storage, Storage::Own)
            && self.custom.as_ref().is_none_or(|c| c.storage_version() == self.version)
    }

    /// The schema of its objects.
    ///
    /// # Errors
    /// 500 if there is none, which would be a gap in the table of kinds.
    pub fn schema(&self) -> Result<Schema, Status> {
        let kind = self.gvk();
        match &self.custom {
            Some(custom) => {
                custom.schema().map_err(|why| Status::internal(format!("schema of {kind}: {why}")))
            }
            None => {
                Schemas::builtin().get(&kind).ok_or_else(|| Status::internal(format!("no schema for {kind}")))
            }
        }
    }

    /// Fills in the schema's defaults; of a custom kind's object also drops what the schema does not have.
    ///
    /// # Errors
    /// As [`Resource::schema`].
    pub fn settle(&self, object: &mut Value) -> Result<(), Status> {
        match &self.custom {
            Some(custom) => custom.settle(object),
            None => self.schema()?.default(object),
        }
        Ok(())
    }

    /// A cached object in this entry's version.
    pub fn read(&self, object: &Object) -> Value {
        let mut value = object.value();
        if let Some(custom) = &self.custom {
            custom.convert_from_stored(&mut value);
        }
        value
    }

    /// Group, version and kind: its schema's key.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group.clone(), self.version.clone(), self.kind.clone())
    }

    /// Group and kind, as validation errors name it.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.group.clone(), self.kind.clone())
    }

    /// Group and plural, as other errors name it.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.plural.clone())
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        self.gvk().api_version()
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}
