//! The work queue of a controller, with client-go's semantics: a key waits at most once, is never
//! worked on twice at the same time, and is retried after failure with growing delay.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Error;

const FIRST_DELAY: Duration = Duration::from_millis(5);
const MAX_DELAY: Duration = Duration::from_secs(1000);
/// Times that users give may be longer than moments can be told: after a year one looks again.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a successful reconciliation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until the next change.
    Done,
    /// Once more after this time.
    After(Duration),
}

struct State<K> {
    ready: VecDeque<K>,
    dirty: HashSet<K>,
    processing: HashSet<K>,
    delayed: BTreeMap<(Instant, u64), K>,
    /// Where in `delayed` a key is: each waits only for its earliest time.
    delays: HashMap<K, (Instant, u64)>,
    sequence: u64,
    failures: HashMap<K, u32>,
}

struct Inner<K> {
    name: &'static str,
    state: Mutex<State<K>>,
    changed: Notify,
}

/// A work queue. Clones share one queue.
pub struct Queue<K>(Arc<Inner<K>>);

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash + std::fmt::Debug + Send + 'static> Queue<K> {
    /// An empty queue; the name is the controller's, for the log.
    pub fn new(name: &'static str) -> Self {
        Self(Arc::new(Inner {
            name,
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashSet::new(),
                processing: HashSet::new(),
                delayed: BTreeMap::new(),
                delays: HashMap::new(),
                sequence: 0,
                failures: HashMap::new(),
            }),
            changed: Notify::new(),
        }))
    }

    /// Wants `key` to be worked on. While it is being worked on it waits for the end of that.
    pub fn add(&self, key: K) {
        let mut state = self.0.state.lock();
        if !state.dirty.insert(key.clone()) || state.processing.contains(&key) {
            return;
        }
        state.ready.push_back(key);
        drop(state);
        self.0.changed.notify_one();
    }

    /// Adds `key` after `delay`.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.0.state.lock();
        state.sequence += 1;
        let place = (Instant::now() + delay.min(LONGEST_DELAY), state.sequence);
        match state.delays.get(&key).copied() {
            Some(earlier) if earlier.0 <= place.0 => return,
            Some(later) => state.delayed.remove(&later),
            None => None,
        };
        state.delays.insert(key.clone(), place);
        state.delayed.insert(place, key);
        drop(state);
        self.0.changed.notify_one();
    }

    /// Adds `key` after a delay that doubles with each call until [`Queue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let failures = {
            let mut state = self.0.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures += 1;
            *failures - 1
        };
        let delay =
            FIRST_DELAY.saturating_mul(1u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX)).min(MAX_DELAY);
        self.add_after(key, delay);
    }

    /// The next failure of `key` counts as its first.
    pub fn forget(&self, key: &K) {
        self.0.state.lock().failures.remove(key);
    }

    /// How often `key` failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.0.state.lock().failures.get(key).copied().unwrap_or_default()
    }

    /// The next key, which is then being worked on until [`Queue::done`].
    async fn next(&self) -> K {
        loop {
            let changed = self.0.changed.notified();
            let wake = {
                let mut state = self.0.state.lock();
                let wake = state.promote();
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    return key;
                }
                wake
            };
            match wake {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    fn done(&self, key: &K) {
        let mut state = self.0.state.lock();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
        }
    }

    fn finish(&self, key: K, result: Result<Next, Error>) {
        self.done(&key);
        match result {
            Ok(next) => {
                self.forget(&key);
                if let Next::After(delay) = next {
                    self.add_after(key, delay);
                }
            }
            Err(error) => {
                if error.is_conflict() || error.is_not_found() || matches!(error, Error::Unfinished(_)) {
                    tracing::debug!(controller = self.0.name, ?key, %error, "trying again");
                } else {
                    tracing::warn!(controller = self.0.name, ?key, %error, "reconciliation failed; trying again");
                }
                self.add_rate_limited(key);
            }
        }
    }

    /// Works on keys, at most `workers` at once, until `stop`. What is in work then is finished.
    pub async fn run<F, Fut>(&self, workers: usize, stop: CancellationToken, reconcile: F)
    where
        F: Fn(K) -> Fut,
        Fut: Future<Output = Result<Next, Error>>,
    {
        let mut running = FuturesUnordered::new();
        loop {
            let stopping = stop.is_cancelled();
            if stopping && running.is_empty() {
                return;
            }
            tokio::select! {
                () = stop.cancelled(), if !stopping => {}
                Some((key, result)) = running.next(), if !running.is_empty() => self.finish(key, result),
                key = self.next(), if !stopping && running.len() < workers => {
                    let work = reconcile(key.clone());
                    running.push(async move { (key, work.await) });
                }
            }
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Moves due delayed keys to the ready ones; gives the time of the next.
    fn promote(&mut self) -> Option<Instant> {
        let now = Instant::now();
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return Some(entry.key().0);
            }
            let key = entry.remove();
            self.delays.remove(&key);
            if self.dirty.insert(key.clone()) && !self.processing.contains(&key) {
                self.ready.push_back(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_not_worked_on_twice_at_once() {
        let queue = Queue::new("test");
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_keys_come_in_time_order() {
        let queue = Queue::new("test");
        queue.add_after("late", Duration::from_secs(9));
        queue.add_after("early", Duration::from_secs(3));
        let start = Instant::now();
        assert_eq!(queue.next().await, "early");
        assert_eq!(queue.next().await, "late");
        assert!(start.elapsed() >= Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_with_doubling_delay_up_to_a_limit() {
        let queue = Queue::new("test");
        let start = Instant::now();
        for _ in 0..3 {
            queue.add_rate_limited(1);
            assert_eq!(queue.next().await, 1);
            queue.done(&1);
        }
        assert!(start.elapsed() >= Duration::from_millis(35) && start.elapsed() < Duration::from_millis(60));
        for _ in 0..40 {
            queue.0.state.lock().failures.insert(1, 60);
        }
        queue.add_rate_limited(1);
        let before = Instant::now();
        queue.next().await;
        assert!(before.elapsed() <= MAX_DELAY + Duration::from_secs(1));
        queue.forget(&1);
        assert_eq!(queue.failures(&1), 0);
        queue.add_after(2, Duration::MAX);
        queue.add_after(3, Duration::from_secs(1));
        assert_eq!(queue.next().await, 3, "what is wanted after for ever holds nothing up");
    }

    #[tokio::test(start_paused = true)]
    async fn run_retries_failures_and_ends_when_stopped() {
        let queue = Queue::new("test");
        queue.add(7);
        let stop = CancellationToken::new();
        let tries = std::cell::Cell::new(0);
        queue
            .run(2, stop.clone(), |_| {
                tries.set(tries.get() + 1);
                let n = tries.get();
                let stop = stop.clone();
                async move {
                    if n < 3 {
                        return Err(Error::Invalid("no".into()));
                    }
                    stop.cancel();
                    Ok(Next::Done)
                }
            })
            .await;
        assert_eq!(tries.get(), 3);
    }
}
