//! CronJobs: `pkg/apis/batch/validation`, `pkg/registry/batch/cronjob/strategy.go`.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::{changed, job};
use crate::api::cron::Schedule;
use crate::api::{FieldError, Meta, Path};
use crate::server::registry::strategies::check::{Errors, text};
use crate::server::registry::strategies::pod::warnings;
use crate::server::registry::strategy::{Context, Strategy};

/// A CronJob's jobs are called by its name and 11 more characters.
const MAX_NAME: usize = 52;

/// The strategy of CronJobs.
pub struct CronJobStrategy;

impl Strategy for CronJobStrategy {
    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors(validate(&object["spec"], None));
        let name = Meta::of(object).name();
        if name.len() > MAX_NAME {
            let detail = format!("must be no more than {MAX_NAME} characters");
            errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
        }
        errors.0
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        validate(&new["spec"], Some(&old["spec"]))
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut all = warnings::of_owner(object, &Value::Null, &Path::new("spec"));
        all.extend(warnings_of(&object["spec"]));
        all
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        if changed(new, old) { warnings_of(&new["spec"]) } else { Vec::new() }
    }
}

fn warnings_of(spec: &Value) -> Vec<String> {
    let path = Path::new("spec").child("jobTemplate").child("spec");
    let mut all = job::warnings_of(&spec["jobTemplate"]["spec"], &path);
    if text(&spec["schedule"]).contains("TZ") {
        all.push(
            "CRON_TZ or TZ used in spec.schedule is not officially supported, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
    all
}

fn validate(spec: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    if errors.required(&path.child("schedule"), &spec["schedule"]) {
        // Who had a zone in the schedule may keep it.
        let zone_allowed = old.is_some_and(|old| text(&old["schedule"]).contains("TZ"));
        schedule(spec, zone_allowed, &path.child("schedule"), &mut errors);
    }
    errors.not_negative(&path.child("startingDeadlineSeconds"), &spec["startingDeadlineSeconds"]);
    if old.is_none_or(|old| old["timeZone"] != spec["timeZone"]) && !spec["timeZone"].is_null() {
        time_zone(text(&spec["timeZone"]), &path.child("timeZone"), &mut errors);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    errors.one_of(&path.child("concurrencyPolicy"), &spec["concurrencyPolicy"], &policies);
    job::of_template(&spec["jobTemplate"], &path.child("jobTemplate"), &mut errors);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.not_negative(&path.child(field), &spec[field]);
    }
    errors.0
}

fn schedule(spec: &Value, zone_allowed: bool, path: &Path, errors: &mut Errors) {
    let schedule = text(&spec["schedule"]);
    if let Err(why) = Schedule::parse(schedule) {
        errors.push(FieldError::invalid(path, schedule, why.to_string()));
    }
    if !schedule.contains("TZ") {
        return;
    }
    if !zone_allowed {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(path, schedule, detail));
    } else if !spec["timeZone"].is_null() {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(FieldError::invalid(path, schedule, detail));
    }
}

/// A name of the IANA's database: <https://data.iana.org/time-zones/theory.html#naming>.
fn time_zone(zone: &str, path: &Path, errors: &mut Errors) {
    if zone.is_empty() {
        return errors.push(FieldError::invalid(path, zone, "timeZone must be nil or non-empty string"));
    }
    let unknown = || FieldError::invalid(path, zone, format!("unknown time zone {zone}"));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let part_ok = |part: &str| {
        (1..=14).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(allowed)
    };
    if !zone.split('/').all(part_ok) {
        return errors.push(unknown());
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(FieldError::invalid(path, zone, detail));
    }
    if TimeZone::get(zone).is_err() {
        errors.push(unknown());
    }
}
