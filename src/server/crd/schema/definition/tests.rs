//! Each check with upstream's text and path.

use serde_json::{Value, json};

use super::check;

fn spec(schema: &Value) -> Value {
    json!({"group": "example.com", "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]})
}

fn errors(schema: &Value) -> Vec<String> {
    check(&spec(schema), None).iter().map(ToString::to_string).collect()
}

/// What is wrong with the property `x`; paths without what is before it.
fn of_x(schema: &Value) -> Vec<String> {
    let errors = errors(&json!({"type": "object", "properties": {"x": schema}}));
    errors.into_iter().map(|e| e.replace("spec.validation.openAPIV3Schema.properties[x]", "x")).collect()
}

#[test]
fn schemas_must_be_structural() {
    let table = [
        (json!({"type": "string"}), vec![]),
        (json!({}), vec!["x.type: Required value: must not be empty for specified object fields"]),
        (json!({"type": "array"}), vec!["x.items: Required value: must be specified"]),
        (
            json!({"type": "array", "items": {}}),
            vec!["x.items.type: Required value: must not be empty for specified array items"],
        ),
        (json!({"x-kubernetes-int-or-string": true}), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            vec![],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "a"}]}),
            vec![],
        ),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
            vec![
                "x.x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
            ],
        ),
        (
            json!({"type": "string", "anyOf": [{"type": "string"}]}),
            vec!["x.anyOf[0].type: Forbidden: must be empty to be structural"],
        ),
        (
            json!({"type": "object", "not": {"description": "a", "nullable": true}}),
            vec![
                "x.not.description: Forbidden: must be empty to be structural",
                "x.not.nullable: Forbidden: must be false to be structural",
            ],
        ),
        (
            json!({"type": "string", "pattern": "("}),
            vec![
                "x.pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            vec![
                "x.type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true",
            ],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            vec![
                "x.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        ),
    ];
    for (schema, wanted) in table {
        assert_eq!(of_x(&schema), wanted, "{schema}");
    }
    let roots = [
        (
            json!({"type": "object", "allOf": [{"properties": {"a": {"minimum": 1}}}]}),
            vec![
                "spec.validation.openAPIV3Schema.properties[a]: Required value: because it is defined in spec.validation.openAPIV3Schema.allOf[0].properties[a]",
            ],
        ),
        (
            json!({"type": "object", "oneOf": [{"items": {"pattern": "a"}}]}),
            vec![
                "spec.validation.openAPIV3Schema.items: Required value: because it is defined in spec.validation.openAPIV3Schema.oneOf[0].items",
            ],
        ),
        (
            json!({}),
            vec!["spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root"],
        ),
        (
            json!({"type": "string"}),
            vec![
                "spec.validation.openAPIV3Schema.type: Invalid value: \"string\": must be object at the root",
            ],
        ),
        (
            json!({"type": "object", "nullable": true}),
            vec!["spec.validation.openAPIV3Schema.nullable: Forbidden: nullable cannot be true at the root"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            vec![
                "spec.validation.openAPIV3Schema.additionalProperties: Forbidden: must not be used at the root",
            ],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "pattern": "a"}}}}}),
            vec![],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            vec![
                "spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "integer"}}}),
            vec![
                "spec.validation.openAPIV3Schema.properties[kind].type: Invalid value: \"integer\": must be string",
            ],
        ),
    ];
    for (schema, wanted) in roots {
        assert_eq!(errors(&schema), wanted, "{schema}");
    }
}

#[test]
fn what_openapi_has_besides_is_refused() {
    let table = [
        (
            json!({"type": "foo"}),
            vec![
                "x.type: Unsupported value: \"foo\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            vec![
                "x.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            vec![
                "x.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": true}),
            vec![],
        ),
        (json!({"type": "string", "$ref": "#/a"}), vec!["x.$ref: Forbidden: $ref is not supported"]),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            vec!["x.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"],
        ),
        (
            json!({"type": "string", "x-kubernetes-map-type": "atomic"}),
            vec!["x.type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified"],
        ),
        (
            json!({"type": "object", "x-kubernetes-map-type": "x"}),
            vec![
                "x.x-kubernetes-map-type: Unsupported value: \"x\": supported values: \"atomic\", \"granular\"",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "set"}),
            vec!["x.type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified"],
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}),
            vec![
                "x.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "x"}),
            vec![
                "x.x-kubernetes-list-type: Unsupported value: \"x\": supported values: \"atomic\", \"set\", \"map\"",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]}),
            vec![
                "x.items.type: Invalid value: \"string\": must be object if parent array's x-kubernetes-list-type is map",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "a"]}),
            vec![
                "x.x-kubernetes-list-map-keys: Invalid value: [\"a\",\"a\"]: must not contain duplicate entries",
                "x.items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                "x.items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}, "x-kubernetes-list-type": "map"}),
            vec![
                "x.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-map-keys": ["a"]}),
            vec![
                "x.x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty",
            ],
        ),
    ];
    for (schema, wanted) in table {
        assert_eq!(of_x(&schema), wanted, "{schema}");
    }
    let metadata = json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "a"}}}}});
    assert_eq!(
        errors(&metadata),
        [
            "spec.validation.openAPIV3Schema.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata"
        ]
    );
}

#[test]
fn defaults_must_be_valid() {
    let table = [
        (json!({"type": "string", "default": "a"}), vec![]),
        (
            json!({"type": "string", "default": 1}),
            vec![
                "x.default: Invalid value: \"integer\": x.default in body must be of type string: \"integer\"",
            ],
        ),
        (
            json!({"type": "integer", "minimum": 1, "default": 0}),
            vec!["x.default: Invalid value: 0: x.default in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "default": {"a": "b", "c": 1}}),
            vec!["x.default: Invalid value: {\"a\":\"b\",\"c\":1}: must not have unknown fields"],
        ),
        (
            json!({"type": "string", "default": "b", "x-kubernetes-validations": [{"rule": "self == 'a'"}]}),
            vec!["x.default: Invalid value: \"b\": failed rule: self == 'a'"],
        ),
    ];
    for (schema, wanted) in table {
        // Names of values are relative to the default here, as upstream's are.
        let found: Vec<String> =
            of_x(&schema).into_iter().map(|e| e.replace(":  in body", ": x.default in body")).collect();
        assert_eq!(found, wanted, "{schema}");
    }
}

fn rule(rule: &Value) -> Vec<String> {
    of_x(&json!({"type": "string", "maxLength": 10, "x-kubernetes-validations": [rule]}))
}

#[test]
fn rules_must_be_written_well() {
    let table = [
        (json!({"rule": "self == 'a'"}), vec![]),
        (
            json!({"rule": " "}),
            vec!["x.x-kubernetes-validations[0].rule: Required value: rule is not specified"],
        ),
        (
            json!({"rule": "true", "message": " "}),
            vec![
                "x.x-kubernetes-validations[0].message: Invalid value: \" \": must be non-empty if specified",
            ],
        ),
        (
            json!({"rule": "true", "message": "a\nb"}),
            vec![
                "x.x-kubernetes-validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
            ],
        ),
        (
            json!({"rule": "true\n&& true"}),
            vec![
                "x.x-kubernetes-validations[0].message: Required value: message must be specified if rule contains line breaks",
            ],
        ),
        (
            json!({"rule": "true", "messageExpression": " "}),
            vec![
                "x.x-kubernetes-validations[0].messageExpression: Required value: messageExpression must be non-empty if specified",
            ],
        ),
        (
            json!({"rule": "true", "reason": "Nope"}),
            vec![
                "x.x-kubernetes-validations[0].reason: Unsupported value: \"Nope\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
            ],
        ),
        (
            json!({"rule": "true", "fieldPath": ".nope"}),
            vec!["x.x-kubernetes-validations[0].fieldPath: Invalid value: \".nope\": must be a valid path"],
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            vec![
                "x.x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
            ],
        ),
        (
            json!({"rule": "self == 1"}),
            vec![
                "x.x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:\"self == 1\", Message:\"\", MessageExpression:\"\", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:\"\", OptionalOldSelf:(*bool)(nil)}: compilation failed: ERROR: <input>:1:6: found no matching overload for '_==_' applied to '(string, int)'\n | self == 1\n | .....^",
            ],
        ),
    ];
    for (given, wanted) in table {
        assert_eq!(rule(&given), wanted, "{given}");
    }
    assert!(rule(&json!({"rule": "self"}))[0].ends_with("cel expression must evaluate to a bool"));
    assert!(
        rule(&json!({"rule": "true", "messageExpression": "1"}))[0]
            .ends_with("messageExpression must evaluate to a string")
    );
}

#[test]
fn transition_rules_need_something_to_compare_with() {
    let items = json!({"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]});
    let found = of_x(&json!({"type": "array", "maxItems": 10, "items": items}));
    assert_eq!(
        found,
        [
            "x.items.x-kubernetes-validations[0].rule: Invalid value: \"self >= oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within x"
        ]
    );
    assert!(of_x(&json!({"type": "object", "maxProperties": 5, "additionalProperties": items})).is_empty());
    let item = json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": "self == oldSelf"}]});
    let list = json!({"type": "array", "maxItems": 10, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item});
    assert!(of_x(&list).is_empty());
}

#[test]
fn rules_must_not_cost_too_much() {
    let strings = |bounds: Value| {
        let mut list = json!({"type": "array", "items": {"type": "string"},
            "x-kubernetes-validations": [{"rule": "self.all(x, self.exists(y, x == y))"}]});
        list.as_object_mut().expect("an object").extend(bounds.as_object().expect("an object").clone());
        list
    };
    let hint = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    assert_eq!(
        of_x(&strings(json!({})))[0],
        format!(
            "x.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {hint}"
        )
    );
    let bounded = json!({"maxItems": 10, "items": {"type": "string", "maxLength": 20}});
    assert!(of_x(&strings(bounded)).is_empty());
    // Accepted once, a schema is not refused for its cost later; but the total is.
    let spec = spec(&json!({"type": "object", "properties": {"x": strings(json!({}))}}));
    let again: Vec<String> = check(&spec, Some(&spec)).iter().map(ToString::to_string).collect();
    assert!(again.iter().all(|e| !e.contains("estimated rule cost exceeds")), "{again:?}");
    assert!(again[0].contains("contributed to estimated rule cost total exceeding cost limit"), "{again:?}");
}

#[test]
fn versions_have_paths_of_their_own() {
    let spec = json!({"versions": [
        {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}},
        {"name": "v2", "schema": {"openAPIV3Schema": {"type": "string"}}, "subresources": {"status": {}}},
    ]});
    let errors: Vec<String> = check(&spec, None).iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "spec.versions[1].schema.openAPIV3Schema.type: Invalid value: \"string\": only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
            "spec.versions[1].schema.openAPIV3Schema.type: Invalid value: \"string\": must be object at the root",
        ]
    );
}

#[test]
fn what_does_nothing_is_warned_about() {
    let spec = spec(&json!({"type": "object", "properties": {
        "a": {"type": "string", "format": "nope"},
        "b": {"type": "string", "format": "date-time", "default": {"format": "x"}},
        "c": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object", "x-kubernetes-map-type": "atomic"}},
    }}));
    assert_eq!(
        super::warnings::of(&spec, None),
        [
            "unrecognized format \"nope\"",
            "x-kubernetes-list-type: set for items of type \"object\" is not supported by server-side apply or CEL validation rules",
        ]
    );
    assert!(super::warnings::of(&spec, Some(&spec)).is_empty());
}
