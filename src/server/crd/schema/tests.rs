//! Custom objects from end to end.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn compile(openapi: &Value) -> CustomSchema {
    let kind = GroupVersionKind::new("example.com", "v1", "Widget");
    CustomSchema::compile(&kind, Some(openapi), false).expect("a schema")
}

fn object(spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

fn of_spec(spec: &Value) -> CustomSchema {
    compile(&json!({"type": "object", "properties": {"spec": spec}}))
}

fn validate(schema: &CustomSchema, new: &Value, old: Option<&Value>) -> Vec<String> {
    let old = old.map(object);
    schema.validate(&object(new), old.as_ref()).iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_filled_in() {
    let schema = of_spec(&json!({"type": "object", "default": {}, "properties": {
        "a": {"type": "string", "default": "x"},
        "b": {"type": "object", "properties": {"c": {"type": "integer", "default": 5}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"d": {"type": "boolean", "default": true}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"e": {"type": "string", "default": "y"}}}},
        "n": {"type": "string", "nullable": true, "default": "z"},
        "gone": {"type": "string"},
    }}));
    let table = [
        (json!({"metadata": {}}), json!({"metadata": {}, "spec": {"a": "x", "n": "z"}})),
        (json!({"spec": {"b": {}}}), json!({"spec": {"a": "x", "b": {"c": 5}, "n": "z"}})),
        (
            json!({"spec": {"list": [{}, {"d": false}], "map": {"k": {}}}}),
            json!({"spec": {"a": "x", "n": "z", "list": [{"d": true}, {"d": false}], "map": {"k": {"e": "y"}}}}),
        ),
        (json!({"spec": {"a": null, "n": null, "gone": null}}), json!({"spec": {"a": "x", "n": null}})),
    ];
    for (mut given, wanted) in table {
        schema.default(&mut given);
        assert_eq!(given, wanted);
    }
}

#[test]
fn lists_have_no_duplicates() {
    let schema = of_spec(&json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
            "items": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}},
    }}));
    let twice = json!({"set": ["x", "y", "x", "x"], "map": [{"a": "1", "b": 1}, {"a": "1", "b": 2}, {"a": "1", "b": 1}]});
    let wanted =
        ["spec.map[2]: Duplicate value: {\"a\":\"1\",\"b\":1}", "spec.set[2]: Duplicate value: \"x\""];
    assert_eq!(validate(&schema, &twice, None), wanted);
    assert!(validate(&schema, &twice, Some(&twice)).is_empty(), "what was wrong already is let through");
}

#[test]
fn embedded_objects_say_who_they_are() {
    let schema = of_spec(&json!({"type": "object", "properties": {
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}));
    assert_eq!(
        validate(&schema, &json!({"pod": {"kind": "A_b", "metadata": {"labels": {"a b": "c"}}}}), None).len(),
        3
    );
    assert_eq!(validate(&schema, &json!({"pod": {"apiVersion": "v1", "kind": "Pod"}}), None), [""; 0]);
    assert_eq!(
        validate(&schema, &json!({"pod": {"apiVersion": "v1"}}), None),
        ["spec.pod.kind: Required value"]
    );
}

#[test]
fn rules_hold() {
    let schema = of_spec(&json!({"type": "object",
    "x-kubernetes-validations": [
        {"rule": "self.min <= self.max", "message": "min must not exceed max"},
        {"rule": "self.min >= 0", "messageExpression": "'min is ' + string(self.min)", "fieldPath": ".min", "reason": "FieldValueForbidden"},
        {"rule": "self.name == oldSelf.name", "message": "name is immutable"},
    ],
    "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string"},
        "tag": {"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('t-')"}]},
        "either": {"x-kubernetes-int-or-string": true, "x-kubernetes-validations": [{"rule": "type(self) == int ? self > 0 : self.endsWith('%')"}]},
    }}));
    let fine = json!({"min": 1, "max": 2, "name": "a", "tag": "t-1", "either": "5%"});
    let with = |changes: Value| {
        let mut spec = fine.clone();
        spec.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        spec
    };
    let table = [
        (json!({}), vec![]),
        (json!({"min": 3}), vec!["spec: Invalid value: min must not exceed max"]),
        (json!({"min": -1}), vec!["spec.min: Forbidden: min is -1"]),
        (json!({"tag": "x"}), vec!["spec.tag: Invalid value: \"x\": failed rule: self.startsWith('t-')"]),
        (
            json!({"either": 0}),
            vec![
                "spec.either: Invalid value: 0: failed rule: type(self) == int ? self > 0 : self.endsWith('%')",
            ],
        ),
        (
            json!({"name": 1}),
            vec![
                "spec.name: Invalid value: \"integer\": spec.name in body must be of type string: \"integer\"",
                "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
            ],
        ),
    ];
    for (changes, wanted) in table {
        assert_eq!(validate(&schema, &with(changes.clone()), None), wanted, "{changes}");
    }
    assert_eq!(
        validate(&schema, &with(json!({"name": "b"})), Some(&fine)),
        ["spec: Invalid value: name is immutable"]
    );
    // What did not change is let through.
    let wrong = with(json!({"tag": "x"}));
    assert!(validate(&schema, &wrong, Some(&wrong)).is_empty());
    assert!(validate(&schema, &with(json!({"tag": "x", "max": 9})), Some(&wrong)).is_empty());
    let missing = json!({"min": 1, "name": "a"});
    assert_eq!(
        validate(&schema, &missing, None),
        ["spec: Invalid value: \"object\": no such key: max evaluating rule: min must not exceed max"]
    );
}

#[test]
fn rules_at_the_root_see_the_name() {
    let schema = compile(&json!({"type": "object",
    "x-kubernetes-validations": [{"rule": "self.metadata.name == 'w' && self.kind == 'Widget'"}],
    "properties": {"spec": {"type": "object", "properties": {
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer",
                "x-kubernetes-validations": [{"rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "optionalOldSelf": true}]}}}},
        "at": {"type": "string", "format": "date-time", "x-kubernetes-validations": [{"rule": "self.getFullYear() > 2000"}]},
    }}}}));
    let items = |v: i64| json!({"items": [{"k": "a", "v": v}], "at": "2020-01-02T03:04:05Z"});
    assert!(validate(&schema, &items(1), None).is_empty());
    assert!(validate(&schema, &items(2), Some(&items(1))).is_empty());
    assert_eq!(
        validate(&schema, &items(1), Some(&items(2))),
        ["spec.items[0].v: Invalid value: 1: failed rule: !oldSelf.hasValue() || self >= oldSelf.value()"]
    );
    let mut other = object(&items(1));
    other["metadata"]["name"] = "v".into();
    let errors: Vec<String> = schema.validate(&other, None).iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        ["<nil>: Invalid value: failed rule: self.metadata.name == 'w' && self.kind == 'Widget'"]
    );
}

#[test]
fn rules_run_out_of_their_budget() {
    let schema =
        of_spec(&json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [
        {"rule": "self.all(x, self.all(y, x == y))"}]}));
    let many = Value::Array(vec![json!(1); 1100]);
    assert_eq!(
        validate(&schema, &many, None),
        [
            "spec: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.all(x, self.all(y, x == y))"
        ]
    );
    let cheaper = of_spec(&json!({"type": "array", "items": {"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}]}}));
    let rows = Value::Array(vec![Value::Array(vec![json!(1); 300]); 30]);
    let errors = validate(&cheaper, &rows, None);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].ends_with(
        "validation failed due to running out of cost budget, no further validation rules will be run"
    ));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "string", "default": "a", "maxLength": 1})),
        Just(json!({"type": "integer", "default": 1, "minimum": 0})),
        Just(json!({"type": "boolean", "nullable": true})),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
        Just(json!({"type": "string", "x-kubernetes-validations": [{"rule": "self != 'b'"}]})),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            inner.clone().prop_map(|values| json!({"type": "object", "additionalProperties": values})),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|properties| json!({"type": "object", "properties": properties})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pruning_and_defaults_are_done_once(spec in any_schema(), value in any_json()) {
        let schema = of_spec(&spec);
        let mut once = object(&value);
        schema.prune(&mut once);
        let mut twice = once.clone();
        schema.prune(&mut twice);
        prop_assert_eq!(&once, &twice);
        schema.default(&mut once);
        let mut twice = once.clone();
        schema.default(&mut twice);
        prop_assert_eq!(&once, &twice);
        // Defaults are pruned themselves.
        schema.prune(&mut twice);
        prop_assert_eq!(&once, &twice);
        // What is right is right too where it takes the place of itself.
        let errors = schema.validate(&once, None);
        prop_assert!(!errors.is_empty() || schema.validate(&once, Some(&once)).is_empty());
    }

    #[test]
    fn no_schema_is_too_strange(schema in any_json(), value in any_json()) {
        let spec = json!({"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]});
        let _ = check_definition(&spec, None);
        let kind = GroupVersionKind::new("example.com", "v1", "Widget");
        if let Ok(compiled) = CustomSchema::compile(&kind, Some(&schema), false) {
            let mut value = value;
            compiled.prune(&mut value);
            compiled.default(&mut value);
            let _ = compiled.validate(&value, None);
        }
    }
}
