//! StorageObjectInUseProtection and PersistentVolumeClaimResize.
//!
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>; the
//! finalizers that are added here are removed by the protection controllers.

use super::{Attributes, Operation, Plugin};
use crate::api::quota::quantity;
use crate::api::{Meta, MetaMut, Status};

const CLAIMS: &str = "persistentvolumeclaims";
const CLASSES: &str = "storageclasses.storage.k8s.io";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Kinds and the finalizers that keep their objects while they are in use.
const PROTECTED: [(&str, &str); 2] =
    [(CLAIMS, "kubernetes.io/pvc-protection"), ("persistentvolumes", "kubernetes.io/pv-protection")];

/// Claims and volumes stay while they are in use.
pub struct InUseProtection;

impl Plugin for InUseProtection {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let protected = PROTECTED.iter().find(|(resource, _)| attributes.is(resource));
        let Some((_, finalizer)) = protected.filter(|_| attributes.operation == Operation::Create) else {
            return Ok(());
        };
        let Some(object) = attributes.object.as_deref_mut() else { return Ok(()) };
        let mut finalizers: Vec<String> = Meta::of(object).finalizers().map(str::to_owned).collect();
        if !finalizers.iter().any(|f| f == finalizer) {
            finalizers.push((*finalizer).to_owned());
            MetaMut::of(object).set_finalizers(finalizers);
        }
        Ok(())
    }
}

/// A claim grows if it is bound and its class allows it.
pub struct ClaimResize;

impl Plugin for ClaimResize {
    fn validate(&self, attributes: &Attributes<'_>, _: &mut Vec<String>) -> Result<(), Status> {
        if !attributes.is(CLAIMS) || attributes.operation != Operation::Update {
            return Ok(());
        }
        let (Some(new), Some(old)) = (attributes.object.as_deref(), attributes.old) else { return Ok(()) };
        let size = |claim: &serde_json::Value| quantity(&claim["spec"]["resources"]["requests"]["storage"]);
        if size(new) <= size(old) {
            return Ok(());
        }
        if old["status"]["phase"] != "Bound" {
            return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = |claim: &serde_json::Value| {
            let annotated = Meta::of(claim).annotation(BETA_CLASS);
            annotated.or(claim["spec"]["storageClassName"].as_str()).unwrap_or_default().to_owned()
        };
        let name = class(new);
        let allowed = !name.is_empty()
            && name == class(old)
            && attributes
                .reader
                .get(CLASSES, None, &name)
                .is_some_and(|class| class.value()["allowVolumeExpansion"] == true);
        if allowed {
            return Ok(());
        }
        Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc \
             must support resize",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;
    use serde_json::{Value, json};

    #[test]
    fn claims_and_volumes_are_protected_once() {
        for (kind, plural, finalizer) in [
            ("PersistentVolumeClaim", CLAIMS, "kubernetes.io/pvc-protection"),
            ("PersistentVolume", "persistentvolumes", "kubernetes.io/pv-protection"),
        ] {
            let request = Request::create(kind, plural);
            let admit = |object| request.admit(&InUseProtection, &Fake::default(), object).unwrap();
            let once = admit(json!({"metadata": {"name": "x", "finalizers": ["a/b"]}}));
            assert_eq!(once["metadata"]["finalizers"], json!(["a/b", finalizer]));
            assert_eq!(admit(once.clone()), once);
        }
    }

    #[test]
    fn only_bound_claims_of_a_class_that_allows_it_grow() {
        let fake = Fake::default();
        fake.put(CLASSES, json!({"metadata": {"name": "grows"}, "allowVolumeExpansion": true}));
        fake.put(CLASSES, json!({"metadata": {"name": "stays"}}));
        let claim = |class: &str, size: &str, phase: &str| {
            json!({"metadata": {"name": "c", "namespace": "a"}, "status": {"phase": phase},
                "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}})
        };
        let grow = |class: &str, size: &str, phase: &str| -> Result<Value, String> {
            let request = Request {
                operation: Operation::Update,
                old: Some(claim(class, "1Gi", phase)),
                ..Request::create("PersistentVolumeClaim", CLAIMS)
            };
            request.admit(&ClaimResize, &fake, claim(class, size, phase)).map_err(|s| s.message)
        };
        assert!(grow("grows", "2Gi", "Bound").is_ok());
        assert!(grow("stays", "1024Mi", "Pending").is_ok());
        assert_eq!(
            grow("grows", "2Gi", "Pending").unwrap_err(),
            "persistentvolumeclaims \"c\" is forbidden: Only bound persistent volume claims can be expanded"
        );
        for class in ["stays", "missing", ""] {
            assert!(
                grow(class, "2Gi", "Bound").unwrap_err().contains("only dynamically provisioned pvc"),
                "{class}"
            );
        }
    }
}
