//! Whether an applied configuration has only fields that its kind has, of the types they have: server-side apply
//! cannot tell who owns anything else. The words are those of sigs.k8s.io/structured-merge-diff.

use serde_json::Value;

use super::fieldset;
use crate::api::schema::{ListKind, Node, NodeRef};
use crate::api::{Meta, Reason, Schema, Status};

/// Checks a configuration against its kind's schema.
///
/// # Errors
/// 500, as upstream, with all that is wrong.
pub fn declared(schema: &Schema, config: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    check(schema.root(), config, "", &mut errors);
    let problem = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let (meta, kind) = (Meta::of(config), schema.kind());
    let message = format!(
        "failed to create typed patch object ({}/{}; {}/{}, Kind={}): {problem}",
        meta.namespace(),
        meta.name(),
        kind.group,
        kind.version,
        kind.kind
    );
    Err(Status::new(500, Reason::Unknown, message))
}

fn check(node: NodeRef<'_>, value: &Value, path: &str, errors: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    let mut wrong = |problem: String| errors.push(format!("{path}: {problem}"));
    match node.node() {
        Node::Object(_) | Node::Map { .. } => match value {
            Value::Object(fields) => {
                let keyed = matches!(node.node(), Node::Map { .. });
                for (key, value) in fields {
                    let path = format!("{path}.{key}");
                    match node.child(key) {
                        Some(child) => check(child, value, &path, errors),
                        None if keyed || node.is_open() => {}
                        None => errors.push(format!("{path}: field not declared in schema")),
                    }
                }
            }
            other => wrong(format!("expected map, got &{{{}}}", go(other))),
        },
        Node::List(_) => match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(child) = node.item() {
                        check(child, item, &format!("{path}{}", element(node, index, item)), errors);
                    }
                }
            }
            other => wrong(format!("expected list, got &{{{}}}", go(other))),
        },
        Node::String { .. } if !value.is_string() => {
            wrong(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go(value)));
        }
        Node::Bool if !value.is_boolean() => wrong(format!("expected boolean, got {}", go_type(value))),
        Node::Integer { .. } | Node::Number if !value.is_number() => {
            wrong(format!("expected numeric (int or float), got {}", go_type(value)));
        }
        _ => {}
    }
}

/// How an item of a list is named in a path.
fn element(list: NodeRef<'_>, index: usize, item: &Value) -> String {
    match list.list_kind() {
        Some(ListKind::Set) if !item.is_object() && !item.is_array() => {
            fieldset::show(&fieldset::value(item))
        }
        Some(ListKind::Map) => {
            let keys = list.list_keys().filter_map(|key| Some((key, item.get(key)?.clone())));
            fieldset::show(&fieldset::keys(&keys.collect()))
        }
        _ => format!("[{index}]"),
    }
}

/// A value as Go's `%v` prints it.
pub fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}:{}", go(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

/// The type of a value as Go names it.
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GroupVersionKind, Schemas};
    use serde_json::json;

    #[test]
    fn what_is_not_declared_is_named_by_path() {
        let schema = Schemas::builtin().get(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap();
        let mut config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"},
            "spec": {"replicas": 1, "template": {"spec": {"nodeSelector": {"any": "key"},
                "containers": [{"name": "c", "resources": {"limits": {"cpu": 1}}}]}}}});
        assert_eq!(declared(&schema, &config), Ok(()));
        config["spec"]["template"]["spec"]["containers"][0]["imag"] = json!("x");
        let status = declared(&schema, &config).unwrap_err();
        assert_eq!(
            (status.code, &*status.message),
            (
                500,
                "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): \
                .spec.template.spec.containers[name=\"c\"].imag: field not declared in schema"
            )
        );
        config["spec"]["replicas"] = json!("x");
        config["spec"]["paused"] = json!(["x"]);
        config["spec"]["strategy"] = json!("x");
        let message = declared(&schema, &config).unwrap_err().message;
        for line in [
            "(n/d; apps/v1, Kind=Deployment): errors:\n  .spec",
            "\n  .spec.replicas: expected numeric (int or float), got string\n",
            ".spec.paused: expected boolean, got []interface {}\n",
            ".spec.strategy: expected map, got &{x}\n",
        ] {
            assert!(message.contains(line), "{line} in {message}");
        }
    }

    #[test]
    fn values_look_as_go_prints_them() {
        assert_eq!(go(&json!({"b": [1, "x", null], "a": {"c": true}})), "map[a:map[c:true] b:[1 x <nil>]]");
    }
}
