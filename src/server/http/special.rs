//! Subresources that do something of their own: binding, tokens. Evictions are in [`super::evict`].

use http::StatusCode;
use serde_json::{Value, json};

use super::api::{Answer, Api, Cx};
use super::write::schema_of_kind;
use super::{decode, render};
use crate::api::meta::{MetaMut, now};
use crate::api::{FieldError, GroupKind, GroupResource, GroupVersionKind, Meta, Path, Status};
use crate::server::admission::Shown;
use crate::server::objects::{Call, Change, WriteOptions};
use crate::server::reader::Reader;

/// As errors of bindings call the resource.
fn bindings() -> GroupResource {
    GroupResource::new("", "pods/binding")
}

/// `pods/binding`.
pub(super) async fn binding(api: &Api, cx: Cx) -> Answer {
    let options = cx.params.write_options("CreateOptions", &cx.parts.headers)?;
    let body = cx.read_body().await?;
    let schema = schema_of_kind("", "v1", "Binding")?;
    let (binding, _) = decode::checked(&schema, cx.content_type(), &body, options.field_validation)?;
    let (given, name) = (Meta::of(&binding).name(), cx.name()?);
    if !given.is_empty() && given != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object").into());
    }
    bind(api, &cx, &options, &binding).await
}

/// Binds the pod a Binding names to a node.
pub(super) async fn bind(api: &Api, cx: &Cx, options: &WriteOptions, binding: &Value) -> Answer {
    let errors = validate_binding(binding);
    let name = cx.info.name.as_deref().unwrap_or_else(|| Meta::of(binding).name()).to_owned();
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::new("", "Binding"), &name, &errors).into());
    }
    let kind = GroupVersionKind::new("", "v1", "Binding");
    let call = Call { shown: Shown::Whole(&kind), ..cx.call(options) };
    let mut binding = binding.clone();
    let warnings = api.objects.ask(&call, &name, cx.info.subresource.as_deref(), &mut binding).await?;
    let pods_entry = api.objects.registry.stored("pods").ok_or_else(Status::no_such_path)?;
    let call = Call { resource: &pods_entry, shown: Shown::Nobody, ..cx.call(options) };
    let mut apply = |pod: Option<&Value>| bound(pod.unwrap_or(&Value::Null), &name, &binding);
    let change = Change { name: &name, subresource: Some("binding"), ..Change::default() };
    api.objects.update(&call, change, &mut apply).await?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let mut response = render::value(cx, StatusCode::CREATED, &status)?;
    render::add_warnings(&mut response, &warnings);
    Ok(response)
}

fn validate_binding(binding: &Value) -> Vec<FieldError> {
    let path = Path::new("target");
    let mut errors = Vec::new();
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding["target"]["name"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    errors
}

/// The pod on its node, with the condition that says so.
fn bound(pod: &Value, name: &str, binding: &Value) -> Result<Value, Status> {
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    let conflict = |why: String| Err(Status::conflict(&bindings(), name, why));
    if Meta::of(pod).deletion_timestamp().is_some() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    match pod["spec"]["nodeName"].as_str() {
        Some(before) if !before.is_empty() => {
            return conflict(format!("pod {name} is already assigned to node \"{before}\""));
        }
        _ => {}
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let uid = Meta::of(binding).uid();
    if !uid.is_empty() && uid != Meta::of(pod).uid() {
        let stored = Meta::of(pod).uid();
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}"
        ));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = json!(node);
    for (key, value) in Meta::of(binding).annotations() {
        MetaMut::of(&mut pod).set_annotation(key, value);
    }
    for (key, value) in Meta::of(binding).labels() {
        if Meta::of(&pod).label(key).is_none() {
            MetaMut::of(&mut pod).set_label(key, value);
        }
    }
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now(),
        "observedGeneration": Meta::of(&pod).generation()});
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    if let Some(list) = pod["status"]["conditions"].as_array_mut() {
        match list.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(found) => *found = condition,
            None => list.push(condition),
        }
    }
    Ok(pod)
}

/// `serviceaccounts/token`.
pub(super) async fn token(api: &Api, cx: Cx) -> Answer {
    let options = cx.params.write_options("CreateOptions", &cx.parts.headers)?;
    let body = cx.read_body().await?;
    let schema = schema_of_kind("authentication.k8s.io", "v1", "TokenRequest")?;
    let (mut request, mut warnings) =
        decode::checked(&schema, cx.content_type(), &body, options.field_validation)?;
    let kind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let call = Call { shown: Shown::Whole(&kind), ..cx.call(&options) };
    warnings.extend(api.objects.ask(&call, cx.name()?, Some("token"), &mut request).await?);
    let reader: &dyn Reader = &*api.objects.cache;
    let namespace = cx.namespace().unwrap_or_default();
    let answer = api.pki.token_signer().token_request(reader, namespace, cx.name()?, request)?;
    let mut response = render::value(&cx, StatusCode::CREATED, &answer)?;
    render::add_warnings(&mut response, &warnings);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Value {
        json!({"metadata": {"name": "p", "annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n"}})
    }

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}});
        let bound_pod = bound(&pod, "p", &binding()).unwrap();
        assert_eq!(bound_pod["spec"]["nodeName"], "n");
        assert_eq!(bound_pod["status"]["conditions"][0]["type"], "PodScheduled");
        assert_eq!(bound_pod["metadata"]["annotations"]["a"], "b");
        let again = bound(&bound_pod, "p", &binding()).unwrap_err();
        assert_eq!(again.code, 409);
        assert!(again.message.ends_with("pod p is already assigned to node \"n\""), "{again}");
    }

    #[test]
    fn a_pod_that_is_deleted_gated_or_another_is_not_bound() {
        for pod in [
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
        ] {
            assert_eq!(bound(&pod, "p", &binding()).unwrap_err().code, 409);
        }
        let mut other = binding();
        other["metadata"]["uid"] = json!("x");
        assert_eq!(bound(&json!({"metadata": {"uid": "u"}}), "p", &other).unwrap_err().code, 409);
    }

    #[test]
    fn a_binding_names_a_node() {
        assert!(validate_binding(&binding()).is_empty());
        let wrong = validate_binding(&json!({"target": {"kind": "Moon"}}));
        assert_eq!(wrong.len(), 2);
    }
}
