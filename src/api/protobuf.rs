//! Request bodies in Protocol Buffers, which typed Go clients and kubectl send for built-in kinds.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>: four bytes, then a message
//! `runtime.Unknown` around the object's own. The kind's [`Schema`] drives the decoding: its fields know their
//! numbers. What comes out is the JSON that the same client would have sent as JSON; from there on there is one way.

mod object;
mod special;
mod wire;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::identity::GroupVersionKind;
use super::schema::{Schema, Schemas};
use wire::{Span, Wire};

pub use wire::{Fault, Malformed};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const PREFIX: &[u8] = b"k8s\0";

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no body.
    #[error("empty data")]
    Empty,
    /// It does not begin as it must.
    #[error("provided data does not appear to be a protobuf message, expected prefix {PREFIX:?}")]
    Prefix,
    /// Nothing follows the prefix.
    #[error("empty body")]
    EmptyBody,
    /// What is around the object is damaged.
    #[error(transparent)]
    Envelope(Malformed),
    /// It does not say what it is, and nobody else does.
    #[error("Object 'Kind' is missing in 'runtime.TypeMeta{{APIVersion:{api_version:?}, Kind:\"\"}}'")]
    MissingKind {
        /// What it says.
        api_version: String,
    },
    /// The kind is not a built-in one.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    NotRegistered {
        /// The version it says.
        api_version: String,
        /// The kind it says.
        kind: String,
    },
    /// The object is damaged.
    #[error(transparent)]
    Object(Malformed),
}

/// Decodes a body to the object it holds, with `apiVersion` and `kind`. Where it names no kind, it is one of `expected`.
///
/// # Errors
/// The body is damaged, or of a kind that is not built in.
pub fn decode(body: &[u8], expected: Option<&GroupVersionKind>) -> Result<Value, Error> {
    let envelope = Envelope::read(body)?;
    let (api_version, kind) = envelope.identity(expected)?;
    let schema = schema_of(&api_version, &kind)
        .ok_or_else(|| Error::NotRegistered { api_version: api_version.clone(), kind: kind.clone() })?;
    let mut object = object::decode(schema.root(), envelope.raw).map_err(Error::Object)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

fn schema_of(api_version: &str, kind: &str) -> Option<Schema> {
    // Delete options are part of every group version.
    let api_version = if kind == "DeleteOptions" { "v1" } else { api_version };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Schemas::builtin().get(&GroupVersionKind::new(group.to_owned(), version.to_owned(), kind.to_owned()))
}

/// `runtime.Unknown`.
struct Envelope<'b> {
    api_version: String,
    kind: String,
    raw: Span<'b>,
}

impl<'b> Envelope<'b> {
    fn read(body: &'b [u8]) -> Result<Self, Error> {
        match body.strip_prefix(PREFIX) {
            None if body.is_empty() => return Err(Error::Empty),
            None => return Err(Error::Prefix),
            Some([]) => return Err(Error::EmptyBody),
            Some(_) => {}
        }
        let (api_version, kind) = (String::new(), String::new());
        let mut envelope = Self { api_version, kind, raw: Span::new(body, body.len()) };
        envelope.fill(Span::new(body, PREFIX.len())).map_err(Error::Envelope)?;
        Ok(envelope)
    }

    fn fill(&mut self, mut message: Span<'b>) -> Result<(), Malformed> {
        while let Some(tag) = message.next()? {
            match (tag.number, tag.wire) {
                (1, Wire::Bytes(meta)) => self.type_meta(meta)?,
                (2, Wire::Bytes(raw)) => self.raw = raw,
                (number @ (1 | 2), wire) => {
                    let field = if number == 1 { "TypeMeta" } else { "Raw" };
                    let fault = Fault::WireType(wire.number(), field.to_owned());
                    return Err(Malformed { fault, at: tag.at });
                }
                // How the object is encoded is for others than API servers.
                _ => {}
            }
        }
        Ok(())
    }

    fn type_meta(&mut self, mut message: Span<'b>) -> Result<(), Malformed> {
        while let Some(tag) = message.next()? {
            match tag.number {
                1 => self.api_version = object::text(tag, "apiVersion")?,
                2 => self.kind = object::text(tag, "kind")?,
                _ => {}
            }
        }
        Ok(())
    }

    fn identity(&self, expected: Option<&GroupVersionKind>) -> Result<(String, String), Error> {
        let or = |text: &str, other: String| if text.is_empty() { other } else { text.to_owned() };
        let kind = or(&self.kind, expected.map(|e| e.kind.to_string()).unwrap_or_default());
        let api_version =
            or(&self.api_version, expected.map(GroupVersionKind::api_version).unwrap_or_default());
        if kind.is_empty() { Err(Error::MissingKind { api_version }) } else { Ok((api_version, kind)) }
    }
}
