//! Claims, volumes and classes: `pkg/apis/core/validation`, `pkg/apis/storage/validation`.

use serde_json::{Value, json};

use super::check::{Errors, IMMUTABLE, indexed, is_empty, items, same, text};
use crate::api::{FieldError, Path, Quantity, Status, names};
use crate::server::registry::strategy::{Context, Strategy, defaults};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const CLAIM_IMMUTABLE: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/// The strategy of PersistentVolumeClaims.
pub struct ClaimStrategy;

impl Strategy for ClaimStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["status"] = json!({"phase": "Pending"});
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        claim(&object["spec"], &Path::new("spec"))
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "status");
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let path = Path::new("spec");
        let mut errors = claim(&new["spec"], &path);
        let (mut spec, was) = (new["spec"].clone(), &old["spec"]);
        // The volume's name is set once, when the claim is bound.
        if is_empty(&was["volumeName"]) {
            defaults::keep(&mut spec, was, "volumeName");
        }
        if old["status"]["phase"] == "Bound" {
            let size =
                |spec: &Value| text(&spec["resources"]["requests"]["storage"]).parse::<Quantity>().ok();
            if size(&spec) < size(was) {
                let detail = "field can not be less than status.capacity";
                errors.push(FieldError::forbidden(
                    &path.child("resources").child("requests").child("storage"),
                    detail,
                ));
            }
            defaults::keep(&mut spec, was, "resources");
            defaults::keep(&mut spec, was, "volumeAttributesClassName");
        }
        if !same(&spec, was) {
            errors.push(FieldError::forbidden(&path, CLAIM_IMMUTABLE));
        }
        errors
    }
}

/// What is wrong with a claim's spec.
pub fn claim(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Errors::default();
    modes(spec, path, "at least 1 access mode is required", &mut errors);
    super::selector::validate(&spec["selector"], &path.child("selector"), &mut errors);
    let at = path.child("resources").child("requests").key("storage");
    match spec["resources"]["requests"].get("storage") {
        None => {
            errors.push(FieldError::required(&path.child("resources").child("requests").key("storage"), ""))
        }
        Some(value) => {
            if errors.quantity(&at, value).is_some_and(|q| q.is_zero()) {
                errors.push(FieldError::invalid(&at, value.clone(), "must be greater than zero"));
            }
        }
    }
    errors.optionally_named(
        &path.child("storageClassName"),
        &spec["storageClassName"],
        names::dns1123_subdomain,
    );
    errors.optionally_one_of(&path.child("volumeMode"), &spec["volumeMode"], &["Block", "Filesystem"]);
    errors.0
}

fn modes(spec: &Value, path: &Path, required: &str, errors: &mut Errors) {
    let at = path.child("accessModes");
    if items(&spec["accessModes"]).is_empty() {
        errors.push(FieldError::required(&at, required));
    }
    for (mode, _) in indexed(&spec["accessModes"], &at) {
        errors.optionally_one_of(&at, mode, &MODES);
    }
    let alone = items(&spec["accessModes"]);
    if alone.len() > 1 && alone.iter().any(|m| text(m) == "ReadWriteOncePod") {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(&at, detail));
    }
}

/// The strategy of PersistentVolumes.
pub struct VolumeStrategy;

/// Fields of a volume that are no source.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

impl Strategy for VolumeStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["status"] = json!({"phase": "Pending"});
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        volume(&object["spec"])
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "status");
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = volume(&new["spec"]);
        let sources = |spec: &Value| {
            let mut spec = spec.clone();
            if let Some(map) = spec.as_object_mut() {
                map.retain(|key, _| !NOT_SOURCES.contains(&key.as_str()));
            }
            spec
        };
        if sources(&new["spec"]) != sources(&old["spec"]) {
            let path = Path::new("spec").child("persistentvolumesource");
            errors.push(FieldError::forbidden(
                &path,
                "spec.persistentvolumesource is immutable after creation",
            ));
        }
        if !same(&new["spec"]["volumeMode"], &old["spec"]["volumeMode"]) {
            let path = Path::new("spec").child("volumeMode");
            errors.push(FieldError::invalid(&path, new["spec"]["volumeMode"].clone(), IMMUTABLE));
        }
        errors
    }
}

fn volume(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    modes(spec, &path, "", &mut errors);
    let capacity = path.child("capacity");
    match spec["capacity"].get("storage") {
        None => errors.push(FieldError::required(&capacity, "")),
        Some(value) => {
            let at = capacity.key("storage");
            if errors.quantity(&at, value).is_some_and(|q| q.is_zero()) {
                errors.push(FieldError::invalid(&at, value.clone(), "must be greater than zero"));
            }
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    let at = path.child("persistentVolumeReclaimPolicy");
    errors.optionally_one_of(&at, &spec["persistentVolumeReclaimPolicy"], &policies);
    let sources: Vec<&str> =
        super::check::entries(spec).map(|(key, _)| key).filter(|key| !NOT_SOURCES.contains(key)).collect();
    match sources.as_slice() {
        [] => errors.push(FieldError::required(&path, "must specify a volume type")),
        [_] => {}
        [_, more @ ..] => {
            for kind in more {
                errors.push(FieldError::forbidden(
                    &path.child(kind),
                    "may not specify more than 1 volume type",
                ));
            }
        }
    }
    if !spec["local"].is_null() && spec["nodeAffinity"].is_null() {
        errors.push(FieldError::required(&path.child("nodeAffinity"), "Local volume requires node affinity"));
    }
    errors.0
}

/// The strategy of StorageClasses.
pub struct ClassStrategy;

impl Strategy for ClassStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        errors.required(&Path::new("provisioner"), &object["provisioner"]);
        errors.optionally_one_of(
            &Path::new("reclaimPolicy"),
            &object["reclaimPolicy"],
            &["Delete", "Retain"],
        );
        let modes = ["Immediate", "WaitForFirstConsumer"];
        errors.one_of(&Path::new("volumeBindingMode"), &object["volumeBindingMode"], &modes);
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(cx, new);
        for field in ["parameters", "provisioner", "reclaimPolicy"] {
            if !same(&new[field], &old[field]) {
                let detail = format!("updates to {field} are forbidden.");
                errors.push(FieldError::forbidden(&Path::new(field), detail));
            }
        }
        if new["volumeBindingMode"] != old["volumeBindingMode"] {
            let value = new["volumeBindingMode"].clone();
            errors.push(FieldError::invalid(&Path::new("volumeBindingMode"), value, IMMUTABLE));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;

    fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
        run(&Context {
            user: &User::loopback(),
            namespace: Some("a"),
            reader: &Fake::default(),
            dry_run: false,
        })
    }

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn a_claim() -> Value {
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}})
    }

    #[test]
    fn a_claim_asks_for_a_mode_and_a_size() {
        assert!(with(|cx| ClaimStrategy.validate_create(cx, &a_claim())).is_empty());
        assert_eq!(
            texts(&with(|cx| ClaimStrategy.validate_create(cx, &json!({"spec": {}})))),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources.requests[storage]: Required value"
            ]
        );
    }

    #[test]
    fn a_claim_is_bound_once_and_only_grows() {
        let update =
            |new: &Value, old: &Value| texts(&with(|cx| ClaimStrategy.validate_update(cx, new, old)));
        let mut bound = a_claim();
        bound["spec"]["volumeName"] = json!("pv");
        assert_eq!(update(&bound, &a_claim()), [] as [&str; 0]);
        let mut other = bound.clone();
        other["spec"]["volumeName"] = json!("other");
        assert_eq!(update(&other, &bound), [format!("spec: Forbidden: {CLAIM_IMMUTABLE}")]);
        bound["status"]["phase"] = json!("Bound");
        let mut grown = bound.clone();
        grown["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
        assert_eq!(update(&grown, &bound), [] as [&str; 0]);
        assert_eq!(
            update(&bound, &grown),
            ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
        );
    }

    #[test]
    fn a_volume_has_one_source_that_stays() {
        let volume = |spec: Value| {
            let mut all = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
            for (key, value) in spec.as_object().unwrap() {
                all[key] = value.clone();
            }
            json!({"spec": all})
        };
        let create = |v: &Value| texts(&with(|cx| VolumeStrategy.validate_create(cx, v)));
        assert_eq!(create(&volume(json!({"hostPath": {"path": "/a"}}))), [] as [&str; 0]);
        assert_eq!(create(&volume(json!({}))), ["spec: Required value: must specify a volume type"]);
        assert_eq!(
            create(&volume(json!({"local": {"path": "/a"}}))),
            ["spec.nodeAffinity: Required value: Local volume requires node affinity"]
        );
        let (old, new) =
            (volume(json!({"hostPath": {"path": "/a"}})), volume(json!({"hostPath": {"path": "/b"}})));
        let errors = texts(&with(|cx| VolumeStrategy.validate_update(cx, &new, &old)));
        assert_eq!(
            errors,
            [
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"
            ]
        );
    }

    #[test]
    fn a_class_stays_what_it_is() {
        let class = |provisioner: &str| json!({"provisioner": provisioner, "volumeBindingMode": "Immediate", "reclaimPolicy": "Delete"});
        let errors = texts(&with(|cx| ClassStrategy.validate_update(cx, &class("b"), &class("a"))));
        assert_eq!(errors, ["provisioner: Forbidden: updates to provisioner are forbidden."]);
        assert_eq!(
            texts(&with(|cx| ClassStrategy.validate_create(cx, &class("")))),
            ["provisioner: Required value"]
        );
    }
}
