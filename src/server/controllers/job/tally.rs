//! Counting a job's pods. A finished pod keeps a finalizer until it is counted, so that none is lost or
//! counted twice, whoever deletes it. Pure functions.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobStatus};

use crate::server::controllers::kit::meta;
use crate::server::controllers::kit::pod::Pod;

/// Finalizer of pods that are not counted yet.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label with a pod's index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The pods of a job, counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Neither ended nor being deleted.
    pub active: Vec<Arc<Pod>>,
    /// Being deleted, not ended yet.
    pub terminating: i32,
    /// Active pods that are ready.
    pub ready: i32,
    /// All that succeeded, counted before or now.
    pub succeeded: i32,
    /// All that failed, counted before or now.
    pub failed: i32,
    /// Indexes that succeeded.
    pub indexes: BTreeSet<i32>,
    /// Uids of succeeded pods that still have the finalizer.
    pub new_succeeded: Vec<String>,
    /// Uids of failed pods that still have the finalizer.
    pub new_failed: Vec<String>,
    /// Finished pods whose finalizer is to be removed once they are counted.
    pub to_release: Vec<Arc<Pod>>,
}

/// The pod still has to be counted.
pub fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// The index of a pod of an indexed job.
pub fn index(pod: &Pod) -> Option<i32> {
    meta::annotation(&pod.metadata, INDEX)?.parse().ok()
}

/// The job has indexes.
pub fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.completion_mode.as_deref()) == Some("Indexed")
}

/// Reads `1,3-5`.
pub fn parse_indexes(text: &str) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<i32>(), to.parse::<i32>()) {
            indexes.extend(from..=to);
        }
    }
    indexes
}

/// Writes `1,3-5`.
pub fn format_indexes(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, to)) if *to + 1 == *index => *to = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let run = |(from, to): &(i32, i32)| match to - from {
        0 => from.to_string(),
        1 => format!("{from},{to}"),
        _ => format!("{from}-{to}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

/// Counts a job's pods on top of what its status holds.
pub fn count(job: &Job, pods: &[Arc<Pod>]) -> Tally {
    let status = job.status.clone().unwrap_or_default();
    let known =
        |list: Option<Vec<String>>| -> BTreeSet<String> { list.unwrap_or_default().into_iter().collect() };
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let (old_succeeded, old_failed) = (known(uncounted.succeeded), known(uncounted.failed));
    let mut tally = Tally {
        indexes: parse_indexes(status.completed_indexes.as_deref().unwrap_or_default()),
        ..Tally::default()
    };
    let completions = job.spec.as_ref().and_then(|s| s.completions).unwrap_or(i32::MAX);
    for pod in pods {
        let uid = meta::uid(&pod.metadata).to_owned();
        match pod.phase() {
            "Succeeded" => {
                if is_tracked(pod) {
                    tally.to_release.push(Arc::clone(pod));
                    if is_indexed(job) {
                        tally.indexes.extend(index(pod).filter(|i| *i < completions));
                    }
                    tally.new_succeeded.push(uid);
                }
            }
            "Failed" => {
                if is_tracked(pod) {
                    tally.to_release.push(Arc::clone(pod));
                    tally.new_failed.push(uid);
                }
            }
            // A pod that is deleted before it ends counts as failed.
            _ if pod.is_terminating() => {
                tally.terminating += 1;
                if is_tracked(pod) {
                    tally.to_release.push(Arc::clone(pod));
                    tally.new_failed.push(uid);
                }
            }
            _ => {
                tally.ready += i32::from(pod.is_ready());
                tally.active.push(Arc::clone(pod));
            }
        }
    }
    // Those that were noted but have lost their finalizer meanwhile are counted for good.
    let counted =
        |old: &BTreeSet<String>, new: &[String]| size(old.iter().filter(|uid| !new.contains(uid)).count());
    tally.failed = status.failed.unwrap_or_default()
        + counted(&old_failed, &tally.new_failed)
        + size(tally.new_failed.len());
    tally.succeeded = if is_indexed(job) {
        size(tally.indexes.len())
    } else {
        status.succeeded.unwrap_or_default()
            + counted(&old_succeeded, &tally.new_succeeded)
            + size(tally.new_succeeded.len())
    };
    tally
}

fn size(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The status that notes finished pods as uncounted; with `released`, as counted.
pub fn write(job: &Job, tally: &Tally, released: bool) -> JobStatus {
    let mut status = job.status.clone().unwrap_or_default();
    let positive = |n: i32| (n > 0).then_some(n);
    let list = |uids: &[String]| (!uids.is_empty() && !released).then(|| uids.to_vec());
    let pending = |uids: &[String]| if released { 0 } else { size(uids.len()) };
    status.active = positive(size(tally.active.len()));
    status.ready = Some(tally.ready);
    status.terminating = Some(tally.terminating);
    status.failed = positive(tally.failed - pending(&tally.new_failed));
    status.succeeded = positive(if is_indexed(job) {
        tally.succeeded
    } else {
        tally.succeeded - pending(&tally.new_succeeded)
    });
    if is_indexed(job) {
        status.completed_indexes = (!tally.indexes.is_empty()).then(|| format_indexes(&tally.indexes));
    }
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    uncounted.succeeded = list(&tally.new_succeeded);
    uncounted.failed = list(&tally.new_failed);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, phase: &str, tracked: bool, change: Value) -> Arc<Pod> {
        let mut pod = json!({"metadata": {"name": name, "uid": name, "finalizers": if tracked { vec![FINALIZER] } else { vec![] }},
            "status": {"phase": phase}});
        json_patch::merge(&mut pod, &change);
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn job(mode: &str, status: Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j"}, "status": status,
            "spec": {"completions": 3, "completionMode": mode, "template": {}}}))
        .expect("a job")
    }

    #[test]
    fn a_pod_is_counted_once_through_all_steps() {
        let job1 = job("NonIndexed", json!({}));
        let pods = [
            pod("a", "Succeeded", true, json!({})),
            pod("b", "Failed", true, json!({})),
            pod("c", "Running", true, json!({})),
        ];
        let first = count(&job1, &pods);
        assert_eq!((first.succeeded, first.failed, first.active.len()), (1, 1, 1));
        let noted = write(&job1, &first, false);
        assert_eq!((noted.succeeded, noted.failed), (None, None));
        // After a crash here the next count is the same, whether the finalizers are still there or not.
        let job2 = Job { status: Some(noted), ..job1.clone() };
        let again = count(&job2, &pods);
        assert_eq!((again.succeeded, again.failed), (1, 1));
        let gone = count(&job2, &[pod("c", "Running", true, json!({}))]);
        assert_eq!((gone.succeeded, gone.failed), (1, 1));
        let counted = write(&job2, &again, true);
        assert_eq!((counted.succeeded, counted.failed), (Some(1), Some(1)));
        let job3 = Job { status: Some(counted), ..job1 };
        let released = [pod("a", "Succeeded", false, json!({})), pod("b", "Failed", false, json!({}))];
        let last = count(&job3, &released);
        assert_eq!((last.succeeded, last.failed), (1, 1));
    }

    #[test]
    fn indexes_are_a_set() {
        let at = |i: &str| json!({"metadata": {"annotations": {INDEX: i}}});
        let job = job("Indexed", json!({"completedIndexes": "0", "succeeded": 1}));
        let pods = [
            pod("a", "Succeeded", true, at("0")),
            pod("b", "Succeeded", true, at("2")),
            pod("c", "Succeeded", true, at("7")),
        ];
        let tally = count(&job, &pods);
        assert_eq!((tally.succeeded, format_indexes(&tally.indexes).as_str()), (2, "0,2"));
    }

    #[test]
    fn index_lists_are_written_as_runs() {
        for text in ["", "0", "0,1", "0-2", "0-2,5,7,8", "1,3-5"] {
            assert_eq!(format_indexes(&parse_indexes(text)), text);
        }
    }

    #[test]
    fn a_deleted_pod_counts_as_failed() {
        let deleted =
            pod("a", "Running", true, json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}));
        let tally = count(&job("NonIndexed", json!({})), &[deleted]);
        assert_eq!((tally.failed, tally.terminating, tally.active.len()), (1, 1, 0));
    }
}
