//! Bodies of a kind: decoded, identified, and checked against its schema.

use serde_json::Value;

use super::{ACCEPTED, Decoded, Error};
use crate::api::field::quote;
use crate::api::identity::GroupVersionKind;
use crate::api::meta::Meta;
use crate::api::protobuf;
use crate::api::schema::{FieldValidation, Schema, is_strict, wrong_root};
use crate::api::status::Status;

impl Schema {
    /// Decodes a body, checks it against this schema, and drops what the schema does not know. `apiVersion`
    /// and `kind` must be this schema's and are filled in where they are missing. Answers the object and
    /// the warnings to send; defaults are not applied.
    pub fn decode(
        &self,
        content_type: &str,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let decoded = self.read(content_type, body).map_err(|error| match error {
            Error::MediaType => Status::unsupported_media_type(&ACCEPTED),
            Error::Protobuf(protobuf::Error::Object(why)) => self.unreadable(&why.to_string()),
            other => Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): {other} ({})",
                self.kind().kind,
                super::summary(body)
            )),
        })?;
        self.accept(decoded, validation)
    }

    fn read(&self, content_type: &str, body: &[u8]) -> Result<Decoded, Error> {
        if super::media_type(content_type) != protobuf::MEDIA_TYPE {
            return super::read(content_type, body);
        }
        if !self.tree().is_builtin() {
            return Err(Error::MediaType);
        }
        Ok(protobuf::decode(body, Some(self.kind()))?.into())
    }

    /// As [`Schema::decode`], for a body that is decoded already.
    pub fn accept(
        &self,
        decoded: Decoded,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        self.examine(decoded, validation)?.map_err(|why| self.unreadable(&why))
    }

    /// As [`Schema::accept`], with the bare reason of what cannot be read: the result of a patch has its own
    /// status for that.
    pub fn examine(
        &self,
        decoded: Decoded,
        validation: FieldValidation,
    ) -> Result<Result<(Value, Vec<String>), String>, Status> {
        let Decoded { mut value, duplicates } = decoded;
        self.identify(&mut value)?;
        let mut checked = self.check(&mut value, validation);
        let duplicates = duplicates.into_iter().map(|path| format!("duplicate field {}", quote(&path)));
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => checked.warnings.splice(..0, duplicates).for_each(drop),
            FieldValidation::Strict if checked.errors.first().is_some_and(|e| !is_strict(e)) => {}
            FieldValidation::Strict => checked.errors.splice(..0, duplicates).for_each(drop),
        }
        Ok(match checked.errors.as_slice() {
            [] => Ok((value, checked.warnings)),
            [first, ..] if !is_strict(first) => Err(first.clone()),
            strict => Err(format!("strict decoding error: {}", strict.join(", "))),
        })
    }

    fn unreadable(&self, why: &str) -> Status {
        let GroupVersionKind { kind, version, .. } = self.kind();
        Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {kind}: {why}",
            quote(version)
        ))
    }

    /// Checks `apiVersion` and `kind`, and fills them in.
    fn identify(&self, value: &mut Value) -> Result<(), Status> {
        let Value::Object(_) = value else {
            return Err(self.unreadable(&wrong_root(self.root(), value)));
        };
        let meta = Meta::of(value);
        let (api_version, kind) = (meta.api_version(), meta.kind());
        let expected = self.kind().api_version();
        // Clients send delete options in whichever version they speak of the object itself.
        let any_version = self.kind().kind == "DeleteOptions";
        if !any_version && !api_version.is_empty() && api_version != expected {
            return Err(Status::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected})"
            )));
        }
        if !kind.is_empty() && kind != self.kind().kind {
            let GroupVersionKind { version, kind: mine, .. } = self.kind();
            return Err(Status::bad_request(format!(
                "{kind} in version {} cannot be handled as a {mine}: converting ({version}.{kind}) to ({}.{mine}): unknown conversion",
                quote(version),
                if self.kind().group.is_empty() {
                    "core"
                } else {
                    self.kind().group.split('.').next().unwrap_or_default()
                },
            )));
        }
        value["apiVersion"] = expected.into();
        value["kind"] = self.kind().kind.as_ref().into();
        Ok(())
    }
}
