//! Jobs and CronJobs: `pkg/apis/batch/validation`, `pkg/registry/batch`.

use serde_json::{Value, json};

use super::{pod, selector};
use crate::api::meta::new_uid;
use crate::api::{FieldError, Meta, Path, Status, names};
use crate::server::registry::strategies::check::{Errors, is_empty, text};
use crate::server::registry::strategy::{Context, Strategy, defaults};

/// Labels of a job's pods: old and new spelling.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// A CronJob's jobs are called by its name and 11 more characters.
const CRON_NAME: usize = 52;

/// The strategy of Jobs.
pub struct JobStrategy;

impl Strategy for JobStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        defaults::prepare_create(object);
        generate_selector(object);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        selector::of_workload(&object["spec"], &Path::new("spec"), "job", &mut errors);
        job(&object["spec"], &Path::new("spec"), &mut errors);
        errors.0
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let (spec, was, path) = (&new["spec"], &old["spec"], Path::new("spec"));
        let mut errors = Errors::default();
        job(spec, &path, &mut errors);
        for field in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy"] {
            errors.immutable(&path.child(field), &spec[field], &was[field]);
        }
        if spec["completionMode"] != "Indexed" {
            errors.immutable(&path.child("completions"), &spec["completions"], &was["completions"]);
        }
        let (mut template, before) = (spec["template"].clone(), &was["template"]);
        if was["suspend"] == true && old["status"]["startTime"].is_null() {
            // Before a suspended job begins, what steers scheduling may change.
            for field in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
                defaults::keep(&mut template["spec"], &before["spec"], field);
            }
            for field in ["labels", "annotations"] {
                defaults::keep(&mut template["metadata"], &before["metadata"], field);
            }
        }
        errors.immutable(&path.child("template"), &template, before);
        errors.0
    }
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
    let template = &mut object["spec"]["template"];
    let labels = UID_LABELS.map(|l| (l, &uid)).into_iter().chain(NAME_LABELS.map(|l| (l, &name)));
    for (label, value) in labels {
        if is_empty(&template["metadata"]["labels"][label]) {
            template["metadata"]["labels"][label] = json!(value);
        }
    }
    if object["spec"]["selector"]["matchLabels"].get(UID_LABELS[1]).is_none() {
        object["spec"]["selector"]["matchLabels"][UID_LABELS[0]] = json!(uid);
    }
}

fn job(spec: &Value, path: &Path, errors: &mut Errors) {
    const COUNTS: [&str; 5] =
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"];
    for field in COUNTS {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    errors.optionally_one_of(
        &path.child("completionMode"),
        &spec["completionMode"],
        &["Indexed", "NonIndexed"],
    );
    if spec["completionMode"] == "Indexed" && spec["completions"].is_null() {
        let detail = "when completion mode is Indexed";
        errors.push(FieldError::required(&path.child("completions"), detail));
    }
    let at = path.child("template");
    errors.0.extend(pod::validate::template(&spec["template"], &at));
    let (policy, at) = (&spec["template"]["spec"]["restartPolicy"], at.child("spec").child("restartPolicy"));
    match text(policy) {
        "OnFailure" | "Never" => {}
        "" | "Always" if !errors.0.iter().any(|e| e.field == at) => {
            // The default of pods is no choice of the user's.
            let detail = "valid values: \"OnFailure\", \"Never\"";
            errors.push(FieldError::required(&at, detail));
        }
        other => {
            errors.0.retain(|e| e.field != at);
            errors.push(FieldError::not_supported(&at, other, &["OnFailure", "Never"]));
        }
    }
}

/// The strategy of CronJobs.
pub struct CronJobStrategy;

impl Strategy for CronJobStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors(cron_job(&object["spec"]));
        let name = Meta::of(object).name();
        if name.len() > CRON_NAME {
            errors.push(FieldError::invalid(
                &Path::new("metadata").child("name"),
                name,
                names::max_len_error(CRON_NAME),
            ));
        }
        errors.0
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        cron_job(&new["spec"])
    }
}

fn cron_job(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    let (schedule, at) = (text(&spec["schedule"]), path.child("schedule"));
    if errors.required(&at, &spec["schedule"])
        && let Some(why) = schedule_error(schedule)
    {
        errors.push(FieldError::invalid(&at, schedule, why));
    }
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    errors.one_of(&path.child("concurrencyPolicy"), &spec["concurrencyPolicy"], &policies);
    job(&spec["jobTemplate"]["spec"], &path.child("jobTemplate").child("spec"), &mut errors);
    errors.0
}

/// Why this is no schedule in cron's format, as far as its shape shows.
fn schedule_error(schedule: &str) -> Option<String> {
    const NAMED: [&str; 7] =
        ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if let Some(rest) = schedule.strip_prefix('@') {
        let every = rest.strip_prefix("every ").is_some_and(|d| d.starts_with(|c: char| c.is_ascii_digit()));
        return (!every && !NAMED.contains(&schedule))
            .then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'/' | b',' | b'-' | b'?');
    fields
        .into_iter()
        .find(|f| !f.bytes().all(ok))
        .map(|f| format!("failed to parse int from {f}: invalid syntax"))
}
