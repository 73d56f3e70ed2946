//! A CustomResourceDefinition as far as serving it needs, without its schemas.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::columns::Declared;

/// Group, version, kind and plural of the definitions themselves.
pub const GROUP: &str = "apiextensions.k8s.io";
/// The plural of definitions.
pub const PLURAL: &str = "customresourcedefinitions";
/// The cache's name of definitions.
pub const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Definition {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) finalizers: Vec<String>,
    pub(super) annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) group: String,
    pub(super) scope: String,
    pub(super) names: Names,
    pub(super) versions: Vec<VersionSpec>,
    pub(super) conversion: Conversion,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Conversion {
    pub(super) strategy: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Names {
    pub(super) plural: String,
    pub(super) singular: String,
    pub(super) short_names: Vec<String>,
    pub(super) kind: String,
    pub(super) list_kind: String,
    pub(super) categories: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct VersionSpec {
    pub(super) name: String,
    pub(super) served: bool,
    pub(super) storage: bool,
    pub(super) deprecated: bool,
    pub(super) deprecation_warning: Option<String>,
    pub(super) subresources: Option<Subresources>,
    pub(super) additional_printer_columns: Vec<Declared>,
    pub(super) selectable_fields: Vec<Selectable>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subresources {
    pub(super) status: Option<Value>,
    pub(super) scale: Option<Scale>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Scale {
    pub(super) spec_replicas_path: String,
    pub(super) status_replicas_path: String,
    pub(super) label_selector_path: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Selectable {
    pub(super) json_path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) accepted_names: Names,
    pub(super) conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Definition {
    pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }

    pub(super) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().flatten().find(|c| c.kind == kind)
    }

    pub(super) fn is_true(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|c| c.status == "True")
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn storage_version(&self) -> Option<&VersionSpec> {
        self.spec.versions.iter().find(|v| v.storage)
    }
}

impl VersionSpec {
    /// The fields that selectors may name, as `spec.color`.
    pub(super) fn selectable(&self) -> Vec<String> {
        self.selectable_fields.iter().map(|f| f.json_path.trim_start_matches('.').to_owned()).collect()
    }
}

/// The stored bytes of a definition, from which its schemas are read when they are needed.
#[derive(Clone, Debug)]
pub(super) struct Source(pub(super) Arc<Bytes>);

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    spec: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inner<'a> {
    #[serde(default)]
    preserve_unknown_fields: Option<bool>,
    #[serde(borrow, default)]
    versions: Vec<InnerVersion<'a>>,
}

#[derive(Deserialize)]
struct InnerVersion<'a> {
    name: String,
    #[serde(borrow, default)]
    schema: Option<InnerSchema<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InnerSchema<'a> {
    #[serde(borrow, default, rename = "openAPIV3Schema")]
    open_api: Option<&'a RawValue>,
}

impl Source {
    /// The JSON of the whole `spec`: it is another whenever anything in it is.
    pub(super) fn spec(&self) -> &str {
        serde_json::from_slice::<Outer<'_>>(&self.0).map_or("", |outer| outer.spec.get())
    }

    /// The `openAPIV3Schema` of a version, and whether unknown fields of all objects are kept.
    pub(super) fn schema(&self, version: &str) -> (Option<Value>, bool) {
        let Ok(inner) = serde_json::from_str::<Inner<'_>>(self.spec()) else { return (None, true) };
        let found = inner.versions.into_iter().find(|v| v.name == version);
        let text = found.and_then(|v| v.schema?.open_api).map(RawValue::get);
        (text.and_then(|text| serde_json::from_str(text).ok()), inner.preserve_unknown_fields == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_are_read_one_at_a_time() {
        let crd = json!({"metadata": {"name": "a.b.c"}, "spec": {"group": "b.c", "preserveUnknownFields": false,
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}, "served": true, "storage": true},
                {"name": "v2", "served": false, "storage": false}]}});
        let source = Source(Arc::new(crd.to_string().into()));
        assert_eq!(source.schema("v1"), (Some(json!({"type": "object"})), false));
        assert_eq!(source.schema("v2"), (None, false));
        assert_eq!(source.schema("v3"), (None, false));
        let definition = Definition::parse(&source.0).unwrap();
        assert_eq!(definition.storage_version().unwrap().name, "v1");
        assert!(source.spec().starts_with('{'));
    }
}
