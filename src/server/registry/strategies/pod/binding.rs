//! `POST …/pods/<name>/binding`: a scheduler says where a pod runs.

use serde_json::{Value, json};

use crate::api::field::quote;
use crate::api::meta::now;
use crate::api::{FieldError, GroupKind, GroupResource, Meta, MetaMut, Path, Status};
use crate::server::registry::strategies::check::{Errors, is_empty, text};

/// Assigns the pod to the node of a `Binding`, with the binding's annotations and labels.
///
/// # Errors
/// 422 for a binding without a node, 409 if the pod cannot be assigned any more.
pub fn bind(pod: &mut Value, binding: &Value) -> Result<(), Status> {
    validate(binding)?;
    let node = text(&binding["target"]["name"]).to_owned();
    let name = Meta::of(pod).name().to_owned();
    let refused = |why: String| Err(Status::conflict(&GroupResource::new("", "pods/binding"), &name, why));
    let wanted = Meta::of(binding).uid();
    if !wanted.is_empty() && wanted != Meta::of(pod).uid() {
        let uid = Meta::of(pod).uid();
        return refused(format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        ));
    }
    if Meta::of(pod).deletion_timestamp().is_some() {
        return refused(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let taken = pod["spec"].get("nodeName").map(text).unwrap_or_default();
    if !taken.is_empty() {
        return refused(format!("pod {name} is already assigned to node {}", quote(taken)));
    }
    if pod["spec"].get("schedulingGates").is_some_and(|g| !is_empty(g)) {
        return refused(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = json!(node);
    for (key, value) in Meta::of(binding).annotations() {
        MetaMut::of(pod).set_annotation(key, value);
    }
    for (key, value) in Meta::of(binding).labels() {
        MetaMut::of(pod).set_label(key, value);
    }
    set_scheduled(pod);
    Ok(())
}

fn validate(binding: &Value) -> Result<(), Status> {
    let (path, target) = (Path::new("target"), &binding["target"]);
    let mut errors = Errors::default();
    if !is_empty(&target["kind"]) && text(&target["kind"]) != "Node" {
        errors.push(FieldError::not_supported(
            &path.child("kind"),
            target["kind"].clone(),
            &["Node", "<empty>"],
        ));
    }
    errors.required(&path.child("name"), &target["name"]);
    if errors.0.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&GroupKind::new("", "Binding"), Meta::of(binding).name(), &errors.0))
}

fn set_scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now(),
        "observedGeneration": Meta::of(pod).generation(),
    });
    let conditions = &mut pod["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(all) => {
            all.retain(|c| c["type"] != "PodScheduled");
            all.push(condition);
        }
        None => *conditions = json!([condition]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(node: &str) -> Value {
        json!({"kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}})
    }

    #[test]
    fn a_pod_is_assigned_once() {
        let mut pod =
            json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}});
        bind(&mut pod, &binding("n1")).unwrap();
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(pod["status"]["conditions"][0]["status"], "True");
        let again = bind(&mut pod, &binding("n2")).unwrap_err();
        assert_eq!(
            (again.code, again.message.as_str()),
            (
                409,
                "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
            )
        );
    }

    #[test]
    fn a_pod_that_leaves_or_waits_is_not_assigned() {
        let mut leaving =
            json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}});
        assert!(bind(&mut leaving, &binding("n")).unwrap_err().message.contains("is being deleted"));
        let mut gated = json!({"metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "g"}]}});
        assert!(
            bind(&mut gated, &binding("n")).unwrap_err().message.contains("non-empty .spec.schedulingGates")
        );
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {}});
        assert_eq!(bind(&mut pod, &binding("")).unwrap_err().code, 422);
    }
}
