//! Pods that wait for a node: those to be tried now by priority and age, those backing off after a
//! failure, and those that wait for an event that may make them fit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::filters::{ANYTHING, Events};
use super::podinfo::PodInfo;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A pod is tried again after this time even if nothing happened that should help.
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Backoff,
    Unschedulable(Events),
    /// A decision was made and its binding is under way.
    InFlight,
}

#[derive(Debug)]
struct Entry {
    info: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    added: u64,
    ready_at: Instant,
}

/// The scheduling queue.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    /// By priority, then age. Entries that moved on are skipped.
    active: BinaryHeap<(i32, Reverse<u64>, String)>,
    /// Backing off or given up for now, by the time they are tried again.
    timers: BinaryHeap<Reverse<(Instant, String)>>,
    sequence: u64,
}

fn backoff(attempts: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1u32 << attempts.saturating_sub(1).min(10));
    doubled.min(MAX_BACKOFF)
}

impl Queue {
    /// A pod wants a node, or a waiting one has changed. A changed pod is tried at once.
    pub fn add(&mut self, info: Arc<PodInfo>) {
        let uid = info.uid().to_owned();
        self.sequence += 1;
        let added = self.sequence;
        let entry = self.entries.entry(uid.clone()).or_insert_with(|| Entry {
            info: Arc::clone(&info),
            place: Place::Unschedulable(ANYTHING),
            attempts: 0,
            added,
            ready_at: Instant::now(),
        });
        entry.info = info;
        if matches!(entry.place, Place::Unschedulable(_)) {
            self.activate(&uid);
        }
    }

    /// Replaces what is known of a waiting pod without trying it: only its status changed.
    pub fn refresh(&mut self, info: Arc<PodInfo>) {
        if let Some(entry) = self.entries.get_mut(info.uid()) {
            entry.info = info;
        }
    }

    /// Whether the pod is known here, and as which version.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|e| &e.info)
    }

    /// The pod needs no node any more.
    pub fn remove(&mut self, uid: &str) {
        self.entries.remove(uid);
    }

    fn activate(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Active;
            self.active.push((entry.info.priority(), Reverse(entry.added), uid.to_owned()));
        }
    }

    /// The next pod to decide on.
    pub fn pop(&mut self) -> Option<Arc<PodInfo>> {
        while let Some((_, _, uid)) = self.active.pop() {
            if let Some(entry) = self.entries.get_mut(&uid)
                && entry.place == Place::Active
            {
                entry.place = Place::InFlight;
                entry.attempts += 1;
                return Some(Arc::clone(&entry.info));
            }
        }
        None
    }

    /// The pod fits nowhere until one of `hints` happens.
    pub fn unschedulable(&mut self, uid: &str, hints: Events, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Unschedulable(hints);
            entry.ready_at = now + backoff(entry.attempts);
            self.timers.push(Reverse((now + MAX_UNSCHEDULABLE, uid.to_owned())));
        }
    }

    /// The attempt failed for another reason: try again after a back-off.
    pub fn retry(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Backoff;
            entry.ready_at = now + backoff(entry.attempts);
            self.timers.push(Reverse((entry.ready_at, uid.to_owned())));
        }
    }

    /// Something happened: pods that it may help are tried, after their back-off.
    pub fn happened(&mut self, events: Events, now: Instant) {
        if events == 0 {
            return;
        }
        let mut ready = Vec::new();
        for (uid, entry) in &mut self.entries {
            match entry.place {
                Place::Unschedulable(hints) if hints & events != 0 => {}
                _ => continue,
            }
            if entry.ready_at <= now {
                ready.push(uid.clone());
            } else {
                entry.place = Place::Backoff;
                self.timers.push(Reverse((entry.ready_at, uid.clone())));
            }
        }
        ready.iter().for_each(|uid| self.activate(uid));
    }

    /// Activates what has waited long enough. Gives the time of the next such pod.
    pub fn flush(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((at, uid))) = self.timers.peek() {
            let due = self.entries.get(uid).is_some_and(|e| match e.place {
                Place::Backoff => e.ready_at <= *at,
                Place::Unschedulable(_) => e.ready_at + MAX_UNSCHEDULABLE <= *at + backoff(e.attempts),
                _ => false,
            });
            if due && *at > now {
                return Some(*at);
            }
            let uid = uid.clone();
            self.timers.pop();
            if due {
                self.activate(&uid);
            }
        }
        None
    }

    /// Whether a pod is to be decided on now.
    pub fn has_active(&self) -> bool {
        !self.active.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::filters::{NODE_ADDED, NODE_LABELS, POD_REMOVED};
    use super::super::snapshot::tests::pod;
    use super::*;
    use serde_json::json;

    fn with_priority(name: &str, priority: i32) -> Arc<PodInfo> {
        pod(name, json!({}), json!({"priority": priority}))
    }

    fn names(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|p| p.uid().to_owned()).collect()
    }

    #[test]
    fn priority_then_age() {
        let mut queue = Queue::default();
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.add(with_priority(name, priority));
        }
        queue.add(with_priority("a", 0));
        assert_eq!(names(&mut queue), ["b", "d", "a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unschedulable_pod_waits_for_an_event_that_helps() {
        let mut queue = Queue::default();
        queue.add(with_priority("a", 0));
        queue.pop();
        queue.unschedulable("a", NODE_ADDED | POD_REMOVED, Instant::now());
        queue.happened(NODE_LABELS, Instant::now());
        assert!(queue.pop().is_none());
        queue.happened(NODE_ADDED, Instant::now());
        assert!(queue.pop().is_none(), "it backs off first");
        let at = queue.flush(Instant::now()).expect("a timer");
        assert_eq!(at - Instant::now(), FIRST_BACKOFF);
        tokio::time::advance(FIRST_BACKOFF).await;
        queue.flush(Instant::now());
        assert_eq!(names(&mut queue), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_minutes_it_is_tried_anyway() {
        let mut queue = Queue::default();
        queue.add(with_priority("a", 0));
        queue.pop();
        queue.unschedulable("a", NODE_ADDED, Instant::now());
        let at = queue.flush(Instant::now()).expect("a timer");
        assert_eq!(at - Instant::now(), MAX_UNSCHEDULABLE);
        tokio::time::advance(MAX_UNSCHEDULABLE).await;
        assert!(queue.flush(Instant::now()).is_none());
        assert_eq!(names(&mut queue), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_up_to_ten_seconds() {
        assert_eq!([1, 2, 3, 4, 5, 50].map(|n| backoff(n).as_secs()), [1, 2, 4, 8, 10, 10]);
        let mut queue = Queue::default();
        queue.add(with_priority("a", 0));
        queue.pop();
        queue.retry("a", Instant::now());
        queue.add(with_priority("a", 0));
        assert!(queue.pop().is_none());
        tokio::time::advance(FIRST_BACKOFF).await;
        queue.flush(Instant::now());
        assert_eq!(names(&mut queue), ["a"]);
    }

    #[test]
    fn a_removed_pod_is_not_tried() {
        let mut queue = Queue::default();
        queue.add(with_priority("a", 0));
        queue.remove("a");
        assert!(queue.pop().is_none() && !queue.has_active());
    }
}
