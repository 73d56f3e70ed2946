//! Which labels a node may give itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::Meta;
use crate::config::is_nodes_own;

/// The labels that differ between two Nodes and are not the node's to change, in one line.
pub(super) fn forbidden(new: &Value, old: Option<&Value>) -> String {
    let before: BTreeMap<&str, &str> = old.map(|old| Meta::of(old).labels().collect()).unwrap_or_default();
    let after: BTreeMap<&str, &str> = Meta::of(new).labels().collect();
    let keys: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let changed = keys.into_iter().filter(|key| before.get(key) != after.get(key));
    changed.filter(|key| !is_nodes_own(key)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_sets_labels_of_its_own_and_those_of_a_kubelet() {
        for (key, no) in [
            ("mine", false),
            ("example.com/role", false),
            ("kubernetes.io/hostname", false),
            ("topology.kubernetes.io/zone", false),
            ("node.kubernetes.io/anything", false),
            ("a.kubelet.kubernetes.io/x", false),
            ("node-role.kubernetes.io/control-plane", true),
            ("kubernetes.io/other", true),
            ("foo.k8s.io/x", true),
            ("node-restriction.kubernetes.io/x", true),
            ("a.node-restriction.kubernetes.io/x", true),
            ("notkubernetes.io/x", false),
        ] {
            assert_eq!(!is_nodes_own(key), no, "{key}");
        }
    }
}
