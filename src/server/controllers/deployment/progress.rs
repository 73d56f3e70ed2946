//! The status of a deployment: counts, and the conditions Available, Progressing and
//! ReplicaFailure with upstream's reasons and messages. Pure functions.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};

use super::scaling;
use crate::server::controllers::kit::meta;

/// Reason of Progressing when a rollout is complete.
pub const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// A condition of a status.
pub fn condition<'s>(status: &'s DeploymentStatus, kind: &str) -> Option<&'s DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// Sets a condition. The same status and reason again is no news; the same status keeps its time.
pub fn set(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: String) {
    let known = condition(status, kind);
    if known.is_some_and(|c| c.status == value && c.reason.as_deref() == Some(reason)) {
        return;
    }
    put(status, kind, value, reason, message);
}

fn put(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: String) {
    let now = meta::now();
    let since =
        condition(status, kind).filter(|c| c.status == value).and_then(|c| c.last_transition_time.clone());
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != kind);
    conditions.push(DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(since.unwrap_or_else(|| now.clone())),
        last_update_time: Some(now),
    });
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != kind);
    }
}

/// The time in which a rollout must get on, if it has one.
pub fn deadline(d: &Deployment) -> Option<Duration> {
    let seconds = d.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

fn positive(n: i32) -> Option<i32> {
    (n > 0).then_some(n)
}

/// The counts and the condition Available, other conditions as they were.
pub fn calculate(d: &Deployment, all: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) -> DeploymentStatus {
    let status = |rs: &ReplicaSet| rs.status.clone().unwrap_or_default();
    let total = |f: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        all.iter().map(|rs| f(&status(rs))).sum()
    };
    let desired: i32 = scaling::sum(all);
    let available = total(|s| s.available_replicas.unwrap_or_default());
    let old = d.status.clone().unwrap_or_default();
    let mut result = DeploymentStatus {
        observed_generation: d.metadata.generation,
        replicas: positive(total(|s| s.replicas)),
        updated_replicas: positive(new.map_or(0, |rs| status(rs).replicas)),
        ready_replicas: positive(total(|s| s.ready_replicas.unwrap_or_default())),
        available_replicas: positive(available),
        unavailable_replicas: positive(desired - available),
        terminating_replicas: Some(total(|s| s.terminating_replicas.unwrap_or_default())),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    if available >= scaling::wanted(d) - scaling::fenceposts(d).1 {
        let message = "Deployment has minimum availability.".to_owned();
        set(&mut result, "Available", "True", "MinimumReplicasAvailable", message);
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        set(&mut result, "Available", "False", "MinimumReplicasUnavailable", message);
    }
    result
}

/// Whether a rollout is complete.
pub fn is_complete(d: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = scaling::wanted(d);
    let is = |n: Option<i32>| n.unwrap_or_default() == wanted;
    is(status.updated_replicas)
        && is(status.replicas)
        && is(status.available_replicas)
        && status.observed_generation >= d.metadata.generation
}

fn got_on(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |v: Option<i32>| v.unwrap_or_default();
    let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

fn timed_out(d: &Deployment, status: &DeploymentStatus) -> bool {
    let (Some(limit), Some(c)) = (deadline(d), condition(status, "Progressing")) else { return false };
    match c.reason.as_deref() {
        Some(NEW_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => c.last_update_time.as_ref().is_some_and(|t| meta::since(t) > limit),
    }
}

/// The status in the middle and at the end of a rollout.
pub fn rollout(d: &Deployment, all: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) -> DeploymentStatus {
    let mut status = calculate(d, all, new);
    if deadline(d).is_none() {
        remove(&mut status, "Progressing");
    }
    let old = d.status.clone().unwrap_or_default();
    let settled = status.replicas == status.updated_replicas
        && condition(&old, "Progressing").is_some_and(|c| c.reason.as_deref() == Some(NEW_AVAILABLE));
    if deadline(d).is_some() && !settled {
        let subject = match new {
            Some(rs) => format!("ReplicaSet \"{}\"", meta::name(&rs.metadata)),
            None => format!("Deployment \"{}\"", meta::name(&d.metadata)),
        };
        if is_complete(d, &status) {
            set(
                &mut status,
                "Progressing",
                "True",
                NEW_AVAILABLE,
                format!("{subject} has successfully progressed."),
            );
        } else if got_on(&old, &status) {
            // The time of the last progress is news even if the reason is the same.
            put(
                &mut status,
                "Progressing",
                "True",
                "ReplicaSetUpdated",
                format!("{subject} is progressing."),
            );
        } else if timed_out(d, &old) {
            set(
                &mut status,
                "Progressing",
                "False",
                TIMED_OUT,
                format!("{subject} has timed out progressing."),
            );
        }
    }
    replica_failure(&mut status, all, new);
    status
}

fn replica_failure(status: &mut DeploymentStatus, all: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) {
    let of = |rs: &ReplicaSet| {
        let conditions = rs.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|c| c.type_ == "ReplicaFailure").cloned()
    };
    match new.and_then(of).or_else(|| all.iter().find_map(|rs| of(rs))) {
        Some(c) => {
            let (reason, message) = (c.reason.unwrap_or_default(), c.message.unwrap_or_default());
            set(status, "ReplicaFailure", &c.status, &reason, message);
        }
        None => remove(status, "ReplicaFailure"),
    }
}

/// The status after a look at `spec.paused`: a pause stops the deadline's clock.
pub fn pause(d: &Deployment) -> Option<DeploymentStatus> {
    deadline(d)?;
    let mut status = d.status.clone().unwrap_or_default();
    let reason = condition(&status, "Progressing").and_then(|c| c.reason.clone()).unwrap_or_default();
    if reason == TIMED_OUT {
        return None;
    }
    let paused = d.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
    match (paused, reason == PAUSED) {
        (true, false) => set(&mut status, "Progressing", "Unknown", PAUSED, "Deployment is paused".into()),
        (false, true) => {
            set(&mut status, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed".into());
        }
        _ => return None,
    }
    Some(status)
}

/// When a rollout that stands still has to be looked at again.
pub fn recheck(d: &Deployment, status: &DeploymentStatus) -> Option<Duration> {
    let limit = deadline(d)?;
    let c = condition(status, "Progressing")?;
    if is_complete(d, status) || matches!(c.reason.as_deref(), Some(TIMED_OUT | PAUSED)) {
        return None;
    }
    let passed = meta::since(c.last_update_time.as_ref()?);
    Some(limit.saturating_sub(passed) + Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(status: Value) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d", "generation": 2},
            "spec": {"replicas": 2, "progressDeadlineSeconds": 600, "selector": {}, "template": {}},
            "status": status}))
        .expect("a deployment")
    }

    fn set_of(replicas: i32, available: i32) -> Arc<ReplicaSet> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "d-1", "uid": "1"},
                "spec": {"replicas": replicas, "selector": {}},
                "status": {"replicas": replicas, "readyReplicas": available, "availableReplicas": available}}))
            .expect("a replica set"),
        )
    }

    fn told(status: &DeploymentStatus, kind: &str) -> String {
        let c = condition(status, kind).expect("the condition");
        format!("{} {} {}", c.status, c.reason.as_deref().unwrap_or(""), c.message.as_deref().unwrap_or(""))
    }

    #[test]
    fn a_rollout_progresses_and_completes() {
        let d = deployment(json!({}));
        let half = rollout(&d, &[set_of(2, 1)], Some(&set_of(2, 1)));
        assert_eq!(told(&half, "Progressing"), "True ReplicaSetUpdated ReplicaSet \"d-1\" is progressing.");
        assert_eq!(
            told(&half, "Available"),
            "False MinimumReplicasUnavailable Deployment does not have minimum availability."
        );
        assert_eq!((half.unavailable_replicas, half.updated_replicas), (Some(1), Some(2)));
        let mut d = d;
        d.status = Some(half);
        let done = rollout(&d, &[set_of(2, 2)], Some(&set_of(2, 2)));
        assert_eq!(
            told(&done, "Progressing"),
            "True NewReplicaSetAvailable ReplicaSet \"d-1\" has successfully progressed."
        );
        assert_eq!(
            told(&done, "Available"),
            "True MinimumReplicasAvailable Deployment has minimum availability."
        );
        assert!(is_complete(&d, &done) && recheck(&d, &done).is_none());
        d.status = Some(done.clone());
        assert_eq!(rollout(&d, &[set_of(2, 2)], Some(&set_of(2, 2))), done, "nothing more to write");
    }

    #[test]
    fn standing_still_for_too_long_is_a_timeout() {
        let progressing = |time: &str| {
            json!({"replicas": 2, "updatedReplicas": 2, "conditions": [{"type": "Progressing", "status": "True",
                "reason": "ReplicaSetUpdated", "lastUpdateTime": time, "lastTransitionTime": time}]})
        };
        let d = deployment(progressing("2020-01-01T00:00:00Z"));
        let late = rollout(&d, &[set_of(2, 0)], Some(&set_of(2, 0)));
        assert_eq!(
            told(&late, "Progressing"),
            "False ProgressDeadlineExceeded ReplicaSet \"d-1\" has timed out progressing."
        );
        let now = serde_json::to_value(meta::now()).expect("a time");
        let d = deployment(progressing(now.as_str().expect("text")));
        let waiting = rollout(&d, &[set_of(2, 0)], Some(&set_of(2, 0)));
        assert_eq!(
            condition(&waiting, "Progressing").and_then(|c| c.reason.as_deref()),
            Some("ReplicaSetUpdated")
        );
        let again = recheck(&d, &waiting).expect("it is looked at again");
        assert!(again > Duration::from_secs(590) && again <= Duration::from_secs(601));
    }

    #[test]
    fn pausing_and_resuming_are_told() {
        let mut d = deployment(json!({}));
        assert_eq!(pause(&d), None);
        d.spec.as_mut().expect("a spec").paused = Some(true);
        let paused = pause(&d).expect("news");
        assert_eq!(told(&paused, "Progressing"), "Unknown DeploymentPaused Deployment is paused");
        d.status = Some(paused);
        assert_eq!(pause(&d), None);
        d.spec.as_mut().expect("a spec").paused = None;
        let resumed = pause(&d).expect("news");
        assert_eq!(told(&resumed, "Progressing"), "Unknown DeploymentResumed Deployment is resumed");
    }

    #[test]
    fn a_replica_sets_failure_shows_and_goes() {
        let mut failing = ReplicaSet::clone(&set_of(2, 0));
        failing.status.get_or_insert_default().conditions =
            serde_json::from_value(json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]))
                .expect("conditions");
        let mut d = deployment(json!({}));
        let status = rollout(&d, &[Arc::new(failing.clone())], Some(&failing));
        assert_eq!(told(&status, "ReplicaFailure"), "True FailedCreate quota");
        d.status = Some(status);
        let healed = rollout(&d, &[set_of(2, 0)], Some(&set_of(2, 0)));
        assert!(condition(&healed, "ReplicaFailure").is_none());
    }
}
