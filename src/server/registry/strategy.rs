//! What only one kind needs: the hooks between the generic handlers and the store.
//!
//! The generic handlers decode an object, check it against its schema, fill in defaults and let
//! admission change it; then they call the kind's [`Strategy`], and commit. A kind that is plain
//! data needs none of these hooks: every method has a default that suits it.

use serde_json::Value;

use crate::api::{FieldError, Status};
use crate::server::auth::user::User;
pub use crate::server::reader::Reader;

/// Who asks for what, as the hooks of a [`Strategy`] see it.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The user of the request.
    pub user: &'a User,
    /// The namespace of the request, if the kind is namespaced.
    pub namespace: Option<&'a str>,
    /// The newest committed objects of every kind.
    pub reader: &'a dyn Reader,
    /// Nothing will be committed: allocate nothing for good.
    pub dry_run: bool,
}

/// What a delete request does to an object that has no finalizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It goes away at once.
    Now,
    /// It is marked with a deletion timestamp this many seconds ahead; its owner deletes it for good.
    Graceful(i64),
}

/// The behaviour of one kind. All hooks work on the object's canonical JSON value.
///
/// Order in a create: decode and check, defaults, mutating admission, `prepare_create`,
/// `validate_create`, validating admission, commit. An update is the same with the hooks named so.
pub trait Strategy: Send + Sync + 'static {
    /// Makes a new object what a client may create: drops the status, sets generation 1, allocates
    /// addresses and ports. The default drops `status` and sets `metadata.generation` if the kind
    /// has a `spec`.
    ///
    /// # Errors
    /// A [`Status`] for the client, such as an exhausted range. Nothing stays allocated then.
    fn prepare_create(&self, cx: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        let _ = cx;
        defaults::prepare_create(object);
        Ok(())
    }

    /// What is wrong with a new object, beyond its schema and its metadata.
    fn validate_create(&self, cx: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let _ = (cx, object);
        Vec::new()
    }

    /// Makes a changed object what an update of the main resource may change. The default keeps
    /// the old status and raises `metadata.generation` if the spec differs.
    ///
    /// # Errors
    /// A [`Status`] for the client. Nothing stays allocated then.
    fn prepare_update(&self, cx: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        let _ = cx;
        defaults::prepare_update(new, old);
        Ok(())
    }

    /// What is wrong with a changed object, beyond its schema and its metadata.
    fn validate_update(&self, cx: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let _ = (cx, new, old);
        Vec::new()
    }

    /// Makes a changed object what an update through `subresource` may change. The default, for
    /// `status`, keeps everything but the status and the metadata.
    ///
    /// # Errors
    /// A [`Status`] for the client.
    fn prepare_subresource(
        &self,
        cx: &Context<'_>,
        subresource: &str,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        let _ = cx;
        if subresource == "status" {
            defaults::prepare_status(new, old);
        }
        Ok(())
    }

    /// What is wrong with an object changed through `subresource`.
    fn validate_subresource(
        &self,
        cx: &Context<'_>,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let _ = (cx, subresource, new, old);
        Vec::new()
    }

    /// Texts for `Warning` headers of a create.
    fn warnings(&self, object: &Value) -> Vec<String> {
        let _ = object;
        Vec::new()
    }

    /// Texts for `Warning` headers of an update. The default warns as of a new object.
    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        let _ = old;
        self.warnings(new)
    }

    /// What a delete does; `grace` is the client's `gracePeriodSeconds`. The default deletes now.
    fn begin_delete(&self, cx: &Context<'_>, object: &Value, grace: Option<i64>) -> Deletion {
        let _ = (cx, object, grace);
        Deletion::Now
    }

    /// Changes an object that is to be deleted before it is seen what holds it up, as by a finalizer of its kind.
    fn mark_deleted(&self, object: &mut Value) {
        let _ = object;
    }

    /// `prepare_create` or `prepare_update` allocated for `object`, and it will not be committed.
    fn rollback(&self, object: &Value) {
        let _ = object;
    }

    /// The object is gone from the store: releases what it held.
    fn deleted(&self, object: &Value) {
        let _ = object;
    }

    /// Called once for each stored object at start, before any request: rebuilds allocators.
    fn restore(&self, object: &Value) {
        let _ = object;
    }
}

/// A kind that is plain data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Strategy for Plain {}

/// The default bodies of [`Strategy`], for implementations that add to them.
pub mod defaults {
    use serde_json::{Value, json};

    /// Drops the status; an object with a spec starts with generation 1.
    pub fn prepare_create(object: &mut Value) {
        let Some(map) = object.as_object_mut() else {
            return;
        };
        map.remove("status");
        if map.contains_key("spec") {
            object["metadata"]["generation"] = json!(1);
        }
    }

    /// Keeps the old status; raises the generation if the spec differs.
    pub fn prepare_update(new: &mut Value, old: &Value) {
        keep(new, old, "status");
        let generation = old["metadata"]["generation"].as_i64();
        if old.get("spec").is_none() && new.get("spec").is_none() {
            return;
        }
        let changed = i64::from(new.get("spec") != old.get("spec"));
        new["metadata"]["generation"] = json!(generation.unwrap_or(1) + changed);
    }

    /// Keeps everything but the status and the metadata, which a status update may change like another.
    pub fn prepare_status(new: &mut Value, old: &Value) {
        let status = new.get("status").cloned();
        let metadata = new.get("metadata").cloned();
        *new = old.clone();
        set(new, "status", status);
        set(new, "metadata", metadata);
    }

    /// Keeps the metadata but `managedFields` and `resourceVersion`: `ResetObjectMetaForStatus`.
    pub fn keep_metadata(new: &mut Value, old: &Value) {
        let given = new["metadata"].clone();
        keep(new, old, "metadata");
        for field in ["managedFields", "resourceVersion"] {
            keep(&mut new["metadata"], &given, field);
        }
    }

    /// Makes `new[field]` what it is in `old`, absent if it is absent there.
    pub fn keep(new: &mut Value, old: &Value, field: &str) {
        set(new, field, old.get(field).cloned());
    }

    fn set(object: &mut Value, field: &str, value: Option<Value>) {
        let Some(map) = object.as_object_mut() else {
            return;
        };
        match value {
            Some(value) => map.insert(field.to_owned(), value),
            None => map.remove(field),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::defaults::*;
    use serde_json::json;

    #[test]
    fn create_drops_status_and_starts_the_generation() {
        let mut object = json!({"metadata": {"name": "a"}, "spec": {}, "status": {"x": 1}});
        prepare_create(&mut object);
        assert_eq!(object, json!({"metadata": {"name": "a", "generation": 1}, "spec": {}}));
        let mut data = json!({"metadata": {"name": "a"}, "data": {}});
        prepare_create(&mut data);
        assert_eq!(data, json!({"metadata": {"name": "a"}, "data": {}}));
    }

    #[test]
    fn update_keeps_status_and_counts_changes_of_the_spec() {
        let old = json!({"metadata": {"generation": 3}, "spec": {"a": 1}, "status": {"x": 1}});
        let mut same = json!({"metadata": {"labels": {}}, "spec": {"a": 1}, "status": {"x": 2}});
        prepare_update(&mut same, &old);
        assert_eq!(same["metadata"]["generation"], 3);
        assert_eq!(same["status"]["x"], 1);
        let mut changed = json!({"metadata": {"generation": 9}, "spec": {"a": 2}});
        prepare_update(&mut changed, &old);
        assert_eq!(changed["metadata"]["generation"], 4);
    }

    #[test]
    fn a_status_update_keeps_the_spec() {
        let old = json!({"metadata": {"name": "a", "labels": {"k": "v"}}, "spec": {"a": 1}});
        let mut new = json!({"metadata": {"name": "a", "resourceVersion": "7", "annotations": {"b": "c"}},
            "spec": {"a": 2}, "status": {"x": 1}});
        prepare_status(&mut new, &old);
        assert_eq!(
            new,
            json!({"metadata": {"name": "a", "resourceVersion": "7", "annotations": {"b": "c"}},
                "spec": {"a": 1}, "status": {"x": 1}})
        );
        keep_metadata(&mut new, &old);
        assert_eq!(new["metadata"], json!({"name": "a", "labels": {"k": "v"}, "resourceVersion": "7"}));
    }
}
