//! Which claims a pod uses.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::server::controllers::kit::meta;
use crate::server::controllers::kit::pod::Pod;

/// The names of the claims of a pod's volumes, those made for it included.
pub fn claims_of(pod: &Pod) -> Vec<String> {
    let of_volume = |volume: &crate::server::controllers::kit::pod::Volume| {
        let named = volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.clone());
        let made =
            || volume.ephemeral.as_ref().map(|_| format!("{}-{}", meta::name(&pod.metadata), volume.name));
        named.or_else(made)
    };
    pod.spec.volumes.iter().filter_map(of_volume).collect()
}

/// Whether a pod uses a claim: one that is on a node, since a node starts none whose claim is going.
pub fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if pod.spec.node_name.as_deref().unwrap_or_default().is_empty() {
        return false;
    }
    let name = meta::name(&claim.metadata);
    pod.spec.volumes.iter().any(|volume| {
        let named = volume.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == name);
        let made = volume.ephemeral.is_some()
            && format!("{}-{}", meta::name(&pod.metadata), volume.name) == name
            && meta::controller_of(&claim.metadata).is_some_and(|o| o.uid == meta::uid(&pod.metadata));
        named || (made && !is_shut_down(pod))
    })
}

/// The node is done with the pod, or it was deleted by force.
fn is_shut_down(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(node: &str, more: Value) -> Pod {
        let mut metadata = json!({"name": "p", "namespace": "a", "uid": "u"});
        more.as_object().into_iter().flatten().for_each(|(k, v)| metadata[k] = v.clone());
        serde_json::from_value(json!({"metadata": metadata, "spec": {"nodeName": node, "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "e", "ephemeral": {}},
            {"name": "x", "emptyDir": {}}]}}))
        .expect("a pod")
    }

    fn claim(name: &str, owner: &str) -> PersistentVolumeClaim {
        let owners =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true}]);
        let metadata = json!({"name": name, "namespace": "a", "ownerReferences": owners});
        serde_json::from_value(json!({"metadata": metadata})).expect("a claim")
    }

    #[test]
    fn a_pod_on_a_node_uses_the_claims_of_its_volumes() {
        let running = pod("n", json!({}));
        assert_eq!(claims_of(&running), ["data", "p-e"]);
        assert!(uses(&running, &claim("data", "")) && uses(&running, &claim("p-e", "u")));
        assert!(!uses(&running, &claim("other", "")));
        // A claim of that name that was not made for this pod.
        assert!(!uses(&running, &claim("p-e", "other")));
        assert!(!uses(&pod("", json!({})), &claim("data", "")));
        let done =
            pod("n", json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}));
        assert!(uses(&done, &claim("data", "")) && !uses(&done, &claim("p-e", "u")));
    }
}
