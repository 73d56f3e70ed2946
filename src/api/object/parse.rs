//! Reads the few fields of an object that are kept decoded, without decoding the rest.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::SelectableField;

/// Text of an object: a span of its JSON, or a copy where JSON escapes it.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Span { start: u32, len: u32 },
    Owned(Box<str>),
}

impl Default for Text {
    fn default() -> Self {
        Self::Span { start: 0, len: 0 }
    }
}

impl Text {
    pub(super) fn get<'a>(&'a self, bytes: &'a Bytes) -> &'a str {
        match self {
            Self::Span { start, len } => {
                let (start, len) = (*start as usize, *len as usize);
                std::str::from_utf8(&bytes[start..start + len]).unwrap_or_default()
            }
            Self::Owned(text) => text,
        }
    }
}

/// What is kept decoded.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) name: Text,
    pub(super) namespace: Text,
    pub(super) uid: Text,
    pub(super) deletion_timestamp: Text,
    pub(super) has_finalizers: bool,
    pub(super) labels: Box<[(Text, Text)]>,
    pub(super) owners: Box<[Text]>,
    pub(super) fields: Box<[Text]>,
}

pub(super) fn parse(bytes: &Bytes, fields: &[SelectableField]) -> Result<Parsed, serde_json::Error> {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        for (rank, path) in field.paths.iter().enumerate() {
            wanted.push(Wanted { index, rank, path });
        }
    }
    let mut found = Found {
        bytes,
        parsed: Parsed::default(),
        fields: vec![None; fields.len()],
        labels: Vec::new(),
        owners: Vec::new(),
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    Node { found: &mut found, at: At::Root, wanted }.deserialize(&mut json)?;
    json.end()?;
    let Found { mut parsed, fields: values, labels, owners, .. } = found;
    parsed.labels = labels.into();
    parsed.owners = owners.into();
    parsed.fields = values
        .into_iter()
        .zip(fields)
        .map(|(found, field)| {
            found.map_or_else(|| Text::Owned(field.default.as_ref().into()), |(_, text)| text)
        })
        .collect();
    Ok(parsed)
}

/// A scalar as field selectors compare it.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[derive(Clone)]
struct Wanted<'f> {
    index: usize,
    rank: usize,
    path: &'f [String],
}

struct Found<'b> {
    bytes: &'b Bytes,
    parsed: Parsed,
    fields: Vec<Option<(usize, Text)>>,
    labels: Vec<(Text, Text)>,
    owners: Vec<Text>,
}

impl Found<'_> {
    fn borrowed(&self, text: &str) -> Text {
        // A borrowed text lies within the bytes; offsets fit, the size was checked.
        let start = text.as_ptr() as usize - self.bytes.as_ptr() as usize;
        Text::Span { start: start as u32, len: text.len() as u32 }
    }

    fn scalar(&mut self, at: At, wanted: &[Wanted<'_>], text: Text, empty: bool) {
        match at {
            At::Name => self.parsed.name = text.clone(),
            At::Namespace => self.parsed.namespace = text.clone(),
            At::Uid => self.parsed.uid = text.clone(),
            At::Deletion => self.parsed.deletion_timestamp = text.clone(),
            At::LabelValue => {
                if let Some(last) = self.labels.last_mut() {
                    last.1 = text.clone();
                }
            }
            At::OwnerUid => self.owners.push(text.clone()),
            At::Finalizers | At::Finalizer => self.parsed.has_finalizers = true,
            At::Root | At::Metadata | At::Labels | At::Owners | At::Owner | At::Other => {}
        }
        for w in wanted.iter().filter(|w| w.path.is_empty() && !empty) {
            let slot = &mut self.fields[w.index];
            if slot.as_ref().is_none_or(|(rank, _)| w.rank < *rank) {
                *slot = Some((w.rank, text.clone()));
            }
        }
    }
}

/// Where the walk is.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Root,
    Metadata,
    Name,
    Namespace,
    Uid,
    Deletion,
    Labels,
    LabelValue,
    Owners,
    Owner,
    OwnerUid,
    Finalizers,
    Finalizer,
    Other,
}

impl At {
    fn child(self, key: &str) -> Self {
        match (self, key) {
            (Self::Root, "metadata") => Self::Metadata,
            (Self::Metadata, "name") => Self::Name,
            (Self::Metadata, "namespace") => Self::Namespace,
            (Self::Metadata, "uid") => Self::Uid,
            (Self::Metadata, "deletionTimestamp") => Self::Deletion,
            (Self::Metadata, "labels") => Self::Labels,
            (Self::Metadata, "ownerReferences") => Self::Owners,
            (Self::Metadata, "finalizers") => Self::Finalizers,
            (Self::Labels, _) => Self::LabelValue,
            (Self::Owner, "uid") => Self::OwnerUid,
            _ => Self::Other,
        }
    }

    fn item(self) -> Self {
        match self {
            Self::Owners => Self::Owner,
            Self::Finalizers => Self::Finalizer,
            _ => Self::Other,
        }
    }
}

struct Node<'s, 'b, 'f> {
    found: &'s mut Found<'b>,
    at: At,
    wanted: Vec<Wanted<'f>>,
}

impl<'de: 'b, 'b> DeserializeSeed<'de> for Node<'_, 'b, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.at == At::Other && self.wanted.is_empty() {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ());
        }
        deserializer.deserialize_any(self)
    }
}

/// A key: most are borrowed.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
        Ok(v.to_owned().into())
    }
}

impl<'de: 'b, 'b> Visitor<'de> for Node<'_, 'b, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of the API")
    }

    fn visit_borrowed_str<E>(self, v: &'de str) -> Result<(), E> {
        let text = self.found.borrowed(v);
        self.found.scalar(self.at, &self.wanted, text, v.is_empty());
        Ok(())
    }

    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        self.found.scalar(self.at, &self.wanted, Text::Owned(v.into()), v.is_empty());
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<(), E> {
        self.visit_str(if v { "true" } else { "false" })
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<(), E> {
        self.visit_str(&v.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<(), E> {
        self.visit_str(&v.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<(), E> {
        self.visit_str(&v.to_string())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let at = self.at.item();
        while seq.next_element_seed(Node { found: self.found, at, wanted: Vec::new() })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            if self.at == At::Labels {
                let name = match &key {
                    std::borrow::Cow::Borrowed(k) => self.found.borrowed(k),
                    std::borrow::Cow::Owned(k) => Text::Owned(k.as_str().into()),
                };
                self.found.labels.push((name, Text::default()));
            }
            let at = self.at.child(&key);
            let wanted = self
                .wanted
                .iter()
                .filter(|w| w.path.first().is_some_and(|step| **step == *key))
                .map(|w| Wanted { path: &w.path[1..], ..w.clone() })
                .collect();
            map.next_value_seed(Node { found: self.found, at, wanted })?;
        }
        Ok(())
    }
}
