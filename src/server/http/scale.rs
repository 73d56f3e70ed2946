//! The scale subresource: replicas of deployments, replica sets, stateful sets, replication controllers.

use http::StatusCode;
use serde_json::{Value, json};

use super::api::{Answer, Api, Cx};
use super::patch::Patch;
use super::write::schema_of_kind;
use super::{decode, render};
use crate::api::decode::Decoded;
use crate::api::meta::MetaMut;
use crate::api::{FieldError, FieldValidation, GroupKind, LabelSelector, Meta, Path, Schema, Status};
use crate::server::objects::Change;

fn schema() -> Result<Schema, Status> {
    schema_of_kind("autoscaling", "v1", "Scale")
}

/// The `autoscaling/v1 Scale` of an object.
fn scale_of(object: &Value) -> Value {
    let meta = &object["metadata"];
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta.get(field) {
            metadata[field] = value.clone();
        }
    }
    let selector = &object["spec"]["selector"];
    let selector = if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        LabelSelector::from_value(selector).map(|s| s.to_string()).unwrap_or_default()
    } else {
        let labels = selector.as_object().into_iter().flatten();
        labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
    };
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    let mut scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {}, "status": status});
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas != 0 {
        scale["spec"]["replicas"] = json!(replicas);
    }
    scale
}

/// The object with the replicas of a scale.
fn scaled(object: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let error = FieldError::invalid(
            &Path::new("spec").child("replicas"),
            replicas,
            "must be greater than or equal to 0",
        );
        return Err(Status::invalid(
            &GroupKind::new("autoscaling", "Scale"),
            Meta::of(scale).name(),
            &[error],
        ));
    }
    let mut object = object.clone();
    object["spec"]["replicas"] = json!(replicas);
    let mut meta = MetaMut::of(&mut object);
    for (field, value) in
        [("resourceVersion", Meta::of(scale).resource_version()), ("uid", Meta::of(scale).uid())]
    {
        if !value.is_empty() {
            meta.set(field, value);
        }
    }
    Ok(object)
}

/// Reads the scale.
pub(super) fn get(api: &Api, cx: &Cx) -> Answer {
    let object = api.objects.get(&cx.stored, cx.namespace(), cx.name()?)?;
    render::value(cx, StatusCode::OK, &scale_of(&object.value()))
}

/// Replaces the scale.
pub(super) async fn update(api: &Api, cx: Cx) -> Answer {
    let options = cx.params.write_options("UpdateOptions", &cx.parts.headers)?;
    let body = cx.read_body().await?;
    let (scale, warnings) = decode::checked(&schema()?, cx.content_type(), &body, options.field_validation)?;
    let mut apply = |old: Option<&Value>| scaled(old.unwrap_or(&Value::Null), &scale);
    let change = Change { name: cx.name()?, subresource: Some("scale"), ..Change::default() };
    let written = api.objects.update(&cx.call(&options), change, &mut apply).await?;
    answer(&cx, &written.bytes, &[warnings, written.warnings].concat())
}

/// Patches the scale.
pub(super) async fn patch(api: &Api, cx: Cx) -> Answer {
    let options = cx.params.patch_options(false, &cx.parts.headers)?;
    let body = cx.read_body().await?;
    let (patch, duplicates) = Patch::decode(cx.content_type(), body)?;
    let schema = schema()?;
    let mut apply = |old: Option<&Value>| {
        let old = old.unwrap_or(&Value::Null);
        let value = patch.apply_to(&schema, &scale_of(old))?;
        let decoded = Decoded { value, duplicates: duplicates.clone() };
        let (scale, _) = schema.accept(decoded, FieldValidation::Ignore)?;
        scaled(old, &scale)
    };
    let change = Change { name: cx.name()?, subresource: Some("scale"), ..Change::default() };
    let written = api.objects.update(&cx.call(&options), change, &mut apply).await?;
    answer(&cx, &written.bytes, &written.warnings)
}

fn answer(cx: &Cx, object: &[u8], warnings: &[String]) -> Answer {
    let object: Value = serde_json::from_slice(object).map_err(Status::internal)?;
    let mut response = render::value(cx, StatusCode::OK, &scale_of(&object))?;
    render::add_warnings(&mut response, warnings);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        let object = json!({"metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "5", "labels": {}},
            "spec": {"replicas": 3, "selector": {"a": "b"}}, "status": {"replicas": 2}});
        let scale = scale_of(&object);
        assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(3), &json!(2)));
        assert_eq!(scale["status"]["selector"], "a=b");
        assert_eq!(scale["metadata"].get("labels"), None);
    }

    #[test]
    fn scaling_changes_the_replicas_alone() {
        let object =
            json!({"metadata": {"name": "d", "resourceVersion": "5"}, "spec": {"replicas": 3, "x": 1}});
        let scaled_to =
            |n: i64| scaled(&object, &json!({"metadata": {"name": "d"}, "spec": {"replicas": n}}));
        assert_eq!(scaled_to(7).unwrap()["spec"], json!({"replicas": 7, "x": 1}));
        assert_eq!(scaled_to(-1).unwrap_err().code, 422);
    }
}
