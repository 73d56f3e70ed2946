//! Which definitions are served: they are put into the registry and the cache, and taken out again.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::definition::{DEFINITIONS, Definition, GROUP, PLURAL, Source, VersionSpec};
use super::instances::Instances;
use super::version::{Schemas, Version};
use crate::api::identity::Name;
use crate::api::object::SelectableField;
use crate::api::{GroupResource, GroupVersionKind};
use crate::server::cache::{Cache, Feed, Form, Scope, key_within};
use crate::server::registry::{Custom, Family, Live, Resource, Subresource, verbs};
use crate::store::{Event, Observer, Revision};

/// Serves what the stored definitions declare.
pub struct Served {
    live: Arc<Live>,
    cache: Arc<Cache>,
    /// The schemas of what is served, by the definition's name.
    schemas: Mutex<HashMap<String, Arc<Schemas>>>,
}

impl Served {
    /// Nothing is served yet.
    pub fn new(live: Arc<Live>, cache: Arc<Cache>) -> Self {
        Self { live, cache, schemas: Mutex::default() }
    }

    /// Serves all stored definitions that are established. To be called once, when the cache is loaded.
    pub fn load(&self) {
        let Some(definitions) = self.cache.kind(DEFINITIONS) else { return };
        let mut families = Vec::new();
        for object in definitions.all(&Scope::All) {
            families.extend(self.prepare(object.name(), object.bytes()));
        }
        self.live.put_all(families);
    }

    /// Follows a change of a definition. Called where commits are observed, before anybody is told of the change:
    /// who reads that a definition is established can use it.
    fn observe(&self, event: &Event) {
        let Some(name) = key_within(event.key(), GROUP, PLURAL) else { return };
        match event {
            Event::Put { entry, .. } => match self.prepare(name, &entry.value) {
                Some((name, family)) => self.live.put(&name, family),
                None => self.remove(name),
            },
            Event::Delete { .. } => self.remove(name),
        }
    }

    fn remove(&self, name: &str) {
        if self.schemas.lock().remove(name).is_some() {
            self.live.remove(name);
            self.cache.remove(name);
        }
    }

    /// Prepares the cache for a definition and makes its entries; `None` if it is not to be served.
    fn prepare(&self, name: &str, bytes: &Bytes) -> Option<(String, Family)> {
        let definition = match Definition::parse(bytes) {
            Ok(definition) => definition,
            Err(error) => {
                tracing::error!(name, %error, "a stored CustomResourceDefinition cannot be read and is not served");
                return None;
            }
        };
        let accepted = definition.is_true("Established") || definition.is_true("NamesAccepted");
        let storage = definition.storage_version().filter(|_| accepted)?;
        if self.live.builtin().stored(name).is_some() {
            return None;
        }
        let source = Source(Arc::new(bytes.clone()));
        let known = self.schemas.lock().get(name).cloned();
        let schemas = match known.filter(|schemas| schemas.are_of(&source, &definition)) {
            Some(schemas) => schemas,
            None => {
                if definition.spec.conversion.strategy == "Webhook" && definition.spec.versions.len() > 1 {
                    tracing::warn!(
                        name,
                        "conversion webhooks are not called: objects are converted by their version alone"
                    );
                }
                let schemas = Arc::new(Schemas::new(source, &definition));
                let form = Arc::clone(&schemas) as Arc<dyn Form>;
                self.cache.put(name, all_fields(&definition), form);
                self.schemas.lock().insert(name.to_owned(), Arc::clone(&schemas));
                schemas
            }
        };
        let entry = |version: &VersionSpec| Arc::new(entry(&definition, version, &schemas));
        let served = definition.spec.versions.iter().filter(|v| v.served).map(entry).collect();
        Some((name.to_owned(), Family { stored: entry(storage), served }))
    }
}

fn fields(version: &VersionSpec) -> Vec<SelectableField> {
    version.selectable().into_iter().map(SelectableField::new).collect()
}

/// What selectors may ask of the objects in any version.
fn all_fields(definition: &Definition) -> Vec<SelectableField> {
    let mut all: Vec<SelectableField> = definition.spec.versions.iter().flat_map(fields).collect();
    all.sort_by(|a, b| a.label.cmp(&b.label));
    all.dedup();
    all
}

fn entry(definition: &Definition, spec: &VersionSpec, schemas: &Arc<Schemas>) -> Resource {
    let names = &definition.status.accepted_names;
    let owned = |list: &[String]| list.iter().cloned().map(Name::Owned).collect();
    let version = Arc::new(Version::new(schemas, definition, spec));
    let subresources = spec.subresources.clone().unwrap_or_default();
    let mut parts = Vec::new();
    if subresources.status.is_some() {
        parts.push(Subresource { name: "status".into(), kind: None, verbs: verbs::GET_PATCH_UPDATE });
    }
    if subresources.scale.is_some() {
        let kind = Some(GroupVersionKind::new("autoscaling", "v1", "Scale"));
        parts.push(Subresource { name: "scale".into(), kind, verbs: verbs::GET_PATCH_UPDATE });
    }
    let group: Name = definition.spec.group.clone().into();
    let strategy = Instances {
        version: Arc::clone(&version),
        resource: GroupResource::new(group.clone(), names.plural.clone()),
        status: subresources.status.is_some(),
    };
    Resource {
        group,
        version: spec.name.clone().into(),
        kind: names.kind.clone().into(),
        list_kind: names.list_kind.clone().into(),
        plural: names.plural.clone().into(),
        singular: names.singular.clone().into(),
        namespaced: definition.spec.scope == "Namespaced",
        short_names: owned(&names.short_names),
        categories: owned(&names.categories),
        subresources: parts,
        fields: fields(spec),
        unconditional_update: false,
        strategy: Arc::new(strategy),
        custom: Some(version as Arc<dyn Custom>),
        ..Resource::new("", "", "", "")
    }
}

/// Feeds the cache from the store's commit thread, and what is served before it.
pub struct DefinitionFeed {
    served: Arc<Served>,
    cache: Feed,
}

impl DefinitionFeed {
    /// For the store that `served` and its cache are about.
    pub fn new(served: Arc<Served>) -> Self {
        let cache = Feed(Arc::clone(&served.cache));
        Self { served, cache }
    }
}

impl Observer for DefinitionFeed {
    fn committed(&mut self, revision: Revision, events: &[Event]) {
        events.iter().for_each(|event| self.served.observe(event));
        self.cache.committed(revision, events);
    }
}
