//! Whatever a client sends, the api room answers and does not fall over.

use kedge::api::schema::{Node, NodeRef};
use kedge::api::{FieldValidation, GroupVersionKind, Schema, Schemas, object};
use kedge::server::patch;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use serde_json::{Map, Value, json};

const KINDS: [(&str, &str); 12] = [
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "Namespace"),
    ("v1", "Secret"),
    ("v1", "LimitRange"),
    ("v1", "ReplicationController"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "Job"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
];

fn schema(kind: usize) -> Schema {
    let (api_version, kind) = KINDS[kind % KINDS.len()];
    Schemas::builtin().get(&GroupVersionKind::from_api_version(api_version, kind)).expect("built in")
}

/// A source of choices, all drawn from random bytes.
struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn roll(&mut self, sides: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % sides
    }
}

/// A value of this type, mostly: one time in twenty it is of another.
fn value(node: NodeRef<'_>, dice: &mut Dice<'_>, depth: usize, noise: bool) -> Value {
    if noise && dice.roll(20) == 1 {
        return [
            json!(null),
            json!("x"),
            json!(-1),
            json!([]),
            json!({}),
            json!([{}]),
            json!(true),
            json!(1.5),
        ][dice.roll(8)]
        .clone();
    }
    match node.node() {
        Node::Object(_) if depth > 0 => {
            let count = node.fields().count().max(1);
            let mut fields = Map::new();
            // Near the root much is set, so that the walk gets deep.
            for _ in 0..dice.roll(6) + depth.saturating_sub(3) * 4 {
                if let Some(field) = node.fields().nth(dice.roll(count)) {
                    fields.insert(field.name().to_owned(), value(field.node(), dice, depth - 1, noise));
                }
            }
            Value::Object(fields)
        }
        Node::Map { .. } => {
            let child = node.child("").expect("a map has values");
            let entries = (0..dice.roll(3))
                .map(|i| (format!("k{i}"), value(child, dice, depth.saturating_sub(1), noise)));
            Value::Object(entries.collect())
        }
        Node::List(_) => {
            let item = node.item().expect("a list has items");
            (0..dice.roll(4)).map(|_| value(item, dice, depth.saturating_sub(1), noise)).collect()
        }
        Node::Object(_) | Node::AnyObject => json!({}),
        Node::Any => json!({"any": ["thing"]}),
        Node::String { bytes: true } => json!("AAEC"),
        Node::String { .. } => json!(["", "a", "b", "RollingUpdate", "ClientIP", "Container"][dice.roll(6)]),
        Node::Integer { .. } => json!(dice.roll(3)),
        Node::Number => json!(0.5),
        Node::Bool => json!(dice.roll(2) == 1),
        Node::IntOrString => [json!(1), json!("25%")][dice.roll(2)].clone(),
        Node::Quantity => [json!("1"), json!(2), json!("1Gi"), json!("100m")][dice.roll(4)].clone(),
        Node::Time => json!("2024-01-01T00:00:00Z"),
        Node::MicroTime => json!("2024-01-01T00:00:00.000000Z"),
    }
}

fn make(schema: &Schema, bytes: &[u8], noise: bool) -> Value {
    let mut dice = Dice(bytes.iter());
    let mut made = value(schema.root(), &mut dice, 7, noise);
    if !made.is_object() {
        made = json!({});
    }
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
    fn good_bodies_are_accepted_and_stay_good(kind in 0_usize..12, bytes in bytes()) {
        let schema = schema(kind);
        let (mut object, warnings) = schema.accept(make(&schema, &bytes, false).into(), FieldValidation::Strict)?;
        prop_assert!(warnings.is_empty());
        schema.default(&mut object);
        let (again, _) = schema.accept(object.clone().into(), FieldValidation::Strict)?;
        prop_assert_eq!(&again, &object);
        let mut twice = again;
        schema.default(&mut twice);
        prop_assert_eq!(&twice, &object);
        let stored = object::serialize(object).at(1);
        prop_assert!(object::Object::from_stored(stored, 1, &[]).is_ok());
    }

    #[test]
    fn bad_bodies_are_answered(kind in 0_usize..12, bytes in bytes()) {
        let schema = schema(kind);
        match schema.accept(make(&schema, &bytes, true).into(), FieldValidation::Strict) {
            Ok((mut object, _)) => schema.default(&mut object),
            Err(status) => prop_assert_eq!(status.code, 400),
        }
    }

    #[test]
    fn patches_are_answered(kind in 0_usize..12, live in bytes(), change in bytes()) {
        let schema = schema(kind);
        let (live, _) = schema.accept(make(&schema, &live, false).into(), FieldValidation::Ignore)?;
        let change = make(&schema, &change, true);
        if let Err(status) = patch::strategic(&schema, &live, &change) {
            prop_assert_eq!(status.code, 400);
        }
        let _ = patch::apply(&schema, Some(&live), &change, "m", true, "", "2024-01-01T00:00:00Z");
        let mut merged = patch::merge(&live, &change);
        patch::managed::track_update(&schema, Some(&live), &mut merged, "m", "v1", "", "2024-01-01T00:00:00Z");
    }

    #[test]
    fn applying_anything_twice_changes_nothing(kind in 0_usize..12, live in bytes(), change in bytes()) {
        let schema = schema(kind);
        let (live, _) = schema.accept(make(&schema, &live, false).into(), FieldValidation::Ignore)?;
        let (mut config, _) = schema.accept(make(&schema, &change, false).into(), FieldValidation::Ignore)?;
        if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let apply = |live: &Value| patch::apply(&schema, Some(live), &config, "m", true, "", "2024-01-01T00:00:00Z");
        if let Ok(once) = apply(&live) {
            prop_assert_eq!(apply(&once)?, once);
        }
    }
}
