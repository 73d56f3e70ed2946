//! LimitRanges: defaults and validation of `pkg/apis/core`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::check::{Errors, entries, indexed, is_empty, text};
use super::plain::Uncounted;
use super::pod::validate::resource_name;
use crate::api::quota::{Amounts, amounts};
use crate::api::{FieldError, Path, Quantity, Status, names};
use crate::server::registry::strategy::{Context, Strategy};

const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];
/// The lists of a limit.
const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// The strategy.
pub struct LimitRangeStrategy;

impl Strategy for LimitRangeStrategy {
    fn prepare_create(&self, cx: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        default(object);
        Uncounted.prepare_create(cx, object)
    }

    fn prepare_update(&self, cx: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        default(new);
        Uncounted.prepare_update(cx, new, old)
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let mut types = BTreeSet::new();
        for (limit, path) in indexed(&object["spec"]["limits"], &Path::new("spec").child("limits")) {
            let (kind, at) = (text(&limit["type"]), path.child("type"));
            type_name(kind, &at, &mut errors);
            if !types.insert(kind) {
                errors.push(FieldError::duplicate(&at, kind));
            }
            one(limit, kind, &path, &mut errors);
        }
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        self.validate_create(cx, new)
    }
}

/// A container's default limit is the maximum, its default request the default limit or the minimum.
fn default(object: &mut Value) {
    let Some(limits) = object["spec"].get_mut("limits").and_then(Value::as_array_mut) else { return };
    for limit in limits.iter_mut().filter(|l| l["type"] == "Container") {
        for (into, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            let given: Vec<_> = entries(&limit[from]).map(|(k, v)| (k.to_owned(), v.clone())).collect();
            for (name, value) in given {
                if limit[into].is_null() {
                    limit[into] = json!({});
                }
                if limit[into].get(&name).is_none() {
                    limit[into][name] = value;
                }
            }
        }
        // Looking for a list that is not there left a null behind.
        if let Some(limit) = limit.as_object_mut() {
            limit.retain(|_, value| !value.is_null());
        }
    }
}

fn type_name(kind: &str, path: &Path, errors: &mut Errors) {
    let reasons = names::qualified_name(kind);
    let well_formed = reasons.is_empty();
    errors.invalid_all(path, &kind.into(), reasons);
    if well_formed && !kind.contains('/') && !TYPES.contains(&kind) {
        errors.push(FieldError::invalid(path, kind, "must be a standard limit type or fully qualified"));
    }
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn one(limit: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    for list in LISTS {
        let at = path.child(list);
        if kind == "Pod" && list.starts_with("default") {
            if !is_empty(&limit[list]) {
                errors.push(FieldError::forbidden(&at, "may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        for (name, _) in entries(&limit[list]) {
            match kind {
                "Pod" | "Container" => resource_name(name, &at.key(name), errors),
                _ => errors.invalid_all(&at.key(name), &name.into(), names::qualified_name(name)),
            }
        }
    }
    let given = |list: &str| amounts(&limit[list]);
    if kind == "PersistentVolumeClaim"
        && !given("min").contains_key("storage")
        && !given("max").contains_key("storage")
    {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(&path.child("limits"), detail));
    }
    let bounds = Bounds { path, lists: LISTS.map(given), names: BTreeSet::new() };
    bounds.check(errors);
}

/// The amounts of one limit, to be compared with each other.
struct Bounds<'a> {
    path: &'a Path,
    lists: [Amounts; 5],
    names: BTreeSet<String>,
}

impl Bounds<'_> {
    fn check(mut self, errors: &mut Errors) {
        self.names = self.lists.iter().flat_map(|list| list.keys().cloned()).collect();
        for name in &self.names {
            let [max, min, default, request, ratio] =
                [0, 1, 2, 3, 4].map(|list: usize| self.lists[list].get(name).copied());
            // The field that is blamed, the value shown, and which two must be in order.
            let orders = [
                ("min", min, ("min value", min), ("max value", max)),
                ("defaultRequest", request, ("min value", min), ("default request value", request)),
                ("defaultRequest", request, ("default request value", request), ("max value", max)),
                (
                    "defaultRequest",
                    request,
                    ("default request value", request),
                    ("default limit value", default),
                ),
                ("default", min, ("min value", min), ("default value", default)),
                ("default", max, ("default value", default), ("max value", max)),
            ];
            for (field, shown, (lesser, low), (greater, high)) in orders {
                let (Some(low), Some(high), Some(shown)) = (low, high, shown) else { continue };
                if low > high {
                    let detail = format!("{lesser} {low} is greater than {greater} {high}");
                    self.push(errors, field, name, shown, detail);
                }
            }
            if let Some(ratio) = ratio {
                self.ratio(errors, name, ratio, min, max);
            }
            let (Some(default), Some(request)) = (default, request) else { continue };
            let overcommits = is_native(name) && !name.starts_with("hugepages-");
            if !overcommits && default != request {
                let detail =
                    format!("default value {default} must equal to defaultRequest value {request} in {name}");
                self.push(errors, "defaultRequest", name, request, detail);
            }
        }
    }

    fn ratio(
        &self,
        errors: &mut Errors,
        name: &str,
        ratio: Quantity,
        min: Option<Quantity>,
        max: Option<Quantity>,
    ) {
        const FIELD: &str = "maxLimitRequestRatio";
        if ratio < Quantity::from_millis(1000) {
            self.push(errors, FIELD, name, ratio, format!("ratio {ratio} is less than 1"));
        }
        let (Some(min), Some(max)) = (min, max) else { return };
        let most = max.to_millis() as f64 / min.to_millis() as f64;
        if ratio.to_millis() as f64 / 1000.0 > most {
            self.push(
                errors,
                FIELD,
                name,
                ratio,
                format!("ratio {ratio} is greater than max/min = {most:.6}"),
            );
        }
    }

    fn push(&self, errors: &mut Errors, field: &str, name: &str, shown: Quantity, detail: String) {
        errors.push(FieldError::invalid(&self.path.child(field).key(name), shown.to_string(), detail));
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

    fn errors(limit: Value) -> Vec<String> {
        let object = json!({"spec": {"limits": [limit]}});
        with(|cx| LimitRangeStrategy.validate_create(cx, &object)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_containers_defaults_follow_from_its_bounds() {
        let mut range = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"}, "default": {"ephemeral-storage": "1Gi"}},
            {"type": "Pod", "max": {"cpu": "2"}}]}});
        with(|cx| LimitRangeStrategy.prepare_create(cx, &mut range)).unwrap();
        assert_eq!(
            range["spec"]["limits"],
            json!([{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"},
                "default": {"cpu": "2", "ephemeral-storage": "1Gi"},
                "defaultRequest": {"cpu": "2", "ephemeral-storage": "1Gi", "memory": "1Gi"}},
                {"type": "Pod", "max": {"cpu": "2"}}])
        );
    }

    #[test]
    fn bounds_are_in_order() {
        let container = |lists: Value| {
            let mut limit = json!({"type": "Container"});
            lists.as_object().unwrap().iter().for_each(|(k, v)| limit[k] = v.clone());
            errors(limit)
        };
        for (lists, expected) in [
            (
                json!({"min": {"cpu": "1"}, "max": {"cpu": "2"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"},
                "maxLimitRequestRatio": {"cpu": "2"}}),
                vec![],
            ),
            (
                json!({"min": {"cpu": "2"}, "max": {"cpu": "1"}}),
                vec![
                    "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                ],
            ),
            (
                json!({"defaultRequest": {"cpu": "2"}, "default": {"cpu": "1"}}),
                vec![
                    "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1",
                ],
            ),
            (
                json!({"max": {"cpu": "1"}, "default": {"cpu": "2"}}),
                vec![
                    "spec.limits[0].default[cpu]: Invalid value: \"1\": default value 2 is greater than max value 1",
                ],
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "500m"}}),
                vec![
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
                ],
            ),
            (
                json!({"min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}),
                vec![
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
                ],
            ),
            (
                json!({"max": {"widgets": "1"}}),
                vec![
                    "spec.limits[0].max[widgets]: Invalid value: \"widgets\": must be a standard resource type or fully qualified",
                    "spec.limits[0].max[widgets]: Invalid value: \"widgets\": must be a standard resource for containers",
                ],
            ),
        ] {
            assert_eq!(container(lists.clone()), expected, "{lists}");
        }
    }

    #[test]
    fn pods_have_no_defaults_and_claims_need_a_bound() {
        assert_eq!(
            errors(json!({"type": "Pod", "default": {"cpu": "1"}})),
            ["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"]
        );
        assert_eq!(
            errors(json!({"type": "PersistentVolumeClaim"})),
            [
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided"
            ]
        );
        assert_eq!(
            errors(json!({"type": "Node"})),
            [
                "spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified"
            ]
        );
        let twice = json!({"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}});
        let found = with(|cx| LimitRangeStrategy.validate_create(cx, &twice));
        assert_eq!(found[0].to_string(), "spec.limits[1].type: Duplicate value: \"Pod\"");
    }
}
