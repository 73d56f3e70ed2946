//! Kinds that need little: no generation, or one or two checks.

use serde_json::Value;

use super::check::{Errors, is_empty, text};
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
        if name.starts_with("system-") {
            if let Some(why) = not_the_systems(name, value, object["globalDefault"] == true) {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                errors.push(FieldError::forbidden(&Path::new("metadata").child("name"), detail));
            }
        } else if value > HIGHEST {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(FieldError::forbidden(&Path::new("value"), detail));
        }
        let policies = ["Never", "PreemptLowerPriority"];
        errors.optionally_one_of(&Path::new("preemptionPolicy"), &object["preemptionPolicy"], &policies);
        errors.0
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        if new["value"] != old["value"] {
            errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        errors.immutable(&Path::new("preemptionPolicy"), &new["preemptionPolicy"], &old["preemptionPolicy"]);
        errors.0
    }
}

/// Why a class with a name of the system's is not one of them.
fn not_the_systems(name: &str, value: i64, default: bool) -> Option<String> {
    let known = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
    match known.into_iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, wanted)) if value != wanted => {
            Some(format!("value of {name} PriorityClass must be {wanted}"))
        }
        Some(_) if default => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
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
        let (strategy, at) = (&spec["strategy"], path.child("strategy").child("strategy"));
        if let Some(strategy) = strategy.as_str().filter(|s| !s.is_empty()) {
            if strategy.contains('/') {
                errors.invalid_all(&at, &strategy.into(), names::qualified_name(strategy));
            } else if strategy != "OldestEmulationVersion" {
                errors.push(FieldError::not_supported(&at, strategy, &["OldestEmulationVersion"]));
            }
        }
        if !is_empty(&spec["preferredHolder"]) && is_empty(strategy) {
            let detail = "may only be specified if `strategy` is defined";
            errors.push(FieldError::forbidden(&path.child("preferredHolder"), detail));
        }
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        self.validate_create(cx, new)
    }
}

/// ServiceAccounts, of which upstream checks nothing but the metadata.
pub struct ServiceAccountStrategy;

const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

impl Strategy for ServiceAccountStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        names_alone(object);
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, _: &Value) -> Result<(), Status> {
        names_alone(new);
        Ok(())
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        if object["metadata"]["annotations"].get(ENFORCE).is_none() {
            return Vec::new();
        }
        let why = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
        vec![format!("metadata.annotations[{ENFORCE}]: {why}")]
    }
}

/// Of its secrets an account knows the names.
fn names_alone(account: &mut Value) {
    for secret in account.get_mut("secrets").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(secret) = secret.as_object_mut() {
            secret.retain(|field, _| field == "name");
        }
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
        assert_eq!(
            create(&class("system-x", 1))[0].to_string(),
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
             error: system-x is not a known system priority class"
        );
        assert!(create(&class("system-node-critical", 5))[0].detail.ends_with("must be 2000001000"));
        let changed = with(|cx| PriorityClassStrategy.validate_update(cx, &class("a", 2), &class("a", 1)));
        assert_eq!(changed[0].to_string(), "value: Forbidden: may not be changed in an update.");
        let lease = json!({"spec": {"leaseDurationSeconds": 0}});
        assert_eq!(
            with(|cx| LeaseStrategy.validate_create(cx, &lease))[0].to_string(),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"
        );
        let mut account = json!({"secrets": [{"name": "a", "kind": "Secret"}]});
        with(|cx| ServiceAccountStrategy.prepare_create(cx, &mut account)).unwrap();
        assert_eq!(account, json!({"secrets": [{"name": "a"}]}));
    }
}
