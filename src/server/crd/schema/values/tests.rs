//! Each check with upstream's text.

use serde_json::{Value, json};

use super::*;

fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let schema = Structural::parse(schema).expect("a schema");
    check(&Path::default(), &schema, value, None).iter().map(ToString::to_string).collect()
}

/// What is wrong with the field `x` of this schema.
fn of_x(schema: &Value, value: &Value) -> Vec<String> {
    errors(&json!({"type": "object", "properties": {"x": schema}}), &json!({"x": value}))
}

#[test]
fn what_is_wrong_is_said_as_upstream_says_it() {
    let table = [
        (
            json!({"type": "integer"}),
            json!("a"),
            vec![r#"x: Invalid value: "string": x in body must be of type integer: "string""#],
        ),
        (
            json!({"type": "integer"}),
            json!(1.5),
            vec![r#"x: Invalid value: "number": x in body must be of type integer: "number""#],
        ),
        (json!({"type": "integer"}), json!(1.0), vec![]),
        (json!({"type": "number"}), json!(1), vec![]),
        (
            json!({"type": "string"}),
            json!(null),
            vec![r#"x: Invalid value: "null": x in body must be of type string: "null""#],
        ),
        (json!({"type": "string", "nullable": true}), json!(null), vec![]),
        (
            json!({"type": "boolean"}),
            json!({}),
            vec![r#"x: Invalid value: "object": x in body must be of type boolean: "object""#],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["a", 1]),
            vec![r#"x[1]: Invalid value: "integer": x[1] in body must be of type string: "integer""#],
        ),
        (json!({"x-kubernetes-int-or-string": true}), json!("a"), vec![]),
        (json!({"x-kubernetes-int-or-string": true}), json!(1), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            vec![r#"x: Invalid value: "boolean": x in body must be of type integer,string: "boolean""#],
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            vec!["x: Invalid value: 0: x in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            vec!["x: Invalid value: 1: x in body should be greater than 1"],
        ),
        (
            json!({"type": "integer", "maximum": 10}),
            json!(11),
            vec!["x: Invalid value: 11: x in body should be less than or equal to 10"],
        ),
        (
            json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
            json!(1.5),
            vec!["x: Invalid value: 1.5: x in body should be less than 1.5"],
        ),
        (
            json!({"type": "integer", "multipleOf": 3}),
            json!(4),
            vec!["x: Invalid value: 4: x in body should be a multiple of 3"],
        ),
        (json!({"type": "number", "multipleOf": 0.5}), json!(1.5), vec![]),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_i64),
            vec![r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in x"#],
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("äöü"),
            vec!["x: Too long: may not be more than 2 bytes"],
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("ä"),
            vec![r#"x: Invalid value: "ä": x in body should be at least 2 chars long"#],
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            vec![r#"x: Invalid value: "b": x in body should match '^a+$'"#],
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            vec![r#"x: Unsupported value: "c": supported values: "a", "b""#],
        ),
        (
            json!({"type": "integer", "enum": [1, 2]}),
            json!(3),
            vec![r#"x: Unsupported value: 3: supported values: "1", "2""#],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("x"),
            vec![r#"x: Invalid value: "x": x in body must be of type date-time: "x""#],
        ),
        (json!({"type": "string", "format": "unknown-thing"}), json!("x"), vec![]),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!([]),
            vec!["x: Invalid value: 0: x in body should have at least 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["a", "b"]),
            vec!["x: Too many: 2: must have at most 1 item"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            json!(["a", "a"]),
            vec![r#"x: Invalid value: "": x in body shouldn't contain duplicates"#],
        ),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            vec!["x: Invalid value: 0: x in body should have at least 1 properties"],
        ),
        (
            json!({"type": "object", "maxProperties": 1}),
            json!({"a": 1, "b": 2}),
            vec!["x: Too many: 2: must have at most 1 item"],
        ),
        (json!({"type": "object", "required": ["a"]}), json!({}), vec!["x.a: Required value"]),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            json!({"a": "b"}),
            vec![r#"x.a: Invalid value: "string": x.a in body must be of type integer: "string""#],
        ),
    ];
    for (schema, value, wanted) in table {
        assert_eq!(of_x(&schema, &value), wanted, "{schema} {value}");
    }
}

#[test]
fn junctors_name_what_came_nearest() {
    let any = json!({"type": "string", "anyOf": [{"pattern": "^a"}, {"pattern": "^b"}]});
    assert_eq!(
        of_x(&any, &json!("c")),
        [
            r#"<nil>: Invalid value: "": "x" must validate at least one schema (anyOf)"#,
            r#"x: Invalid value: "c": x in body should match '^a'"#
        ]
    );
    assert!(of_x(&any, &json!("b")).is_empty());
    let one = json!({"type": "string", "oneOf": [{"pattern": "a"}, {"pattern": "b"}]});
    assert_eq!(
        of_x(&one, &json!("ab")),
        [
            r#"<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
        ]
    );
    assert_eq!(
        of_x(&one, &json!("c"))[0],
        r#"<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). Found none valid"#
    );
    let all = json!({"type": "string", "allOf": [{"pattern": "a"}, {"pattern": "b"}]});
    assert_eq!(
        of_x(&all, &json!("a")),
        [
            r#"x: Invalid value: "a": x in body should match 'b'"#,
            r#"<nil>: Invalid value: "": "x" must validate all the schemas (allOf)"#
        ]
    );
    let not = json!({"type": "string", "not": {"pattern": "a"}});
    assert_eq!(
        of_x(&not, &json!("a")),
        [r#"<nil>: Invalid value: "": "x" must not validate the schema (not)"#]
    );
    let required = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert_eq!(
        errors(&required, &json!({})),
        [
            r#"<nil>: Invalid value: "": "" must validate one and only one schema (oneOf). Found none valid"#,
            "a: Required value"
        ]
    );
}

#[test]
fn the_root_and_its_fields_are_named() {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object"}}});
    assert_eq!(errors(&schema, &json!({})), ["spec: Required value"]);
    assert_eq!(
        errors(&schema, &json!([])),
        [r#"<nil>: Invalid value: "array":  in body must be of type object: "array""#]
    );
}

#[test]
fn what_did_not_change_is_not_judged_anew() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1},
        "b": {"type": "string", "maxLength": 1},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "minimum": 5}}}},
        "atomic": {"type": "array", "items": {"type": "integer", "minimum": 5}}}});
    let schema = Structural::parse(&schema).expect("a schema");
    let update = |old: Value, new: Value| -> Vec<String> {
        check(&Path::default(), &schema, &new, Some(&old)).iter().map(ToString::to_string).collect()
    };
    let (a, b) = ("a: Too long: may not be more than 1 byte", "b: Too long: may not be more than 1 byte");
    assert_eq!(update(json!({"a": "long"}), json!({"a": "long"})), [""; 0]);
    assert_eq!(update(json!({"a": "long"}), json!({"a": "long", "b": "x"})), [""; 0]);
    assert_eq!(update(json!({"a": "long"}), json!({"a": "longer"})), [a]);
    assert_eq!(update(json!({"a": "long"}), json!({"a": "long", "b": "long"})), [b]);
    assert_eq!(
        update(
            json!({"list": [{"k": "x", "v": 1}, {"k": "y", "v": 9}]}),
            json!({"list": [{"k": "y", "v": 9}, {"k": "x", "v": 1}]})
        ),
        [""; 0]
    );
    assert_eq!(
        update(json!({"list": [{"k": "x", "v": 1}]}), json!({"list": [{"k": "x", "v": 2}]})),
        ["list[0].v: Invalid value: 2: list[0].v in body should be greater than or equal to 5"]
    );
    assert_eq!(update(json!({"atomic": [1]}), json!({"atomic": [1, 6]})).len(), 1);
    assert_eq!(update(json!({"atomic": [1]}), json!({"atomic": [1]})), [""; 0]);
}
