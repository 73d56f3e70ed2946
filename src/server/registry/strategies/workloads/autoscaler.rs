//! HorizontalPodAutoscalers, as `autoscaling/v2` has them: `pkg/apis/autoscaling/validation`.

use serde_json::Value;

use crate::api::{FieldError, Path, Quantity, Status, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};
use crate::server::registry::strategy::{Context, Strategy, defaults};

/// Sources of metrics: what `type` calls them, and their fields, in upstream's order.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;

/// The strategy of HorizontalPodAutoscalers. They have no generation.
pub struct AutoscalerStrategy;

impl Strategy for AutoscalerStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(&object["spec"])
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "status");
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        validate(&new["spec"])
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
            for field in ["currentReplicas", "desiredReplicas"] {
                errors.not_negative(&Path::new("status").child(field), &new["status"][field]);
            }
        }
        errors.0
    }
}

fn validate(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    let (low, high) = (spec["minReplicas"].as_i64(), spec["maxReplicas"].as_i64().unwrap_or_default());
    if let Some(low) = low.filter(|low| *low < 1) {
        let detail = "must be greater than or equal to 1";
        errors.push(FieldError::invalid(&path.child("minReplicas"), low, detail));
    }
    let at = path.child("maxReplicas");
    if high < 1 {
        errors.push(FieldError::invalid(&at, high, "must be greater than 0"));
    }
    if low.is_some_and(|low| high < low) {
        errors.push(FieldError::invalid(&at, high, "must be greater than or equal to `minReplicas`"));
    }
    reference(&spec["scaleTargetRef"], &path.child("scaleTargetRef"), &mut errors);
    for (metric, path) in indexed(&spec["metrics"], &path.child("metrics")) {
        source_of(metric, &path, &mut errors);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &spec["behavior"][direction];
        if !rules.is_null() {
            scaling_rules(rules, &path.child("behavior").child(direction), &mut errors);
        }
    }
    errors.0
}

/// `ValidateCrossVersionObjectReference`
fn reference(target: &Value, path: &Path, errors: &mut Errors) {
    for field in ["kind", "name"] {
        errors.named(&path.child(field), &target[field], names::path_segment);
    }
}

fn source_of(metric: &Value, path: &Path, errors: &mut Errors) {
    let (kind, at) = (text(&metric["type"]), path.child("type"));
    let supported = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    if kind.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric source type"));
    }
    if !supported.contains(&kind) {
        errors.push(FieldError::not_supported(&at, kind, &supported));
    }
    let mut given = Vec::new();
    for (_, field) in SOURCES.into_iter().filter(|(_, field)| !metric[*field].is_null()) {
        given.push(field);
        if given.len() == 1 {
            source(field, &metric[field], &path.child(field), errors);
        }
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    if let Some(expected) = expected.filter(|field| !given.contains(field)) {
        let detail = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(expected), detail));
    }
    if given.len() != 1 {
        given.sort_unstable();
        for other in given.into_iter().filter(|field| Some(*field) != expected) {
            let detail = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&path.child(other), detail));
        }
    }
}

fn source(kind: &str, source: &Value, path: &Path, errors: &mut Errors) {
    let (target, at) = (&source["target"], path.child("target"));
    match kind {
        "object" => {
            reference(&source["describedObject"], &path.child("describedObject"), errors);
            identifier(&source["metric"], &path.child("metric"), errors);
        }
        "external" | "pods" => identifier(&source["metric"], &path.child("metric"), errors),
        _ => {
            if is_empty(&source["name"]) {
                errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
            }
            if kind == "containerResource" {
                let (container, at) = (&source["container"], path.child("container"));
                if is_empty(container) {
                    errors.push(FieldError::required(&at, "must specify a container"));
                } else {
                    errors.invalid_all(&at, container, names::dns1123_label(text(container)));
                }
            }
        }
    }
    metric_target(target, &at, errors);
    let given = |field: &str| !target[field].is_null();
    let (value, average, utilization) = (given("value"), given("averageValue"), given("averageUtilization"));
    let mut missing = |field: &str, detail: &str| errors.push(FieldError::required(&at.child(field), detail));
    match kind {
        "object" if !value && !average => {
            missing("averageValue", "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            missing("averageValue", "must set either a target value for metric or a per-pod target");
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&at.child("value"), detail));
        }
        "pods" if !average => missing("averageValue", "must specify a positive target averageValue"),
        "resource" | "containerResource" if !utilization && !average => {
            missing("averageUtilization", "must set either a target raw value or a target utilization");
        }
        "resource" | "containerResource" if utilization && average => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(&at.child("averageValue"), detail));
        }
        _ => {}
    }
}

fn metric_target(target: &Value, path: &Path, errors: &mut Errors) {
    let (kind, at) = (text(&target["type"]), path.child("type"));
    if kind.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.push(FieldError::invalid(&at, kind, "must be either Utilization, Value, or AverageValue"));
    }
    for field in ["value", "averageValue"] {
        let amount = text(&target[field]).parse::<Quantity>();
        if amount.is_ok_and(|amount| amount.is_zero() || amount.is_negative()) {
            errors.push(FieldError::invalid(&path.child(field), target[field].clone(), "must be positive"));
        }
    }
    if let Some(percent) = target["averageUtilization"].as_i64().filter(|percent| *percent < 1) {
        let detail = "must be greater than 0";
        errors.push(FieldError::invalid(&path.child("averageUtilization"), percent, detail));
    }
}

fn identifier(metric: &Value, path: &Path, errors: &mut Errors) {
    let (name, at) = (&metric["name"], path.child("name"));
    if is_empty(name) {
        errors.push(FieldError::required(&at, "must specify a metric name"));
    } else {
        errors.invalid_all(&at, name, names::path_segment(text(name)));
    }
}

fn scaling_rules(rules: &Value, path: &Path, errors: &mut Errors) {
    let (window, at) = (&rules["stabilizationWindowSeconds"], path.child("stabilizationWindowSeconds"));
    if let Some(seconds) = window.as_i64() {
        if seconds < 0 {
            errors.push(FieldError::invalid(&at, seconds, "must be greater than or equal to zero"));
        }
        if seconds > MAX_WINDOW {
            let detail = format!("must be less than or equal to {MAX_WINDOW}");
            errors.push(FieldError::invalid(&at, seconds, detail));
        }
    }
    let select = &rules["selectPolicy"];
    if !select.is_null() && !matches!(text(select), "Disabled" | "Max" | "Min") {
        let at = path.child("selectPolicy");
        errors.push(FieldError::not_supported(&at, select.clone(), &["Disabled", "Max", "Min"]));
    }
    let at = path.child("policies");
    if items(&rules["policies"]).is_empty() {
        errors.push(FieldError::required(&at, "must specify at least one Policy"));
    }
    for (policy, path) in indexed(&rules["policies"], &at) {
        scaling_policy(policy, &path, errors);
    }
    if text(&rules["tolerance"]).parse::<Quantity>().is_ok_and(Quantity::is_negative) {
        let detail = "must be greater or equal to zero";
        errors.push(FieldError::invalid(&path.child("tolerance"), rules["tolerance"].clone(), detail));
    }
}

fn scaling_policy(policy: &Value, path: &Path, errors: &mut Errors) {
    let kinds = ["Percent", "Pods"];
    if !kinds.contains(&text(&policy["type"])) {
        errors.push(FieldError::not_supported(&path.child("type"), text(&policy["type"]), &kinds));
    }
    for field in ["value", "periodSeconds"] {
        let number = policy[field].as_i64().unwrap_or_default();
        if number <= 0 {
            errors.push(FieldError::invalid(&path.child(field), number, "must be greater than zero"));
        }
        if field == "periodSeconds" && number > MAX_PERIOD {
            let detail = format!("must be less than or equal to {MAX_PERIOD}");
            errors.push(FieldError::invalid(&path.child(field), number, detail));
        }
    }
}
