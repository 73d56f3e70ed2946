//! What the status of a job may become: `ValidateJobUpdateStatus`, with upstream's choice of what is checked
//! when it changes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::indexes;
use crate::api::meta::parse_time;
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, same, text};

/// Two states of one job.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
    path: Path,
}

fn is(status: &Value, condition: &str) -> bool {
    items(&status["conditions"]).iter().any(|c| c["type"] == condition && c["status"] == "True")
}

fn finished(status: &Value) -> bool {
    is(status, "Complete") || is(status, "Failed")
}

impl Change<'_> {
    fn status(&self) -> &Value {
        &self.new["status"]
    }

    fn before(&self) -> &Value {
        &self.old["status"]
    }

    fn now(&self, condition: &str) -> bool {
        is(self.status(), condition)
    }

    /// A field of the status is another than it was.
    fn changed(&self, field: &str) -> bool {
        !same(&self.status()[field], &self.before()[field])
    }

    /// A condition came or went.
    fn turned(&self, condition: &str) -> bool {
        is(self.status(), condition) != is(self.before(), condition)
    }

    fn count(&self, field: &str) -> i64 {
        self.status()[field].as_i64().unwrap_or_default()
    }

    fn refuse(&self, field: &str, detail: &str, errors: &mut Errors) {
        let at = self.path.child(field);
        errors.push(if field == "conditions" {
            FieldError::invalid_omitted(&at, detail)
        } else if matches!(field, "failed" | "succeeded") {
            FieldError::invalid(&at, self.count(field), detail)
        } else {
            FieldError::invalid(&at, self.status()[field].clone(), detail)
        });
    }
}

/// What is wrong with a changed status.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let change = Change { new, old, path: Path::new("status") };
    let mut errors = Errors::default();
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.not_negative(&change.path.child(field), &change.status()[field]);
    }
    uncounted(&change, &mut errors);
    conditions(&change, &mut errors);
    times(&change, &mut errors);
    an_end_is_an_end(&change, &mut errors);
    index_sets(&change, &mut errors);
    if (change.changed("ready") || change.changed("active")) && change.count("ready") > change.count("active")
    {
        change.refuse("ready", "cannot set more ready pods than active", &mut errors);
    }
    never_back(&change, &mut errors);
    errors.0
}

fn uncounted(change: &Change<'_>, errors: &mut Errors) {
    let (pods, at) =
        (&change.status()["uncountedTerminatedPods"], change.path.child("uncountedTerminatedPods"));
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        for (uid, path) in indexed(&pods[list], &at.child(list)) {
            if is_empty(uid) {
                errors.push(FieldError::invalid(&path, "", "must not be empty"));
            } else if !seen.insert(text(uid)) {
                errors.push(FieldError::duplicate(&path, uid.clone()));
            }
        }
    }
}

/// Which conditions exclude or need each other.
fn conditions(change: &Change<'_>, errors: &mut Errors) {
    let now = |condition: &str| change.now(condition);
    let turned = |any: &[&str]| any.iter().any(|condition| change.turned(condition));
    let mut refuse = |wrong: bool, detail: &str| {
        if wrong {
            change.refuse("conditions", detail, errors);
        }
    };
    refuse(
        turned(&["Complete", "Failed"]) && now("Complete") && now("Failed"),
        "cannot set Complete=True and Failed=true conditions",
    );
    refuse(
        turned(&["Complete", "FailureTarget"]) && now("Complete") && now("FailureTarget"),
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    refuse(
        turned(&["Failed", "FailureTarget"]) && now("Failed") && !now("FailureTarget"),
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    refuse(
        turned(&["Complete", "SuccessCriteriaMet"]) && now("Complete") && !now("SuccessCriteriaMet"),
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    refuse(
        now("SuccessCriteriaMet") && now("Failed"),
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    );
    refuse(
        now("SuccessCriteriaMet") && now("FailureTarget"),
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
}

fn times(change: &Change<'_>, errors: &mut Errors) {
    let (start, end) = (&change.status()["startTime"], &change.status()["completionTime"]);
    let complete = change.now("Complete");
    if change.turned("Complete") || change.changed("completionTime") {
        if !end.is_null() && !complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            change.refuse("completionTime", detail, errors);
        }
        if end.is_null() && complete {
            let detail = "completionTime is required for Complete jobs";
            errors.push(FieldError::required(&change.path.child("completionTime"), detail));
        }
    }
    let time = |value: &Value| parse_time(text(value));
    if (change.changed("startTime") || change.changed("completionTime"))
        && time(start).zip(time(end)).is_some_and(|(start, end)| end < start)
    {
        change.refuse("completionTime", "completionTime cannot be set before startTime", errors);
    }
}

/// A finished job has no pods that run, end or wait to be counted.
fn an_end_is_an_end(change: &Change<'_>, errors: &mut Errors) {
    let status = change.status();
    if !finished(status) {
        return;
    }
    let ended = !finished(change.before());
    if (ended || change.changed("active")) && change.count("active") > 0 {
        change.refuse("active", "active>0 is invalid for finished job", errors);
    }
    let nothing_to_do = change.new["spec"]["suspend"] == true && change.new["spec"]["completions"] == 0;
    if (ended || change.changed("startTime")) && status["startTime"].is_null() && !nothing_to_do {
        let detail = "startTime is required for finished job";
        errors.push(FieldError::required(&change.path.child("startTime"), detail));
    }
    let uncounted = &status["uncountedTerminatedPods"];
    let some = ["succeeded", "failed"].iter().any(|list| !is_empty(&uncounted[*list]));
    if (ended || change.changed("uncountedTerminatedPods")) && some {
        let detail = "uncountedTerminatedPods needs to be empty for finished job";
        change.refuse("uncountedTerminatedPods", detail, errors);
    }
    if (ended || change.changed("terminating")) && change.count("terminating") > 0 {
        change.refuse("terminating", "terminating>0 is invalid for finished job", errors);
    }
}

fn index_sets(change: &Change<'_>, errors: &mut Errors) {
    let (status, spec) = (change.status(), &change.new["spec"]);
    let (completed, failed) = (&status["completedIndexes"], &status["failedIndexes"]);
    let completions = spec["completions"].as_i64();
    let parse = |set: &Value| completions.map(|all| indexes::parse(text(set), all));
    if change.changed("completedIndexes") {
        if let Some(Err(why)) = parse(completed) {
            change.refuse("completedIndexes", &format!("error parsing completedIndexes: {why}"), errors);
        }
        if !is_empty(completed) && spec["completionMode"] != "Indexed" {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            change.refuse("completedIndexes", detail, errors);
        }
    }
    let per_index = !spec["backoffLimitPerIndex"].is_null();
    if change.changed("failedIndexes") && !failed.is_null() {
        if let (true, Some(Err(why))) = (per_index, parse(failed)) {
            change.refuse("failedIndexes", &format!("error parsing failedIndexes: {why}"), errors);
        }
        if !per_index {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            change.refuse("failedIndexes", detail, errors);
        }
    }
    if (change.changed("failedIndexes") || change.changed("completedIndexes"))
        && let (Some(Ok(done)), Some(Ok(failed))) = (parse(completed), parse(failed))
        && let Some(index) = indexes::overlap(&done, &failed)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        change.refuse("failedIndexes", &detail, errors);
    }
}

/// What is decided stays so, and what is counted stays counted.
fn never_back(change: &Change<'_>, errors: &mut Errors) {
    let (status, before, spec) = (change.status(), change.before(), &change.new["spec"]);
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if is(before, condition) && !change.now(condition) {
            let detail = format!("cannot disable the terminal {condition}=True condition");
            change.refuse("conditions", &detail, errors);
        }
    }
    let less = |field: &str| change.count(field) < before[field].as_i64().unwrap_or_default();
    if less("failed") {
        change.refuse("failed", "cannot decrease the failed counter", errors);
    }
    let elastic = spec["completionMode"] == "Indexed" && spec["completions"] == spec["parallelism"];
    if less("succeeded") && !elastic {
        change.refuse("succeeded", "cannot decrease the succeeded counter", errors);
    }
    let set = |field: &str| !status[field].is_null() && !before[field].is_null();
    if set("completionTime") && change.changed("completionTime") {
        change.refuse("completionTime", "completionTime cannot be mutated", errors);
    }
    if !before["startTime"].is_null() && change.changed("startTime") && spec["suspend"] != true {
        let detail = "startTime cannot be removed for unsuspended job";
        errors.push(FieldError::required(&change.path.child("startTime"), detail));
    }
    if is(before, "SuccessCriteriaMet") && !change.now("SuccessCriteriaMet") {
        change.refuse("conditions", "cannot disable the SuccessCriteriaMet=True condition", errors);
    }
    if is(before, "Complete") && !is(before, "SuccessCriteriaMet") && change.now("SuccessCriteriaMet") {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        change.refuse("conditions", detail, errors);
    }
}
