//! The schema engine: one compact tree of types serves checks, defaults, patches and documents.
//!
//! [`Schemas::builtin`] holds the built-in kinds, read from a file that the build script makes; a custom kind is a
//! tree of its own. A [`Schema`] is one kind of a tree; patches walk it by [`Schema::root`].

mod check;
mod docs;
mod load;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::decode::{self, Decoded};
use super::field::quote;
use super::identity::GroupVersionKind;
use super::meta::Meta;
use super::protobuf;
use super::status::Status;

pub use docs::Docs;
pub use tree::{Definition, Field, Kind, ListKind, Node, NodeRef, Tree};

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

/// The schemas of all kinds of a tree.
#[derive(Debug)]
pub struct Schemas {
    kinds: HashMap<GroupVersionKind, Schema>,
}

static BUILTIN: LazyLock<Schemas> = LazyLock::new(|| Schemas::of(load::builtin()));

impl Schemas {
    /// The built-in kinds, loaded at the first call.
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// The kinds of a tree.
    pub fn of(tree: Tree) -> Self {
        let tree = Arc::new(tree);
        let kinds = tree.kinds().iter().map(|kind| {
            let schema = Schema { kind: Arc::new(kind.id.clone()), root: kind.node, tree: tree.clone() };
            (kind.id.clone(), schema)
        });
        Self { kinds: kinds.collect() }
    }

    /// The schema of a kind.
    pub fn get(&self, kind: &GroupVersionKind) -> Option<Schema> {
        self.kinds.get(kind).cloned()
    }

    /// All kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &Schema> {
        self.kinds.values()
    }
}

/// The schema of one kind. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    kind: Arc<GroupVersionKind>,
    tree: Arc<Tree>,
    root: u32,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Schema({})", self.kind)
    }
}

impl Schema {
    /// The kind.
    pub fn kind(&self) -> &GroupVersionKind {
        &self.kind
    }

    /// The tree it is part of.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Where walks begin.
    pub fn root(&self) -> NodeRef<'_> {
        self.tree.node(self.root)
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
        let decoded = self.read(content_type, body).map_err(|error| match error {
            decode::Error::MediaType => Status::unsupported_media_type(&decode::ACCEPTED),
            decode::Error::Protobuf(protobuf::Error::Object(why)) => self.unreadable(&why.to_string()),
            other => Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): {other} ({})",
                self.kind.kind,
                decode::summary(body)
            )),
        })?;
        self.accept(decoded, validation)
    }

    fn read(&self, content_type: &str, body: &[u8]) -> Result<Decoded, decode::Error> {
        if decode::media_type(content_type) != protobuf::MEDIA_TYPE {
            return decode::read(content_type, body);
        }
        if !self.tree.is_builtin() {
            return Err(decode::Error::MediaType);
        }
        Ok(protobuf::decode(body, Some(&self.kind))?.into())
    }

    /// As [`Schema::decode`], for a body that is decoded already, as the result of a patch is.
    pub fn accept(
        &self,
        decoded: Decoded,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let Decoded { mut value, duplicates } = decoded;
        self.identify(&mut value)?;
        let mut checked = self.check(&mut value, validation);
        let duplicates = duplicates.into_iter().map(|path| format!("duplicate field {}", quote(&path)));
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => checked.warnings.splice(..0, duplicates).for_each(drop),
            FieldValidation::Strict if checked.errors.first().is_some_and(|e| !check::is_strict(e)) => {}
            FieldValidation::Strict => checked.errors.splice(..0, duplicates).for_each(drop),
        }
        match checked.errors.as_slice() {
            [] => Ok((value, checked.warnings)),
            [first, ..] if !check::is_strict(first) => Err(self.unreadable(first)),
            strict => Err(self.unreadable(&format!("strict decoding error: {}", strict.join(", ")))),
        }
    }

    fn unreadable(&self, why: &str) -> Status {
        let GroupVersionKind { kind, version, .. } = &*self.kind;
        Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {kind}: {why}",
            quote(version)
        ))
    }

    /// Checks `apiVersion` and `kind`, and fills them in.
    fn identify(&self, value: &mut Value) -> Result<(), Status> {
        let Value::Object(_) = value else {
            return Err(self.unreadable(&check::wrong_root(self.root(), value)));
        };
        let meta = Meta::of(value);
        let (api_version, kind) = (meta.api_version(), meta.kind());
        let expected = self.kind.api_version();
        // Clients send delete options in whichever version they speak of the object itself.
        let any_version = self.kind.kind == "DeleteOptions";
        if !any_version && !api_version.is_empty() && api_version != expected {
            return Err(Status::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected})"
            )));
        }
        if !kind.is_empty() && kind != self.kind.kind {
            let GroupVersionKind { version, kind: mine, .. } = &*self.kind;
            return Err(Status::bad_request(format!(
                "{kind} in version {} cannot be handled as a {mine}: converting ({version}.{kind}) to ({}.{mine}): unknown conversion",
                quote(version),
                if self.kind.group.is_empty() {
                    "core"
                } else {
                    self.kind.group.split('.').next().unwrap_or_default()
                },
            )));
        }
        value["apiVersion"] = expected.into();
        value["kind"] = self.kind.kind.as_ref().into();
        Ok(())
    }

    /// Checks types and drops nulls and unknown fields in place.
    pub fn check(&self, object: &mut Value, validation: FieldValidation) -> Checked {
        check::check(self.root(), object, validation)
    }

    /// Drops unknown fields.
    pub fn prune(&self, object: &mut Value) {
        check::check(self.root(), object, FieldValidation::Ignore);
    }
}
