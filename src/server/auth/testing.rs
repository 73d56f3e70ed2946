//! A cluster in a map, for the tests of the rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::api::{Meta, Object, object};
use crate::server::reader::Reader;

type Key = (String, String, String);

/// Objects by resource, namespace and name.
#[derive(Default)]
pub struct Fake {
    objects: Mutex<BTreeMap<Key, Arc<Object>>>,
}

impl Fake {
    /// Makes or replaces an object.
    pub fn put(&self, resource: &str, value: Value) {
        let meta = Meta::of(&value);
        let key = (resource.to_owned(), meta.namespace().to_owned(), meta.name().to_owned());
        let stored = object::serialize(value).at(1);
        let object = Object::from_stored(stored, 1, &[]).expect("a test's object is readable");
        self.objects.lock().insert(key, Arc::new(object));
    }

    /// Removes an object.
    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        self.objects.lock().remove(&(resource.to_owned(), namespace.to_owned(), name.to_owned()));
    }
}

impl Reader for Fake {
    fn get(&self, resource: &str, namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        let key = (resource.to_owned(), namespace.unwrap_or_default().to_owned(), name.to_owned());
        self.objects.lock().get(&key).cloned()
    }

    fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let objects = self.objects.lock();
        let here = objects
            .iter()
            .filter(|((r, n, _), _)| r == resource && namespace.is_none_or(|wanted| wanted == n));
        here.map(|(_, object)| Arc::clone(object)).collect()
    }
}
