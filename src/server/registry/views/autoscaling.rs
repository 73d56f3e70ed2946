//! `autoscaling/v1` of autoscalers that are stored as `v2`: what version 1 has no field for is kept in
//! annotations, which clients of version 2 never see. Follows `pkg/apis/autoscaling/v1/conversion.go`.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

type Fields = Map<String, Value>;

/// Shows a stored autoscaler as version 1.
pub fn from_v2(object: &mut Value) {
    object["apiVersion"] = json!("autoscaling/v1");
    let mut kept = Vec::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some(Value::Array(metrics)) = spec.remove("metrics") {
            let (cpu, others): (Vec<Value>, Vec<Value>) = metrics.into_iter().partition(is_utilization);
            if let Some(cpu) = cpu.first() {
                let wanted = cpu["resource"]["target"]["averageUtilization"].clone();
                spec.insert("targetCPUUtilizationPercentage".into(), wanted);
            }
            let others: Vec<Value> = others.iter().map(|metric| old_metric(metric, "target")).collect();
            kept.push((METRICS, others.into()));
        }
        if let Some(behavior) = spec.remove("behavior") {
            kept.push((BEHAVIOR, capitalized(behavior)));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        if let Some(Value::Array(metrics)) = status.remove("currentMetrics") {
            let cpu = metrics.iter().rfind(|m| m["type"] == "Resource" && m["resource"]["name"] == "cpu");
            let used = cpu.map(|m| &m["resource"]["current"]["averageUtilization"]);
            if let Some(used) = used.filter(|v| v.is_number()) {
                status.insert("currentCPUUtilizationPercentage".into(), used.clone());
            }
            let metrics: Vec<Value> = metrics.iter().map(|metric| old_metric(metric, "current")).collect();
            kept.push((CURRENT_METRICS, metrics.into()));
        }
        if let Some(conditions) = status.remove("conditions") {
            kept.push((CONDITIONS, conditions));
        }
        status.entry("currentReplicas").or_insert(json!(0));
    }
    for (annotation, value) in kept {
        if value.as_array().is_none_or(|list| !list.is_empty()) {
            object["metadata"]["annotations"][annotation] = json!(value.to_string());
        }
    }
}

/// Stores an autoscaler of version 1.
pub fn to_v2(object: &mut Value) {
    object["apiVersion"] = json!("autoscaling/v2");
    let mut take = |annotation: &str| {
        let annotations = object["metadata"].get_mut("annotations")?.as_object_mut()?;
        let Value::String(text) = annotations.remove(annotation)? else { return None };
        serde_json::from_str::<Value>(&text).ok()
    };
    let (metrics, current) = (take(METRICS), take(CURRENT_METRICS));
    let (conditions, behavior) = (take(CONDITIONS), take(BEHAVIOR));
    if object["metadata"]["annotations"].as_object().is_some_and(Map::is_empty)
        && let Some(metadata) = object["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut all = Vec::new();
        if let Some(wanted) = spec.remove("targetCPUUtilizationPercentage") {
            all.push(json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": wanted}}}));
        }
        if let Some(Value::Array(others)) = metrics {
            all.extend(others.iter().map(|metric| new_metric(metric, "target")));
        }
        if !all.is_empty() {
            spec.insert("metrics".into(), all.into());
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".into(), uncapitalized(behavior));
        }
    }
    let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else { return };
    let used = status.remove("currentCPUUtilizationPercentage");
    if let Some(Value::Array(current)) = current {
        let current: Vec<Value> = current.iter().map(|metric| new_metric(metric, "current")).collect();
        status.insert("currentMetrics".into(), current.into());
    } else if let Some(used) = used {
        status.insert(
            "currentMetrics".into(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": used}}}]),
        );
    }
    if let Some(conditions) = conditions {
        status.insert("conditions".into(), conditions);
    }
}

fn is_utilization(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"]["target"]["averageUtilization"].is_number()
}

/// What version 1 calls the amounts of a source, `target` or `current` ones: of objects, and of the others.
fn amounts(source: &str, prefix: &str) -> [(&'static str, String); 3] {
    let value = format!("{prefix}Value");
    let average =
        if source == "object" { "averageValue".to_owned() } else { format!("{prefix}AverageValue") };
    [
        ("value", value),
        ("averageValue", average),
        ("averageUtilization", format!("{prefix}AverageUtilization")),
    ]
}

/// Fields of a source that version 2 groups or calls otherwise: version 1's name, then version 2's place.
fn renamed(source: &str) -> [(&'static str, &'static [&'static str]); 3] {
    let selector = if source == "external" { "metricSelector" } else { "selector" };
    [
        ("metricName", &["metric", "name"]),
        (selector, &["metric", "selector"]),
        ("target", &["describedObject"]),
    ]
}

/// A metric as version 1 writes it.
fn old_metric(metric: &Value, kind: &str) -> Value {
    let mut old = json!({"type": metric["type"]});
    for (name, source) in metric.as_object().into_iter().flatten().filter(|(name, _)| *name != "type") {
        let mut fields = Fields::new();
        for plain in ["name", "container"].into_iter().filter(|f| !source[*f].is_null()) {
            fields.insert(plain.into(), source[plain].clone());
        }
        for (old_name, place) in renamed(name) {
            let value = place.iter().fold(source, |value, step| &value[*step]);
            if !value.is_null() {
                fields.insert(old_name.into(), value.clone());
            }
        }
        for (new_name, old_name) in amounts(name, kind) {
            if !source[kind][new_name].is_null() {
                fields.insert(old_name, source[kind][new_name].clone());
            }
        }
        // Version 1 has no type of the target: of an object there is always a value.
        let value = format!("{kind}Value");
        if name == "object" && !fields.contains_key(&value) {
            fields.insert(value, json!("0"));
        }
        old[name.as_str()] = fields.into();
    }
    old
}

/// A metric as version 2 writes it.
fn new_metric(metric: &Value, kind: &str) -> Value {
    let mut new = json!({"type": metric["type"]});
    for (name, source) in metric.as_object().into_iter().flatten().filter(|(name, _)| *name != "type") {
        let mut made = json!({});
        for plain in ["name", "container"].into_iter().filter(|f| !source[*f].is_null()) {
            made[plain] = source[plain].clone();
        }
        for (old_name, place) in renamed(name) {
            let Some(value) = source.get(old_name) else { continue };
            match place {
                [outer, inner] => made[*outer][*inner] = value.clone(),
                [one] => made[*one] = value.clone(),
                _ => {}
            }
        }
        let mut measured = Fields::new();
        for (new_name, old_name) in amounts(name, kind) {
            let value = source.get(&old_name).filter(|v| !v.is_null());
            // An average is what counts where both are there: the value beside it is nothing.
            let shadowed = new_name == "value" && name == "object" && !source["averageValue"].is_null();
            if let Some(value) = value.filter(|_| !shadowed) {
                measured.insert(new_name.into(), value.clone());
            }
        }
        if kind == "target" {
            let kind = [("averageUtilization", "Utilization"), ("averageValue", "AverageValue")];
            let kind = kind.into_iter().find(|(field, _)| measured.contains_key(*field));
            measured.insert("type".into(), json!(kind.map_or("Value", |(_, kind)| kind)));
        }
        made[kind] = measured.into();
        new[name.as_str()] = made;
    }
    new
}

/// The behaviour's annotation has the names that fields have within upstream's program.
fn capitalized(value: Value) -> Value {
    rename(value, &|key| key[..1].to_uppercase() + &key[1..])
}

fn uncapitalized(value: Value) -> Value {
    rename(value, &|key| key[..1].to_lowercase() + &key[1..])
}

fn rename(value: Value, name: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Object(fields) => {
            let given = fields.into_iter().filter(|(key, value)| !value.is_null() && key.is_char_boundary(1));
            given.map(|(key, value)| (name(&key), rename(value, name))).collect::<Fields>().into()
        }
        Value::Array(list) => list.into_iter().map(|item| rename(item, name)).collect::<Vec<_>>().into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Value {
        json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "a"}, "spec": {
            "maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                {"type": "Pods", "pods": {"metric": {"name": "x", "selector": {"matchLabels": {"a": "b"}}},
                    "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s", "apiVersion": "v1"},
                    "metric": {"name": "y"}, "target": {"type": "Value", "value": "2"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
                    "metric": {"name": "y"}, "target": {"type": "AverageValue", "averageValue": "2"}}},
                {"type": "External", "external": {"metric": {"name": "q", "selector": {}}, "target": {"type": "AverageValue", "averageValue": "30"}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                    "target": {"type": "Utilization", "averageUtilization": 60}}}],
            "behavior": {"scaleDown": {"selectPolicy": "Max", "stabilizationWindowSeconds": 300,
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}}},
            "status": {"currentReplicas": 1, "desiredReplicas": 2,
                "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "100m"}}}]}})
    }

    #[test]
    fn version_1_keeps_what_it_has_no_field_for() {
        let mut object = everything();
        from_v2(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
        assert_eq!(
            object["status"],
            json!({"currentReplicas": 1, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 40})
        );
        let annotation = |name: &str| -> Value {
            serde_json::from_str(object["metadata"]["annotations"][name].as_str().unwrap()).unwrap()
        };
        assert_eq!(
            annotation(METRICS)[1],
            json!({"type": "Pods", "pods": {"metricName": "x", "selector": {"matchLabels": {"a": "b"}}, "targetAverageValue": "10"}})
        );
        assert_eq!(
            annotation(BEHAVIOR),
            json!({"ScaleDown": {"SelectPolicy": "Max", "StabilizationWindowSeconds": 300,
                "Policies": [{"Type": "Percent", "Value": 100, "PeriodSeconds": 15}]}})
        );
        assert_eq!(
            annotation(CURRENT_METRICS),
            json!([{"type": "Resource", "resource": {"name": "cpu", "currentAverageUtilization": 40, "currentAverageValue": "100m"}}])
        );
        to_v2(&mut object);
        assert_eq!(object, everything());
    }

    #[test]
    fn version_1_without_annotations_gets_none() {
        let mut object =
            json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "a"}, "spec": {"maxReplicas": 2}});
        let old = object.clone();
        to_v2(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 2}));
        from_v2(&mut object);
        assert_eq!(object, old);
    }
}
