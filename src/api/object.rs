//! One stored object in memory: its canonical JSON and the little that lists, watches and selectors ask of it.
//!
//! Texts of the metadata are spans of the JSON, so an [`Object`] costs its bytes and about 200 bytes more. The
//! whole is decoded only when asked for.

mod parse;

use std::any::Any;
use std::borrow::Cow;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::meta::MetaMut;
use parse::{Parsed, Text};

/// Why stored bytes are no object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The JSON is damaged, or of another kind than asked for.
    #[error("stored object is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// The object has 4 GiB or more.
    #[error("stored object has {0} bytes, too many")]
    TooLarge(usize),
}

/// A field that field selectors may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// The name in selectors, as in `spec.nodeName`.
    pub label: Cow<'static, str>,
    /// Where it lies, split at the dots; the first path with a value that is not empty counts.
    pub paths: Vec<Vec<String>>,
    /// Its value where the object has none.
    pub default: Cow<'static, str>,
}

impl SelectableField {
    /// A field that is called as it lies, empty where it is missing.
    pub fn new(label: impl Into<Cow<'static, str>>) -> Self {
        let label = label.into();
        let paths = vec![split(&label)];
        Self { label, paths, default: Cow::Borrowed("") }
    }

    /// Where the field lies instead, as in `status.succeeded` for `status.successful`.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        self.paths = vec![split(path)];
        self
    }

    /// A further place to look at.
    #[must_use]
    pub fn or_at(mut self, path: &str) -> Self {
        self.paths.push(split(path));
        self
    }

    /// The value where the object has none, as in `false` for `spec.unschedulable`.
    #[must_use]
    pub fn or(mut self, default: impl Into<Cow<'static, str>>) -> Self {
        self.default = default.into();
        self
    }

    /// The field's value in an object that is decoded.
    pub fn of(&self, object: &Value) -> String {
        let found = self.paths.iter().find_map(|path| {
            let value = path.iter().try_fold(object, |v, step| v.get(step))?;
            parse::scalar(value).filter(|s| !s.is_empty())
        });
        found.unwrap_or_else(|| self.default.clone().into_owned())
    }
}

fn split(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// An immutable object as it is stored and served.
pub struct Object {
    bytes: Bytes,
    revision: u64,
    parsed: Parsed,
    typed: Mutex<Option<Weak<dyn Any + Send + Sync>>>,
}

impl Object {
    /// From the store: `bytes` hold the object's JSON with its resource version, `revision` is that
    /// version, `fields` are what field selectors may ask of this kind.
    pub fn from_stored(bytes: Bytes, revision: u64, fields: &[SelectableField]) -> Result<Self, Error> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Error::TooLarge(bytes.len()));
        }
        let parsed = parse::parse(&bytes, fields)?;
        Ok(Self { bytes, revision, parsed, typed: Mutex::new(None) })
    }

    /// The canonical JSON, with the resource version.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The resource version as a number.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn text<'a>(&'a self, text: &'a Text) -> &'a str {
        text.get(&self.bytes)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.text(&self.parsed.name)
    }

    /// The namespace; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.text(&self.parsed.namespace)
    }

    /// The uid.
    pub fn uid(&self) -> &str {
        self.text(&self.parsed.uid)
    }

    /// The time of deletion, if it is being deleted.
    pub fn deletion_timestamp(&self) -> Option<&str> {
        Some(self.text(&self.parsed.deletion_timestamp)).filter(|t| !t.is_empty())
    }

    /// Whether finalizers hold up its deletion.
    pub fn has_finalizers(&self) -> bool {
        self.parsed.has_finalizers
    }

    /// The labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parsed.labels.iter().map(|(k, v)| (self.text(k), self.text(v)))
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// The uids of its owners.
    pub fn owner_uids(&self) -> impl Iterator<Item = &str> {
        self.parsed.owners.iter().map(|t| self.text(t))
    }

    /// The value of the `index`th selectable field of its kind.
    pub fn field_at(&self, index: usize) -> Option<&str> {
        self.parsed.fields.get(index).map(|t| self.text(t))
    }

    /// The value of a selectable field: `metadata.name`, `metadata.namespace`, or one of `fields`, which
    /// must be what the object was made with. `None` if the kind has no such field.
    pub fn field<'a>(&'a self, label: &str, fields: &[SelectableField]) -> Option<&'a str> {
        match label {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => self.field_at(fields.iter().position(|f| f.label == label)?),
        }
    }

    /// Decodes the whole object. Not kept: each call decodes anew.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("the bytes were parsed when the object was made")
    }

    /// The typed form. It is decoded once for all that hold it at the same time, and kept no longer than they do.
    pub fn typed<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<T>, Error> {
        let mut kept = self.typed.lock();
        if let Some(found) = kept.as_ref().and_then(Weak::upgrade).and_then(|any| any.downcast::<T>().ok()) {
            return Ok(found);
        }
        let decoded: Arc<T> = Arc::new(serde_json::from_slice(&self.bytes)?);
        let any: Arc<dyn Any + Send + Sync> = decoded.clone();
        *kept = Some(Arc::downgrade(&any));
        Ok(decoded)
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({}/{} at {})", self.namespace(), self.name(), self.revision)
    }
}

/// An object's canonical JSON before its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serialized {
    /// The JSON with an empty resource version.
    pub bytes: Bytes,
    /// Where the decimal of the commit's revision is to be inserted.
    pub revision_at: usize,
}

impl Serialized {
    /// The bytes as they are stored at a revision.
    pub fn at(&self, revision: u64) -> Bytes {
        let digits = revision.to_string();
        let (before, after) = self.bytes.split_at(self.revision_at);
        Bytes::from([before, digits.as_bytes(), after].concat())
    }
}

/// Writes an object for the store: canonical (compact, keys in order), its resource version left open. The
/// resource version is the first field of the metadata, whatever the order of the others.
pub fn serialize(mut object: Value) -> Serialized {
    const OPEN: &[u8] = b"\"resourceVersion\":\"";
    MetaMut::of(&mut object).set_resource_version("");
    let mut bytes = Vec::with_capacity(1024);
    let metadata_at = write(&object, &mut bytes);
    // Nothing else than the object's own field can follow within its metadata: see `write`.
    let within = bytes[metadata_at..].windows(OPEN.len()).position(|w| w == OPEN);
    let revision_at = metadata_at + within.expect("the resource version was set above") + OPEN.len();
    Serialized { bytes: Bytes::from(bytes), revision_at }
}

/// Writes the object with the resource version as the first field of its metadata, and answers where
/// its metadata begins.
fn write(object: &Value, out: &mut Vec<u8>) -> usize {
    let mut metadata_at = 0;
    out.push(b'{');
    for (i, (key, value)) in object.as_object().into_iter().flatten().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json(key, out);
        out.push(b':');
        match value {
            Value::Object(fields) if key == "metadata" => {
                metadata_at = out.len();
                out.extend_from_slice(b"{\"resourceVersion\":\"\"");
                for (key, value) in fields.iter().filter(|(k, _)| *k != "resourceVersion") {
                    out.push(b',');
                    json(key, out);
                    out.push(b':');
                    json(value, out);
                }
                out.push(b'}');
            }
            _ => json(value, out),
        }
    }
    out.push(b'}');
    metadata_at
}

fn json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("strings and JSON values can be written to memory");
}

#[cfg(test)]
mod tests;
