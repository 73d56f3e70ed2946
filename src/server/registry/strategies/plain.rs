//! Kinds that need little: no generation, or one or two checks.

use serde_json::Value;

use super::check::{Errors, IMMUTABLE, text};
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy, defaults};

/// Plain data with a spec that is not counted: upstream gives such objects no generation.
pub struct Uncounted;

impl Strategy for Uncounted {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "status");
        Ok(())
    }
}

/// PriorityClasses: `pkg/apis/scheduling/validation`.
pub struct PriorityClassStrategy;

/// The highest value that is not the system's.
const HIGHEST: i64 = 1_000_000_000;

impl Strategy for PriorityClassStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let name = text(&object["metadata"]["name"]);
        let value = object["value"].as_i64().unwrap_or_default();
        let system = ["system-node-critical", "system-cluster-critical"].contains(&name);
        if name.starts_with("system-") && !system {
            let detail = "priority class names with 'system-' prefix are reserved for system use only";
            errors.push(FieldError::forbidden(&Path::new("metadata").child("name"), detail));
        } else if value > HIGHEST && !system {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(FieldError::forbidden(&Path::new("value"), detail));
        }
        let policies = ["Never", "PreemptLowerPriority"];
        errors.optionally_one_of(&Path::new("preemptionPolicy"), &object["preemptionPolicy"], &policies);
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(cx, new);
        if new["value"] != old["value"] {
            errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        if new["preemptionPolicy"] != old["preemptionPolicy"] {
            let value = new["preemptionPolicy"].clone();
            errors.push(FieldError::invalid(&Path::new("preemptionPolicy"), value, IMMUTABLE));
        }
        errors
    }
}

/// Leases: `pkg/apis/coordination/validation`.
pub struct LeaseStrategy;

impl Strategy for LeaseStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, _: &mut Value, _: &Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let mut errors = Errors::default();
        if spec["leaseDurationSeconds"].as_i64().is_some_and(|s| s <= 0) {
            let value = spec["leaseDurationSeconds"].clone();
            errors.push(FieldError::invalid(
                &path.child("leaseDurationSeconds"),
                value,
                "must be greater than 0",
            ));
        }
        errors.not_negative(&path.child("leaseTransitions"), &spec["leaseTransitions"]);
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        self.validate_create(cx, new)
    }
}

/// ServiceAccounts, whose secrets and pull secrets are names.
pub struct ServiceAccountStrategy;

impl Strategy for ServiceAccountStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        for list in ["secrets", "imagePullSecrets"] {
            for (secret, path) in super::check::indexed(&object[list], &Path::new(list)) {
                errors.optionally_named(&path.child("name"), &secret["name"], names::dns1123_subdomain);
            }
        }
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        self.validate_create(cx, new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;
    use serde_json::json;

    fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
        run(&Context { user: &User::loopback(), namespace: None, reader: &Fake::default(), dry_run: false })
    }

    #[test]
    fn uncounted_objects_keep_their_status_and_have_no_generation() {
        let mut made = json!({"metadata": {"name": "a"}, "spec": {"x": 1}, "status": {"y": 1}});
        with(|cx| Uncounted.prepare_create(cx, &mut made)).unwrap();
        assert_eq!(made, json!({"metadata": {"name": "a"}, "spec": {"x": 1}}));
        let old = json!({"spec": {"x": 1}, "status": {"y": 1}});
        let mut new = json!({"spec": {"x": 2}, "status": {"y": 2}});
        with(|cx| Uncounted.prepare_update(cx, &mut new, &old)).unwrap();
        assert_eq!(new, json!({"spec": {"x": 2}, "status": {"y": 1}}));
    }

    #[test]
    fn classes_and_leases_keep_their_bounds() {
        let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
        let create = |class: &Value| with(|cx| PriorityClassStrategy.validate_create(cx, class));
        assert!(create(&class("high", HIGHEST)).is_empty());
        assert!(create(&class("system-node-critical", 2_000_001_000)).is_empty());
        assert_eq!(
            create(&class("higher", HIGHEST + 1))[0].to_string(),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
        );
        assert_eq!(create(&class("system-x", 1))[0].field.as_str(), "metadata.name");
        let changed = with(|cx| PriorityClassStrategy.validate_update(cx, &class("a", 2), &class("a", 1)));
        assert_eq!(changed[0].to_string(), "value: Forbidden: may not be changed in an update.");
        let lease = json!({"spec": {"leaseDurationSeconds": 0}});
        assert_eq!(
            with(|cx| LeaseStrategy.validate_create(cx, &lease))[0].to_string(),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"
        );
        let account = json!({"imagePullSecrets": [{"name": "A"}]});
        assert_eq!(
            with(|cx| ServiceAccountStrategy.validate_create(cx, &account))[0].field.as_str(),
            "imagePullSecrets[0].name"
        );
    }
}
