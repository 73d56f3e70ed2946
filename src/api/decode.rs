//! Reads request bodies: JSON and YAML, duplicate fields reported, and Protocol Buffers of built-in kinds.

mod kind;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Status, protobuf};

/// A body that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// What it says.
    pub value: Value,
    /// Paths of fields that are given twice, as in `spec.replicas`; the last one counts.
    pub duplicates: Vec<String>,
}

impl From<Value> for Decoded {
    fn from(value: Value) -> Self {
        Self { value, duplicates: Vec::new() }
    }
}

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its media type is none of [`ACCEPTED`].
    #[error("the body of the request was in an unknown format - accepted media types include: {}", ACCEPTED.join(", "))]
    MediaType,
    /// It is no JSON.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(#[from] serde_json::Error),
    /// It is no YAML.
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(#[from] serde_yaml::Error),
    /// It is no object in Protocol Buffers.
    #[error(transparent)]
    Protobuf(#[from] protobuf::Error),
}

/// The media types that request bodies may have.
pub const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// Reads a body of a content type (parameters allowed; an empty one is JSON).
/// 415 for other types, 400 for what cannot be read.
pub fn decode(content_type: &str, body: &[u8]) -> Result<Decoded, Status> {
    read(content_type, body).map_err(|error| match error {
        Error::MediaType => Status::unsupported_media_type(&ACCEPTED),
        other => {
            Status::bad_request(format!("the object provided is unrecognized: {other} ({})", summary(body)))
        }
    })
}

/// As [`decode`], with the reason of a failure.
pub fn read(content_type: &str, body: &[u8]) -> Result<Decoded, Error> {
    match media_type(content_type).as_str() {
        "" | "application/json" => json(body),
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml(body),
        protobuf::MEDIA_TYPE => Ok(protobuf::decode(body, None)?.into()),
        _ => Err(Error::MediaType),
    }
}

/// A content type without its parameters, lower case.
pub(crate) fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads JSON. Objects nested deeper than 128 levels are refused.
pub fn json(body: &[u8]) -> Result<Decoded, Error> {
    let mut decoded = Decoded::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut path = Vec::new();
    decoded.value =
        Seed { path: &mut path, duplicates: &mut decoded.duplicates }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(decoded)
}

/// Reads one YAML document. A first character `{` makes it JSON, as for upstream.
pub fn yaml(body: &[u8]) -> Result<Decoded, Error> {
    if body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
        && let Ok(decoded) = json(body)
    {
        return Ok(decoded);
    }
    let mut decoded = Decoded::default();
    let deserializer = serde_yaml::Deserializer::from_slice(body);
    let mut path = Vec::new();
    decoded.value =
        Seed { path: &mut path, duplicates: &mut decoded.duplicates }.deserialize(deserializer)?;
    Ok(decoded)
}

/// The beginning of a body for an error's text: text if it may be JSON, hexadecimal otherwise.
pub(crate) fn summary(body: &[u8]) -> String {
    const MAX: usize = 30;
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let head = &body[..body.len().min(MAX)];
    let text = if head[0] == b'{' { String::from_utf8_lossy(head).into_owned() } else { hex::encode(head) };
    if body.len() > MAX { format!("{text} ...") } else { text }
}

/// A step of a path: a field's name, or an index.
enum Step {
    Field(String),
    Index(usize),
}

struct Seed<'s> {
    path: &'s mut Vec<Step>,
    duplicates: &'s mut Vec<String>,
}

impl Seed<'_> {
    fn report(&mut self, key: &str) {
        let mut text = String::new();
        for step in self.path.iter() {
            match step {
                Step::Field(name) if text.is_empty() => text.push_str(name),
                Step::Field(name) => text.extend([".", name]),
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(key);
        if !self.duplicates.contains(&text) {
            self.duplicates.push(text);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            self.path.push(Step::Index(items.len()));
            let item = seq.next_element_seed(Seed { path: self.path, duplicates: self.duplicates })?;
            self.path.pop();
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(Key(key)) = map.next_key()? {
            if fields.contains_key(&key) {
                self.report(&key);
            }
            self.path.push(Step::Field(key));
            let value = map.next_value_seed(Seed { path: self.path, duplicates: self.duplicates })?;
            if let Some(Step::Field(key)) = self.path.pop() {
                fields.insert(key, value);
            }
        }
        Ok(Value::Object(fields))
    }
}

/// A key. In YAML it may be a number or a boolean, which becomes text.
struct Key(String);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_str<E>(self, v: &str) -> Result<Key, E> {
                Ok(Key(v.to_owned()))
            }

            fn visit_string<E>(self, v: String) -> Result<Key, E> {
                Ok(Key(v))
            }

            fn visit_bool<E>(self, v: bool) -> Result<Key, E> {
                Ok(Key(v.to_string()))
            }

            fn visit_i64<E>(self, v: i64) -> Result<Key, E> {
                Ok(Key(v.to_string()))
            }

            fn visit_u64<E>(self, v: u64) -> Result<Key, E> {
                Ok(Key(v.to_string()))
            }

            fn visit_f64<E>(self, v: f64) -> Result<Key, E> {
                Ok(Key(v.to_string()))
            }
        }
        deserializer.deserialize_any(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let expected = json!({"a": 1, "b": [true, null, "x", 1.5], "c": {"1": "one", "true": -1}});
        let from_json = json(br#"{"a":1,"b":[true,null,"x",1.5],"c":{"1":"one","true":-1}}"#).expect("JSON");
        let from_yaml = yaml(b"a: 1\nb: [true, null, x, 1.5]\nc:\n  1: one\n  true: -1\n").expect("YAML");
        assert_eq!(from_json.value, expected);
        assert_eq!(from_yaml.value, expected);
        assert!(from_json.duplicates.is_empty() && from_yaml.duplicates.is_empty());
    }

    #[test]
    fn duplicates_are_named_by_path_and_the_last_counts() {
        let decoded = json(br#"{"a":1,"b":[{"x":1,"x":2,"x":3}],"a":2}"#).expect("JSON");
        assert_eq!(decoded.duplicates, ["b[0].x", "a"]);
        assert_eq!(decoded.value, json!({"a": 2, "b": [{"x": 3}]}));
        assert_eq!(yaml(b"a: 1\na: 2\n").expect("YAML").duplicates, ["a"]);
    }

    #[test]
    fn types_and_errors() {
        assert!(decode("application/json; charset=utf-8", b"{}").is_ok());
        assert!(decode("", b"{}").is_ok());
        assert!(decode("application/yaml", b"a: b").is_ok());
        let status = decode("application/cbor", b"k8s").expect_err("not read");
        assert_eq!((status.code, status.to_value()["reason"].as_str()), (415, Some("UnsupportedMediaType")));
        assert!(
            status
                .message
                .ends_with("application/json, application/yaml, application/vnd.kubernetes.protobuf")
        );
        let status = decode("application/vnd.kubernetes.protobuf;a=b", b"k8s").expect_err("no prefix");
        assert_eq!(status.code, 400);
        let status = decode("application/json", b"{\"a\":").expect_err("cut off");
        assert_eq!(status.code, 400);
        assert!(status.message.contains("line 1 column 5"), "{}", status.message);
        let status = decode("application/yaml", b"a: 1\nb:\n  - c\n d: 2\n").expect_err("bad indentation");
        assert!(status.message.contains("line"), "{}", status.message);
        assert!(decode("application/json", b"{} {}").is_err());
    }

    #[test]
    fn depth_is_limited() {
        let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert!(json(&deep(100)).is_ok());
        assert!(json(&deep(100_000)).is_err());
        assert!(yaml(&deep(100_000)).is_err());
    }

    #[test]
    fn summaries_are_short() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"{\"a\""), "{\"a\"");
        assert_eq!(summary(b"kind"), "6b696e64");
        assert_eq!(summary(&[b'{'; 40]), format!("{} ...", "{".repeat(30)));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{0,6}", inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(value in values()) {
            let text = serde_json::to_vec(&value).expect("JSON");
            prop_assert_eq!(json(&text).expect("JSON again").value, value.clone());
            let text = serde_yaml::to_string(&value).expect("YAML");
            prop_assert_eq!(yaml(text.as_bytes()).expect("YAML again").value, value);
        }
    }
}
