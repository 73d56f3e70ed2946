//! The next step for a stateful set: one pod after the other, in order, unless it is told to act in
//! parallel. Pure functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};

use super::identity;
use crate::server::controllers::kit::meta;
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::revisions::HASH;

/// Names of the revisions in play.
#[derive(Clone, Copy, Debug)]
pub struct Revisions<'r> {
    /// What pods were before an update.
    pub current: &'r str,
    /// What they shall be.
    pub update: &'r str,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Step {
    /// Ordinals whose pod is missing, and whether it is of the new revision.
    pub create: Vec<(i32, bool)>,
    /// Pods that end, are outdated or too many; the flag says that the set shrinks.
    pub delete: Vec<(Arc<Pod>, bool)>,
}

fn min_ready(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or_default()
}

fn revision(pod: &Pod) -> &str {
    meta::labels(&pod.metadata).get(HASH).map(String::as_str).unwrap_or_default()
}

fn partition(set: &StatefulSet) -> Option<i32> {
    let strategy = set.spec.as_ref()?.update_strategy.as_ref()?;
    strategy.rolling_update.as_ref()?.partition
}

fn is_on_delete(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete")
}

/// Whether a new pod of this ordinal is still of the revision before the update.
fn is_old(set: &StatefulSet, ordinal: i32, revisions: Revisions<'_>) -> bool {
    if revisions.current == revisions.update || is_on_delete(set) {
        return false;
    }
    let start = identity::start(set);
    let kept = match partition(set) {
        Some(partition) if partition > 0 => partition,
        _ => set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or_default(),
    };
    ordinal < start + kept
}

/// Decides on the next step. `pods` are the set's, by ordinal.
pub fn step(set: &StatefulSet, pods: &BTreeMap<i32, Arc<Pod>>, revisions: Revisions<'_>) -> Step {
    let parallel = set.spec.as_ref().and_then(|s| s.pod_management_policy.as_deref()) == Some("Parallel");
    let mut step = Step::default();
    let wanted = identity::start(set)..identity::start(set) + identity::replicas(set);
    let settled = |p: &Pod| !p.is_terminating() && p.is_available(min_ready(set));
    for ordinal in wanted.clone() {
        match pods.get(&ordinal) {
            None => step.create.push((ordinal, !is_old(set, ordinal, revisions))),
            Some(pod) if pod.is_finished() && !pod.is_terminating() => {
                step.delete.push((Arc::clone(pod), false));
            }
            Some(pod) if settled(pod) => continue,
            Some(_) => {}
        }
        if !parallel {
            return step;
        }
    }
    let condemned: Vec<_> = pods.iter().rev().filter(|(o, _)| !wanted.contains(o)).collect();
    for (_, pod) in condemned {
        if !pod.is_terminating() {
            step.delete.push((Arc::clone(pod), true));
        }
        if !parallel {
            return step;
        }
    }
    if is_on_delete(set) || !step.create.is_empty() || !step.delete.is_empty() {
        return step;
    }
    let from = identity::start(set).max(partition(set).unwrap_or_default());
    for (_, pod) in pods.range(from..wanted.end.max(from)).rev() {
        if revision(pod) != revisions.update && !pod.is_terminating() {
            step.delete.push((Arc::clone(pod), false));
            return step;
        }
        if !settled(pod) {
            return step;
        }
    }
    step
}

/// The status after counting the pods; at the end of an update the new revision becomes the current.
pub fn status(
    set: &StatefulSet,
    pods: &BTreeMap<i32, Arc<Pod>>,
    revisions: Revisions<'_>,
) -> StatefulSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let count = |f: &dyn Fn(&Pod) -> bool| -> i32 {
        i32::try_from(pods.values().filter(|p| f(p)).count()).unwrap_or(i32::MAX)
    };
    let living = |p: &Pod| !p.is_terminating() && !p.is_finished();
    let positive = |n: i32| (n > 0).then_some(n);
    let replicas = count(&|_| true);
    let ready = count(&|p| living(p) && p.is_ready());
    let updated = count(&|p| living(p) && revision(p) == revisions.update);
    let mut current = revisions.current;
    let mut of_current = count(&|p| living(p) && revision(p) == revisions.current);
    if !is_on_delete(set) && updated == replicas && ready == replicas {
        current = revisions.update;
        of_current = updated;
    }
    StatefulSetStatus {
        replicas,
        ready_replicas: positive(ready),
        available_replicas: Some(count(&|p| living(p) && p.is_available(min_ready(set)))),
        current_replicas: positive(of_current),
        updated_replicas: positive(updated),
        current_revision: Some(current.to_owned()),
        update_revision: Some(revisions.update.to_owned()),
        observed_generation: set.metadata.generation,
        collision_count: Some(old.collision_count.unwrap_or_default()),
        conditions: old.conditions,
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::tests::set;
    use super::*;
    use serde_json::json;

    const SAME: Revisions<'_> = Revisions { current: "r1", update: "r1" };
    const UPDATE: Revisions<'_> = Revisions { current: "r1", update: "r2" };

    fn pods(list: &[(i32, &str, bool)]) -> BTreeMap<i32, Arc<Pod>> {
        let one = |(ordinal, revision, ready): &(i32, &str, bool)| {
            let status = if *ready { "True" } else { "False" };
            let pod = json!({"metadata": {"name": format!("db-{ordinal}"), "labels": {HASH: revision}},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}});
            (*ordinal, Arc::new(serde_json::from_value(pod).expect("a pod")))
        };
        list.iter().map(one).collect()
    }

    fn told(step: &Step) -> (Vec<(i32, bool)>, Vec<String>) {
        let name = |(p, _): &(Arc<Pod>, bool)| meta::name(&p.metadata).to_owned();
        (step.create.clone(), step.delete.iter().map(name).collect())
    }

    #[test]
    fn pods_come_and_go_in_order() {
        let s = set(json!({}));
        let next = |p: &[(i32, &str, bool)]| told(&step(&s, &pods(p), SAME));
        assert_eq!(next(&[]).0, [(0, true)]);
        assert_eq!(next(&[(0, "r1", false)]), (vec![], vec![]));
        assert_eq!(next(&[(0, "r1", true)]).0, [(1, true)]);
        assert_eq!(next(&[(0, "r1", true), (2, "r1", true)]).0, [(1, true)]);
        let more = [(0, "r1", true), (1, "r1", true), (2, "r1", true), (3, "r1", true), (4, "r1", true)];
        assert_eq!(next(&more).1, ["db-4"]);
        let parallel = set(json!({"podManagementPolicy": "Parallel"}));
        assert_eq!(step(&parallel, &pods(&[]), SAME).create.len(), 3);
        assert_eq!(step(&parallel, &pods(&more), SAME).delete.len(), 2);
    }

    #[test]
    fn an_update_goes_from_the_last_to_the_first() {
        let s = set(json!({}));
        let next = |p: &[(i32, &str, bool)]| told(&step(&s, &pods(p), UPDATE)).1;
        assert_eq!(next(&[(0, "r1", true), (1, "r1", true), (2, "r1", true)]), ["db-2"]);
        assert_eq!(next(&[(0, "r1", true), (1, "r1", true), (2, "r2", true)]), ["db-1"]);
        assert!(next(&[(0, "r1", true), (1, "r2", false), (2, "r2", true)]).is_empty());
        assert!(next(&[(0, "r2", true), (1, "r2", true), (2, "r2", true)]).is_empty());
        let part =
            set(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}));
        let all = pods(&[(0, "r1", true), (1, "r1", true), (2, "r2", true)]);
        assert!(step(&part, &all, UPDATE).delete.is_empty());
        // A lost pod below the partition comes back as it was.
        assert_eq!(step(&part, &pods(&[(1, "r1", true), (2, "r2", true)]), UPDATE).create, [(0, false)]);
        let by_hand = set(json!({"updateStrategy": {"type": "OnDelete"}}));
        assert!(
            step(&by_hand, &pods(&[(0, "r1", true), (1, "r1", true), (2, "r1", true)]), UPDATE)
                .delete
                .is_empty()
        );
    }

    #[test]
    fn the_status_follows_an_update_to_its_end() {
        let s = set(json!({}));
        let half = status(&s, &pods(&[(0, "r1", true), (1, "r1", true), (2, "r2", false)]), UPDATE);
        assert_eq!(
            (half.ready_replicas, half.current_replicas, half.updated_replicas),
            (Some(2), Some(2), Some(1))
        );
        assert_eq!(half.current_revision.as_deref(), Some("r1"));
        let done = status(&s, &pods(&[(0, "r2", true), (1, "r2", true), (2, "r2", true)]), UPDATE);
        assert_eq!((done.current_revision.as_deref(), done.current_replicas), (Some("r2"), Some(3)));
    }
}
