//! DefaultStorageClass and DefaultIngressClass: a claim or an ingress that names no class gets the default one.

use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::api::{Meta, Status};
use crate::server::reader::Reader;

/// Gives the kind `of` the newest class that is marked as default.
pub struct DefaultClass {
    of: &'static str,
    field: &'static str,
    /// The annotation by which a class was named before there was a field.
    annotation: &'static str,
    classes: &'static str,
    marks: &'static [&'static str],
}

/// DefaultStorageClass.
pub const STORAGE: DefaultClass = DefaultClass {
    of: "persistentvolumeclaims",
    field: "storageClassName",
    annotation: "volume.beta.kubernetes.io/storage-class",
    classes: "storageclasses.storage.k8s.io",
    marks: &[
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ],
};

/// DefaultIngressClass.
pub const INGRESS: DefaultClass = DefaultClass {
    of: "ingresses.networking.k8s.io",
    field: "ingressClassName",
    annotation: "kubernetes.io/ingress.class",
    classes: "ingressclasses.networking.k8s.io",
    marks: &["ingressclass.kubernetes.io/is-default-class"],
};

impl DefaultClass {
    /// The newest class that is marked; of several equally new the first by name.
    fn newest(&self, reader: &dyn Reader) -> Option<String> {
        let marked = reader.list(self.classes, None).into_iter().map(|c| c.value()).filter(|class| {
            let meta = Meta::of(class);
            self.marks.iter().any(|mark| meta.annotation(mark) == Some("true"))
        });
        let newest = marked.max_by(|a, b| {
            let (a, b) = (Meta::of(a), Meta::of(b));
            a.creation_timestamp().cmp(b.creation_timestamp()).then_with(|| b.name().cmp(a.name()))
        });
        newest.map(|class| Meta::of(&class).name().to_owned())
    }
}

impl Plugin for DefaultClass {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !attributes.is(self.of) || attributes.operation != Operation::Create {
            return Ok(());
        }
        let reader = attributes.reader;
        let Some(object) = attributes.object.as_deref_mut() else { return Ok(()) };
        // An empty name is a wish for no class, and stays.
        if object["spec"][self.field].is_string() || Meta::of(object).annotation(self.annotation).is_some() {
            return Ok(());
        }
        if let Some(class) = self.newest(reader) {
            object["spec"][self.field] = json!(class);
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

    fn class_of(plugin: &DefaultClass, request: &Request<'_>, object: Value) -> Value {
        let fake = Fake::default();
        for (name, created, default) in [
            ("a", "2026-01-01T00:00:00Z", true),
            ("b2", "2026-01-02T00:00:00Z", true),
            ("b1", "2026-01-02T00:00:00Z", true),
            ("c", "2026-01-03T00:00:00Z", false),
        ] {
            let annotations = json!({plugin.marks[0]: default.to_string()});
            fake.put(
                plugin.classes,
                json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}}),
            );
        }
        request.admit(plugin, &fake, object).unwrap()["spec"][plugin.field].clone()
    }

    #[test]
    fn what_names_no_class_gets_the_newest_default() {
        let claims = Request::create("PersistentVolumeClaim", "persistentvolumeclaims");
        let ingresses = Request::of("networking.k8s.io", "Ingress", "ingresses");
        for (plugin, request) in [(&STORAGE, &claims), (&INGRESS, &ingresses)] {
            let object = |spec: Value| json!({"metadata": {"name": "c", "namespace": "a"}, "spec": spec});
            assert_eq!(class_of(plugin, request, object(json!({}))), "b1");
            assert_eq!(class_of(plugin, request, object(json!({plugin.field: "x"}))), "x");
            assert_eq!(class_of(plugin, request, object(json!({plugin.field: ""}))), "");
            let mut annotated = object(json!({}));
            annotated["metadata"]["annotations"] = json!({plugin.annotation: "y"});
            assert_eq!(class_of(plugin, request, annotated), Value::Null);
        }
    }
}
