//! Server-side apply: merges a configuration into an object, and keeps account of who owns which field.

use serde_json::{Value, json};

use super::fieldset::Set;
use super::managed::{self, without_entries};
use super::managers::{Identity, Manager, Managers, unmanaged};
use super::typed;
use crate::api::status::Cause;
use crate::api::{Meta, MetaMut, Schema, Status};

/// Where client-side apply keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager that took over from client-side apply.
const KUBECTL: &str = "kubectl";
/// Who has the fields of an object that was made before anything was recorded.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Fields of one manager that an apply would change.
struct Conflict {
    identity: Identity,
    fields: Set,
}

/// Server-side apply: `live` is the stored object, `config` the applied configuration (checked, without defaults).
/// The result has its managed fields; it equals `live` if nothing changes. Conflicts are a 409 unless `force`.
/// `subresource` is empty for the object itself; `now` as [`crate::api::meta::now`]. Of a built-in
/// kind's `config`, what the request cannot write is ignored: `status` of the object itself, `spec` of its status.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    subresource: &str,
    now: &str,
) -> Result<Value, Status> {
    if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let api_version = schema.kind().api_version();
    let entries = live.map_or(&[][..], |live| Meta::of(live).managed_fields());
    let mut managers = Managers::from_entries(entries)
        .ok_or_else(|| Status::internal("failed to decode managed fields: an entry is malformed"))?;
    let bare = live.map_or_else(|| json!({}), without_entries);
    let config = &writable(schema, config, subresource);
    if managers.is_empty() {
        let before = Identity::updater(BEFORE_FIRST_APPLY, &api_version, subresource);
        managed::update(schema, None, &bare, &mut managers, before, &api_version, now);
    }
    let identity = Identity::applier(manager, subresource);
    let mut session = Session { schema, live: &bare, config, identity, api_version, now };
    let mut applied = session.run(managers.clone(), force);
    if let (Err(Failure::Conflicts(conflicts)), KUBECTL) = (&applied, manager) {
        applied = session.after_client_side_apply(managers, conflicts);
    }
    let (object, managers) =
        applied.map_err(|failure| failure.into_status(live.unwrap_or(config), schema))?;
    let mut object = object;
    if manager == KUBECTL && Meta::of(&object).annotation(LAST_APPLIED).is_some_and(|a| !a.is_empty()) {
        MetaMut::of(&mut object).set_annotation(LAST_APPLIED, &last_applied(config));
    }
    MetaMut::of(&mut object).set_managed_fields(managers.to_entries());
    Ok(object)
}

/// The configuration without what a request to the subresource cannot write.
fn writable(schema: &Schema, config: &Value, subresource: &str) -> Value {
    let mut config = config.clone();
    let ignored = match subresource {
        "" => "status",
        "status" => "spec",
        _ => return config,
    };
    // A custom kind may have a status that is a field like others.
    if let Some(fields) = config.as_object_mut().filter(|_| schema.tree().is_builtin()) {
        fields.remove(ignored);
    }
    config
}

enum Failure {
    Conflicts(Vec<Conflict>),
    Malformed(typed::Error),
}

impl Failure {
    fn into_status(self, object: &Value, schema: &Schema) -> Status {
        let conflicts = match self {
            Self::Conflicts(conflicts) => conflicts,
            Self::Malformed(error) => {
                let meta = Meta::of(object);
                let name = [meta.namespace(), meta.name()].join("/");
                return Status::bad_request(format!(
                    "failed to create typed patch object ({}; {}): {error}",
                    name.trim_start_matches('/'),
                    schema.kind()
                ));
            }
        };
        let causes: Vec<Cause> = conflicts.iter().flat_map(Conflict::causes).collect();
        let message = match causes.as_slice() {
            [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
            many => {
                let lines: Vec<String> = conflicts.iter().map(Conflict::lines).collect();
                format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
            }
        };
        Status::apply_conflict(message, causes)
    }
}

impl Conflict {
    fn causes(&self) -> Vec<Cause> {
        let cause = |field| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {}", self.identity),
            field,
        };
        self.fields.paths().into_iter().map(cause).collect()
    }

    fn lines(&self) -> String {
        let paths: String = self.fields.paths().iter().map(|path| format!("\n- {path}")).collect();
        format!("conflicts with {}:{paths}", self.identity)
    }
}

struct Session<'a> {
    schema: &'a Schema,
    /// Without entries.
    live: &'a Value,
    config: &'a Value,
    identity: Identity,
    api_version: String,
    now: &'a str,
}

type Applied = Result<(Value, Managers), Failure>;

impl Session<'_> {
    fn run(&mut self, mut managers: Managers, force: bool) -> Applied {
        let root = Some(self.schema.root());
        let merged =
            typed::merge(root, Some(self.live), Some(self.config), "").map_err(Failure::Malformed)?;
        let merged = merged.unwrap_or_else(|| json!({}));
        let before = managers.get(&self.identity).cloned();
        let last = before.as_ref().map(|m| m.fields.clone()).unwrap_or_default();
        managers.put(Manager {
            identity: self.identity.clone(),
            api_version: self.api_version.clone(),
            time: before.and_then(|m| m.time),
            fields: typed::fields_of(root, self.config).below,
        });
        let object = if last.is_empty() { merged } else { self.prune(merged, &managers, &last) };
        let difference = typed::compare(root, Some(self.live), Some(&object));
        let conflicts = self.conflicts(&managers, &difference);
        if !force && !conflicts.is_empty() {
            return Err(Failure::Conflicts(conflicts));
        }
        managed::take(&mut managers, &difference, Some(&self.identity));
        let changed = object != *self.live;
        for mine in managers.iter_mut().filter(|m| m.identity == self.identity) {
            mine.fields = mine.fields.difference(&unmanaged());
            if changed || mine.time.is_none() {
                mine.time = Some(self.now.to_owned());
            }
        }
        managers.drop_empty();
        Ok((object, managers))
    }

    fn conflicts(&self, managers: &Managers, difference: &typed::Difference) -> Vec<Conflict> {
        let changed = difference.modified.below.union(&difference.added.below);
        let others = managers.iter().filter(|m| m.identity != self.identity);
        let conflicts = others
            .map(|m| Conflict { identity: m.identity.clone(), fields: m.fields.intersection(&changed) });
        let mut conflicts: Vec<Conflict> = conflicts.filter(|c| !c.fields.is_empty()).collect();
        conflicts.sort_by_key(|c| c.identity.to_string());
        conflicts
    }

    /// Removes what this manager applied last and no longer applies, unless another manager owns it.
    fn prune(&self, merged: Value, managers: &Managers, last: &Set) -> Value {
        let root = Some(self.schema.root());
        let named = |set: &Set| typed::with_named_fields(root, set);
        let fields = |value: &Value| named(&typed::fields_of(root, value).below);
        let remove = |set: &Set| typed::without(root, &merged, set).unwrap_or_else(|| json!({}));
        let last = named(last);
        let all = fields(&merged);
        // What others own, or this manager applies anew, comes back.
        let owned = managers.iter().fold(Set::default(), |owned, m| owned.union(&m.fields));
        let pruned = remove(&last);
        let pruned = remove(&all.difference(&fields(&pruned).union(&named(&owned))));
        // What this manager never had comes back.
        remove(&all.difference(&fields(&pruned)).intersection(&last))
    }

    /// The first server-side apply of kubectl takes over what its client-side apply set: conflicts about fields
    /// that are still as it applied them are none.
    fn after_client_side_apply(&mut self, managers: Managers, conflicts: &[Conflict]) -> Applied {
        let allowed = self.applied_by_client().unwrap_or_default();
        let left: Vec<Conflict> = conflicts
            .iter()
            .map(|c| Conflict { identity: c.identity.clone(), fields: c.fields.difference(&allowed) })
            .filter(|c| !c.fields.is_empty())
            .collect();
        if left.is_empty() { self.run(managers, true) } else { Err(Failure::Conflicts(left)) }
    }

    fn applied_by_client(&self) -> Option<Set> {
        let annotation = Meta::of(self.live).annotation(LAST_APPLIED)?;
        let last: Value = serde_json::from_str(annotation).ok()?;
        if Meta::of(&last).api_version() != self.api_version {
            return None;
        }
        let root = Some(self.schema.root());
        let difference = typed::compare(root, Some(&last), Some(self.live));
        let changed =
            difference.modified.below.union(&difference.added.below).union(&difference.removed.below);
        Some(typed::fields_of(root, &last).below.difference(&changed))
    }
}

/// The configuration as client-side apply would note it.
fn last_applied(config: &Value) -> String {
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    format!("{config}\n")
}
