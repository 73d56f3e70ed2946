//! Metadata of objects that are written: what clients may say, what the server says, what is wrong.
//!
//! Follows `apimachinery/pkg/api/validation/objectmeta.go` and `apiserver/pkg/registry/rest`.

use serde_json::{Value, json};

use super::Call;
use crate::api::meta::{MetaMut, new_uid, now};
use crate::api::{FieldError, GroupKind, Meta, Path, Status, names};

/// Annotations of an object may have this many bytes.
const ANNOTATIONS_MAX: usize = 256 << 10;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What only the server sets.
const SYSTEM: [&str; 6] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"];

/// Checks what the client said of a new object, and drops what only the server says.
pub(super) fn begin_create(call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
    fill_namespace(call, object)?;
    if !Meta::of(object).resource_version().is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    wipe(object);
    Ok(())
}

fn wipe(object: &mut Value) {
    let mut meta = MetaMut::of(object);
    SYSTEM.iter().for_each(|field| drop(meta.remove(field)));
    meta.remove("resourceVersion");
}

/// Fills in what the server says of a new object, when admission has changed it.
pub(super) fn complete_create(call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
    fill_namespace(call, object)?;
    wipe(object);
    let mut meta = MetaMut::of(object);
    meta.set_uid(&new_uid());
    meta.set_creation_timestamp(&now());
    Ok(())
}

/// An update that makes the object: the client may have read one that is gone since.
pub(super) fn begin_create_on_update(call: &Call<'_>, name: &str, object: &mut Value) -> Result<(), Status> {
    let uid = Meta::of(object).uid();
    if !uid.is_empty() {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: ");
        return Err(Status::conflict(&call.resource.group_resource(), name, why));
    }
    MetaMut::of(object).remove("resourceVersion");
    Ok(())
}

/// An update that does not say which version it is of, where it must.
pub(super) fn no_resource_version(call: &Call<'_>, name: &str) -> Status {
    let path = Path::new("metadata").child("resourceVersion");
    let error = FieldError::invalid(&path, 0, "must be specified for an update");
    // Upstream names the resource where others name the kind.
    let kind = GroupKind::new(call.resource.group.clone(), call.resource.plural.clone());
    Status::invalid(&kind, name, &[error])
}

/// The object's namespace is the request's.
pub(super) fn fill_namespace(call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
    let given = Meta::of(object).namespace();
    match call.namespace {
        Some(namespace) if given.is_empty() => MetaMut::of(object).set_namespace(namespace),
        Some(namespace) if given != namespace => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Some(_) => {}
        None => drop(MetaMut::of(object).remove("namespace")),
    }
    Ok(())
}

/// The object's name is the request's.
pub(super) fn fill_name(name: &str, object: &mut Value) -> Result<(), Status> {
    match Meta::of(object).name() {
        "" => MetaMut::of(object).set_name(name),
        given if given != name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        _ => {}
    }
    Ok(())
}

/// What an update cannot change stays as it was.
pub(super) fn carry(new: &mut Value, old: &Value) {
    for field in SYSTEM {
        let kept = old["metadata"].get(field).cloned();
        let mut meta = MetaMut::of(new);
        match kept {
            Some(value) => meta.set(field, value),
            None => drop(meta.remove(field)),
        }
    }
}

/// What admission cannot change of an object stays as it was.
pub(super) fn complete_update(
    call: &Call<'_>,
    name: &str,
    new: &mut Value,
    old: &Value,
) -> Result<(), Status> {
    fill_namespace(call, new)?;
    fill_name(name, new)?;
    carry(new, old);
    MetaMut::of(new).set_resource_version(Meta::of(old).resource_version());
    Ok(())
}

/// What is wrong with the metadata of a new object.
pub(super) fn validate(call: &Call<'_>, object: &Value) -> Vec<FieldError> {
    let (meta, path) = (Meta::of(object), Path::new("metadata"));
    let mut errors = Vec::new();
    if !meta.generate_name().is_empty() {
        // A prefix may end in what a name may not end in.
        let probe = format!("{}a", meta.generate_name().trim_end_matches('-'));
        let at = path.child("generateName");
        errors.extend(
            (call.resource.name_rule)(&probe)
                .into_iter()
                .map(|e| FieldError::invalid(&at, meta.generate_name(), e)),
        );
    }
    let at = path.child("name");
    if meta.name().is_empty() {
        errors.push(FieldError::required(&at, "name or generateName is required"));
    } else {
        let wrong = (call.resource.name_rule)(meta.name()).into_iter();
        errors.extend(wrong.map(|e| FieldError::invalid(&at, meta.name(), e)));
    }
    errors.extend(validate_common(object));
    errors
}

/// What is wrong with the metadata of a changed object.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate_common(new);
    let before: Vec<&str> = Meta::of(old).finalizers().collect();
    let added: Vec<&str> = Meta::of(new).finalizers().filter(|f| !before.contains(f)).collect();
    if Meta::of(old).deletion_timestamp().is_some() && !added.is_empty() {
        let list: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
        errors.push(FieldError::forbidden(
            &Path::new("metadata").child("finalizers"),
            format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            ),
        ));
    }
    errors
}

fn validate_common(object: &Value) -> Vec<FieldError> {
    let (meta, path) = (Meta::of(object), Path::new("metadata"));
    let mut errors = Vec::new();
    let at = path.child("labels");
    for (key, value) in meta.labels() {
        errors.extend(names::qualified_name(key).into_iter().map(|e| FieldError::invalid(&at, key, e)));
        errors.extend(names::label_value(value).into_iter().map(|e| FieldError::invalid(&at, value, e)));
    }
    let at = path.child("annotations");
    let mut size = 0;
    for (key, value) in meta.annotations() {
        size += key.len() + value.len();
        let lower = key.to_lowercase();
        errors.extend(names::qualified_name(&lower).into_iter().map(|e| FieldError::invalid(&at, key, e)));
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(&at, ANNOTATIONS_MAX));
    }
    let at = path.child("finalizers");
    for finalizer in meta.finalizers() {
        let wrong = names::qualified_name(finalizer).into_iter();
        errors.extend(wrong.map(|e| FieldError::invalid(&at, finalizer, e)));
    }
    if [ORPHAN, FOREGROUND].iter().all(|wanted| meta.finalizers().any(|f| f == *wanted)) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(&at, object["metadata"]["finalizers"].clone(), detail));
    }
    errors.extend(validate_owners(object));
    errors
}

fn validate_owners(object: &Value) -> Vec<FieldError> {
    let at = Path::new("metadata").child("ownerReferences");
    let mut errors = Vec::new();
    let mut controllers = Vec::new();
    for owner in Meta::of(object).owner_references() {
        let bad = |field: &str, detail: &str| FieldError::invalid(&at.child(field), "", detail);
        if owner.api_version().is_empty() || owner.api_version().ends_with('/') {
            let detail = "version must not be empty";
            errors.push(FieldError::invalid(&at.child("apiVersion"), owner.api_version(), detail));
        }
        if owner.kind().is_empty() {
            errors.push(bad("kind", "must not be empty"));
        }
        if owner.name().is_empty() {
            errors.push(bad("name", "must not be empty"));
        }
        if owner.uid().is_empty() {
            errors.push(bad("uid", "must not be empty"));
        }
        if (owner.api_version(), owner.kind()) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(&at, owner.value().clone(), detail));
        }
        if owner.controller() {
            controllers.push(format!("{}/{}", owner.kind(), owner.name()));
        }
    }
    if controllers.len() > 1 {
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {}",
            controllers.join(" and ")
        );
        errors.push(FieldError::invalid(&at, object["metadata"]["ownerReferences"].clone(), detail));
    }
    errors
}

/// Whether something holds up the object's deletion: finalizers, of a namespace also those in its spec.
pub(super) fn is_held(object: &Value) -> bool {
    let spec = object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    Meta::of(object).finalizers().next().is_some() || (object["kind"] == json!("Namespace") && spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::user::User;
    use crate::server::objects::WriteOptions;
    use crate::server::registry::Resource;
    use std::sync::Arc;

    fn with_call<T>(check: impl FnOnce(&Call<'_>) -> T) -> T {
        let resource = Arc::new(Resource::new("", "v1", "ConfigMap", "configmaps"));
        let (user, options) = (User::default(), WriteOptions::default());
        check(&Call::own(&resource, Some("a"), &user, &options))
    }

    #[test]
    fn the_server_sets_what_clients_may_not() {
        let mut object =
            json!({"metadata": {"name": "x", "uid": "mine", "deletionTimestamp": "t", "generation": 7}});
        with_call(|call| begin_create(call, &mut object)).unwrap();
        with_call(|call| complete_create(call, &mut object)).unwrap();
        let meta = Meta::of(&object);
        assert_eq!((meta.namespace(), meta.generation(), meta.deletion_timestamp()), ("a", 0, None));
        assert_ne!(meta.uid(), "mine");
        let mut other = json!({"metadata": {"name": "x", "namespace": "b"}});
        assert_eq!(with_call(|call| begin_create(call, &mut other)).unwrap_err().code, 400);
        let mut old = json!({"metadata": {"name": "x", "resourceVersion": "3"}});
        assert_eq!(with_call(|call| begin_create(call, &mut old)).unwrap_err().code, 400);
    }

    #[test]
    fn wrong_metadata_is_named() {
        let object = json!({"metadata": {"labels": {"a b": "c", "d": "e f"}, "annotations": {"-": "x"},
            "finalizers": ["/"], "ownerReferences": [{"kind": "A", "name": "a", "controller": true, "uid": "1", "apiVersion": "v1"},
            {"kind": "B", "name": "b", "controller": true, "uid": "2", "apiVersion": "v1"}, {}]}});
        let errors = with_call(|call| validate(call, &object));
        let fields: Vec<String> = errors.iter().map(|e| e.field.to_string()).collect();
        for field in [
            "metadata.name",
            "metadata.labels",
            "metadata.annotations",
            "metadata.finalizers",
            "metadata.ownerReferences",
            "metadata.ownerReferences.uid",
        ] {
            assert!(fields.iter().any(|f| f == field), "{field} in {fields:?}");
        }
        assert_eq!(errors[0].to_string(), "metadata.name: Required value: name or generateName is required");
        let good = json!({"metadata": {"generateName": "a-", "name": "a-x"}});
        assert!(with_call(|call| validate(call, &good)).is_empty());
    }

    #[test]
    fn finalizers_cannot_be_added_to_what_is_being_deleted() {
        let old = json!({"metadata": {"deletionTimestamp": "t", "finalizers": ["a.b/c"]}});
        let new = json!({"metadata": {"deletionTimestamp": "t", "finalizers": ["a.b/c", "d.e/f"]}});
        assert_eq!(
            validate_update(&new, &old)[0].to_string(),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
             found new finalizers []string{\"d.e/f\"}"
        );
        assert!(validate_update(&old, &old).is_empty());
    }

    #[test]
    fn a_namespace_is_held_by_its_spec_too() {
        assert!(is_held(&json!({"kind": "Namespace", "spec": {"finalizers": ["kubernetes"]}})));
        assert!(!is_held(&json!({"kind": "Other", "spec": {"finalizers": ["kubernetes"]}})));
        assert!(is_held(&json!({"kind": "Other", "metadata": {"finalizers": ["a"]}})));
    }
}
