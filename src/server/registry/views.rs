//! Resources that show the objects of another one.

use serde_json::{Map, Value, json};

use super::View;

/// `events.k8s.io/v1`: core events with other names of fields.
pub static EVENTS: View = View {
    group: "",
    plural: "events",
    from_stored: event_from_core,
    to_stored: event_to_core,
    validate: super::strategies::event::validate_new_form,
};

/// `autoscaling/v1`: autoscalers whose only metric is the processor's utilisation.
pub static AUTOSCALERS_V1: View = View {
    group: "autoscaling",
    plural: "horizontalpodautoscalers",
    from_stored: autoscaler_from_v2,
    to_stored: autoscaler_to_v2,
    validate: |_, _, _| {},
};

/// Field names of core events and of `events.k8s.io`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Where metrics go that `autoscaling/v1` has no field for.
const METRICS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/metrics";

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

fn event_from_core(event: &mut Value) {
    let Some(map) = event.as_object_mut() else { return };
    EVENT_FIELDS.iter().for_each(|(core, new)| rename(map, core, new));
    map.insert("apiVersion".into(), json!("events.k8s.io/v1"));
}

fn event_to_core(event: &mut Value) {
    let Some(map) = event.as_object_mut() else { return };
    EVENT_FIELDS.iter().for_each(|(core, new)| rename(map, new, core));
    map.insert("apiVersion".into(), json!("v1"));
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"]["target"]["averageUtilization"].is_number()
}

fn autoscaler_from_v2(object: &mut Value) {
    object["apiVersion"] = json!("autoscaling/v1");
    if let Some(Value::Array(metrics)) = object["spec"].as_object_mut().and_then(|s| s.remove("metrics")) {
        let (cpu, others): (Vec<Value>, Vec<Value>) = metrics.into_iter().partition(is_cpu);
        if let Some(cpu) = cpu.first() {
            object["spec"]["targetCPUUtilizationPercentage"] =
                cpu["resource"]["target"]["averageUtilization"].clone();
        }
        if !others.is_empty() {
            object["metadata"]["annotations"][METRICS_ANNOTATION] = json!(Value::Array(others).to_string());
        }
    }
    let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else { return };
    status.remove("conditions");
    if let Some(Value::Array(metrics)) = status.remove("currentMetrics") {
        let cpu = metrics.iter().find(|m| m["resource"]["name"] == "cpu");
        if let Some(used) =
            cpu.map(|m| &m["resource"]["current"]["averageUtilization"]).filter(|v| v.is_number())
        {
            status.insert("currentCPUUtilizationPercentage".into(), used.clone());
        }
    }
}

fn autoscaler_to_v2(object: &mut Value) {
    object["apiVersion"] = json!("autoscaling/v2");
    let mut metrics = Vec::new();
    let annotations = object["metadata"].get_mut("annotations").and_then(Value::as_object_mut);
    if let Some(Value::String(text)) = annotations.and_then(|a| a.remove(METRICS_ANNOTATION))
        && let Ok(Value::Array(others)) = serde_json::from_str(&text)
    {
        metrics = others;
    }
    let spec = object.get_mut("spec").and_then(Value::as_object_mut);
    if let Some(wanted) = spec.and_then(|s| s.remove("targetCPUUtilizationPercentage")) {
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": wanted}}}));
    }
    if !metrics.is_empty() {
        object["spec"]["metrics"] = Value::Array(metrics);
    }
    let status = object.get_mut("status").and_then(Value::as_object_mut);
    if let Some((status, used)) =
        status.and_then(|s| s.remove("currentCPUUtilizationPercentage").map(|u| (s, u)))
    {
        status.insert(
            "currentMetrics".into(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": used}}}]),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_everything_both_ways() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m",
            "source": {"component": "c"}, "count": 2, "reason": "R", "reportingComponent": "c", "firstTimestamp": null});
        let mut event = core.clone();
        event_from_core(&mut event);
        assert_eq!(
            (&event["regarding"]["name"], &event["note"], &event["deprecatedCount"]),
            (&json!("p"), &json!("m"), &json!(2))
        );
        assert_eq!(event["apiVersion"], "events.k8s.io/v1");
        event_to_core(&mut event);
        assert_eq!(event, core);
    }

    #[test]
    fn autoscalers_keep_metrics_that_version_1_has_no_field_for() {
        let v2 = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "a", "annotations": {}}, "spec": {"maxReplicas": 3, "metrics": [
            {"type": "Pods", "pods": {"metric": {"name": "x"}}},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
        let mut object = v2.clone();
        autoscaler_from_v2(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
        autoscaler_to_v2(&mut object);
        assert_eq!(object, v2);
    }
}
