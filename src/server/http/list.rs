//! `list` and `deletecollection`.

use http::StatusCode;

use super::api::{Answer, Api, Cx};
use super::{render, watch};
use crate::api::Status;
use crate::server::objects::{ListOptions, Listed};
use crate::server::registry::Storage;

/// The selectors of a request, in the names of the stored kind's fields.
pub(super) fn options(cx: &Cx) -> Result<ListOptions, Status> {
    let mut options = cx.params.list_options()?;
    if matches!(cx.entry.storage, Storage::View(_))
        && cx.stored.plural == "events"
        && cx.params.has("fieldSelector")
    {
        let text = cx.params.get("fieldSelector").unwrap_or_default();
        let stored = text
            .replace("regarding.", "involvedObject.")
            .replace("reportingController", "reportingComponent");
        options.fields =
            crate::api::FieldSelector::parse(&stored).map_err(|e| Status::bad_request(e.to_string()))?;
    }
    Ok(options)
}

/// Objects of a kind; those of a name too, as `fieldSelector=metadata.name=…` asks for.
pub(super) fn list(api: &Api, cx: &Cx) -> Answer {
    let listed = api.objects.list(&cx.stored, cx.namespace(), &options(cx)?)?;
    render::list(cx, listed)
}

/// Deletes all that is selected; answers the list of what was there.
pub(super) async fn delete_collection(api: &Api, cx: Cx) -> Answer {
    let body = super::write::delete_body(&cx).await?;
    let (options, dry_run) = cx.params.delete_options(body.as_ref())?;
    let listed = api.objects.list(&cx.stored, cx.namespace(), &self::options(&cx)?)?;
    let mut write = cx.params.write_options("DeleteOptions", &cx.parts.headers)?;
    write.dry_run = dry_run;
    for object in &listed.objects {
        let namespace = Some(object.namespace()).filter(|n| !n.is_empty());
        let call = crate::server::objects::Call { namespace, ..cx.call(&write) };
        match api.objects.delete(&call, object.name(), &options).await {
            Err(status) if status.code != 404 => return Err(status.into()),
            _ => {}
        }
    }
    let mut response = render::list(&cx, Listed { continues: None, remaining: None, ..listed })?;
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// `watch`.
pub(super) fn watch(api: &Api, cx: &Cx) -> Answer {
    watch::start(api, cx, options(cx)?)
}
