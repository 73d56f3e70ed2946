//! One watch of one kind, cached, with indices and change handlers, shared by all controllers.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// How long a write may take to come back through the watch.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One change of an object: created (no `old`), updated (both) or deleted (no `new`).
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// The object before.
    pub old: Option<Arc<K>>,
    /// The object now.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The newest known state, also of a deleted object.
    pub fn latest(&self) -> &Arc<K> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has at least one side")
    }

    /// The object was deleted.
    pub fn deleted(&self) -> bool {
        self.new.is_none()
    }
}

type Handler<K> = Arc<dyn Fn(&Change<K>) + Send + Sync>;
type Handlers<K> = Arc<Mutex<Vec<(u64, Handler<K>)>>>;

struct Cache<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// Objects by the uid of their controlling owner.
    owned: HashMap<Box<str>, BTreeMap<Key, Arc<K>>>,
}

/// The cached objects of one kind.
pub struct Informer<K> {
    cache: RwLock<Cache<K>>,
    handlers: Handlers<K>,
    next_id: Mutex<u64>,
    synced: watch::Sender<bool>,
    changed: Notify,
}

/// Keeps a handler registered while it lives.
#[must_use = "the handler is removed when this is dropped"]
pub struct Subscription(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(remove) = self.0.take() {
            remove();
        }
    }
}

fn controller_uid<K: Resource>(object: &K) -> Option<&str> {
    let owners = object.meta().owner_references.as_deref()?;
    owners.iter().find(|o| o.controller == Some(true)).map(|o| o.uid.as_str())
}

impl<K> Default for Informer<K> {
    fn default() -> Self {
        Self {
            cache: RwLock::new(Cache { objects: BTreeMap::new(), owned: HashMap::new() }),
            handlers: Handlers::default(),
            next_id: Mutex::default(),
            synced: watch::Sender::new(false),
            changed: Notify::new(),
        }
    }
}

impl<K: Resource + Send + Sync + 'static> Informer<K> {
    /// The object of this key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.cache.read().objects.get(key).cloned()
    }

    /// The cluster-scoped object of this name.
    pub fn named(&self, name: &str) -> Option<Arc<K>> {
        self.get(&Key::new("", name))
    }

    /// All objects, by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.cache.read().objects.values().cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.cache.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects of one namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let cache = self.cache.read();
        let from = Key::new(namespace, "");
        let range = cache.objects.range(from..);
        range.take_while(|(k, _)| k.namespace == namespace).map(|(_, o)| Arc::clone(o)).collect()
    }

    /// The objects whose controlling owner has this uid.
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.cache.read().owned.get(uid).map(|m| m.values().cloned().collect()).unwrap_or_default()
    }

    /// Calls `handler` for every object there is, as created, and from then on for every change, in
    /// order and never twice at once. The handler must be quick and not block.
    pub fn subscribe(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) -> Subscription {
        let mut handlers = self.handlers.lock();
        for object in self.list() {
            handler(&Change { old: None, new: Some(object) });
        }
        let id = {
            let mut next = self.next_id.lock();
            *next += 1;
            *next
        };
        handlers.push((id, Arc::new(handler)));
        let list = Arc::downgrade(&self.handlers);
        Subscription(Some(Box::new(move || {
            if let Some(list) = list.upgrade() {
                list.lock().retain(|(other, _)| *other != id);
            }
        })))
    }

    /// Resolves once the first complete list is in the cache.
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as `self`.
        let _ = synced.wait_for(|s| *s).await;
    }

    /// Whether the first complete list is in the cache.
    pub(super) fn synced_state(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Puts an object into the cache and tells the handlers. Older and equal versions change nothing.
    pub fn apply(&self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let handlers = self.handlers.lock();
        let key = Key::of(&object);
        let object = Arc::new(object);
        let old = {
            let mut cache = self.cache.write();
            let known = cache.objects.get(&key);
            if known.is_some_and(|o| {
                o.meta().resource_version.is_some()
                    && o.meta().resource_version == object.meta().resource_version
            }) {
                return;
            }
            let old = cache.objects.insert(key.clone(), Arc::clone(&object));
            if let Some(old) = &old {
                cache.disown(&key, old);
            }
            if let Some(uid) = controller_uid(object.borrow() as &K) {
                cache.owned.entry(uid.into()).or_default().insert(key, Arc::clone(&object));
            }
            old
        };
        // An object of the same name but another uid is a deletion that was not seen, and a creation.
        let replaced = old.as_ref().is_some_and(|o| o.meta().uid != object.meta().uid);
        if replaced {
            deliver(&handlers, &Change { old, new: None });
            deliver(&handlers, &Change { old: None, new: Some(object) });
        } else {
            deliver(&handlers, &Change { old, new: Some(object) });
        }
        self.changed.notify_waiters();
    }

    /// Removes an object from the cache and tells the handlers.
    pub fn remove(&self, key: &Key) {
        let handlers = self.handlers.lock();
        let old = {
            let mut cache = self.cache.write();
            let old = cache.objects.remove(key);
            if let Some(old) = &old {
                cache.disown(key, old);
            }
            old
        };
        if old.is_some() {
            deliver(&handlers, &Change { old, new: None });
        }
        self.changed.notify_waiters();
    }

    /// Resolves when the cache shows what was just written, so that the next look at it does not
    /// make the same write again. Gives up after five seconds: something else happened then.
    pub async fn caught_up(&self, shows: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if shows(self) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(CATCH_UP, wait).await.is_err() {
            tracing::debug!(kind = std::any::type_name::<K>(), "the watch does not show a write");
        }
    }

    /// Says that the cache is complete.
    pub fn set_synced(&self) {
        self.synced.send_replace(true);
    }
}

impl<K: Resource> Cache<K> {
    fn disown(&mut self, key: &Key, old: &K) {
        let Some(uid) = controller_uid(old) else { return };
        if let Some(owned) = self.owned.get_mut(uid) {
            owned.remove(key);
            if owned.is_empty() {
                self.owned.remove(uid);
            }
        }
    }
}

fn deliver<K>(handlers: &[(u64, Handler<K>)], change: &Change<K>) {
    for (_, handler) in handlers {
        handler(change);
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Follows the API until `stop`. Errors are logged and retried with back-off by the watcher.
    pub async fn follow(&self, api: Api<K>, config: watcher::Config, stop: CancellationToken) {
        let url = api.resource_url().to_owned();
        let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let mut listed: Option<HashSet<Key>> = None;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => self.take(event, &mut listed),
                Some(Err(error)) => tracing::debug!(%url, %error, "watch failed; trying again"),
                None => return,
            }
        }
    }

    fn take(&self, event: Event<K>, listed: &mut Option<HashSet<Key>>) {
        match event {
            Event::Apply(object) => self.apply(object),
            Event::Delete(object) => self.remove(&Key::of(&object)),
            Event::Init => *listed = Some(HashSet::new()),
            Event::InitApply(object) => {
                if let Some(listed) = listed {
                    listed.insert(Key::of(&object));
                }
                self.apply(object);
            }
            Event::InitDone => {
                if let Some(listed) = listed.take() {
                    let gone: Vec<Key> =
                        self.cache.read().objects.keys().filter(|k| !listed.contains(*k)).cloned().collect();
                    gone.iter().for_each(|key| self.remove(key));
                }
                self.set_synced();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, version: &str, uid: &str, owner: Option<&str>) -> ConfigMap {
        let mut o = ConfigMap::default();
        o.metadata.namespace = Some("ns".into());
        o.metadata.name = Some(name.into());
        o.metadata.resource_version = Some(version.into());
        o.metadata.uid = Some(uid.into());
        o.metadata.owner_references = owner.map(|uid| {
            vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
                uid: uid.into(),
                controller: Some(true),
                ..Default::default()
            }]
        });
        o
    }

    fn log(informer: &Informer<ConfigMap>) -> (Arc<Mutex<Vec<String>>>, Subscription) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        let guard = informer.subscribe(move |c| {
            let what = match (&c.old, &c.new) {
                (None, _) => "add",
                (_, None) => "delete",
                _ => "update",
            };
            sink.lock().push(format!("{what} {}", c.latest().metadata.name.as_deref().unwrap_or("")));
        });
        (log, guard)
    }

    #[test]
    fn a_late_handler_sees_what_is_there_and_a_dropped_one_nothing() {
        let informer = Informer::default();
        informer.apply(object("a", "1", "u1", None));
        let (log, guard) = log(&informer);
        informer.apply(object("a", "1", "u1", None));
        informer.apply(object("a", "2", "u1", None));
        assert_eq!(*log.lock(), ["add a", "update a"]);
        drop(guard);
        informer.remove(&Key::new("ns", "a"));
        assert_eq!(log.lock().len(), 2);
    }

    #[test]
    fn a_new_uid_under_the_same_name_is_a_deletion_and_a_creation() {
        let informer = Informer::default();
        informer.apply(object("a", "1", "u1", None));
        let (log, _guard) = log(&informer);
        informer.apply(object("a", "9", "u2", None));
        assert_eq!(*log.lock(), ["add a", "delete a", "add a"]);
    }

    #[test]
    fn a_relist_removes_what_vanished_meanwhile() {
        let informer = Informer::default();
        informer.apply(object("a", "1", "u1", None));
        informer.apply(object("b", "1", "u2", None));
        let (log, _guard) = log(&informer);
        let mut listed = None;
        informer.take(Event::Init, &mut listed);
        informer.take(Event::InitApply(object("b", "1", "u2", None)), &mut listed);
        informer.take(Event::InitDone, &mut listed);
        assert_eq!(*log.lock(), ["add a", "add b", "delete a"]);
        assert!(*informer.synced.borrow());
    }

    #[test]
    fn objects_are_found_by_their_controller_and_namespace() {
        let informer = Informer::default();
        informer.apply(object("a", "1", "u1", Some("o1")));
        informer.apply(object("b", "1", "u2", Some("o1")));
        assert_eq!(informer.controlled_by("o1").len(), 2);
        informer.apply(object("a", "2", "u1", None));
        informer.remove(&Key::new("ns", "b"));
        assert!(informer.controlled_by("o1").is_empty());
        assert_eq!(informer.in_namespace("ns").len(), 1);
        assert!(informer.in_namespace("n").is_empty());
    }
}
