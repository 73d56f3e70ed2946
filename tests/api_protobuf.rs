//! Request bodies in Protocol Buffers: what goes in as a message is the object that goes in as JSON.

#[path = "api_protobuf/encode.rs"]
mod encode;
#[path = "api_protobuf/kubectl.rs"]
mod kubectl;
#[path = "api_protobuf/server.rs"]
mod server;
mod server_support;

use encode::body;
use kedge::api::protobuf::{self, MEDIA_TYPE};
use kedge::api::schema::{Node, NodeRef};
use kedge::api::{FieldValidation, GroupVersionKind, Schema, Schemas};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use serde_json::{Map, Value, json};

/// Kinds of objects that clients send.
fn kinds() -> Vec<Schema> {
    let outside =
        ["WatchEvent", "ListMeta", "APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"];
    let mut kinds: Vec<Schema> =
        Schemas::builtin().kinds().filter(|s| !outside.contains(&&*s.kind().kind)).cloned().collect();
    kinds.sort_by_key(|s| s.kind().to_string());
    kinds
}

/// A source of choices, all drawn from random bytes.
struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn roll(&mut self, sides: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % sides
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }
}

/// A value of this type.
fn value(node: NodeRef<'_>, dice: &mut Dice<'_>, depth: usize) -> Value {
    match node.node() {
        Node::Object(_) if depth > 0 => {
            let count = node.fields().count().max(1);
            let mut fields = Map::new();
            for _ in 0..dice.roll(5) + depth.saturating_sub(3) * 4 {
                let field = node.fields().nth(dice.roll(count)).filter(|f| f.number() != 0);
                if let Some(field) = field {
                    fields.insert(field.name().to_owned(), value(field.node(), dice, depth - 1));
                }
            }
            Value::Object(fields)
        }
        Node::Map { .. } => {
            let child = node.child("").expect("a map has values");
            let entries =
                (0..dice.roll(3)).map(|i| (format!("k{i}"), value(child, dice, depth.saturating_sub(1))));
            Value::Object(entries.collect())
        }
        Node::List(_) => {
            let item = node.item().expect("a list has items");
            (0..dice.roll(4)).map(|_| value(item, dice, depth.saturating_sub(1))).collect()
        }
        Node::Object(_) => json!({}),
        Node::AnyObject => json!({"any": ["thing"]}),
        Node::Any => alternative(node, dice),
        Node::String { bytes: true } => dice.pick(&[json!(""), json!("AAEC/w==")]),
        Node::String { .. } => {
            dice.pick(&[json!(""), json!("a"), json!("ä \u{1f980}"), json!("x".repeat(200))])
        }
        Node::Integer { bits: 64 } => dice.pick(&[json!(0), json!(1), json!(i64::MIN), json!(i64::MAX)]),
        Node::Integer { .. } => dice.pick(&[json!(0), json!(300), json!(-1), json!(i32::MIN)]),
        Node::Number => dice.pick(&[json!(0.5), json!(-1e300)]),
        Node::Bool => json!(dice.roll(2) == 1),
        Node::IntOrString => dice.pick(&[json!(0), json!(-7), json!(""), json!("25%")]),
        Node::Quantity => dice.pick(&[json!("1"), json!("0"), json!("1Gi"), json!("100m")]),
        Node::Time => dice.pick(&[json!("2024-01-01T00:00:00Z"), json!("1969-12-31T23:59:59Z")]),
        Node::MicroTime => json!("2024-01-01T00:00:00.123456Z"),
    }
}

/// A value of one of the types that are one thing or another.
fn alternative(node: NodeRef<'_>, dice: &mut Dice<'_>) -> Value {
    let props = json!({"type": "string", "maxLength": 0});
    match encode::name(node) {
        "CustomResourceSubresourceStatus" => json!({}),
        "JSONSchemaPropsOrArray" => dice.pick(&[props.clone(), json!([props, {}])]),
        "JSONSchemaPropsOrBool" => dice.pick(&[props, json!(true), json!(false)]),
        "JSONSchemaPropsOrStringArray" => dice.pick(&[props, json!(["a", ""])]),
        _ => dice.pick(&[json!(1), json!("x"), json!([null, {"a": 1.5}]), json!(false)]),
    }
}

/// What upstream's types would write of a value as JSON.
fn written(node: NodeRef<'_>, value: &Value) -> Value {
    match value {
        Value::Object(fields) if matches!(node.node(), Node::Object(_) | Node::Map { .. }) => {
            let mut kept = Map::new();
            for (key, value) in fields {
                let child = node.child(key).expect("it is known");
                let value = written(child, value);
                let nothing = match (child.node(), &value) {
                    // On the wire, no items are no field.
                    (Node::List(_) | Node::Map { .. }, v) if !matches!(node.node(), Node::Map { .. }) => {
                        *v == json!([]) || *v == json!({})
                    }
                    (_, v) => {
                        let empty = [json!(""), json!(0), json!(false), json!({})].contains(v);
                        empty && node.field(key).is_some_and(|f| f.omits_empty())
                    }
                };
                if !nothing {
                    kept.insert(key.clone(), value);
                }
            }
            Value::Object(kept)
        }
        Value::Array(items) if matches!(node.node(), Node::List(_)) => {
            let item = node.item().expect("a list has items");
            items.iter().map(|v| written(item, v)).collect()
        }
        other => other.clone(),
    }
}

fn object(schema: &Schema, bytes: &[u8]) -> Value {
    let mut made = value(schema.root(), &mut Dice(bytes.iter()), 7);
    made["apiVersion"] = schema.kind().api_version().into();
    made["kind"] = schema.kind().kind.as_ref().into();
    made
}

fn config() -> Config {
    Config { failure_persistence: Some(Box::new(FileFailurePersistence::Off)), ..Config::with_cases(400) }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..2000)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn decoding_undoes_encoding(kind: prop::sample::Index, bytes in bytes()) {
        let kinds = kinds();
        let schema = &kinds[kind.index(kinds.len())];
        let object = object(schema, &bytes);
        let decoded = protobuf::decode(&body(schema, &object), None)?;
        prop_assert_eq!(&decoded, &written(schema.root(), &object));
        // The schema has nothing to say against it, and nothing to drop.
        let (accepted, warnings) = schema.decode(MEDIA_TYPE, &body(schema, &object), FieldValidation::Strict)?;
        prop_assert_eq!((accepted, warnings), (decoded, Vec::new()));
    }

    #[test]
    fn no_bytes_are_too_strange(kind: prop::sample::Index, seed in bytes(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut: prop::sample::Index) {
        let kinds = kinds();
        let schema = &kinds[kind.index(kinds.len())];
        let mut bytes = body(schema, &object(schema, &seed));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = schema.decode(MEDIA_TYPE, &bytes, FieldValidation::Warn);
        bytes.truncate(cut.index(bytes.len()) + 1);
        for answer in [whole, schema.decode(MEDIA_TYPE, &bytes, FieldValidation::Warn)] {
            match answer {
                // Stored objects are read again.
                Ok((object, _)) => prop_assert!(serde_json::from_str::<Value>(&object.to_string()).is_ok()),
                Err(status) => prop_assert_eq!(status.code, 400),
            }
        }
    }

    #[test]
    fn noise_is_refused_or_read(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let pod = Schemas::builtin().get(&GroupVersionKind::from_api_version("v1", "Pod")).expect("built in");
        for bytes in [noise.clone(), [b"k8s\0", &noise[..]].concat(), encode::envelope("v1", "Pod", &noise)] {
            if let Err(status) = pod.decode(MEDIA_TYPE, &bytes, FieldValidation::Warn) {
                prop_assert_eq!(status.code, 400);
            }
        }
    }
}
