//! DaemonSets: `ValidateDaemonSet`, `pkg/registry/apps/daemonset/strategy.go`.

use serde_json::{Value, json};

use super::rollout::{at_most_all, count_or_percent, is_zero};
use super::{Selection, changed, collisions, counts, lasting_template, selects, selects_template};
use crate::api::{FieldError, Meta, Path, Status};
use crate::server::registry::strategies::check::{Errors, text};
use crate::server::registry::strategies::pod::warnings;
use crate::server::registry::strategy::{Context, Strategy, defaults};

/// Counts changes of the template, for clients of old versions.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The strategy of DaemonSets.
pub struct DaemonSetStrategy;

impl Strategy for DaemonSetStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        defaults::prepare_create(object);
        let given = template_generation(object).filter(|n| *n >= 1).unwrap_or(1);
        set_template_generation(object, given);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(&object["spec"])
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::prepare_update(new, old);
        let before = template_generation(old).unwrap_or(1);
        let changed = i64::from(new["spec"]["template"] != old["spec"]["template"]);
        set_template_generation(new, before + changed);
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors(validate(&new["spec"]));
        let at = Path::new("spec").child("selector");
        errors.immutable(&at, &new["spec"]["selector"], &old["spec"]["selector"]);
        errors.0
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        const COUNTS: [&str; 9] = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        let mut errors = Errors::default();
        if subresource == "status" {
            counts(&new["status"], &COUNTS, &[], &mut errors);
            collisions(new, old, &mut errors);
        }
        errors.0
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of_template(&object["spec"]["template"], &Path::new("spec").child("template"))
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        if changed(new, old) { self.warnings(new) } else { Vec::new() }
    }
}

fn template_generation(object: &Value) -> Option<i64> {
    Meta::of(object).annotation(TEMPLATE_GENERATION)?.parse().ok()
}

fn set_template_generation(object: &mut Value, generation: i64) {
    object["metadata"]["annotations"][TEMPLATE_GENERATION] = json!(generation.to_string());
}

fn validate(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    selects(spec, &path, Selection { kind: "daemonset", required: false }, &mut errors);
    selects_template(spec, &path, &mut errors);
    lasting_template(&spec["template"], "DaemonSet", &path.child("template"), &mut errors);
    errors.not_negative(&path.child("minReadySeconds"), &spec["minReadySeconds"]);
    update_strategy(&spec["updateStrategy"], &path.child("updateStrategy"), &mut errors);
    errors.not_negative(&path.child("revisionHistoryLimit"), &spec["revisionHistoryLimit"]);
    errors.0
}

/// `ValidateDaemonSetUpdateStrategy`
fn update_strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let (rolling, at) = (&strategy["rollingUpdate"], path.child("rollingUpdate"));
    match text(&strategy["type"]) {
        "OnDelete" => {}
        "RollingUpdate" if rolling.is_null() => errors.push(FieldError::required(&at, "")),
        "RollingUpdate" => {
            let fields = ["maxUnavailable", "maxSurge"];
            fields.iter().for_each(|f| count_or_percent(&rolling[*f], &at.child(f), errors));
            fields.iter().for_each(|f| at_most_all(&rolling[*f], &at.child(f), errors));
            match (is_zero(&rolling["maxUnavailable"]), is_zero(&rolling["maxSurge"])) {
                (false, false) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(FieldError::invalid(
                        &at.child("maxSurge"),
                        rolling["maxSurge"].clone(),
                        detail,
                    ));
                }
                (true, true) => {
                    let detail = "cannot be 0 when maxSurge is 0";
                    errors.push(FieldError::required(&at.child("maxUnavailable"), detail));
                }
                _ => {}
            }
        }
        _ => errors.push(FieldError::not_supported(path, strategy.clone(), &["RollingUpdate", "OnDelete"])),
    }
}
