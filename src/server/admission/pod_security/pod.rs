//! A pod, or a pod template, as the checks look at it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::Meta;

/// A pod or template.
#[derive(Clone, Copy)]
pub struct Pod<'a> {
    object: &'a Value,
    /// Its spec.
    pub spec: &'a Value,
}

/// What one check has against a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In a few words.
    pub reason: String,
    /// Which part of the pod.
    pub detail: String,
}

impl Finding {
    /// A finding.
    pub fn new(reason: impl Into<String>, detail: impl Into<String>) -> Option<Self> {
        Some(Self { reason: reason.into(), detail: detail.into() })
    }
}

impl<'a> Pod<'a> {
    /// Of a pod, or of the template of one.
    pub fn new(object: &'a Value) -> Self {
        Self { object, spec: &object["spec"] }
    }

    /// All containers: the first to run first.
    pub fn containers(self) -> impl Iterator<Item = &'a Value> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(move |list| self.spec[list].as_array().into_iter().flatten())
    }

    /// Names of the containers that are so.
    pub fn containers_that(self, is: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|c| is(c)).map(|c| c["name"].as_str().unwrap_or_default()).collect()
    }

    /// The security context of the pod.
    pub fn security(self) -> &'a Value {
        &self.spec["securityContext"]
    }

    /// The volumes.
    pub fn volumes(self) -> &'a [Value] {
        self.spec["volumes"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The annotations.
    pub fn annotations(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        Meta::of(self.object).annotations()
    }

    /// It is for Windows nodes.
    pub fn is_windows(self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Its users are not the node's.
    pub fn has_own_users(self) -> bool {
        self.spec["hostUsers"] == false
    }

    /// `pod` if the pod's own security context is so, and the containers whose own is.
    pub fn setters(self, is: impl Fn(&Value) -> bool) -> Vec<String> {
        let mut setters = Vec::new();
        if is(self.security()) {
            setters.push("pod".to_owned());
        }
        let containers = self.containers_that(|c| is(&c["securityContext"]));
        if !containers.is_empty() {
            setters.push(container_list(&containers));
        }
        setters
    }
}

/// `container "a"`, `containers "a", "b"`.
pub fn container_list(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// One word or the other.
pub fn plural<'w>(count: usize, one: &'w str, many: &'w str) -> &'w str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`.
pub fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    items.join(", ")
}

/// The different texts at a place, in order, of the pod's security context and its containers'.
pub fn values_at<'a>(pod: Pod<'a>, pointer: &str, bad: impl Fn(&str) -> bool) -> BTreeSet<&'a str> {
    let contexts = std::iter::once(pod.security()).chain(pod.containers().map(|c| &c["securityContext"]));
    contexts.filter_map(|c| c.pointer(pointer)?.as_str()).filter(|v| bad(v)).collect()
}
