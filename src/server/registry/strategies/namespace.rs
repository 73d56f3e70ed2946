//! Namespaces: `pkg/registry/core/namespace/strategy.go`.

use serde_json::{Value, json};

use super::check::{indexed, items, text};
use crate::api::{FieldError, Meta, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy, defaults};

/// What holds a namespace until its content is gone.
const FINALIZER: &str = "kubernetes";

/// The strategy of Namespaces.
pub struct NamespaceStrategy;

impl Strategy for NamespaceStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["status"] = json!({"phase": "Active"});
        let mut finalizers = items(&object["spec"]["finalizers"]).to_vec();
        if !finalizers.iter().any(|f| text(f) == FINALIZER) {
            finalizers.push(json!(FINALIZER));
        }
        object["spec"]["finalizers"] = json!(finalizers);
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "spec");
        defaults::keep(new, old, "status");
        Ok(())
    }

    fn prepare_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        match subresource {
            "status" => defaults::prepare_status(new, old),
            "finalize" => {
                let finalizers = new["spec"].get("finalizers").cloned();
                let version = new["metadata"].get("resourceVersion").cloned();
                *new = old.clone();
                new["spec"] = json!({});
                if let Some(finalizers) = finalizers.filter(|f| !items(f).is_empty()) {
                    new["spec"]["finalizers"] = finalizers;
                }
                if let Some(version) = version {
                    new["metadata"]["resourceVersion"] = version;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let path = Path::new("spec").child("finalizers");
        items(&object["spec"]["finalizers"]).iter().flat_map(|f| finalizer(text(f), &path)).collect()
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        _: &Value,
    ) -> Vec<FieldError> {
        if subresource == "finalize" {
            let path = Path::new("spec").child("finalizers");
            let list = indexed(&new["spec"]["finalizers"], &path);
            return list.flat_map(|(name, path)| finalizer(text(name), &path)).collect();
        }
        // Upstream's path has this capital letter.
        let path = Path::new("status").child("Phase");
        let phase = text(&new["status"]["phase"]);
        let going = Meta::of(new).deletion_timestamp().is_some();
        let detail = match (subresource, going, phase) {
            ("status", false, phase) if phase != "Active" => {
                "may only be 'Active' if `deletionTimestamp` is empty"
            }
            ("status", true, phase) if phase != "Terminating" => {
                "may only be 'Terminating' if `deletionTimestamp` is not empty"
            }
            _ => return Vec::new(),
        };
        vec![FieldError::invalid(&path, phase, detail)]
    }
}

/// What is wrong with a finalizer of a spec: a qualified name, or one of Kubernetes' own.
fn finalizer(name: &str, path: &Path) -> Vec<FieldError> {
    let mut wrong = names::qualified_name(name);
    if !name.contains('/') && !matches!(name, FINALIZER | "orphan" | "foregroundDeletion") {
        wrong.push("name is neither a standard finalizer name nor is it fully qualified".to_owned());
    }
    wrong.into_iter().map(|why| FieldError::invalid(path, name, why)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;

    fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
        run(&Context { user: &User::loopback(), namespace: None, reader: &Fake::default(), dry_run: false })
    }

    #[test]
    fn a_namespace_is_active_and_held_until_it_is_finalized() {
        let mut made = json!({"metadata": {"name": "a"}});
        with(|cx| NamespaceStrategy.prepare_create(cx, &mut made)).unwrap();
        assert_eq!(made["spec"], json!({"finalizers": ["kubernetes"]}));
        assert_eq!(made["status"], json!({"phase": "Active"}));
        let mut updated = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {}});
        with(|cx| NamespaceStrategy.prepare_update(cx, &mut updated, &made)).unwrap();
        assert_eq!((&updated["spec"], &updated["status"]), (&made["spec"], &made["status"]));
        let mut finalized = json!({"metadata": {"name": "a", "resourceVersion": "7"}, "spec": {"finalizers": []}, "status": {}});
        with(|cx| NamespaceStrategy.prepare_subresource(cx, "finalize", &mut finalized, &made)).unwrap();
        assert_eq!(
            finalized,
            json!({"metadata": {"name": "a", "resourceVersion": "7"}, "spec": {}, "status": {"phase": "Active"}})
        );
    }

    #[test]
    fn the_phase_says_whether_it_is_going() {
        let namespace = json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}});
        let errors = with(|cx| NamespaceStrategy.validate_subresource(cx, "status", &namespace, &namespace));
        assert_eq!(
            errors[0].to_string(),
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
        );
    }

    #[test]
    fn finalizers_are_known_or_qualified() {
        let namespace = json!({"spec": {"finalizers": ["kubernetes", "example.com/x", "odd"]}});
        let errors = with(|cx| NamespaceStrategy.validate_create(cx, &namespace));
        assert_eq!(
            errors[0].to_string(),
            "spec.finalizers: Invalid value: \"odd\": name is neither a standard finalizer name nor is it fully qualified"
        );
        let errors =
            with(|cx| NamespaceStrategy.validate_subresource(cx, "finalize", &namespace, &namespace));
        assert_eq!((errors.len(), errors[0].field.as_str()), (1, "spec.finalizers[2]"));
    }
}
