//! Owners, labels, selectors, hashes and times.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::{Selector, SelectorExt};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

static NO_LABELS: Labels = Labels::new();

/// The labels, empty when there are none.
pub fn labels(meta: &ObjectMeta) -> &Labels {
    meta.labels.as_ref().unwrap_or(&NO_LABELS)
}

/// The value of an annotation.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The uid, empty before the object was stored.
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// The name, empty before the object was stored.
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The namespace, empty for cluster-scoped objects.
pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// The owner that manages the object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_deref()?.iter().find(|o| o.controller == Some(true))
}

/// An owner reference with which `owner` manages another object.
pub fn controller_ref<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name(owner.meta()).to_owned(),
        uid: uid(owner.meta()).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A reference to an object, for events.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// A compiled label selector. One that is absent or malformed selects nothing.
#[derive(Clone, Debug)]
pub struct Matcher(Option<Selector>);

impl Matcher {
    /// Compiles a selector; an empty one selects everything.
    pub fn new(selector: Option<&LabelSelector>) -> Self {
        Self(selector.and_then(|s| Selector::try_from(s.clone()).ok()))
    }

    /// A selector of exactly these labels; empty selects nothing, as with ReplicationControllers.
    pub fn of_labels(labels: &Labels) -> Self {
        Self((!labels.is_empty()).then(|| labels.clone().into_iter().collect()))
    }

    /// Whether labels are selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.as_ref().is_some_and(|s| s.matches(labels))
    }

    /// Whether it selects every object there is.
    pub fn is_everything(&self) -> bool {
        self.0.as_ref().is_some_and(Selector::selects_all)
    }
}

/// This instant.
pub fn now() -> Time {
    Time(Timestamp::now())
}

/// Time passed since `then`; zero when it lies in the future.
pub fn since(then: &Time) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(then.0)).unwrap_or_default()
}

/// FNV-1a, 32 bits, as upstream hashes pod templates.
pub fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

/// Characters of generated names: no vowels and nothing that reads like another.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Rewrites a string in the alphabet of generated names.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|b| char::from(SAFE[usize::from(b) % SAFE.len()])).collect()
}

/// The value of `pod-template-hash` for a template and the owner's collision count.
pub fn template_hash(template: &impl serde::Serialize, collisions: Option<i32>) -> String {
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    if let Some(count) = collisions {
        bytes.extend_from_slice(&u32::try_from(count).unwrap_or_default().to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    safe_encode(&fnv32a(&bytes).to_string())
}

/// Five random characters, as `generateName` appends.
pub fn random_suffix() -> String {
    (0..5).map(|_| char::from(SAFE[rand::random_range(0..SAFE.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_and_safe_encoding_are_upstreams() {
        assert_eq!(fnv32a(b""), 0x811c_9dc5);
        assert_eq!(fnv32a(b"a"), 0xe40c_292c);
        assert_eq!(fnv32a(b"foobar"), 0xbf9c_f968);
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }

    #[test]
    fn the_template_hash_depends_on_the_collision_count() {
        let template = serde_json::json!({"spec": {"containers": []}});
        let first = template_hash(&template, None);
        assert_eq!(first, template_hash(&template, None));
        assert_ne!(first, template_hash(&template, Some(1)));
    }

    #[test]
    fn an_empty_selector_selects_all_and_an_absent_one_nothing() {
        assert!(Matcher::new(Some(&LabelSelector::default())).matches(&Labels::new()));
        assert!(!Matcher::new(None).matches(&Labels::new()));
        assert!(!Matcher::of_labels(&Labels::new()).matches(&Labels::new()));
        let app = Labels::from([("app".to_owned(), "x".to_owned())]);
        assert!(Matcher::of_labels(&app).matches(&app));
        assert!(!Matcher::of_labels(&app).matches(&Labels::new()));
    }
}
