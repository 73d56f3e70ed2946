//! What is left in a namespace that is being deleted, and how its status says so.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;

use crate::server::controllers::kit::meta;

/// What a look at a namespace found.
#[derive(Debug, Default)]
pub struct Content {
    /// The kinds could not be discovered.
    pub discovery_failure: Option<String>,
    /// Deletions that failed.
    pub failures: Vec<String>,
    remaining: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
}

impl Content {
    /// Counts objects that are left.
    pub fn add<'m>(&mut self, kind: &ApiResource, objects: impl Iterator<Item = &'m ObjectMeta>) {
        for meta in objects {
            *self.remaining.entry(format!("{}.{}", kind.plural, kind.group)).or_default() += 1;
            for finalizer in meta.finalizers.iter().flatten() {
                *self.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
        }
    }

    /// Nothing is left and nothing failed.
    pub fn is_empty(&self) -> bool {
        self.discovery_failure.is_none() && self.failures.is_empty() && self.remaining.is_empty()
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(failure) = &self.discovery_failure {
            return write!(f, "{}", discovery_message(failure));
        }
        match self.failures.first() {
            Some(failure) => write!(f, "{failure}"),
            None => write!(f, "{}", self.remaining_message()),
        }
    }
}

impl Content {
    fn remaining_message(&self) -> String {
        let parts: Vec<String> =
            self.remaining.iter().map(|(kind, n)| format!("{kind} has {n} resource instances")).collect();
        format!("Some resources are remaining: {}", parts.join(", "))
    }

    fn finalizers_message(&self) -> String {
        let parts: Vec<String> =
            self.finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances")).collect();
        format!("Some content in the namespace has finalizers remaining: {}", parts.join(", "))
    }
}

fn discovery_message(failure: &str) -> String {
    format!("Discovery failed for some groups, 1 failing: {failure}")
}

/// Writes the conditions of a namespace that is being deleted, with upstream's types and texts.
pub fn set(status: &mut NamespaceStatus, content: &Content) {
    let ok = |reason: &'static str, message: &str| ("False", reason, message.to_owned());
    let discovery = match &content.discovery_failure {
        Some(failure) => ("True", "DiscoveryFailed", discovery_message(failure)),
        None => ok("ResourcesDiscovered", "All resources successfully discovered"),
    };
    let parsing = ok("ParsedGroupVersions", "All legacy kube types successfully parsed");
    let deletion = if content.failures.is_empty() {
        ok("ContentDeleted", "All content successfully deleted, may be waiting on finalization")
    } else {
        let message = format!(
            "Failed to delete all resource types, {} remaining: {}",
            content.failures.len(),
            content.failures.join(", ")
        );
        ("True", "ContentDeletionFailed", message)
    };
    let remaining = if content.remaining.is_empty() {
        ok("ContentRemoved", "All content successfully removed")
    } else {
        ("True", "SomeResourcesRemain", content.remaining_message())
    };
    let finalizers = if content.finalizers.is_empty() {
        ok("ContentHasNoFinalizers", "All content-preserving finalizers finished")
    } else {
        ("True", "SomeFinalizersRemain", content.finalizers_message())
    };
    for (kind, (value, reason, message)) in [
        ("NamespaceDeletionDiscoveryFailure", discovery),
        ("NamespaceDeletionGroupVersionParsingFailure", parsing),
        ("NamespaceDeletionContentFailure", deletion),
        ("NamespaceContentRemaining", remaining),
        ("NamespaceFinalizersRemaining", finalizers),
    ] {
        put(status, kind, value, reason, message);
    }
}

fn put(status: &mut NamespaceStatus, kind: &str, value: &str, reason: &str, message: String) {
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter_mut().find(|c| c.type_ == kind);
    match known {
        Some(c) => {
            if c.status != value {
                c.last_transition_time = Some(meta::now());
            }
            c.status = value.to_owned();
            c.reason = Some(reason.to_owned());
            c.message = Some(message);
        }
        None => conditions.push(NamespaceCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(meta::now()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Resource;

    fn told(status: &NamespaceStatus, kind: &str) -> String {
        let c = status.conditions.iter().flatten().find(|c| c.type_ == kind).expect("the condition");
        format!("{} {}", c.status, c.message.as_deref().unwrap_or_default())
    }

    fn pods() -> ApiResource {
        ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&())
    }

    #[test]
    fn what_is_left_is_named_and_then_gone() {
        let mut status = NamespaceStatus::default();
        let mut content = Content::default();
        let held = ObjectMeta { finalizers: Some(vec!["example.com/hold".into()]), ..Default::default() };
        content.add(&pods(), [&held, &ObjectMeta::default()].into_iter());
        assert!(!content.is_empty());
        set(&mut status, &content);
        assert_eq!(
            told(&status, "NamespaceContentRemaining"),
            "True Some resources are remaining: pods. has 2 resource instances"
        );
        assert_eq!(
            told(&status, "NamespaceFinalizersRemaining"),
            "True Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
        );
        set(&mut status, &Content::default());
        assert_eq!(told(&status, "NamespaceContentRemaining"), "False All content successfully removed");
        assert_eq!(status.conditions.map(|c| c.len()), Some(5));
        assert_eq!(k8s_openapi::api::core::v1::Pod::plural(&()), "pods");
    }

    #[test]
    fn failures_are_told() {
        let mut status = NamespaceStatus::default();
        let content = Content { failures: vec!["forbidden".into()], ..Content::default() };
        set(&mut status, &content);
        assert_eq!(
            told(&status, "NamespaceDeletionContentFailure"),
            "True Failed to delete all resource types, 1 remaining: forbidden"
        );
        assert_eq!(content.to_string(), "forbidden");
    }
}
