//! Which labels a node may give itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::Meta;

/// For administrators only: whoever schedules by them trusts them.
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Kubernetes' own labels that are a kubelet's to set.
const KUBELET: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// And what is below these.
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The labels that differ between two Nodes and are not the node's to change, in one line.
pub(super) fn forbidden(new: &Value, old: Option<&Value>) -> String {
    let before: BTreeMap<&str, &str> = old.map(|old| Meta::of(old).labels().collect()).unwrap_or_default();
    let after: BTreeMap<&str, &str> = Meta::of(new).labels().collect();
    let keys: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let changed = keys.into_iter().filter(|key| before.get(key) != after.get(key));
    changed.filter(|key| is_forbidden(key)).collect::<Vec<_>>().join(", ")
}

/// The domain itself, or one below it.
fn within(domain: &str, of: &str) -> bool {
    domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'))
}

fn is_forbidden(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    let of_kubernetes = within(domain, "kubernetes.io") || within(domain, "k8s.io");
    let of_kubelet = KUBELET.contains(&key) || KUBELET_DOMAINS.iter().any(|d| within(domain, d));
    within(domain, RESTRICTED) || (of_kubernetes && !of_kubelet)
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
            assert_eq!(is_forbidden(key), no, "{key}");
        }
    }
}
