//! `meta.k8s.io` tables and partial metadata, made of any kind's objects.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::api::Cx;
use super::render;
use crate::api::{FieldError, Path, Status};
use crate::server::registry::{Clock, Column, Resource, printers};

/// Which part of an object goes along with its row: `includeObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    /// `includeObject`.
    ///
    /// # Errors
    /// 400 for another value.
    pub(super) fn of(cx: &Cx) -> Result<Self, Status> {
        match cx.params.get("includeObject") {
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            None | Some("Metadata") => Ok(Self::Metadata),
            Some(other) => {
                let path = Path::new("includeObject");
                let error =
                    FieldError::invalid(&path, other, "must be 'Metadata', 'Object', 'None', or empty");
                Err(Status::bad_request(format!("Unable to convert to Table as requested: {error}")))
            }
        }
    }
}

/// An object's metadata alone.
pub(super) fn partial(object: &Value, version: &str) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object["metadata"]})
}

/// The columns of a built-in kind.
fn columns(resource: &Resource) -> &'static [Column] {
    if resource.columns.is_empty() { printers::DEFAULT } else { resource.columns }
}

/// The titles.
pub(super) fn definitions(resource: &Resource) -> Value {
    if let Some(custom) = &resource.custom {
        return custom.columns();
    }
    columns(resource)
        .iter()
        .map(|c| {
            json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description,
                "priority": c.priority})
        })
        .collect()
}

/// One row of a stored object.
pub(super) fn row(entry: &Resource, stored: Value, version: &str, include: Include, clock: &Clock) -> Value {
    let (stored, cells): (Value, Value) = match &entry.custom {
        Some(custom) => {
            let object = render::view(entry, stored);
            let cells = custom.cells(&object, clock);
            (object, cells.into())
        }
        None => {
            let cells = columns(entry).iter().map(|c| (c.cell)(&stored, clock)).collect();
            (stored, cells)
        }
    };
    match include {
        Include::None => json!({"cells": cells, "object": null}),
        Include::Metadata => json!({"cells": cells, "object": partial(&stored, version)}),
        Include::Object => json!({"cells": cells, "object": render::view(entry, stored)}),
    }
}

/// A table.
pub(super) fn table(version: &str, metadata: Value, definitions: Value, rows: Vec<Value>) -> Value {
    json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows})
}

/// A table of one object.
///
/// # Errors
/// As [`Include::of`].
pub(super) fn of_one(cx: &Cx, version: &str, stored: Value) -> Result<Value, Status> {
    let metadata = json!({"resourceVersion": stored["metadata"]["resourceVersion"]});
    of_many(cx, version, metadata, std::iter::once(stored))
}

/// A table of a list.
///
/// # Errors
/// As [`Include::of`].
pub(super) fn of_many(
    cx: &Cx,
    version: &str,
    metadata: Value,
    stored: impl Iterator<Item = Value>,
) -> Result<Value, Status> {
    let (clock, include) = (Clock(Timestamp::now()), Include::of(cx)?);
    let rows = stored.map(|o| row(&cx.entry, o, version, include, &clock)).collect();
    let titles = if cx.params.flag("noHeaders") { Value::Null } else { definitions(&cx.entry) };
    Ok(table(version, metadata, titles, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::Registry;
    use crate::server::registry::strategy::Plain;
    use std::sync::Arc;

    #[test]
    fn every_kind_prints_an_empty_object() {
        let clock = Clock(Timestamp::now());
        for entry in Registry::builtin(|_| Arc::new(Plain)).entries() {
            let object = json!({"metadata": {"name": "x"}});
            let row = row(entry, object, "v1", Include::Metadata, &clock);
            let definitions = definitions(entry);
            assert_eq!(
                row["cells"].as_array().unwrap().len(),
                definitions.as_array().unwrap().len(),
                "{entry:?}"
            );
            assert!(row["cells"].as_array().unwrap().iter().any(|c| c == "x"), "{entry:?}: {row}");
            assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
        }
    }

    #[test]
    fn the_object_comes_as_asked_for() {
        let clock = Clock(Timestamp::now());
        let registry = Registry::builtin(|_| Arc::new(Plain));
        let entry = registry.find("events.k8s.io", "v1", "events").unwrap();
        let object = json!({"apiVersion": "v1", "metadata": {"name": "x"}, "message": "m"});
        assert_eq!(row(entry, object.clone(), "v1", Include::None, &clock)["object"], Value::Null);
        assert_eq!(row(entry, object, "v1", Include::Object, &clock)["object"]["note"], "m");
    }
}
