//! ResourceQuotas: `pkg/apis/core/validation`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{Errors, IMMUTABLE, entries, items, text};
use super::plain::Uncounted;
use crate::api::quota::Scope;
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy};

/// Amounts of these are whole numbers.
const INTEGERS: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
/// The others that a quota may limit, and need no domain.
const AMOUNTS: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// What a quota with a scope of pods may limit.
const OF_PODS: [&str; 7] =
    ["pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// Scopes that are there or not; they have no values.
const PLAIN: [&str; 5] =
    ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"];
const WITH_VALUES: [&str; 2] = ["PriorityClass", "VolumeAttributesClass"];
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

/// The strategy.
pub struct QuotaStrategy;

impl Strategy for QuotaStrategy {
    fn prepare_create(&self, cx: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        Uncounted.prepare_create(cx, object)
    }

    fn prepare_update(&self, cx: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        Uncounted.prepare_update(cx, new, old)
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let mut errors = Errors::default();
        amounts(&spec["hard"], &path.child("hard"), &mut errors);
        scopes(spec, &path, &mut errors);
        selector(spec, &path.child("scopeSelector"), &mut errors);
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(cx, new);
        let set = |quota: &Value| -> BTreeSet<String> {
            items(&quota["spec"]["scopes"]).iter().map(|s| text(s).to_owned()).collect()
        };
        if set(new) != set(old) {
            let at = Path::new("spec").child("scopes");
            errors.push(FieldError::invalid(&at, new["spec"]["scopes"].clone(), IMMUTABLE));
        }
        errors
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        _: &Value,
    ) -> Vec<FieldError> {
        let mut errors = Errors::default();
        if subresource == "status" {
            let path = Path::new("status");
            for field in ["hard", "used"] {
                amounts(&new["status"][field], &path.child(field), &mut errors);
            }
        }
        errors.0
    }
}

fn amounts(list: &Value, path: &Path, errors: &mut Errors) {
    for (name, value) in entries(list) {
        let at = path.key(name);
        let reasons = names::qualified_name(name);
        let well_formed = reasons.is_empty();
        errors.invalid_all(&at, &name.into(), reasons);
        if well_formed && !name.contains('/') && !is_standard(name) {
            if name != "storage" {
                let detail = "must be a standard resource type or fully qualified";
                errors.push(FieldError::invalid(&at, name, detail));
            }
            errors.push(FieldError::invalid(&at, name, "must be a standard resource for quota"));
        }
        let Some(quantity) = errors.quantity(&at, value) else { continue };
        let whole = quantity.to_units().checked_mul(1000) == Some(quantity.to_millis());
        if !whole && (INTEGERS.contains(&name) || is_extended(name)) {
            errors.push(FieldError::invalid(&at, quantity.to_string(), "must be an integer"));
        }
    }
}

fn is_standard(name: &str) -> bool {
    let huge = name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-");
    huge || INTEGERS.contains(&name) || AMOUNTS.contains(&name)
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// Whether a quota with this scope may limit this resource; those with a domain always.
fn fits(scope: &str, resource: &str) -> bool {
    if !is_standard(resource) {
        return true;
    }
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&resource),
        known if PLAIN.contains(&known) || known == "PriorityClass" => OF_PODS.contains(&resource),
        _ => true,
    }
}

fn is_scope(name: &str) -> bool {
    PLAIN.contains(&name) || WITH_VALUES.contains(&name)
}

fn conflicts(names: &[&str]) -> usize {
    OPPOSITES.iter().filter(|pair| pair.iter().all(|one| names.contains(one))).count()
}

fn scopes(spec: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("scopes");
    let shown = || spec["scopes"].clone();
    let all: Vec<&str> = items(&spec["scopes"]).iter().map(text).collect();
    for scope in &all {
        if !is_scope(scope) {
            errors.push(FieldError::invalid(&at, shown(), "unsupported scope"));
        }
        for _ in entries(&spec["hard"]).filter(|(name, _)| !fits(scope, name)) {
            errors.push(FieldError::invalid(&at, shown(), "unsupported scope applied to resource"));
        }
    }
    for _ in 0..conflicts(&all) {
        errors.push(FieldError::invalid(&at, shown(), "conflicting scopes"));
    }
}

fn selector(spec: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("matchExpressions");
    let mut bare = spec.clone();
    if let Some(spec) = bare.as_object_mut() {
        spec.remove("scopes");
    }
    let all = Scope::all(&serde_json::json!({"spec": bare}));
    for scope in &all {
        if !is_scope(&scope.name) {
            errors.push(FieldError::invalid(
                &at.child("scopeName"),
                scope.name.as_str(),
                "unsupported scope",
            ));
        }
        for _ in entries(&spec["hard"]).filter(|(name, _)| !fits(&scope.name, name)) {
            let value = spec["scopeSelector"].clone();
            errors.push(FieldError::invalid(&at, value, "unsupported scope applied to resource"));
        }
        operator(scope, &at, errors);
    }
    let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
    for _ in 0..conflicts(&names) {
        errors.push(FieldError::invalid(&path.clone(), spec["scopes"].clone(), "conflicting scopes"));
    }
}

fn operator(scope: &Scope, at: &Path, errors: &mut Errors) {
    let (operator, values) = (at.child("operator"), at.child("values"));
    if PLAIN.contains(&scope.name.as_str()) && scope.operator != "Exists" {
        let detail = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
                      ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                      ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(FieldError::invalid(&operator, scope.operator.as_str(), detail));
    }
    match scope.operator.as_str() {
        "In" | "NotIn" if scope.values.is_empty() => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(FieldError::required(&values, detail));
        }
        "Exists" | "DoesNotExist" if !scope.values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(FieldError::invalid(&values, scope.values.clone(), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(FieldError::invalid(&operator, other, "not a valid selector operator")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;
    use serde_json::json;

    fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
        run(&Context {
            user: &User::loopback(),
            namespace: Some("a"),
            reader: &Fake::default(),
            dry_run: false,
        })
    }

    fn errors(spec: Value) -> Vec<String> {
        let errors = with(|cx| QuotaStrategy.validate_create(cx, &json!({"spec": spec})));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_quota_may_limit() {
        let good = json!({"hard": {"cpu": "1", "pods": "5", "requests.storage": "1Gi", "count/widgets.example.com": "1",
            "requests.example.com/gpu": "2", "hugepages-2Mi": "4Mi",
            "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}});
        assert_eq!(errors(good), [] as [&str; 0]);
        assert_eq!(
            errors(json!({"hard": {"widgets": "1"}})),
            [
                "spec.hard[widgets]: Invalid value: \"widgets\": must be a standard resource type or fully qualified",
                "spec.hard[widgets]: Invalid value: \"widgets\": must be a standard resource for quota"
            ]
        );
        assert_eq!(
            errors(json!({"hard": {"pods": "-1"}})),
            ["spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0"]
        );
        assert_eq!(
            errors(json!({"hard": {"pods": "1500m"}})),
            ["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"]
        );
    }

    #[test]
    fn scopes_fit_what_is_limited() {
        assert_eq!(errors(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})), [] as [&str; 0]);
        assert_eq!(
            errors(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]})),
            ["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"]
        );
        assert_eq!(
            errors(json!({"hard": {"pods": "1"}, "scopes": ["Terminating", "NotTerminating"]})),
            ["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"]
        );
        assert_eq!(
            errors(json!({"hard": {"pods": "1"}, "scopes": ["Other"]})),
            ["spec.scopes: Invalid value: [\"Other\"]: unsupported scope"]
        );
    }

    #[test]
    fn scope_selectors_have_values_where_they_must() {
        let with = |expression: Value| {
            errors(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [expression]}}))
        };
        assert_eq!(
            with(json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]})),
            [] as [&str; 0]
        );
        assert_eq!(
            with(json!({"scopeName": "PriorityClass", "operator": "In"})),
            [
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` \
                 is 'In' or 'NotIn' for scope selector"
            ]
        );
        assert!(
            with(json!({"scopeName": "BestEffort", "operator": "In", "values": ["x"]}))[0]
                .contains("must be 'Exist' when scope is any of")
        );
        assert_eq!(
            with(json!({"scopeName": "PriorityClass", "operator": "Is"})),
            [
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Is\": not a valid selector operator"
            ]
        );
    }

    #[test]
    fn scopes_stay_and_a_status_holds_amounts() {
        let quota = |scopes: Value| json!({"spec": {"hard": {"pods": "1"}, "scopes": scopes}});
        let changed =
            with(|cx| QuotaStrategy.validate_update(cx, &quota(json!(["BestEffort"])), &quota(json!([]))));
        assert_eq!(
            changed[0].to_string(),
            "spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"
        );
        let status = json!({"status": {"used": {"pods": "x/"}, "hard": {"pods": "-1"}}});
        let errors = with(|cx| QuotaStrategy.validate_subresource(cx, "status", &status, &Value::Null));
        assert_eq!(errors[0].field.as_str(), "status.hard[pods]");
    }
}
