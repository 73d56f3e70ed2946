//! `patch`: JSON patch, merge patch, strategic merge patch, apply.

use bytes::Bytes;
use serde_json::Value;

use super::api::{Answer, Api, Cx, created_or_ok};
use super::render::{self, view};
use super::strict;
use super::write::to_stored;
use crate::api::decode::{self, Decoded};
use crate::api::meta::now;
use crate::api::{FieldError, FieldValidation, GroupKind, Path, Schema, Status};
use crate::server::objects::{Change, WriteOptions, schema_of};
use crate::server::patch;

/// The ways to describe a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

const ACCEPTED: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// What Go says of a patch that is another value.
const NO_OBJECT: &str = "json: cannot unmarshal into Go value of type map[string]interface {}";

impl Kind {
    /// From a content type.
    ///
    /// # Errors
    /// 415.
    pub(super) fn of(content_type: &str) -> Result<Self, Status> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let known = [Self::Json, Self::Merge, Self::Strategic, Self::Apply];
        let found = ACCEPTED.iter().position(|a| *a == media);
        found.map(|i| known[i]).ok_or_else(|| Status::unsupported_media_type(&ACCEPTED))
    }

    /// From a content type, for a kind of which there are no Go types to merge by.
    ///
    /// # Errors
    /// 415.
    fn of_custom(content_type: &str) -> Result<Self, Status> {
        let custom = [ACCEPTED[0], ACCEPTED[1], ACCEPTED[3]];
        let unsupported = || Status::unsupported_media_type(&custom);
        Self::of(content_type).ok().filter(|kind| *kind != Self::Strategic).ok_or_else(unsupported)
    }
}

/// A patch, decoded once, to be applied to whatever is stored.
pub(super) struct Patch {
    kind: Kind,
    bytes: Bytes,
    /// The decoded body of a merge patch or an applied configuration.
    value: Value,
}

impl Patch {
    /// Decodes a body.
    ///
    /// # Errors
    /// 400 or 415.
    pub(super) fn decode(content_type: &str, bytes: Bytes) -> Result<(Self, Vec<String>), Status> {
        let kind = Kind::of(content_type)?;
        let decoded = match kind {
            Kind::Apply => decode::yaml(&bytes)
                .map_err(|error| Status::bad_request(format!("error encoding patch: {error}")))?,
            _ => decode::json(&bytes).map_err(|_| Status::bad_request("invalid JSON patch"))?,
        };
        if kind != Kind::Json && !decoded.value.is_object() {
            return Err(Status::bad_request(format!("error decoding patch: {NO_OBJECT}")));
        }
        // Of a JSON patch what is given twice is no field of the object.
        let prefix = if kind == Kind::Json { "json patch " } else { "" };
        let duplicates = decoded.duplicates.into_iter().map(|path| format!("{prefix}{path}")).collect();
        Ok((Self { kind, bytes, value: decoded.value }, duplicates))
    }

    /// What the patch makes of an object.
    pub(super) fn apply_to(&self, schema: &Schema, current: &Value) -> Result<Value, Status> {
        match self.kind {
            Kind::Json => patch::json(current, &self.bytes),
            Kind::Merge | Kind::Apply => Ok(patch::merge(current, &self.value)),
            Kind::Strategic => patch::strategic(schema, current, &self.value),
        }
    }

    /// The checked result of the patch, and warnings. What the patch makes of the object may be no object of the
    /// kind, which is an invalid patch.
    fn patched(
        &self,
        schema: &Schema,
        current: &Value,
        duplicates: &[String],
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let value = self.apply_to(schema, current)?;
        // Upstream shows the patch of a strategic merge, and of others what they made.
        let shown = |value: &Value| match self.kind {
            Kind::Strategic => patch::go(&self.value),
            _ => value.to_string(),
        };
        let invalid = |why: String| {
            let error = FieldError::invalid(&Path::new("patch"), shown(&value), why);
            Status::invalid(&GroupKind::new("", ""), "", &[error])
        };
        let decoded = Decoded { value: value.clone(), duplicates: duplicates.to_vec() };
        schema.examine(decoded, validation)?.map_err(invalid)
    }
}

/// Patches an object, or one of its subresources that are parts of it. An apply makes what is missing.
pub(super) async fn patch(api: &Api, cx: Cx) -> Answer {
    let applies = Kind::of(cx.content_type())? == Kind::Apply;
    let options = cx.params.patch_options(applies, &cx.parts.headers)?;
    if cx.entry.custom.is_some() {
        Kind::of_custom(cx.content_type())?;
    }
    let body = cx.read_body().await?;
    let (patch, duplicates) = Patch::decode(cx.content_type(), body)?;
    let schema = schema_of(&cx.entry)?;
    let change = Change {
        name: cx.name()?,
        subresource: cx.info.subresource.as_deref(),
        create: applies && cx.info.subresource.is_none(),
        owned: applies,
    };
    let mut warnings = Vec::new();
    let written = if applies {
        warnings = strict::check_duplicates(&patch.bytes, &duplicates, options.field_validation)?;
        // Unknown fields are errors whatever the client says of them: nobody could own them.
        patch::declared(&schema, &patch.value)?;
        let (mut config, _) = schema.accept(patch.value.into(), FieldValidation::Ignore)?;
        leave_out_unwritable(&cx, &mut config);
        let mut apply = |live: Option<&Value>| apply(&cx, &schema, live, &config, &options);
        api.objects.update(&cx.call(&options), change, &mut apply).await?
    } else {
        let mut apply = |current: Option<&Value>| {
            let current = view(&cx.entry, current.cloned().unwrap_or_default());
            let (object, found) = patch.patched(&schema, &current, &duplicates, options.field_validation)?;
            warnings = found;
            Ok(to_stored(&cx.entry, object))
        };
        api.objects.update(&cx.call(&options), change, &mut apply).await?
    };
    warnings.extend(written.warnings);
    render::object(&cx, created_or_ok(written.created), written.bytes, &warnings)
}

/// With a path of its own the status of a custom object is written there alone, and only it; what an apply says of the
/// rest is nobody's. Of built-in kinds the apply itself knows that.
fn leave_out_unwritable(cx: &Cx, config: &mut Value) {
    if cx.entry.custom.is_none() || cx.entry.subresource("status").is_none() {
        return;
    }
    let part = match cx.info.subresource.as_deref() {
        None => "status",
        Some("status") => "spec",
        Some(_) => return,
    };
    if let Some(fields) = config.as_object_mut() {
        fields.remove(part);
    }
}

fn apply(
    cx: &Cx,
    schema: &Schema,
    live: Option<&Value>,
    config: &Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let live = live.map(|live| view(&cx.entry, live.clone()));
    let part = cx.info.subresource.as_deref().unwrap_or_default();
    let manager = &options.field_manager;
    let object = patch::apply(schema, live.as_ref(), config, manager, options.force, part, &now())?;
    Ok(to_stored(&cx.entry, object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_content_type() {
        assert_eq!(Kind::of("application/json-patch+json").unwrap(), Kind::Json);
        assert_eq!(Kind::of("application/merge-patch+json; charset=utf-8").unwrap(), Kind::Merge);
        assert_eq!(Kind::of("application/apply-patch+yaml").unwrap(), Kind::Apply);
        let status = Kind::of("application/json").unwrap_err();
        assert_eq!(status.code, 415);
        assert!(status.message.contains("application/merge-patch+json"), "{status}");
        assert_eq!(Kind::of_custom("application/apply-patch+yaml").unwrap(), Kind::Apply);
        let status = Kind::of_custom("application/strategic-merge-patch+json").unwrap_err();
        assert!(status.code == 415 && !status.message.contains("strategic"), "{status}");
    }
}
