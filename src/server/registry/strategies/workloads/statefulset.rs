//! StatefulSets: `ValidateStatefulSet`, `pkg/registry/apps/statefulset/strategy.go`.

use serde_json::Value;

use super::rollout::{at_most_all, count_or_percent, is_zero};
use super::{Selection, available_are_ready, changed, collisions, counts, lasts, selects, selects_template};
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, entries, indexed, same, text};
use crate::server::registry::strategies::pod::{validate, warnings};
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
        spec(&object["spec"])
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors(spec(&new["spec"]));
        let mut keys = entries(&new["spec"]).chain(entries(&old["spec"])).map(|(key, _)| key);
        if keys.any(|key| !UPDATABLE.contains(&key) && !same(&new["spec"][key], &old["spec"][key])) {
            errors.push(FieldError::forbidden(&Path::new("spec"), FORBIDDEN));
        }
        errors.0
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        const PARTS: [&str; 4] = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        let mut errors = Errors::default();
        if subresource == "status" {
            let all = [&["replicas"], PARTS.as_slice(), &["observedGeneration", "collisionCount"]].concat();
            counts(&new["status"], &all, &PARTS, &mut errors);
            available_are_ready(&new["status"], "status.readyReplicas", &mut errors);
            collisions(new, old, &mut errors);
        }
        errors.0
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let mut all = warnings::of_template(&spec["template"], &path.child("template"));
        for (claim, path) in indexed(&spec["volumeClaimTemplates"], &path.child("volumeClaimTemplates")) {
            warnings::claim(&claim["spec"], &path.child("spec"), &mut all);
        }
        if spec["revisionHistoryLimit"].as_i64().is_some_and(|limit| limit < 0) {
            let message = "a negative value retains all historical revisions; a value >= 0 is recommended";
            all.push(format!("{}: {message}", path.child("revisionHistoryLimit")));
        }
        all
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        if changed(new, old) { self.warnings(new) } else { Vec::new() }
    }
}

/// `ValidateStatefulSetSpec`. Of the template only what surrounds the pod's spec is checked, also upstream.
fn spec(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    let (policy, at) = (&spec["podManagementPolicy"], path.child("podManagementPolicy"));
    if errors.required(&at, policy) && !matches!(text(policy), "OrderedReady" | "Parallel") {
        errors.push(FieldError::invalid(&at, policy.clone(), "must be 'OrderedReady' or 'Parallel'"));
    }
    update_strategy(&spec["updateStrategy"], &path.child("updateStrategy"), &mut errors);
    let retention = path.child("persistentVolumeClaimRetentionPolicy");
    if !spec["persistentVolumeClaimRetentionPolicy"].is_null() {
        for field in ["whenDeleted", "whenScaled"] {
            let value = text(&spec["persistentVolumeClaimRetentionPolicy"][field]);
            let policies = ["Retain", "Delete"];
            if !policies.contains(&value) {
                errors.push(FieldError::not_supported(&retention.child(field), value, &policies));
            }
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    errors.not_negative(&path.child("ordinals.start"), &spec["ordinals"]["start"]);
    selects(spec, &path, Selection { kind: "statefulset", required: true }, &mut errors);
    selects_template(spec, &path, &mut errors);
    let (template, at) = (&spec["template"], path.child("template"));
    validate::template_metadata(template, &at, &mut errors);
    lasts(template, "StatefulSet", &at, &mut errors);
    errors.0
}

fn update_strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let (rolling, at) = (&strategy["rollingUpdate"], path.child("rollingUpdate"));
    match text(&strategy["type"]) {
        "" => errors.push(FieldError::required(path, "")),
        "OnDelete" if !rolling.is_null() => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(&at, rolling.clone(), detail));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            errors.not_negative(&at.child("partition"), &rolling["partition"]);
            let (unavailable, at) = (&rolling["maxUnavailable"], at.child("maxUnavailable"));
            if !unavailable.is_null() {
                count_or_percent(unavailable, &at, errors);
                if is_zero(unavailable) {
                    errors.push(FieldError::invalid(&at, unavailable.clone(), "cannot be 0"));
                }
                at_most_all(unavailable, &at, errors);
            }
        }
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(path, strategy.clone(), detail));
        }
    }
}
