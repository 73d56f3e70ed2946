//! The table of all resources, and how requests find their entry.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::strategy::Strategy;
use super::{Resource, Storage, resources};
use crate::api::object::SelectableField;

/// All resources that are served.
pub struct Registry {
    entries: Vec<Arc<Resource>>,
    by_path: HashMap<(String, String, String), usize>,
}

impl Registry {
    /// The built-in resources, each with the strategy that `strategy` knows for it.
    pub fn builtin(strategy: impl Fn(&str) -> Arc<dyn Strategy>) -> Self {
        // One of each: a strategy may hold allocators, and views share that of what they show.
        let mut strategies: HashMap<String, Arc<dyn Strategy>> = HashMap::new();
        let entries: Vec<Arc<Resource>> = resources::all()
            .into_iter()
            .map(|mut entry| {
                let stored = entry.stored_name();
                let known = strategies.entry(stored).or_insert_with_key(|name| strategy(name));
                entry.strategy = Arc::clone(known);
                Arc::new(entry)
            })
            .collect();
        Self::of(entries)
    }

    fn of(entries: Vec<Arc<Resource>>) -> Self {
        let path = |e: &Resource| (e.group.to_string(), e.version.to_string(), e.plural.to_string());
        let by_path = entries.iter().enumerate().map(|(i, e)| (path(e), i)).collect();
        Self { entries, by_path }
    }

    /// These entries and more of them.
    pub fn and(&self, more: Vec<Arc<Resource>>) -> Self {
        Self::of(self.entries.iter().cloned().chain(more).collect())
    }

    /// Every entry, in the order of discovery.
    pub fn entries(&self) -> &[Arc<Resource>] {
        &self.entries
    }

    /// The entry of a request path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.by_path.get(&key).map(|i| &self.entries[*i])
    }

    /// The entry that stores `pods` or `deployments.apps`.
    pub fn stored(&self, group_resource: &str) -> Option<&Arc<Resource>> {
        self.entries
            .iter()
            .find(|e| matches!(e.storage, Storage::Own) && e.group_resource().to_string() == group_resource)
    }

    /// What is stored: group, plural, selectable fields.
    pub fn stored_kinds(&self) -> impl Iterator<Item = (String, String, Vec<SelectableField>)> {
        let own = self.entries.iter().filter(|e| matches!(e.storage, Storage::Own));
        own.map(|e| (e.group.to_string(), e.plural.to_string(), e.fields.clone()))
    }

    /// Groups and their versions, in the order of discovery, the preferred version first.
    pub fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for entry in &self.entries {
            match places.get(&*entry.group).copied() {
                Some(place) if groups[place].1.contains(&&*entry.version) => {}
                Some(place) => groups[place].1.push(&entry.version),
                None => {
                    places.insert(&entry.group, groups.len());
                    groups.push((&entry.group, vec![&entry.version]));
                }
            }
        }
        groups
    }

    /// The entries of one version of a group.
    pub fn of_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.entries.iter().filter(move |e| e.group == group && e.version == version)
    }
}

impl Resource {
    /// This version's form of a stored object.
    pub fn from_stored(&self, mut stored: Value) -> Value {
        if let Storage::View(view) = self.storage {
            (view.from_stored)(&mut stored);
        }
        if let Some(custom) = &self.custom {
            custom.convert_from_stored(&mut stored);
        }
        stored
    }

    /// The stored form of an object of this version. Custom kinds are worked on in the version of the request.
    pub fn to_stored(&self, mut object: Value) -> Value {
        if let Storage::View(view) = self.storage {
            (view.to_stored)(&mut object);
        }
        object
    }

    /// Group and plural of the stored objects.
    pub fn stored_at(&self) -> (&str, &str) {
        match self.storage {
            Storage::View(view) => (view.group, view.plural),
            Storage::Own | Storage::Virtual => (&self.group, &self.plural),
        }
    }

    /// `pods`, `deployments.apps`: the cache's name of the stored objects.
    pub fn stored_name(&self) -> String {
        match self.stored_at() {
            ("", plural) => plural.to_owned(),
            (group, plural) => format!("{plural}.{group}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::strategy::Plain;

    fn registry() -> Registry {
        Registry::builtin(|_| Arc::new(Plain))
    }

    #[test]
    fn entries_are_found_by_path_and_by_name() {
        let registry = registry();
        assert_eq!(registry.find("apps", "v1", "deployments").unwrap().kind, "Deployment");
        assert!(registry.find("apps", "v1beta1", "deployments").is_none());
        assert_eq!(registry.stored("events").unwrap().group, "");
        assert!(registry.stored("events.events.k8s.io").is_none());
        assert_eq!(registry.find("events.k8s.io", "v1", "events").unwrap().stored_name(), "events");
    }

    #[test]
    fn names_are_unique_and_complete() {
        let registry = registry();
        assert_eq!(registry.by_path.len(), registry.entries.len(), "two entries share a path");
        let mut short = HashMap::new();
        for entry in registry.entries() {
            // metrics-server gives its kinds none.
            let singular = entry.kind.to_ascii_lowercase();
            let singular = if entry.group == "metrics.k8s.io" { "" } else { &singular };
            assert_eq!(entry.singular, singular);
            assert!(!entry.verbs.is_empty());
            for name in entry.short_names.iter().filter(|_| matches!(entry.storage, Storage::Own)) {
                assert!(short.insert(name.clone(), entry.kind.clone()).is_none(), "{name} is used twice");
            }
            if !matches!(entry.storage, Storage::Virtual) {
                assert!(registry.stored(&entry.stored_name()).is_some(), "{entry:?}");
            }
        }
    }

    #[test]
    fn the_core_group_comes_first_and_versions_are_ordered() {
        let registry = registry();
        let groups = registry.groups();
        assert_eq!(groups[0], ("", vec!["v1"]));
        let autoscaling = groups.iter().find(|(g, _)| *g == "autoscaling").unwrap();
        assert_eq!(autoscaling.1, ["v2", "v1"]);
        assert!(registry.of_version("apps", "v1").any(|e| e.plural == "deployments"));
    }
}
