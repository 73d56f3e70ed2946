//! The entries of `metadata.managedFields`: who set which fields, by which operation.

use serde_json::{Map, Value, json};

use super::fieldset::Set;
use crate::api::field::quote;

/// The most entries of updates that are kept apart.
const MAX_UPDATERS: usize = 10;
/// Who has the fields of the updates that are no longer kept apart.
const OLD_UPDATES: &str = "ancient-changes";

/// Who set fields, and how. Appliers are one whatever version they apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) manager: String,
    pub(super) applied: bool,
    /// Empty for appliers.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Identity {
    pub(super) fn updater(manager: &str, api_version: &str, subresource: &str) -> Self {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        Self {
            manager: manager.to_owned(),
            applied: false,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    pub(super) fn applier(manager: &str, subresource: &str) -> Self {
        Self { applied: true, api_version: String::new(), ..Self::updater(manager, "", subresource) }
    }
}

impl std::fmt::Display for Identity {
    /// As conflicts name managers.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&quote(&self.manager))?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {}", quote(&self.subresource))?;
        }
        if !self.applied {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manager {
    pub(super) identity: Identity,
    /// The version of the fields' names.
    pub(super) api_version: String,
    pub(super) time: Option<String>,
    pub(super) fields: Set,
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Managers(Vec<Manager>);

impl Managers {
    /// Reads entries; `None` if one is malformed.
    pub(super) fn from_entries(entries: &[Value]) -> Option<Self> {
        let managers = entries.iter().map(|entry| {
            let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
            let applied = match text("operation") {
                "Apply" => true,
                "Update" => false,
                _ => return None,
            };
            let api_version = text("apiVersion");
            if api_version.is_empty() || text("fieldsType") != "FieldsV1" {
                return None;
            }
            let identity = Identity {
                manager: text("manager").to_owned(),
                applied,
                api_version: if applied { String::new() } else { api_version.to_owned() },
                subresource: text("subresource").to_owned(),
            };
            Some(Manager {
                identity,
                api_version: api_version.to_owned(),
                time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
                fields: entry.get("fieldsV1").map(Set::from_value).unwrap_or_default(),
            })
        });
        managers.collect::<Option<_>>().map(Self)
    }

    /// Writes the entries: appliers first, then by time and name.
    pub(super) fn to_entries(&self) -> Vec<Value> {
        let mut managers: Vec<&Manager> = self.0.iter().collect();
        managers.sort_by_key(|m| {
            let id = &m.identity;
            (!id.applied, m.time.clone(), id.manager.clone(), m.api_version.clone(), id.subresource.clone())
        });
        managers.into_iter().map(Manager::to_entry).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, identity: &Identity) -> Option<&Manager> {
        self.0.iter().find(|m| m.identity == *identity)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Manager> {
        self.0.iter_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Manager> {
        self.0.iter()
    }

    /// Puts an entry in the place of the one of the same identity.
    pub(super) fn put(&mut self, manager: Manager) {
        match self.0.iter_mut().find(|m| m.identity == manager.identity) {
            Some(mine) => *mine = manager,
            None => self.0.push(manager),
        }
    }

    /// Drops the entries without fields.
    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|m| !m.fields.is_empty());
    }

    /// Unites the oldest entries of updates until no more than ten are left.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<Manager> = self.0.iter().filter(|m| !m.identity.applied).cloned().collect();
        if updaters.len() <= MAX_UPDATERS {
            return;
        }
        updaters.sort_by(|a, b| (&a.time, &a.identity.manager).cmp(&(&b.time, &b.identity.manager)));
        let mut count = updaters.len();
        let mut first_of_version: Vec<Manager> = Vec::new();
        for updater in updaters {
            if count <= MAX_UPDATERS {
                break;
            }
            let Some(first) = first_of_version.iter().find(|f| f.api_version == updater.api_version) else {
                first_of_version.push(updater);
                continue;
            };
            let bucket = Identity::updater(OLD_UPDATES, &updater.api_version, "");
            if self.get(&bucket).is_none() {
                let first = first.identity.clone();
                self.0.iter_mut().filter(|m| m.identity == first).for_each(|m| m.identity = bucket.clone());
            }
            let united = self.get(&bucket).map(|b| b.fields.union(&updater.fields)).unwrap_or_default();
            self.0.retain(|m| m.identity != updater.identity);
            self.put(Manager { identity: bucket, fields: united, ..updater });
            count -= 1;
        }
    }
}

impl Manager {
    fn to_entry(&self) -> Value {
        let mut entry = Map::new();
        let operation = if self.identity.applied { "Apply" } else { "Update" };
        let mut put = |field: &str, value: Value| {
            entry.insert(field.to_owned(), value);
        };
        put("apiVersion", json!(self.api_version));
        put("fieldsType", json!("FieldsV1"));
        put("fieldsV1", self.fields.to_value());
        put("manager", json!(self.identity.manager));
        put("operation", json!(operation));
        if !self.identity.subresource.is_empty() {
            put("subresource", json!(self.identity.subresource));
        }
        if let Some(time) = &self.time {
            put("time", json!(time));
        }
        Value::Object(entry)
    }
}

/// Fields that nobody manages: identity and what the server sets.
pub(super) fn unmanaged() -> Set {
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let below: Map<String, Value> = metadata.iter().map(|f| (format!("f:{f}"), json!({}))).collect();
    let mut fields = json!({"f:apiVersion": {}, "f:kind": {}, "f:metadata": below});
    fields["f:metadata"]["."] = json!({});
    Set::from_value(&fields)
}
