//! StatefulSets: `ValidateStatefulSet`.

use serde_json::Value;

use super::{rollout, selector, status, template};
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, entries, same, text};
use crate::server::registry::strategy::{Context, Strategy};

const UPDATABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
    "revisionHistoryLimit",
];
const FORBIDDEN: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
    'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// The strategy of StatefulSets.
pub struct StatefulSetStrategy;

impl Strategy for StatefulSetStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate(new);
        let keys = entries(&new["spec"]).chain(entries(&old["spec"])).map(|(key, _)| key);
        let changed = |key: &&str| !UPDATABLE.contains(key) && !same(&new["spec"][*key], &old["spec"][*key]);
        if keys.into_iter().any(|key| changed(&key)) {
            errors.push(FieldError::forbidden(&Path::new("spec"), FORBIDDEN));
        }
        errors
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        _: &Value,
    ) -> Vec<FieldError> {
        let mut errors = Errors::default();
        if subresource == "status" {
            status(&new["status"], &Path::new("status"), &mut errors);
        }
        errors.0
    }
}

fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    let policies = ["OrderedReady", "Parallel"];
    errors.one_of(&path.child("podManagementPolicy"), &spec["podManagementPolicy"], &policies);
    let (strategy, at) = (&spec["updateStrategy"], path.child("updateStrategy"));
    match text(&strategy["type"]) {
        "OnDelete" if !strategy["rollingUpdate"].is_null() => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            let value = strategy["rollingUpdate"].clone();
            errors.push(FieldError::invalid(&at.child("rollingUpdate"), value, detail));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let (rolling, at) = (&strategy["rollingUpdate"], at.child("rollingUpdate"));
            errors.not_negative(&at.child("partition"), &rolling["partition"]);
            rollout::count_or_percent(&rolling["maxUnavailable"], &at.child("maxUnavailable"), &mut errors);
        }
        "" => errors.push(FieldError::required(&at.child("type"), "")),
        other => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(&at.child("type"), other, detail));
        }
    }
    let retention = path.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let value = &spec["persistentVolumeClaimRetentionPolicy"][field];
        errors.optionally_one_of(&retention.child(field), value, &["Delete", "Retain"]);
    }
    selector::of_workload(spec, &path, "statefulset", &mut errors);
    template(spec, &path, &mut errors);
    errors.0
}
