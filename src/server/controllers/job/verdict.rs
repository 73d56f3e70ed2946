//! What is to become of a job: go on, succeed, fail, or rest. Pure functions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};

use super::tally::{Tally, index, is_indexed};
use crate::server::controllers::kit::meta;
use crate::server::controllers::kit::pod::Pod;

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// It succeeded.
    pub complete: bool,
    /// Reason of the condition.
    pub reason: &'static str,
    /// Message of the condition.
    pub message: &'static str,
}

/// A condition that is true.
pub fn has(job: &Job, kind: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == kind && c.status == "True")
}

/// The job has ended.
pub fn is_finished(job: &Job) -> bool {
    has(job, "Complete") || has(job, "Failed")
}

fn spec(job: &Job) -> JobSpec {
    job.spec.clone().unwrap_or_default()
}

/// The job rests.
pub fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.suspend).unwrap_or(false)
}

/// Time until the job has been active for too long.
pub fn deadline(job: &Job) -> Option<Duration> {
    let seconds = job.spec.as_ref()?.active_deadline_seconds?;
    let start = job.status.as_ref()?.start_time.as_ref()?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).saturating_sub(meta::since(start)))
}

fn restarts(pods: &[Arc<Pod>]) -> i32 {
    let of = |p: &Arc<Pod>| -> i32 {
        p.status
            .container_statuses
            .iter()
            .chain(&p.status.init_container_statuses)
            .map(|c| c.restart_count)
            .sum()
    };
    pods.iter().map(of).sum()
}

/// Whether the job is over, and how.
pub fn end(job: &Job, tally: &Tally) -> Option<End> {
    let spec = spec(job);
    let limit = spec.backoff_limit.unwrap_or(6);
    let on_failure =
        spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure");
    let restarts = restarts(&tally.active);
    let restarted = on_failure && if limit == 0 { restarts > 0 } else { restarts >= limit };
    if tally.failed > limit || restarted {
        let message = "Job has reached the specified backoff limit";
        return Some(End { complete: false, reason: "BackoffLimitExceeded", message });
    }
    if !is_suspended(job) && deadline(job).is_some_and(|d| d.is_zero()) {
        let message = "Job was active longer than specified deadline";
        return Some(End { complete: false, reason: "DeadlineExceeded", message });
    }
    let complete = match spec.completions {
        Some(wanted) => tally.succeeded >= wanted,
        None => tally.succeeded > 0 && tally.active.is_empty(),
    };
    let message = "Reached expected number of succeeded pods";
    complete.then_some(End { complete: true, reason: "CompletionsReached", message })
}

/// How many pods shall be active.
pub fn wanted_active(job: &Job, tally: &Tally) -> usize {
    if is_suspended(job) {
        return 0;
    }
    let spec = spec(job);
    let parallelism = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - tally.succeeded),
        None if tally.succeeded > 0 => i32::try_from(tally.active.len()).unwrap_or(i32::MAX).min(parallelism),
        None => parallelism,
    };
    usize::try_from(wanted).unwrap_or_default()
}

/// The first `count` indexes that neither succeeded nor have an active pod.
pub fn free_indexes(job: &Job, tally: &Tally, count: usize) -> Vec<i32> {
    let active: BTreeSet<i32> = tally.active.iter().filter_map(|p| index(p)).collect();
    let all = 0..job.spec.as_ref().and_then(|s| s.completions).unwrap_or_default();
    all.filter(|i| !active.contains(i) && !tally.indexes.contains(i)).take(count).collect()
}

/// Active pods that are too many: duplicates of an index first, then those not ready, then the
/// youngest.
pub fn surplus(job: &Job, tally: &Tally, wanted: usize) -> Vec<Arc<Pod>> {
    let mut pods = tally.active.clone();
    pods.sort_by_key(|p| (!p.is_ready(), p.node().is_none(), p.metadata.creation_timestamp.clone()));
    let (mut keep, mut spare) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for pod in pods {
        let duplicate =
            is_indexed(job) && index(&pod).is_none_or(|i| !seen.insert(i) || tally.indexes.contains(&i));
        if duplicate { spare.push(pod) } else { keep.push(pod) }
    }
    let extra = keep.split_off(wanted.min(keep.len()));
    spare.extend(extra);
    spare
}

/// Sets a condition.
pub fn set(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str) {
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|c| c.type_ == kind && c.status == value) {
        return;
    }
    conditions.retain(|c| c.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(meta::now()),
        last_transition_time: Some(meta::now()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(spec: Value) -> Job {
        let mut spec = spec;
        spec["template"] =
            json!({"spec": {"containers": [], "restartPolicy": spec["restart"].as_str().unwrap_or("Never")}});
        serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": spec})).expect("a job")
    }

    fn pod(name: &str, index: i32, restarts: i32) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name,
                "annotations": {super::super::tally::INDEX: index.to_string()}},
                "status": {"phase": "Running", "containerStatuses": [{"restartCount": restarts}]}}))
            .expect("a pod"),
        )
    }

    fn tally(active: usize, succeeded: i32, failed: i32) -> Tally {
        let active = (0..active).map(|i| pod(&format!("p{i}"), i32::try_from(i).unwrap_or(0), 2)).collect();
        Tally { active, succeeded, failed, ..Tally::default() }
    }

    #[test]
    fn as_many_pods_as_are_still_needed() {
        for (spec, tally, expected) in [
            (json!({"parallelism": 3, "completions": 5}), tally(0, 0, 0), 3),
            (json!({"parallelism": 3, "completions": 5}), tally(0, 4, 0), 1),
            (json!({"parallelism": 2}), tally(0, 0, 0), 2),
            (json!({"parallelism": 2}), tally(1, 1, 0), 1),
            (json!({"parallelism": 2, "suspend": true}), tally(0, 0, 0), 0),
        ] {
            assert_eq!(wanted_active(&job(spec.clone()), &tally), expected, "{spec}");
        }
    }

    #[test]
    fn ends_are_recognised() {
        let reason = |spec: Value, t: Tally| end(&job(spec), &t).map(|e| (e.complete, e.reason));
        assert_eq!(reason(json!({"completions": 2}), tally(0, 2, 0)), Some((true, "CompletionsReached")));
        assert_eq!(reason(json!({"completions": 2}), tally(0, 1, 6)), None);
        assert_eq!(reason(json!({"completions": 2}), tally(0, 1, 7)), Some((false, "BackoffLimitExceeded")));
        assert_eq!(reason(json!({"backoffLimit": 0}), tally(0, 0, 1)), Some((false, "BackoffLimitExceeded")));
        assert_eq!(
            reason(json!({"restart": "OnFailure", "backoffLimit": 2}), tally(1, 0, 0)),
            Some((false, "BackoffLimitExceeded"))
        );
        assert_eq!(reason(json!({}), tally(1, 1, 0)), None);
        assert_eq!(reason(json!({}), tally(0, 1, 0)), Some((true, "CompletionsReached")));
        let mut late = job(json!({"activeDeadlineSeconds": 5}));
        late.status = serde_json::from_value(json!({"startTime": "2020-01-01T00:00:00Z"})).ok();
        assert_eq!(end(&late, &tally(1, 0, 0)).map(|e| e.reason), Some("DeadlineExceeded"));
    }

    #[test]
    fn free_indexes_and_surplus_pods() {
        let j = job(json!({"completions": 5, "completionMode": "Indexed"}));
        let mut t = tally(2, 0, 0);
        t.indexes.insert(2);
        assert_eq!(free_indexes(&j, &t, 9), [3, 4]);
        t.active.push(pod("twice", 1, 0));
        assert_eq!(surplus(&j, &t, 2).len(), 1);
        assert_eq!(surplus(&j, &t, 1).len(), 2);
    }
}
