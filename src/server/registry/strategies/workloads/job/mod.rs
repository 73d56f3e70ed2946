//! Jobs: `pkg/apis/batch/validation`, `pkg/registry/batch/job/strategy.go`.

mod indexes;
mod policy;
mod spec;
mod status;
mod update;

use serde_json::{Value, json};

use super::changed;
use crate::api::meta::new_uid;
use crate::api::{FieldError, Meta, Path, Status, names};
use crate::server::registry::strategies::check::{Errors, is_empty, text};
use crate::server::registry::strategies::pod::warnings;
use crate::server::registry::strategies::selector;
use crate::server::registry::strategy::{Context, Strategy, defaults};
pub use spec::of_template;

/// Labels of a job's pods, old spelling first.
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
/// From so many on, an index is hard to keep book of.
const MANY_COMPLETIONS: i64 = 100_000;
const HIGH_PARALLELISM: i64 = 10_000;

/// The strategy of Jobs.
pub struct JobStrategy;

impl Strategy for JobStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        defaults::prepare_create(object);
        generate_selector(object);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors(validate(new));
        update::validate(new, old, &mut errors);
        errors.0
    }

    fn validate_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        if subresource == "status" { status::validate(new, old) } else { Vec::new() }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let spec = &object["spec"];
        let mut all = warnings::of_owner(object, &Value::Null, &Path::new("spec").child("template"));
        all.extend(warnings_of(spec, &Path::new("spec")));
        all
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        if changed(new, old) { warnings_of(&new["spec"], &Path::new("spec")) } else { Vec::new() }
    }
}

/// Of a job's spec.
pub fn warnings_of(spec: &Value, path: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let count = |field: &str| spec[field].as_i64().unwrap_or_default();
    if spec["completionMode"] == "Indexed"
        && count("completions") > MANY_COMPLETIONS
        && count("parallelism") > HIGH_PARALLELISM
    {
        all.push(
            "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
                .to_owned(),
        );
    }
    all.extend(warnings::of_template(&spec["template"], &path.child("template")));
    all
}

/// Gives the job a selector for its own uid, unless it brings one of its own.
fn generate_selector(object: &mut Value) {
    if object["spec"]["manualSelector"] == true {
        return;
    }
    if Meta::of(object).uid().is_empty() {
        object["metadata"]["uid"] = json!(new_uid());
    }
    let (uid, name) = (Meta::of(object).uid().to_owned(), Meta::of(object).name().to_owned());
    let labels = &mut object["spec"]["template"]["metadata"]["labels"];
    for (label, value) in UID_LABELS.map(|l| (l, &uid)).into_iter().chain(NAME_LABELS.map(|l| (l, &name))) {
        if labels.get(label).is_none() {
            labels[label] = json!(value);
        }
    }
    let wanted = &mut object["spec"]["selector"]["matchLabels"];
    if wanted.get(UID_LABELS[1]).is_none() {
        wanted[UID_LABELS[1]] = json!(uid);
    }
}

/// `ValidateJob`
fn validate(job: &Value) -> Vec<FieldError> {
    let (spec, path) = (&job["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    if spec["manualSelector"] != true && !spec["selector"].is_null() {
        generated_selector(job, &mut errors);
    }
    spec::validate(spec, &path, &mut errors);
    let at = path.child("selector");
    if spec["selector"].is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        selector::validate(&spec["selector"], &at, &mut errors);
    }
    super::selects_template(spec, &path, &mut errors);
    let completions = spec["completions"].as_i64().unwrap_or_default();
    if spec["completionMode"] == "Indexed" && completions > 0 {
        // The index becomes part of a pod's host name.
        let name = Meta::of(job).name();
        let longest = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&longest).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {longest}");
            errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
        }
    }
    errors.0
}

/// A selector the server made selects the pods of this job alone.
fn generated_selector(job: &Value, errors: &mut Errors) {
    let (uid, name) = (Meta::of(job).uid(), Meta::of(job).name());
    let template = &job["spec"]["template"]["metadata"];
    let at = Path::new("spec").child("template").child("metadata").child("labels");
    let pairs = [(UID_LABELS[0], uid), (NAME_LABELS[0], name), (UID_LABELS[1], uid), (NAME_LABELS[1], name)];
    for (label, wanted) in &pairs {
        match template["labels"].get(*label).map(text) {
            None => errors.push(FieldError::required(&at.key(label), format!("must be '{wanted}'"))),
            Some(found) if found != *wanted => {
                let detail = format!("must be '{wanted}'");
                errors.push(FieldError::invalid(&at.key(label), template["labels"].clone(), detail));
            }
            Some(_) => {}
        }
    }
    let wanted = &job["spec"]["selector"];
    let get = |key: &str| pairs.iter().find(|(label, _)| *label == key).map(|(_, value)| *value);
    if crate::api::LabelSelector::from_value(wanted).is_ok_and(|s| !is_empty(wanted) && !s.matches(get)) {
        let detail = "`selector` not auto-generated";
        errors.push(FieldError::invalid(&Path::new("spec").child("selector"), wanted.clone(), detail));
    }
}
