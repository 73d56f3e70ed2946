//! Pod affinity terms in the form they are evaluated in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodAffinityTerm;

use crate::server::controllers::kit::meta::{Labels, Matcher, labels};
pub use crate::server::controllers::kit::node_selectors::{selects, term_selects};
use crate::server::controllers::kit::pod::Pod;
pub use crate::server::controllers::kit::tolerations::{tolerates, untolerated};

/// Labels of namespaces, by name.
pub type Namespaces = BTreeMap<String, Labels>;

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug)]
pub struct PodTerm {
    selector: Matcher,
    namespaces: Vec<String>,
    namespace_selector: Option<Matcher>,
    /// Label of nodes whose values are the domains.
    pub topology_key: String,
}

impl PodTerm {
    /// Compiles a term of a pod in `namespace`.
    pub fn new(term: &PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        Self {
            selector: Matcher::new(term.label_selector.as_ref()),
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().map(|s| Matcher::new(Some(s))),
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether the term is about this pod.
    pub fn matches(&self, pod: &Pod, namespaces: &Namespaces) -> bool {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let inside = self.namespaces.iter().any(|n| n == namespace)
            || self.namespace_selector.as_ref().is_some_and(|s| {
                s.is_everything() || namespaces.get(namespace).is_some_and(|labels| s.matches(labels))
            });
        inside && self.selector.matches(labels(&pod.metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_pod_term_means_its_own_namespace_unless_it_names_others() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "b", "labels": {"app": "x"}}}))
                .expect("a pod");
        let selector = json!({"matchLabels": {"app": "x"}});
        let namespaces = Namespaces::from([("b".to_owned(), map(&[("team", "t")]))]);
        for (term, own, expected) in [
            (json!({"labelSelector": selector, "topologyKey": "z"}), "a", false),
            (json!({"labelSelector": selector, "topologyKey": "z"}), "b", true),
            (json!({"labelSelector": selector, "topologyKey": "z", "namespaces": ["b"]}), "a", true),
            (json!({"labelSelector": selector, "topologyKey": "z", "namespaceSelector": {}}), "a", true),
            (
                json!({"labelSelector": selector, "topologyKey": "z",
                "namespaceSelector": {"matchLabels": {"team": "t"}}}),
                "a",
                true,
            ),
            (
                json!({"labelSelector": selector, "topologyKey": "z",
                "namespaceSelector": {"matchLabels": {"team": "u"}}}),
                "a",
                false,
            ),
        ] {
            let parsed: PodAffinityTerm = serde_json::from_value(term.clone()).expect("a term");
            assert_eq!(PodTerm::new(&parsed, own).matches(&pod, &namespaces), expected, "{own} {term}");
        }
    }
}
