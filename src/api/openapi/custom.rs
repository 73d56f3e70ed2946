//! Definitions of custom kinds, from the `openAPIV3Schema` of their definitions.
//!
//! Follows `pkg/controller/openapi` of upstream's apiextensions-apiserver. kubectl reads OpenAPI v2 in its
//! own way, so much of a schema is left out there.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Style, object, operations, schemas};
use crate::api::identity::GroupVersionKind;

/// The types of a custom kind: read when a document is written.
#[derive(Clone)]
pub struct CustomTypes {
    /// Another text whenever `read` gives another schema.
    pub fingerprint: String,
    /// Gives the `openAPIV3Schema`.
    pub read: Arc<dyn Fn() -> Option<Value> + Send + Sync>,
}

impl fmt::Debug for CustomTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CustomTypes({})", self.fingerprint)
    }
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

fn is_set(schema: &Map<String, Value>, flag: &str) -> bool {
    schema.get(flag) == Some(&Value::Bool(true))
}

/// The definition of a custom kind.
pub(super) fn definition(style: Style, kind: &GroupVersionKind, openapi: Option<Value>) -> Value {
    let mut schema = match openapi {
        Some(Value::Object(schema)) => schema,
        _ => Map::new(),
    };
    // More would tell kubectl that there are no other fields.
    let bare = schema.is_empty() || (style == Style::V2 && is_set(&schema, PRESERVE));
    if bare {
        schema = object([("type", json!("object"))]);
    } else {
        if style == Style::V2 {
            schema.remove("x-kubernetes-selectable-fields");
        }
        rewrite(style, &mut schema);
        add_identity(style, &mut schema);
    }
    schema.insert(
        "x-kubernetes-group-version-kind".into(),
        json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]),
    );
    schema.into()
}

fn add_identity(style: Style, schema: &mut Map<String, Value>) {
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    properties["apiVersion"] = json!({"type": "string", "description": API_VERSION});
    properties["kind"] = json!({"type": "string", "description": KIND});
    properties["metadata"] = schemas::refer(style, &operations::meta("ObjectMeta"), METADATA);
}

fn add_embedded(style: Style, schema: &mut Map<String, Value>) {
    add_identity(style, schema);
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        for field in ["kind", "apiVersion"] {
            if !required.iter().any(|r| r == field) {
                required.push(field.into());
            }
        }
    }
}

/// Makes a schema of a definition one of a document, in place.
fn rewrite(style: Style, schema: &mut Map<String, Value>) {
    match style {
        Style::V2 => simplify(schema),
        Style::V3 => unfold(schema),
    }
    for field in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(field) {
            rewrite(style, inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(|inner| rewrite(style, inner));
    }
    let open = style == Style::V2 && is_set(schema, PRESERVE);
    if is_set(schema, EMBEDDED) && !open {
        add_embedded(style, schema);
    }
}

/// Says what an integer or text is in terms that all readers know.
fn unfold(schema: &mut Map<String, Value>) {
    if !is_set(schema, INT_OR_STRING) {
        return;
    }
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    let is_both = |value: Option<&Value>| value == Some(&both);
    if is_both(schema.get("anyOf")) || is_both(schema.get("allOf").and_then(|all| all.get(0)?.get("anyOf"))) {
        return;
    }
    if !schema.contains_key("anyOf") {
        schema.insert("anyOf".into(), both);
    } else if let Some(all) = schema.entry("allOf").or_insert_with(|| json!([])).as_array_mut() {
        all.insert(0, json!({"anyOf": both}));
    }
}

/// Leaves out what kubectl cannot read in OpenAPI v2.
fn simplify(schema: &mut Map<String, Value>) {
    for junctor in ["allOf", "oneOf", "anyOf", "not"] {
        schema.remove(junctor);
    }
    let nullable = schema.remove("nullable") == Some(Value::Bool(true));
    let open = is_set(schema, PRESERVE);
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if nullable || open {
        schema.remove("items");
        schema.remove("properties");
    }
    if nullable || (open && kind == "object") || (kind == "array" && !schema.contains_key("items")) {
        schema.remove("type");
    }
    let may_be_null = |inner: &Value| inner.get("nullable") == Some(&Value::Bool(true));
    if schema.get("additionalProperties").is_some_and(may_be_null) {
        schema.remove("required");
    }
    let nullables: Vec<String> = schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|p| p.iter().filter(|(_, inner)| may_be_null(inner)).map(|(name, _)| name.clone()).collect())
        .unwrap_or_default();
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !nullables.iter().any(|n| name == n.as_str()));
        if required.is_empty() {
            schema.remove("required");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(style: Style, openapi: Value) -> Value {
        definition(style, &GroupVersionKind::new("example.com", "v1", "Tab"), Some(openapi))
    }

    #[test]
    fn a_kind_has_identity_and_metadata() {
        let schema = json!({"type": "object", "description": "A tab.", "properties": {"spec": {"type": "object",
            "properties": {"size": {"x-kubernetes-int-or-string": true}}}}});
        let v3 = of(Style::V3, schema.clone());
        assert_eq!(v3["description"], "A tab.");
        assert_eq!(v3["properties"]["kind"]["type"], "string");
        assert!(v3["properties"]["metadata"]["allOf"][0]["$ref"].as_str().unwrap().ends_with("ObjectMeta"));
        assert_eq!(v3["x-kubernetes-group-version-kind"][0]["kind"], "Tab");
        let size = &v3["properties"]["spec"]["properties"]["size"];
        assert_eq!(size["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
        let v2 = of(Style::V2, schema);
        assert!(v2["properties"]["metadata"]["$ref"].is_string());
        assert_eq!(
            v2["properties"]["spec"]["properties"]["size"],
            json!({"x-kubernetes-int-or-string": true})
        );
    }

    #[test]
    fn kubectl_is_not_told_that_open_objects_are_closed() {
        let root = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"spec": {"type": "object"}}});
        let v2 = of(Style::V2, root.clone());
        assert_eq!((v2.get("properties"), &v2["type"]), (None, &json!("object")));
        assert!(of(Style::V3, root)["properties"]["apiVersion"].is_object());
        let inner = json!({"type": "object", "properties": {"spec": {"type": "object", "nullable": true,
            "properties": {"a": {"type": "string"}}}}, "required": ["spec"]});
        let v2 = of(Style::V2, inner);
        assert_eq!((&v2["properties"]["spec"], v2.get("required")), (&json!({}), None));
    }

    #[test]
    fn embedded_objects_have_identity_too() {
        let schema = json!({"type": "object", "properties": {"template": {"type": "object",
            "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}});
        let template = &of(Style::V3, schema.clone())["properties"]["template"];
        assert_eq!(template["required"], json!(["kind", "apiVersion"]));
        assert!(template["properties"]["metadata"].is_object());
        let template = of(Style::V2, schema)["properties"]["template"].clone();
        assert_eq!((template.get("properties"), template.get("type")), (None, None));
    }
}
