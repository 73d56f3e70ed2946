//! The strategy of CustomResourceDefinitions themselves.

use serde_json::{Value, json};

use super::conditions;
use super::schema::definition_warnings;
use super::validate;
use crate::api::{FieldError, Meta, MetaMut, Status};
use crate::server::registry::strategy::{Context, Strategy, defaults};

/// Held until the objects of the kind are gone.
pub(super) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Checks definitions, and keeps their status.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefinitionStrategy;

/// The storage version is one that objects may be stored in.
fn note_storage_version(definition: &mut Value) {
    let versions = definition["spec"]["versions"].as_array();
    let storage = versions.and_then(|v| v.iter().find(|v| v["storage"] == true)?.get("name")).cloned();
    let Some(storage) = storage else { return };
    let stored = &mut definition["status"]["storedVersions"];
    match stored.as_array_mut() {
        Some(list) if list.contains(&storage) => {}
        Some(list) => list.push(storage),
        None => *stored = json!([storage]),
    }
}

impl Strategy for DefinitionStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["status"] = json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": []});
        object["metadata"]["generation"] = json!(1);
        note_storage_version(object);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate::definition(object, None)
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::prepare_update(new, old);
        note_storage_version(new);
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        validate::definition(new, Some(old))
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        definition_warnings(&object["spec"], None)
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        definition_warnings(&new["spec"], Some(&old["spec"]))
    }

    /// A status update may change metadata too, as upstream.
    fn prepare_subresource(
        &self,
        _: &Context<'_>,
        _: &str,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        defaults::keep(new, old, "spec");
        Ok(())
    }

    fn validate_subresource(&self, _: &Context<'_>, _: &str, new: &Value, _: &Value) -> Vec<FieldError> {
        validate::status(new)
    }

    fn mark_deleted(&self, object: &mut Value) {
        if Meta::of(object).deletion_timestamp().is_some() {
            return;
        }
        if !Meta::of(object).finalizers().any(|f| f == CLEANUP) {
            let all = Meta::of(object).finalizers().chain([CLEANUP]).map(str::to_owned).collect();
            MetaMut::of(object).set_finalizers(all);
        }
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        conditions::set(object, ("Terminating", "True", "InstanceDeletionPending", message.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_versions_are_remembered() {
        let mut crd = json!({"spec": {"versions": [{"name": "v1", "storage": true}, {"name": "v2", "storage": false}]}});
        note_storage_version(&mut crd);
        assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
        crd["spec"]["versions"] = json!([{"name": "v1"}, {"name": "v2", "storage": true}]);
        note_storage_version(&mut crd);
        note_storage_version(&mut crd);
        assert_eq!(crd["status"]["storedVersions"], json!(["v1", "v2"]));
    }

    #[test]
    fn a_definition_waits_for_its_objects() {
        let mut crd = json!({"metadata": {"name": "x", "finalizers": ["a.b/c"]}, "status": {}});
        DefinitionStrategy.mark_deleted(&mut crd);
        assert_eq!(crd["metadata"]["finalizers"], json!(["a.b/c", CLEANUP]));
        assert_eq!(crd["status"]["conditions"][0]["reason"], "InstanceDeletionPending");
        crd["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        crd["metadata"]["finalizers"] = json!([]);
        DefinitionStrategy.mark_deleted(&mut crd);
        assert_eq!(crd["metadata"]["finalizers"], json!([]));
    }
}
