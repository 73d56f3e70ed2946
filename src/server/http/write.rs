//! `create`, `update` and `delete`.

use http::StatusCode;
use serde_json::Value;

use super::api::{Answer, Api, Cx, created_or_ok};
use super::{decode, render};
use crate::api::{Schemas, Status};
use crate::server::objects::{Change, schema_of};
use crate::server::registry::Resource;

/// The stored form of an object that is sent.
pub(super) fn to_stored(entry: &Resource, object: Value) -> Value {
    entry.to_stored(object)
}

/// Creates an object.
pub(super) async fn create(api: &Api, cx: Cx) -> Answer {
    let options = cx.params.write_options("CreateOptions", &cx.parts.headers)?;
    let body = cx.read_body().await?;
    let schema = schema_of(&cx.entry)?;
    let (object, mut warnings) =
        decode::checked(&schema, cx.content_type(), &body, options.field_validation)?;
    let written = api.objects.create(&cx.call(&options), to_stored(&cx.entry, object)).await?;
    warnings.extend(written.warnings);
    render::object(&cx, StatusCode::CREATED, written.bytes, &warnings)
}

/// Replaces an object, or one of its subresources that are parts of it.
pub(super) async fn update(api: &Api, cx: Cx) -> Answer {
    let options = cx.params.write_options("UpdateOptions", &cx.parts.headers)?;
    let body = cx.read_body().await?;
    let schema = schema_of(&cx.entry)?;
    let (object, mut warnings) =
        decode::checked(&schema, cx.content_type(), &body, options.field_validation)?;
    let object = to_stored(&cx.entry, object);
    let subresource = cx.info.subresource.as_deref();
    let create = cx.stored.create_on_update && subresource.is_none();
    let change = Change { name: cx.name()?, subresource, create, ..Change::default() };
    let written = api.objects.update(&cx.call(&options), change, &mut |_| Ok(object.clone())).await?;
    warnings.extend(written.warnings);
    render::object(&cx, created_or_ok(written.created), written.bytes, &warnings)
}

/// The `DeleteOptions` in a request's body, if there are any.
pub(super) async fn delete_body(cx: &Cx) -> Result<Option<Value>, Status> {
    let body = cx.read_body().await?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let value = decode::decode(cx.content_type(), &body)?.value;
    match value["kind"].as_str() {
        None | Some("DeleteOptions") => Ok(Some(value)),
        Some(other) => {
            Err(Status::bad_request(format!("the body of a delete must be DeleteOptions, not {other}")))
        }
    }
}

/// Deletes an object.
pub(super) async fn delete(api: &Api, cx: Cx) -> Answer {
    let body = delete_body(&cx).await?;
    let (options, dry_run) = cx.params.delete_options(body.as_ref())?;
    let mut write = cx.params.write_options("DeleteOptions", &cx.parts.headers)?;
    write.dry_run = dry_run;
    let name = cx.name()?;
    let deleted = api.objects.delete(&cx.call(&write), name, &options).await?;
    if deleted.gone && !cx.entry.returns_deleted {
        let mut status = Status::success(&cx.entry.group_resource(), name, &deleted.uid);
        status["metadata"] = serde_json::json!({});
        let mut response = render::value(&cx, StatusCode::OK, &status)?;
        render::add_warnings(&mut response, &deleted.warnings);
        return Ok(response);
    }
    let waits = !deleted.gone && options.orphan_dependents == Some(false);
    let code = if waits { StatusCode::ACCEPTED } else { StatusCode::OK };
    render::object(&cx, code, deleted.bytes, &deleted.warnings)
}

/// The schema of a kind that is sent to a subresource.
pub(super) fn schema_of_kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
) -> Result<crate::api::Schema, Status> {
    let kind = crate::api::GroupVersionKind::new(group, version, kind);
    Schemas::builtin().get(&kind).ok_or_else(|| Status::internal(format!("no schema for {kind}")))
}
