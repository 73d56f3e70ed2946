//! One version of a custom kind, as the generic handlers use it.

use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use serde_json::{Value, json};

use super::columns::Columns;
use super::definition::{Definition, Source, VersionSpec};
use super::schema::CustomSchema;
use crate::api::{GroupVersionKind, Meta, Schema};
use crate::server::cache::Form;
use crate::server::registry::{Clock, Custom, ScalePaths, version_rank};

/// The schemas of a definition's versions, each made ready when it is first needed.
#[derive(Debug)]
pub(super) struct Schemas {
    /// The newest stored form of the definition: older ones would only be kept by this.
    source: RwLock<Source>,
    group: String,
    kind: String,
    storage: String,
    versions: Vec<(String, OnceLock<Result<CustomSchema, String>>)>,
}

impl Schemas {
    pub(super) fn new(source: Source, definition: &Definition) -> Self {
        let versions = definition.spec.versions.iter().map(|v| (v.name.clone(), OnceLock::new()));
        Self {
            source: RwLock::new(source),
            group: definition.spec.group.clone(),
            kind: definition.status.accepted_names.kind.clone(),
            storage: definition.storage_version().map(|v| v.name.clone()).unwrap_or_default(),
            versions: versions.collect(),
        }
    }

    /// Whether these are the schemas of this definition too, as it is stored now.
    pub(super) fn are_of(&self, source: &Source, definition: &Definition) -> bool {
        let mut mine = self.source.write();
        let same = self.kind == definition.status.accepted_names.kind && mine.spec() == source.spec();
        if same {
            *mine = source.clone();
        }
        same
    }

    fn get(&self, version: &str) -> Result<&CustomSchema, String> {
        let found = self.versions.iter().find(|(name, _)| name == version);
        let (name, slot) = found.ok_or_else(|| format!("there is no version {version}"))?;
        let made = slot.get_or_init(|| {
            let (openapi, preserve) = self.source.read().schema(name);
            let kind = GroupVersionKind::new(self.group.clone(), name.clone(), self.kind.clone());
            CustomSchema::compile(&kind, openapi.as_ref(), preserve)
        });
        made.as_ref().map_err(Clone::clone)
    }

    fn prune(&self, version: &str, object: &mut Value) {
        if let Ok(schema) = self.get(version) {
            schema.prune(object);
        }
    }

    fn settle(&self, version: &str, object: &mut Value) {
        if let Ok(schema) = self.get(version) {
            schema.prune(object);
            schema.default(object);
        }
    }

    /// Conversion strategy None: the version is another, and fields that are not known in it are dropped.
    fn convert(&self, version: &str, object: &mut Value) {
        let api_version = format!("{}/{version}", self.group);
        if Meta::of(object).api_version() != api_version {
            object["apiVersion"] = json!(api_version);
            self.prune(version, object);
        }
    }
}

impl Form for Schemas {
    /// Stored objects are pruned and defaulted by the version they were stored in, then converted.
    fn settle(&self, object: &mut Value) -> bool {
        let before = object.clone();
        let stored = Meta::of(object).api_version().rsplit('/').next().unwrap_or_default().to_owned();
        let known = self.versions.iter().any(|(name, _)| *name == stored);
        Schemas::settle(self, if known { &stored } else { &self.storage }, object);
        self.convert(&self.storage, object);
        *object != before
    }
}

/// One version of a custom kind.
pub(super) struct Version {
    name: String,
    schemas: Arc<Schemas>,
    columns: Columns,
    scale: Option<ScalePaths>,
    warnings: Vec<String>,
    /// As `spec.color`.
    selectable: Vec<String>,
    terminating: bool,
    fingerprint: String,
}

impl Version {
    pub(super) fn new(schemas: &Arc<Schemas>, definition: &Definition, spec: &VersionSpec) -> Self {
        let scale = spec.subresources.as_ref().and_then(|s| s.scale.as_ref()).map(|scale| ScalePaths {
            spec_replicas: scale.spec_replicas_path.clone(),
            status_replicas: scale.status_replicas_path.clone(),
            label_selector: scale.label_selector_path.clone().filter(|path| !path.is_empty()),
        });
        let metadata = &definition.metadata;
        Self {
            name: spec.name.clone(),
            schemas: Arc::clone(schemas),
            columns: Columns::new(&spec.additional_printer_columns),
            scale,
            warnings: deprecation(definition, spec).into_iter().collect(),
            selectable: spec.selectable(),
            terminating: definition.is_terminating(),
            fingerprint: format!("{}/{}", metadata.uid, metadata.generation),
        }
    }

    /// The compiled schema.
    pub(super) fn compiled(&self) -> Result<&CustomSchema, String> {
        self.schemas.get(&self.name)
    }
}

/// What is said of a version that is deprecated.
fn deprecation(definition: &Definition, version: &VersionSpec) -> Option<String> {
    if !version.deprecated {
        return None;
    }
    if let Some(text) = &version.deprecation_warning {
        return Some(text.clone());
    }
    let (group, kind) = (&definition.spec.group, &definition.spec.names.kind);
    let mut text = format!("{group}/{} {kind} is deprecated", version.name);
    let rank = |name: &str| version_rank(name);
    let newer = definition.spec.versions.iter().filter(|v| v.served && !v.deprecated);
    let best = newer.filter(|v| rank(&v.name) > rank(&version.name)).max_by_key(|v| rank(&v.name));
    if let Some(best) = best {
        text.push_str(&format!("; use {group}/{} {kind}", best.name));
    }
    Some(text)
}

impl Custom for Version {
    fn schema(&self) -> Result<Schema, String> {
        self.compiled().map(|compiled| compiled.schema().clone())
    }

    fn settle(&self, object: &mut Value) {
        self.schemas.settle(&self.name, object);
    }

    fn storage_version(&self) -> &str {
        &self.schemas.storage
    }

    fn convert_from_stored(&self, object: &mut Value) {
        self.schemas.convert(&self.name, object);
    }

    fn convert_to_stored(&self, object: &mut Value) {
        self.schemas.convert(&self.schemas.storage, object);
    }

    fn columns(&self) -> Value {
        self.columns.definitions()
    }

    fn cells(&self, object: &Value, clock: &Clock) -> Vec<Value> {
        self.columns.cells(object, clock)
    }

    fn scale(&self) -> Option<&ScalePaths> {
        self.scale.as_ref()
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn is_terminating(&self) -> bool {
        self.terminating
    }

    fn document(&self) -> Option<Value> {
        let (openapi, preserve) = self.schemas.source.read().schema(&self.name);
        openapi.map(|mut openapi| {
            if preserve {
                openapi["x-kubernetes-preserve-unknown-fields"] = json!(true);
            }
            if !self.selectable.is_empty() {
                let fields: Vec<Value> = self.selectable.iter().map(|f| json!({"fieldPath": f})).collect();
                openapi["x-kubernetes-selectable-fields"] = fields.into();
            }
            openapi
        })
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(versions: Value) -> (Definition, Source) {
        let crd = json!({"metadata": {"name": "tabs.example.com", "uid": "u", "generation": 1},
            "spec": {"group": "example.com", "names": {"kind": "Tab"}, "versions": versions},
            "status": {"acceptedNames": {"kind": "Tab"}}});
        let bytes = crd.to_string();
        (Definition::parse(bytes.as_bytes()).unwrap(), Source(Arc::new(bytes.into())))
    }

    #[test]
    fn conversion_changes_the_version_alone() {
        let (definition, source) = definition(
            json!([{"name": "v1", "served": true}, {"name": "v2", "served": true, "storage": true}]),
        );
        let schemas = Arc::new(Schemas::new(source.clone(), &definition));
        let [v1, v2] = [0, 1].map(|i| Version::new(&schemas, &definition, &definition.spec.versions[i]));
        assert_eq!((v1.storage_version(), v2.storage_version()), ("v2", "v2"));
        let mut object = json!({"apiVersion": "example.com/v1", "kind": "Tab", "spec": {"a": 1}});
        v1.convert_to_stored(&mut object);
        assert_eq!(object, json!({"apiVersion": "example.com/v2", "kind": "Tab", "spec": {"a": 1}}));
        v1.convert_from_stored(&mut object);
        assert_eq!(object["apiVersion"], "example.com/v1");
        assert!(Form::settle(&*schemas, &mut object), "stored in v1, it is now one of v2");
        assert!(!Form::settle(&*schemas, &mut object), "it is one already");
        assert!(schemas.are_of(&source, &definition));
    }

    #[test]
    fn deprecated_versions_name_a_better_one() {
        let (definition, _) = definition(json!([
            {"name": "v1alpha1", "served": true, "deprecated": true}, {"name": "v1beta1", "served": true},
            {"name": "v1", "served": true, "storage": true}, {"name": "v2", "served": false},
            {"name": "v3", "served": true, "deprecated": true, "deprecationWarning": "stop it"}]));
        let of = |i: usize| deprecation(&definition, &definition.spec.versions[i]);
        assert_eq!(of(0).unwrap(), "example.com/v1alpha1 Tab is deprecated; use example.com/v1 Tab");
        assert_eq!(of(1), None);
        assert_eq!(of(4).unwrap(), "stop it");
    }
}
