//! What a PersistentVolumeClaim costs.

use serde_json::Value;

use super::{Amounts, ONE, Scope, quantity};

use crate::api::{Meta, Quantity};

const RESOURCES: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// Between the name of a storage class and a resource of its claims.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Whether claims are charged for a resource, beside their count.
pub fn tracks(name: &str) -> bool {
    RESOURCES.contains(&name) || name.split_once(OF_CLASS).is_some_and(|(_, of)| RESOURCES.contains(&of))
}

/// The cost: of all claims, and of those of its storage class.
pub fn usage(claim: &Value) -> Amounts {
    let mut usage = Amounts::from([("persistentvolumeclaims".to_owned(), ONE())]);
    if let Some(size) = size(claim) {
        usage.insert("requests.storage".to_owned(), size);
    }
    let class = Meta::of(claim).annotation(BETA_CLASS).or_else(|| claim["spec"]["storageClassName"].as_str());
    if let Some(class) = class.filter(|class| !class.is_empty()) {
        let of_class: Vec<_> = usage.iter().map(|(k, v)| (format!("{class}{OF_CLASS}{k}"), *v)).collect();
        usage.extend(of_class);
    }
    usage
}

/// The bytes asked for, or those already allocated if they are more; whole bytes.
fn size(claim: &Value) -> Option<Quantity> {
    let whole = |q: Quantity| {
        let rounded = Quantity::from_units(q.to_units(), q.format());
        if rounded == q { q } else { rounded }
    };
    let asked = whole(quantity(&claim["spec"]["resources"]["requests"]["storage"])?);
    let allocated = quantity(&claim["status"]["allocatedResources"]["storage"]).map(whole);
    Some(allocated.filter(|a| *a > asked).unwrap_or(asked))
}

/// Whether a claim is in a scope: only `VolumeAttributesClass` is about claims.
pub fn in_scope(scope: &Scope, claim: &Value) -> bool {
    let status = &claim["status"];
    let classes = [
        &claim["spec"]["volumeAttributesClassName"],
        &status["currentVolumeAttributesClassName"],
        &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ];
    let classes: Vec<&str> =
        classes.into_iter().filter_map(Value::as_str).filter(|c| !c.is_empty()).collect();
    scope.name == "VolumeAttributesClass" && scope.selects(&classes)
}

#[cfg(test)]
mod tests {
    use super::super::list;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_charged_to_its_class_too() {
        let claim =
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            list(&usage(&claim)),
            json!({"persistentvolumeclaims": "1", "requests.storage": "1Gi",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
                "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"})
        );
        let mut grown = claim;
        grown["status"]["allocatedResources"]["storage"] = json!("2Gi");
        assert_eq!(size(&grown), "2Gi".parse().ok());
        assert_eq!(
            size(&json!({"spec": {"resources": {"requests": {"storage": "1500m"}}}})).unwrap().to_string(),
            "2"
        );
        assert!(tracks("a.b.storageclass.storage.k8s.io/requests.storage") && !tracks("a/requests.storage"));
    }
}
