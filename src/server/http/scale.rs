//! The scale subresource: replicas of deployments, replica sets, stateful sets, replication controllers, and of
//! custom kinds, whose definitions say where they lie.

use http::StatusCode;
use serde_json::{Value, json};

use super::api::{Answer, Api, Cx};
use super::patch::Patch;
use super::write::schema_of_kind;
use super::{decode, render};
use crate::api::decode::Decoded;
use crate::api::meta::MetaMut;
use crate::api::{
    FieldError, FieldValidation, GroupKind, GroupVersionKind, LabelSelector, Meta, Path, Schema, Status,
};
use crate::server::admission::{Face, Shown};
use crate::server::objects::{Call, Change};
use crate::server::registry::ScalePaths;

fn schema() -> Result<Schema, Status> {
    schema_of_kind("autoscaling", "v1", "Scale")
}

/// The value under a path as `.spec.replicas`.
fn at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    path.trim_start_matches('.').split('.').try_fold(object, |value, field| value.get(field))
}

/// Sets the value under a path, whose objects are made where they are missing.
fn set(object: &mut Value, path: &str, value: Value) -> Result<(), Status> {
    let mut place = object;
    for field in path.trim_start_matches('.').split('.') {
        if place.is_null() {
            *place = json!({});
        }
        let Value::Object(fields) = place else {
            let why = format!("value cannot be set because {path} is not a map[string]interface{{}}");
            return Err(Status::internal(why));
        };
        place = fields.entry(field).or_insert(Value::Null);
    }
    *place = value;
    Ok(())
}

/// Wanted replicas, replicas there are, selector.
fn parts(object: &Value, paths: Option<&ScalePaths>) -> Result<(i64, i64, String), Status> {
    let number = |path: &str| at(object, path).and_then(Value::as_i64);
    let Some(paths) = paths else {
        let wanted = number(".spec.replicas").unwrap_or(0);
        return Ok((wanted, number(".status.replicas").unwrap_or(0), selector_of(object)));
    };
    let wanted = number(&paths.spec_replicas).ok_or_else(|| {
        Status::internal(format!("the spec replicas field {:?} does not exist", paths.spec_replicas))
    })?;
    let selector = paths.label_selector.as_deref().and_then(|path| at(object, path)?.as_str());
    Ok((wanted, number(&paths.status_replicas).unwrap_or(0), selector.unwrap_or_default().to_owned()))
}

fn selector_of(object: &Value) -> String {
    let selector = &object["spec"]["selector"];
    if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        LabelSelector::from_value(selector).map(|s| s.to_string()).unwrap_or_default()
    } else {
        let labels = selector.as_object().into_iter().flatten();
        labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
    }
}

/// The `autoscaling/v1 Scale` of an object.
fn scale_of(object: &Value, paths: Option<&ScalePaths>) -> Result<Value, Status> {
    let (replicas, current, selector) = parts(object, paths)?;
    let meta = &object["metadata"];
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta.get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": current});
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    let mut scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {}, "status": status});
    if replicas != 0 {
        scale["spec"]["replicas"] = json!(replicas);
    }
    Ok(scale)
}

/// The object with the replicas of a scale.
fn scaled(object: &Value, scale: &Value, paths: Option<&ScalePaths>) -> Result<Value, Status> {
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
    let path = paths.map_or(".spec.replicas", |paths| &paths.spec_replicas);
    set(&mut object, path, json!(replicas))?;
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

/// What webhooks see of an object that is scaled.
struct Scaled<'a>(Option<&'a ScalePaths>);

impl Face for Scaled<'_> {
    fn kind(&self) -> GroupVersionKind {
        GroupVersionKind::new("autoscaling", "v1", "Scale")
    }

    fn show(&self, stored: &Value) -> Result<Value, Status> {
        scale_of(stored, self.0)
    }

    fn take(&self, shown: &Value, stored: &mut Value) -> Result<(), Status> {
        *stored = scaled(stored, shown, self.0)?;
        Ok(())
    }
}

fn paths(cx: &Cx) -> Option<&ScalePaths> {
    cx.entry.custom.as_ref()?.scale()
}

/// Reads the scale.
pub(super) fn get(api: &Api, cx: &Cx) -> Answer {
    let object = api.objects.get(&cx.stored, cx.namespace(), cx.name()?)?;
    render::value(cx, StatusCode::OK, &scale_of(&cx.stored.read(&object), paths(cx))?)
}

/// Replaces the scale.
pub(super) async fn update(api: &Api, cx: Cx) -> Answer {
    let options = cx.params.write_options("UpdateOptions", &cx.parts.headers)?;
    let body = cx.read_body().await?;
    let (scale, warnings) = decode::checked(&schema()?, cx.content_type(), &body, options.field_validation)?;
    let mut apply = |old: Option<&Value>| scaled(old.unwrap_or(&Value::Null), &scale, paths(&cx));
    let change = Change { name: cx.name()?, subresource: Some("scale"), ..Change::default() };
    let face = Scaled(paths(&cx));
    let call = Call { shown: Shown::As(&face), ..cx.call(&options) };
    let written = api.objects.update(&call, change, &mut apply).await?;
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
        let value = patch.apply_to(&schema, &scale_of(old, paths(&cx))?)?;
        let decoded = Decoded { value, duplicates: duplicates.clone() };
        let (scale, _) = schema.accept(decoded, FieldValidation::Ignore)?;
        scaled(old, &scale, paths(&cx))
    };
    let change = Change { name: cx.name()?, subresource: Some("scale"), ..Change::default() };
    let face = Scaled(paths(&cx));
    let call = Call { shown: Shown::As(&face), ..cx.call(&options) };
    let written = api.objects.update(&call, change, &mut apply).await?;
    answer(&cx, &written.bytes, &written.warnings)
}

fn answer(cx: &Cx, object: &[u8], warnings: &[String]) -> Answer {
    let object: Value = serde_json::from_slice(object).map_err(Status::internal)?;
    let object = render::view(&cx.entry, object);
    let mut response = render::value(cx, StatusCode::OK, &scale_of(&object, paths(cx))?)?;
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
        let scale = scale_of(&object, None).unwrap();
        assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(3), &json!(2)));
        assert_eq!(scale["status"]["selector"], "a=b");
        assert_eq!(scale["metadata"].get("labels"), None);
    }

    #[test]
    fn scaling_changes_the_replicas_alone() {
        let object =
            json!({"metadata": {"name": "d", "resourceVersion": "5"}, "spec": {"replicas": 3, "x": 1}});
        let scaled_to =
            |n: i64| scaled(&object, &json!({"metadata": {"name": "d"}, "spec": {"replicas": n}}), None);
        assert_eq!(scaled_to(7).unwrap()["spec"], json!({"replicas": 7, "x": 1}));
        assert_eq!(scaled_to(-1).unwrap_err().code, 422);
    }
    #[test]
    fn a_custom_kind_says_where_its_replicas_lie() {
        let paths = ScalePaths {
            spec_replicas: ".spec.size.wanted".into(),
            status_replicas: ".status.size".into(),
            label_selector: Some(".status.selector".into()),
        };
        let object = json!({"metadata": {"name": "c"}, "spec": {"size": {"wanted": 2}},
            "status": {"size": 1, "selector": "a=b"}});
        let scale = scale_of(&object, Some(&paths)).unwrap();
        assert_eq!(scale["spec"], json!({"replicas": 2}));
        assert_eq!(scale["status"], json!({"replicas": 1, "selector": "a=b"}));
        let scaled = scaled(&json!({"metadata": {"name": "c"}}), &scale, Some(&paths)).unwrap();
        assert_eq!(scaled["spec"], json!({"size": {"wanted": 2}}));
        let status = scale_of(&json!({}), Some(&paths)).unwrap_err();
        assert!(
            status.message.contains("the spec replicas field \".spec.size.wanted\" does not exist"),
            "{status}"
        );
    }
}
