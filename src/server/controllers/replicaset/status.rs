//! The status of a replicated kind, computed from its pods.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::kinds::Replicated;
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Error, meta};

/// Why pods could not be created or deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: String,
    /// The API's words.
    pub message: String,
    /// Since when.
    pub since: Time,
}

/// The counts a status holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Active pods.
    pub replicas: i32,
    /// Those with all labels of the template.
    pub fully_labeled: i32,
    /// Those that are ready.
    pub ready: i32,
    /// Those that have been ready long enough.
    pub available: i32,
    /// Pods on their way out.
    pub terminating: i32,
    /// Present while pods cannot be created or deleted.
    pub failure: Option<Failure>,
}

/// Computes the status from the active pods and the outcome of managing them.
pub fn calculate<K: Replicated>(
    owner: &K,
    active: &[Arc<Pod>],
    terminating: usize,
    error: Option<&Error>,
) -> Counts {
    let count = |f: &dyn Fn(&Pod) -> bool| to_i32(active.iter().filter(|p| f(p)).count());
    let labels = owner.template_labels();
    let failure = error.map(|e| {
        let known = owner.failure();
        let wanted = usize::try_from(owner.replicas()).unwrap_or_default();
        let reason = if active.len() < wanted { "FailedCreate" } else { "FailedDelete" };
        known.unwrap_or_else(|| Failure { reason: reason.into(), message: e.message(), since: meta::now() })
    });
    Counts {
        replicas: to_i32(active.len()),
        fully_labeled: count(&|p| {
            let own = meta::labels(&p.metadata);
            labels.iter().all(|(k, v)| own.get(k) == Some(v))
        }),
        ready: count(&Pod::is_ready),
        available: count(&|p| p.is_available(owner.min_ready_seconds())),
        terminating: to_i32(terminating),
        failure,
    }
}

/// When the next pod becomes available, if one is ready but not for long enough yet.
pub fn next_available(active: &[Arc<Pod>], min_ready_seconds: i32) -> Option<Duration> {
    let waiting = active.iter().filter(|p| p.is_ready() && !p.is_available(min_ready_seconds));
    let since = waiting.filter_map(|p| p.condition("Ready")?.last_transition_time.clone());
    since.map(|t| super::remaining(meta::since(&t), min_ready_seconds) + Duration::from_secs(1)).min()
}

fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use serde_json::json;

    fn owner(min_ready: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "rs", "generation": 4},
            "spec": {"replicas": 3, "minReadySeconds": min_ready, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b", "c": "d"}}}}
        }))
        .expect("a ReplicaSet")
    }

    fn pod(labels: serde_json::Value, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "p", "labels": labels},
                "status": {"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": meta::now()}]}
            }))
            .expect("a pod"),
        )
    }

    #[test]
    fn pods_are_counted_by_what_they_are() {
        let pods = [pod(json!({"a": "b", "c": "d"}), true), pod(json!({"a": "b"}), false)];
        let counts = calculate(&owner(0), &pods, 1, None);
        let expected =
            Counts { replicas: 2, fully_labeled: 1, ready: 1, available: 1, terminating: 1, failure: None };
        assert_eq!(counts, expected);
        assert_eq!(calculate(&owner(60), &pods, 0, None).available, 0);
        let wait = next_available(&pods, 60).expect("one is waited for");
        assert!(wait > Duration::from_secs(50) && wait < Duration::from_secs(63));
    }

    #[test]
    fn a_failure_becomes_a_condition_and_zeros_are_left_out() {
        let error = Error::Invalid("exceeded quota".into());
        let counts = calculate(&owner(0), &[], 0, Some(&error));
        let mut rs = owner(0);
        rs.set_counts(&counts);
        let status = serde_json::to_value(rs.status.as_ref().expect("a status")).expect("it encodes");
        assert_eq!(status["replicas"], 0);
        assert_eq!(status["observedGeneration"], 4);
        assert_eq!(status.get("readyReplicas"), None);
        assert_eq!(status["conditions"][0]["reason"], "FailedCreate");
        assert_eq!(status["conditions"][0]["message"], "exceeded quota");
        let healed = calculate(&rs, &[], 0, None);
        rs.set_counts(&healed);
        assert_eq!(rs.status.and_then(|s| s.conditions), None);
    }
}
