//! What the server adds to a new pod: its class, its first condition, and what labels and old annotations say.

use serde_json::{Value, json};

use super::qos;
use super::validate::CONTAINER_LISTS;
use crate::server::registry::strategies::check::{Errors, is_empty, items, text};

/// Where affinity to pods is written.
const TERMS: [(&str, &str); 4] = [
    ("podAffinity", "requiredDuringSchedulingIgnoredDuringExecution"),
    ("podAffinity", "preferredDuringSchedulingIgnoredDuringExecution"),
    ("podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"),
    ("podAntiAffinity", "preferredDuringSchedulingIgnoredDuringExecution"),
];

/// Makes an object a new pod.
pub fn prepare(pod: &mut Value) {
    let mut status = json!({"phase": "Pending", "qosClass": qos::class(&pod["spec"])});
    if !is_empty(&pod["spec"]["schedulingGates"]) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": crate::api::meta::now(),
        }]);
    }
    pod["status"] = status;
    select_by_labels(pod);
    profiles_from_annotations(pod);
}

/// The labels named by `matchLabelKeys` and `mismatchLabelKeys` become terms of the selectors beside them.
fn select_by_labels(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let add = |term: &mut Value| {
        let mut wanted = Vec::new();
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            for key in items(&term[field]) {
                if let Some(value) = labels.get(text(key)) {
                    wanted.push(json!({"key": key, "operator": operator, "values": [value]}));
                }
            }
        }
        // A term without selector matches nothing, and keeps doing so.
        if wanted.is_empty() || term["labelSelector"].is_null() {
            return;
        }
        match term["labelSelector"]["matchExpressions"].as_array_mut() {
            Some(list) => list.append(&mut wanted),
            None => term["labelSelector"]["matchExpressions"] = wanted.into(),
        }
    };
    for (kind, field) in TERMS {
        let terms = pod.pointer_mut(&format!("/spec/affinity/{kind}/{field}")).and_then(Value::as_array_mut);
        for term in terms.into_iter().flatten() {
            add(if field.starts_with("preferred") { &mut term["podAffinityTerm"] } else { term });
        }
    }
    let spread = pod.pointer_mut("/spec/topologySpreadConstraints").and_then(Value::as_array_mut);
    spread.into_iter().flatten().for_each(add);
}

/// AppArmor profiles were annotations once: those become fields.
fn profiles_from_annotations(pod: &mut Value) {
    if pod["spec"]["os"]["name"] == "windows" {
        return;
    }
    let annotations = pod["metadata"]["annotations"].clone();
    let of_pod = pod["spec"]["securityContext"]["appArmorProfile"].clone();
    for list in CONTAINER_LISTS {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let key = format!("{}{}", super::validate::APP_ARMOR, text(&container["name"]));
            let own = container.pointer("/securityContext/appArmorProfile").is_some_and(|p| !p.is_null());
            let Some(profile) = annotations.get(&key).map(text).and_then(profile) else { continue };
            if !own && profile != of_pod {
                container["securityContext"]["appArmorProfile"] = profile;
            }
        }
    }
}

fn profile(annotation: &str) -> Option<Value> {
    let profile = match annotation {
        "unconfined" => json!({"type": "Unconfined"}),
        "runtime/default" => json!({"type": "RuntimeDefault"}),
        other => json!({"type": "Localhost", "localhostProfile": other.strip_prefix("localhost/")?}),
    };
    let mut errors = Errors::default();
    super::validate::app_armor(&profile, &crate::api::Path::default(), &mut errors);
    errors.0.is_empty().then_some(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_narrow_selectors_beside_them() {
        let term = |selector: Value| json!({"labelSelector": selector, "matchLabelKeys": ["hash", "none"], "mismatchLabelKeys": ["app"]});
        let mut pod = json!({"metadata": {"labels": {"app": "web", "hash": "1"}}, "spec": {
            "affinity": {"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [term(json!({}))],
                "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": term(Value::Null)}]}},
            "topologySpreadConstraints": [{"labelSelector": {"matchLabels": {"x": "y"}}, "matchLabelKeys": ["hash"]}]}});
        prepare(&mut pod);
        let anti = &pod["spec"]["affinity"]["podAntiAffinity"];
        assert_eq!(
            anti["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"]["matchExpressions"],
            json!([{"key": "hash", "operator": "In", "values": ["1"]}, {"key": "app", "operator": "NotIn", "values": ["web"]}])
        );
        let preferred = &anti["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
        assert_eq!(preferred["labelSelector"], Value::Null);
        assert_eq!(
            pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
            json!([{"key": "hash", "operator": "In", "values": ["1"]}])
        );
    }

    #[test]
    fn profiles_of_annotations_become_fields() {
        let annotated = |value: &str| {
            let key = format!("{}c", super::super::validate::APP_ARMOR);
            let mut pod =
                json!({"metadata": {"annotations": {key: value}}, "spec": {"containers": [{"name": "c"}]}});
            prepare(&mut pod);
            pod["spec"]["containers"][0]["securityContext"]["appArmorProfile"].clone()
        };
        assert_eq!(annotated("runtime/default"), json!({"type": "RuntimeDefault"}));
        assert_eq!(annotated("localhost/x"), json!({"type": "Localhost", "localhostProfile": "x"}));
        assert_eq!(annotated("what"), Value::Null);
    }
}
