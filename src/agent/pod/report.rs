//! Brings the API's status of a pod up to date with patches of what changed.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::conditions::{OWN, TRANSIENT};
use crate::agent::spec::{name, namespace};

/// The patch that makes `old` into `new`; `None` if nothing differs. It names the pod's uid, so that
/// a new pod of the same name is never given an old one's status.
pub(super) fn patch(pod: &Pod, new: &PodStatus) -> Option<Value> {
    let old = pod.status.clone().unwrap_or_default();
    let (Value::Object(before), Value::Object(after)) = (json!(old), json!(new)) else { return None };
    let mut changes = Map::new();
    for (field, value) in &after {
        if before.get(field) == Some(value) {
            continue;
        }
        let change = match field.as_str() {
            "conditions" => conditions(old.conditions.as_deref(), new.conditions.as_deref()),
            "podIPs" => merged_by_ip(before.get(field), value),
            _ => Some(value.clone()),
        };
        if let Some(change) = change {
            changes.insert(field.clone(), change);
        }
    }
    for field in before.keys().filter(|f| !after.contains_key(*f)) {
        changes.insert(field.clone(), Value::Null);
    }
    let uid = &pod.metadata.uid;
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changes}))
}

/// The agent's own conditions that changed; the list merges by type, so others' stay.
fn conditions(old: Option<&[PodCondition]>, new: Option<&[PodCondition]>) -> Option<Value> {
    let old = old.unwrap_or_default();
    let mut changed = Vec::new();
    for condition in new.unwrap_or_default().iter().filter(|c| OWN.contains(&c.type_.as_str())) {
        let known = old.iter().find(|o| o.type_ == condition.type_);
        if known == Some(condition) {
            continue;
        }
        let mut value = json!(condition);
        for (field, gone) in [
            ("reason", known.is_some_and(|k| k.reason.is_some()) && condition.reason.is_none()),
            ("message", known.is_some_and(|k| k.message.is_some()) && condition.message.is_none()),
        ] {
            if gone {
                value[field] = Value::Null;
            }
        }
        changed.push(value);
    }
    for gone in old.iter().filter(|o| TRANSIENT.contains(&o.type_.as_str())) {
        if !new.unwrap_or_default().iter().any(|c| c.type_ == gone.type_) {
            changed.push(json!({"type": gone.type_, "$patch": "delete"}));
        }
    }
    (!changed.is_empty()).then_some(Value::Array(changed))
}

/// `podIPs` merges by address: those that are gone must be named.
fn merged_by_ip(old: Option<&Value>, new: &Value) -> Option<Value> {
    let mut list = new.as_array().cloned().unwrap_or_default();
    for gone in old.and_then(Value::as_array).into_iter().flatten() {
        if !list.contains(gone) {
            list.push(json!({"ip": gone["ip"], "$patch": "delete"}));
        }
    }
    Some(Value::Array(list))
}

/// Writes a patch of the status; the pod as the API has it then, `None` if it is gone.
pub(super) async fn write(client: &kube::Client, pod: &Pod, patch: Value) -> kube::Result<Option<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace(pod));
    match api.patch_status(name(pod), &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(mut pod) => {
            // Nobody here needs them, and they are larger than all the rest.
            pod.metadata.managed_fields = None;
            Ok(Some(pod))
        }
        // Gone, or another pod has its name now.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status}))
            .expect("a pod")
    }

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).expect("a status")
    }

    #[test]
    fn only_what_changed_is_sent() {
        let old = json!({"phase": "Pending", "hostIP": "10.0.0.1", "message": "m",
            "conditions": [{"type": "Ready", "status": "False", "reason": "r"}, {"type": "x/y", "status": "True"},
                {"type": "PodScheduled", "status": "True"}]});
        let new = json!({"phase": "Running", "hostIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "x/y", "status": "True"},
                {"type": "PodScheduled", "status": "True"}]});
        let expected = json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "message": null,
            "conditions": [{"type": "Ready", "status": "True", "reason": null}]}});
        assert_eq!(patch(&pod(old.clone()), &status(new)), Some(expected));
        assert_eq!(patch(&pod(old.clone()), &status(old)), None);
    }

    #[test]
    fn a_condition_of_the_moment_is_taken_out() {
        let pending = |type_: &str| json!({"type": type_, "status": "True"});
        let old = pod(json!({"conditions": [pending("PodResizePending"), pending("x/y")]}));
        let patch = patch(&old, &status(json!({"conditions": [pending("x/y")]}))).expect("a patch");
        assert_eq!(patch["status"]["conditions"], json!([{"type": "PodResizePending", "$patch": "delete"}]));
    }

    #[test]
    fn an_address_that_changed_is_taken_out() {
        let old = pod(json!({"podIPs": [{"ip": "10.42.0.5"}]}));
        let patch = patch(&old, &status(json!({"podIPs": [{"ip": "10.42.0.6"}]}))).expect("a patch");
        let expected = json!([{"ip": "10.42.0.6"}, {"ip": "10.42.0.5", "$patch": "delete"}]);
        assert_eq!(patch["status"]["podIPs"], expected);
    }
}
