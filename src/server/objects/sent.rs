//! The options of a request as objects of `meta/v1`, for webhooks and policies.

use serde_json::{Map, Value, json};

use super::delete::{DeleteOptions, Propagation};
use super::{Review, WriteOptions};
use crate::api::FieldValidation;
use crate::server::admission::{Operation, Sent};

impl Sent for Review<'_> {
    fn options(&self) -> Value {
        match self.operation {
            Operation::Connect => Value::Null,
            Operation::Create => write_options("CreateOptions", self.write, false),
            Operation::Update if self.write.patch => {
                write_options("PatchOptions", self.write, self.write.force)
            }
            Operation::Update => write_options("UpdateOptions", self.write, false),
            Operation::Delete => delete_options(self.delete, self.write.dry_run),
        }
    }
}

fn start(kind: &str, dry_run: bool) -> Map<String, Value> {
    let mut options = Map::new();
    options.insert("kind".into(), json!(kind));
    options.insert("apiVersion".into(), json!("meta.k8s.io/v1"));
    if dry_run {
        options.insert("dryRun".into(), json!(["All"]));
    }
    options
}

fn write_options(kind: &str, write: &WriteOptions, force: bool) -> Value {
    let mut options = start(kind, write.dry_run);
    if force {
        options.insert("force".into(), json!(true));
    }
    if write.named {
        options.insert("fieldManager".into(), json!(write.field_manager));
    }
    let validation = match write.field_validation {
        FieldValidation::Strict => Some("Strict"),
        FieldValidation::Ignore => Some("Ignore"),
        FieldValidation::Warn => None,
    };
    if let Some(validation) = validation {
        options.insert("fieldValidation".into(), json!(validation));
    }
    Value::Object(options)
}

fn delete_options(delete: Option<&DeleteOptions>, dry_run: bool) -> Value {
    let mut options = start("DeleteOptions", dry_run);
    let Some(delete) = delete else { return Value::Object(options) };
    if let Some(seconds) = delete.grace_period_seconds {
        options.insert("gracePeriodSeconds".into(), json!(seconds));
    }
    let mut preconditions = Map::new();
    for (field, value) in [("uid", &delete.uid), ("resourceVersion", &delete.resource_version)] {
        if let Some(value) = value {
            preconditions.insert(field.into(), json!(value));
        }
    }
    if !preconditions.is_empty() {
        options.insert("preconditions".into(), Value::Object(preconditions));
    }
    if let Some(propagation) = delete.propagation {
        let name = match propagation {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        };
        options.insert("propagationPolicy".into(), json!(name));
    }
    Value::Object(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_shown_as_their_kind() {
        let write = WriteOptions {
            dry_run: true,
            field_manager: "m".into(),
            named: true,
            force: true,
            patch: true,
            field_validation: FieldValidation::Strict,
        };
        let delete = DeleteOptions {
            grace_period_seconds: Some(0),
            propagation: Some(Propagation::Foreground),
            uid: Some("u".into()),
            ..DeleteOptions::default()
        };
        let of = |operation, delete| {
            Review { operation, subresource: None, name: "x", write: &write, delete }.options()
        };
        let shared = json!({"apiVersion": "meta.k8s.io/v1", "dryRun": ["All"]});
        let with = |more: Value| {
            let mut all = shared.clone();
            json_patch::merge(&mut all, &more);
            all
        };
        let named = json!({"fieldManager": "m", "fieldValidation": "Strict"});
        let mut create = with(named.clone());
        create["kind"] = json!("CreateOptions");
        assert_eq!(of(Operation::Create, None), create);
        let mut patch = with(named);
        (patch["kind"], patch["force"]) = (json!("PatchOptions"), json!(true));
        assert_eq!(of(Operation::Update, None), patch);
        let deleted = json!({"kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"},
            "propagationPolicy": "Foreground"});
        assert_eq!(of(Operation::Delete, Some(&delete)), with(deleted));
        assert_eq!(of(Operation::Connect, None), Value::Null);
    }
}
