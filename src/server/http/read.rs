//! `get`.

use http::StatusCode;

use super::api::{Answer, Api, Cx};
use super::render;

/// One object, or one of its subresources that are parts of it.
pub(super) fn get(api: &Api, cx: &Cx) -> Answer {
    if let Some(revision) = cx.params.revision()? {
        api.objects.check_reached(revision)?;
    }
    let name = cx.name()?;
    let object = api.objects.get(&cx.stored, cx.namespace(), name).map_err(|status| match status.code {
        404 => crate::api::Status::not_found(&cx.entry.group_resource(), name),
        _ => status,
    })?;
    render::object(cx, StatusCode::OK, object.bytes().clone(), &[])
}
