//! All resources as they are served now: the built-in ones and those that users define.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::{Registry, Resource};
use crate::api::GroupVersionKind;

/// The versions of one custom kind.
#[derive(Clone, Debug)]
pub struct Family {
    /// The entry of the version in which objects are stored, served or not.
    pub stored: Arc<Resource>,
    /// The entries of the versions that are served.
    pub served: Vec<Arc<Resource>>,
}

/// The resources that are served, as they come and go. Finding one costs a lookup; the whole is put
/// together only for those who ask for it after a change.
pub struct Live {
    builtin: Registry,
    /// By the name of the stored kind, as `crontabs.example.com`.
    custom: RwLock<HashMap<String, Family>>,
    generation: AtomicU64,
    all: Mutex<Option<(u64, Arc<Registry>)>>,
}

impl Live {
    /// The built-in resources alone.
    pub fn new(builtin: Registry) -> Self {
        Self { builtin, custom: RwLock::default(), generation: AtomicU64::new(0), all: Mutex::default() }
    }

    /// The resources of the executable.
    pub fn builtin(&self) -> &Registry {
        &self.builtin
    }

    /// The entry of a request path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        if let Some(entry) = self.builtin.find(group, version, plural) {
            return Some(Arc::clone(entry));
        }
        let custom = self.custom.read();
        let family = custom.get(format!("{plural}.{group}").as_str())?;
        family.served.iter().find(|e| e.version == version).cloned()
    }

    /// The entry that stores `pods`, `deployments.apps`, `crontabs.example.com`.
    pub fn stored(&self, group_resource: &str) -> Option<Arc<Resource>> {
        match self.builtin.stored(group_resource) {
            Some(entry) => Some(Arc::clone(entry)),
            None => self.custom.read().get(group_resource).map(|family| Arc::clone(&family.stored)),
        }
    }

    /// The entry of a kind.
    pub fn of_kind(&self, kind: &GroupVersionKind) -> Option<Arc<Resource>> {
        if let Some(entry) = self.builtin.entries().iter().find(|e| e.gvk() == *kind) {
            return Some(Arc::clone(entry));
        }
        let custom = self.custom.read();
        custom.values().flat_map(|family| &family.served).find(|e| e.gvk() == *kind).cloned()
    }

    /// The other versions and groups of a resource: what else shows the same stored objects.
    pub fn equivalents(&self, of: &Resource) -> Vec<Arc<Resource>> {
        let same = |other: &&Arc<Resource>| {
            other.stored_at() == of.stored_at() && !(other.group == of.group && other.version == of.version)
        };
        if of.custom.is_none() {
            return self.builtin.entries().iter().filter(same).cloned().collect();
        }
        let custom = self.custom.read();
        let family = custom.get(of.stored_name().as_str());
        family.into_iter().flat_map(|family| &family.served).filter(same).cloned().collect()
    }

    /// A number that is another after each change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// All resources, those of custom kinds after the built-in ones: groups by name, the most stable
    /// version first, resources by name.
    pub fn all(&self) -> Arc<Registry> {
        let mut all = self.all.lock();
        // Read before the families: a change in between leaves a number that is old already.
        let generation = self.generation();
        if let Some((made, registry)) = &*all
            && *made == generation
        {
            return Arc::clone(registry);
        }
        let mut entries: Vec<Arc<Resource>> =
            self.custom.read().values().flat_map(|family| &family.served).cloned().collect();
        entries.sort_by(|a, b| {
            let versions = || version_rank(&b.version).cmp(&version_rank(&a.version));
            a.group.cmp(&b.group).then_with(versions).then_with(|| a.plural.cmp(&b.plural))
        });
        let registry = Arc::new(self.builtin.and(entries));
        *all = Some((generation, Arc::clone(&registry)));
        registry
    }

    /// Serves a custom kind, instead of what was served under its name.
    pub fn put(&self, name: &str, family: Family) {
        self.custom.write().insert(name.to_owned(), family);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Serves many custom kinds at once.
    pub fn put_all(&self, families: impl IntoIterator<Item = (String, Family)>) {
        self.custom.write().extend(families);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Serves a custom kind no longer.
    pub fn remove(&self, name: &str) {
        if self.custom.write().remove(name).is_some() {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Orders versions as Kubernetes does: `v2` > `v1` > `v1beta2` > `v1beta1` > `v1alpha1` > others, which
/// are ordered by name, the first the highest.
pub fn version_rank(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let major = rest[..digits].parse().ok().filter(|_| !rest.starts_with('0'))?;
        let (stage, minor) = match &rest[digits..] {
            "" => return Some((4, major, 0)),
            beta if beta.starts_with("beta") => (3, &beta[4..]),
            alpha if alpha.starts_with("alpha") => (2, &alpha[5..]),
            _ => return None,
        };
        Some((stage, major, minor.parse().ok().filter(|_| !minor.starts_with('0'))?))
    };
    match parse() {
        Some((stage, major, minor)) => (stage, major, minor, std::cmp::Reverse(String::new())),
        None => (1, 0, 0, std::cmp::Reverse(version.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::strategy::Plain;

    fn live() -> Live {
        Live::new(Registry::builtin(|_| Arc::new(Plain)))
    }

    fn family(versions: &[&'static str]) -> Family {
        let entry = |v: &&'static str| Arc::new(Resource::new("example.com", v, "Tab", "tabs"));
        Family { stored: entry(&versions[0]), served: versions[1..].iter().map(entry).collect() }
    }

    #[test]
    fn custom_kinds_come_and_go() {
        let live = live();
        assert!(live.find("example.com", "v1", "tabs").is_none());
        let before = live.generation();
        live.put("tabs.example.com", family(&["v2", "v1beta1", "v1"]));
        assert!(live.find("example.com", "v1", "tabs").is_some());
        assert!(live.find("example.com", "v2", "tabs").is_none(), "it is stored, not served");
        assert_eq!(live.stored("tabs.example.com").unwrap().version, "v2");
        assert!(live.of_kind(&GroupVersionKind::new("example.com", "v1", "Tab")).is_some());
        assert_ne!(live.generation(), before);
        let groups = live.all();
        assert_eq!(groups.groups().last().unwrap(), &("example.com", vec!["v1", "v1beta1"]));
        assert!(Arc::ptr_eq(&groups, &live.all()), "nothing changed");
        live.remove("tabs.example.com");
        assert!(live.find("example.com", "v1", "tabs").is_none());
        assert!(live.all().groups().iter().all(|(group, _)| *group != "example.com"));
    }

    #[test]
    fn stable_versions_rank_first() {
        let mut versions = [
            "foo10",
            "v10beta3",
            "v1",
            "v11alpha2",
            "v2",
            "v10",
            "v3beta1",
            "v11beta2",
            "v12alpha1",
            "foo1",
            "v0",
        ];
        versions.sort_by_key(|v| std::cmp::Reverse(version_rank(v)));
        let wanted = [
            "v10",
            "v2",
            "v1",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10",
            "v0",
        ];
        assert_eq!(versions, wanted);
    }
}
