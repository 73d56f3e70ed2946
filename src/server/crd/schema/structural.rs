//! A structural schema: the part of OpenAPI v3 that CustomResourceDefinitions speak, compact.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use serde_json::{Map, Value};

/// What `type` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Type {
    /// Nothing, or something that is no type.
    #[default]
    None,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    fn parse(text: &str) -> Self {
        match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => Self::None,
        }
    }

    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// What `additionalProperties` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Additional {
    /// Nothing.
    #[default]
    Unset,
    /// `true` or `false`.
    Allowed(bool),
    /// The schema of their values.
    Schema(Box<Structural>),
}

/// One node of a schema, or of a schema nested in `allOf`, `anyOf`, `oneOf` and `not`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Structural {
    pub(crate) kind: Type,
    pub(crate) nullable: bool,
    pub(crate) preserve_unknown: bool,
    pub(crate) embedded: bool,
    pub(crate) int_or_string: bool,
    /// Ordered by name.
    pub(crate) properties: Vec<(Box<str>, Structural)>,
    pub(crate) additional: Additional,
    pub(crate) items: Option<Box<Structural>>,
    pub(crate) default: Option<Box<Value>>,
    pub(crate) topology: Option<Box<Topology>>,
    pub(crate) values: Option<Box<Values>>,
    pub(crate) rules: Vec<Rule>,
}

/// The `x-kubernetes-list-*` extensions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Topology {
    pub(crate) list_type: Box<str>,
    pub(crate) list_map_keys: Vec<Box<str>>,
}

/// What values must be like, besides their structure.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Values {
    pub(crate) format: Box<str>,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_maximum: bool,
    pub(crate) minimum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) max_length: Option<i64>,
    pub(crate) min_length: Option<i64>,
    pub(crate) pattern: Option<super::pattern::Pattern>,
    pub(crate) max_items: Option<i64>,
    pub(crate) min_items: Option<i64>,
    pub(crate) unique_items: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) enumeration: Vec<Value>,
    pub(crate) max_properties: Option<i64>,
    pub(crate) min_properties: Option<i64>,
    pub(crate) required: Vec<Box<str>>,
    pub(crate) all_of: Vec<Structural>,
    pub(crate) any_of: Vec<Structural>,
    pub(crate) one_of: Vec<Structural>,
    pub(crate) not: Option<Box<Structural>>,
}

/// One of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rule {
    pub(crate) rule: Box<str>,
    pub(crate) message: Box<str>,
    pub(crate) message_expression: Box<str>,
    pub(crate) reason: Box<str>,
    pub(crate) field_path: Box<str>,
    pub(crate) optional_old_self: Option<bool>,
}

impl Structural {
    /// Reads a schema.
    ///
    /// # Errors
    /// It uses what structural schemas do not have.
    pub(crate) fn parse(schema: &Value) -> Result<Self, String> {
        const UNSUPPORTED: [&str; 7] =
            ["id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"];
        let Some(fields) = schema.as_object() else {
            return Err("a schema must be an object".to_owned());
        };
        for name in UNSUPPORTED {
            if fields.get(name).is_some_and(|v| !is_empty(v)) {
                return Err(format!("OpenAPIV3Schema '{}' is not supported", name.trim_start_matches("$s")));
            }
        }
        if fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let why = "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
            return Err(why.to_owned());
        }
        let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or_default();
        Ok(Self {
            kind: Type::parse(text(fields, "type")),
            nullable: flag("nullable"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            properties: properties(fields)?,
            additional: match fields.get("additionalProperties") {
                None | Some(Value::Null) => Additional::Unset,
                Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
                Some(schema) => Additional::Schema(Box::new(Self::parse(schema)?)),
            },
            items: match fields.get("items") {
                None | Some(Value::Null) => None,
                Some(Value::Array(_)) => {
                    return Err("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
                }
                Some(schema) => Some(Box::new(Self::parse(schema)?)),
            },
            default: fields.get("default").filter(|v| !v.is_null()).cloned().map(Box::new),
            topology: topology(fields),
            values: Values::parse(fields)?,
            rules: rules(fields),
        })
    }

    /// The schema of a named field.
    pub(crate) fn property(&self, name: &str) -> Option<&Self> {
        let found = self.properties.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(&self.properties[found].1)
    }

    /// The schema of the values of `additionalProperties`.
    pub(crate) fn additional(&self) -> Option<&Self> {
        match &self.additional {
            Additional::Schema(schema) => Some(schema),
            Additional::Unset | Additional::Allowed(_) => None,
        }
    }

    /// The schema of the value of a field, named or not.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.property(name).or_else(|| self.additional())
    }

    /// `x-kubernetes-list-type`, or an empty text.
    pub(crate) fn list_type(&self) -> &str {
        self.topology.as_ref().map_or("", |t| &t.list_type)
    }

    /// `x-kubernetes-list-map-keys`.
    pub(crate) fn list_map_keys(&self) -> &[Box<str>] {
        self.topology.as_ref().map_or(&[], |t| &t.list_map_keys)
    }

    /// `format`, or an empty text.
    pub(crate) fn format(&self) -> &str {
        self.values.as_ref().map_or("", |v| &v.format)
    }

    /// Whether the schema or one below it has rules.
    pub(crate) fn has_rules(&self) -> bool {
        !self.rules.is_empty()
            || self.items.as_ref().is_some_and(|i| i.has_rules())
            || self.additional().is_some_and(Self::has_rules)
            || self.properties.iter().any(|(_, p)| p.has_rules())
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}

fn text<'v>(fields: &'v Map<String, Value>, name: &str) -> &'v str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn texts(fields: &Map<String, Value>, name: &str) -> Vec<Box<str>> {
    let items = fields.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(Box::from).collect()
}

fn properties(fields: &Map<String, Value>) -> Result<Vec<(Box<str>, Structural)>, String> {
    let all = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
    let mut properties = all
        .map(|(name, schema)| Ok((Box::from(name.as_str()), Structural::parse(schema)?)))
        .collect::<Result<Vec<(Box<str>, Structural)>, String>>()?;
    properties.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(properties)
}

fn topology(fields: &Map<String, Value>) -> Option<Box<Topology>> {
    let topology = Topology {
        list_type: text(fields, "x-kubernetes-list-type").into(),
        list_map_keys: texts(fields, "x-kubernetes-list-map-keys"),
    };
    (topology != Topology::default()).then(|| Box::new(topology))
}

fn rules(fields: &Map<String, Value>) -> Vec<Rule> {
    let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
    let rules = rules.filter_map(Value::as_object).map(|rule| Rule {
        rule: text(rule, "rule").into(),
        message: text(rule, "message").into(),
        message_expression: text(rule, "messageExpression").into(),
        reason: text(rule, "reason").into(),
        field_path: text(rule, "fieldPath").into(),
        optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool),
    });
    rules.collect()
}

impl Values {
    fn parse(fields: &Map<String, Value>) -> Result<Option<Box<Self>>, String> {
        let number = |name: &str| fields.get(name).and_then(Value::as_f64);
        let count = |name: &str| fields.get(name).and_then(Value::as_i64);
        let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or_default();
        let nested = |name: &str| {
            let all = fields.get(name).and_then(Value::as_array).into_iter().flatten();
            all.map(Structural::parse).collect::<Result<Vec<_>, String>>()
        };
        let values = Self {
            format: text(fields, "format").into(),
            maximum: number("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            pattern: Some(text(fields, "pattern"))
                .filter(|p| !p.is_empty())
                .map(super::pattern::Pattern::new),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            unique_items: flag("uniqueItems"),
            multiple_of: number("multipleOf"),
            enumeration: fields.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            required: texts(fields, "required"),
            all_of: nested("allOf")?,
            any_of: nested("anyOf")?,
            one_of: nested("oneOf")?,
            not: match fields.get("not") {
                None | Some(Value::Null) => None,
                Some(schema) => Some(Box::new(Structural::parse(schema)?)),
            },
        };
        Ok((values != Self::default()).then(|| Box::new(values)))
    }
}
