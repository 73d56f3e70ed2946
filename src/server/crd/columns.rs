//! Printer columns of custom kinds: `additionalPrinterColumns` and the name.

use serde::Deserialize;
use serde_json::{Value, json};

use super::jsonpath::JsonPath;
use crate::api::meta::parse_time;
use crate::server::registry::Clock;
use crate::server::registry::printers::UNKNOWN;

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// One of a definition's `additionalPrinterColumns`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Declared {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    format: String,
    description: String,
    priority: i32,
    json_path: String,
}

/// A version's columns, ready for use.
#[derive(Debug)]
pub(super) struct Columns {
    declared: Vec<Declared>,
    /// One a column; none at all if one of them cannot be read: then there is only the name, as upstream.
    paths: Vec<JsonPath>,
}

impl Columns {
    pub(super) fn new(declared: &[Declared]) -> Self {
        let age = || Declared {
            name: "Age".into(),
            kind: "date".into(),
            description: CREATED.into(),
            json_path: ".metadata.creationTimestamp".into(),
            ..Declared::default()
        };
        let declared = if declared.is_empty() { vec![age()] } else { declared.to_vec() };
        let paths: Vec<JsonPath> =
            declared.iter().map_while(|column| JsonPath::parse(&column.json_path).ok()).collect();
        Self { declared: declared[..paths.len()].to_vec(), paths }
    }

    /// The titles.
    pub(super) fn definitions(&self) -> Value {
        let name =
            json!({"name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0});
        let more = self.declared.iter().map(|column| {
            let description = match column.description.as_str() {
                "" => format!("Custom resource definition column (in JSONPath format): {}", column.json_path),
                text => text.to_owned(),
            };
            json!({"name": column.name, "type": column.kind, "format": column.format,
                "description": description, "priority": column.priority})
        });
        std::iter::once(name).chain(more).collect()
    }

    /// The cells of an object's row.
    pub(super) fn cells(&self, object: &Value, clock: &Clock) -> Vec<Value> {
        let name = object["metadata"]["name"].clone();
        let more = self.declared.iter().zip(&self.paths).map(|(column, path)| {
            let found = path.find(object);
            found.first().map_or(Value::Null, |value| cell(&column.kind, value, clock))
        });
        std::iter::once(name).chain(more).collect()
    }
}

fn cell(kind: &str, value: &Value, clock: &Clock) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(text)) => text.clone().into(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(n)) => match n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)) {
            Some(n) => n.into(),
            None => Value::Null,
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) if text.is_empty() => UNKNOWN.into(),
        ("date", Value::String(text)) => match parse_time(text) {
            Some(_) => clock.age(value).into(),
            None => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: &str, path: &str) -> Declared {
        serde_json::from_value(json!({"name": "X", "type": kind, "jsonPath": path})).unwrap()
    }

    fn clock() -> Clock {
        Clock("2026-01-01T00:05:00Z".parse().unwrap())
    }

    #[test]
    fn cells_have_the_type_of_their_column() {
        let object = json!({"metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"n": 3, "f": 2.5, "b": true, "s": "text", "l": ["a", 1], "bad": "yesterday", "none": ""}});
        for (kind, path, wanted) in [
            ("integer", ".spec.n", json!(3)),
            ("integer", ".spec.f", json!(2)),
            ("integer", ".spec.s", Value::Null),
            ("number", ".spec.f", json!(2.5)),
            ("boolean", ".spec.b", json!(true)),
            ("boolean", ".spec.s", Value::Null),
            ("string", ".spec.s", json!("text")),
            ("string", ".spec.n", json!("3")),
            ("string", ".spec.l", json!("[\"a\",1]")),
            ("string", ".spec.missing", Value::Null),
            ("date", ".metadata.creationTimestamp", json!("5m")),
            ("date", ".spec.bad", json!("<invalid>")),
            ("date", ".spec.none", json!("<unknown>")),
        ] {
            let columns = Columns::new(&[column(kind, path)]);
            assert_eq!(columns.cells(&object, &clock()), [json!("n"), wanted], "{kind} {path}");
        }
    }

    #[test]
    fn without_columns_there_is_the_age() {
        let columns = Columns::new(&[]);
        let titles = columns.definitions();
        assert_eq!(
            (&titles[0]["name"], &titles[1]["name"], &titles[1]["type"]),
            (&json!("Name"), &json!("Age"), &json!("date"))
        );
        let titles = Columns::new(&[column("string", ".spec.x")]).definitions();
        assert_eq!(
            titles[1]["description"],
            "Custom resource definition column (in JSONPath format): .spec.x"
        );
    }

    #[test]
    fn columns_end_before_one_that_cannot_be_read() {
        let columns =
            Columns::new(&[column("string", ".a"), column("string", ".b["), column("string", ".c")]);
        assert_eq!(columns.definitions().as_array().unwrap().len(), 2);
        assert_eq!(columns.cells(&json!({}), &clock()).len(), 2);
    }
}
