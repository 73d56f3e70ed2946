//! The schema engine: one compact tree of types serves checks, defaults, patches and documents.

use serde_json::Value;

use super::decode::Decoded;
use super::identity::GroupVersionKind;
use super::status::Status;

/// What is done about unknown and duplicate fields: the `fieldValidation` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped in silence.
    Ignore,
    /// They are dropped, and the client is warned.
    #[default]
    Warn,
    /// The request fails.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; an empty one is Warn.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Why the object cannot be read, in upstream's words; empty if it can.
    pub errors: Vec<String>,
    /// To be sent as warning headers.
    pub warnings: Vec<String>,
}

/// The schemas of all built-in kinds.
#[derive(Debug)]
pub struct Schemas {}

impl Schemas {
    /// The built-in kinds, loaded at the first call.
    pub fn builtin() -> &'static Self {
        todo!()
    }

    /// The schema of a kind.
    pub fn get(&self, kind: &GroupVersionKind) -> Option<Schema> {
        let _ = kind;
        todo!()
    }
}

/// The schema of one kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {}

impl Schema {
    /// The kind.
    pub fn kind(&self) -> &GroupVersionKind {
        todo!()
    }

    /// Decodes a body, checks it against this schema, and drops what the schema does not know. `apiVersion`
    /// and `kind` must be this schema's and are filled in where they are missing. Answers the object and
    /// the warnings to send; defaults are not applied.
    pub fn decode(
        &self,
        content_type: &str,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let _ = (content_type, body, validation);
        todo!()
    }

    /// As [`Schema::decode`], for a body that is decoded already, as the result of a patch is.
    pub fn accept(
        &self,
        decoded: Decoded,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let _ = (decoded, validation);
        todo!()
    }

    /// Checks types and drops nulls and unknown fields in place.
    pub fn check(&self, object: &mut Value, validation: FieldValidation) -> Checked {
        let _ = (object, validation);
        todo!()
    }

    /// Applies the defaults that upstream applies when it reads an object of this kind.
    pub fn default(&self, object: &mut Value) {
        let _ = object;
        todo!()
    }

    /// Drops unknown fields.
    pub fn prune(&self, object: &mut Value) {
        let _ = object;
        todo!()
    }
}
