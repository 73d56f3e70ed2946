//! DefaultStorageClass: a claim that names no class gets the default one.

use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::api::{Meta, Status};

const CLASSES: &str = "storageclasses.storage.k8s.io";
const MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const BETA: &str = "volume.beta.kubernetes.io/storage-class";

/// The plugin.
pub struct DefaultStorageClass;

impl Plugin for DefaultStorageClass {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !attributes.is("persistentvolumeclaims") || attributes.operation != Operation::Create {
            return Ok(());
        }
        let reader = attributes.reader;
        let Some(claim) = attributes.object.as_deref_mut() else { return Ok(()) };
        // An empty name is a wish for no class, and stays.
        if claim["spec"]["storageClassName"].is_string() || Meta::of(claim).annotation(BETA).is_some() {
            return Ok(());
        }
        let marked = reader.list(CLASSES, None).into_iter().map(|c| c.value()).filter(|class| {
            let meta = Meta::of(class);
            MARKS.iter().any(|mark| meta.annotation(mark) == Some("true"))
        });
        // The newest; of several equally new the first by name.
        let newest = marked.max_by(|a, b| {
            let (a, b) = (Meta::of(a), Meta::of(b));
            a.creation_timestamp().cmp(b.creation_timestamp()).then_with(|| b.name().cmp(a.name()))
        });
        if let Some(class) = newest {
            claim["spec"]["storageClassName"] = json!(Meta::of(&class).name());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;
    use serde_json::Value;

    fn class_of(spec: Value) -> Value {
        let fake = Fake::default();
        for (name, created, default) in [
            ("a", "2026-01-01T00:00:00Z", true),
            ("b", "2026-01-02T00:00:00Z", true),
            ("c", "2026-01-03T00:00:00Z", false),
        ] {
            let annotations = json!({"storageclass.kubernetes.io/is-default-class": default.to_string()});
            fake.put(
                CLASSES,
                json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}}),
            );
        }
        let claim = json!({"metadata": {"name": "c", "namespace": "a"}, "spec": spec});
        let request = Request::create("PersistentVolumeClaim", "persistentvolumeclaims");
        request.admit(&DefaultStorageClass, &fake, claim).unwrap()["spec"]["storageClassName"].clone()
    }

    #[test]
    fn a_claim_without_a_class_gets_the_newest_default() {
        assert_eq!(class_of(json!({})), "b");
        assert_eq!(class_of(json!({"storageClassName": "x"})), "x");
        assert_eq!(class_of(json!({"storageClassName": ""})), "");
    }
}
