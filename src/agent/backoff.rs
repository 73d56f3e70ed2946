//! Exponential back-off as kubelet counts it: by key, doubling from 10 s to 5 min, forgotten after
//! twice the longest pause without a failure. Times are [`super::steady`]'s.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const INITIAL: SignedDuration = SignedDuration::from_secs(10);
const MAX: SignedDuration = SignedDuration::from_secs(300);

#[derive(Clone, Copy, Debug)]
struct Entry {
    pause: SignedDuration,
    updated: Timestamp,
}

/// Pauses by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    entries: HashMap<String, Entry>,
}

impl Backoff {
    /// Until when `key` has to wait after its failure at `failed`; `None` if it need not.
    pub(crate) fn until(&self, key: &str, failed: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(key)?;
        if expired(entry, failed) {
            return None;
        }
        let until = failed + entry.pause;
        (now < until).then_some(until)
    }

    /// Until when `key` has to wait after it was counted last.
    pub(crate) fn until_since_update(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let updated = self.entries.get(key)?.updated;
        self.until(key, updated, now)
    }

    /// Counts a failure (or a restart after one): the next pause is the first, or twice the last.
    pub(crate) fn next(&mut self, key: &str, now: Timestamp) {
        self.next_after(key, now, now);
    }

    /// As [`Self::next`] for what failed at `failed`: the time it waited since does not count as success.
    pub(crate) fn next_after(&mut self, key: &str, failed: Timestamp, now: Timestamp) {
        let pause = match self.entries.get(key) {
            Some(entry) if !expired(entry, failed) => (entry.pause * 2).min(MAX),
            _ => INITIAL,
        };
        self.entries.insert(key.to_owned(), Entry { pause, updated: now });
    }

    /// Takes up a pause that was counted before the agent started.
    pub(crate) fn restore(&mut self, key: &str, pause: SignedDuration, updated: Timestamp) {
        let pause = pause.clamp(INITIAL, MAX);
        self.entries.entry(key.to_owned()).or_insert(Entry { pause, updated });
    }

    /// The pause `key` has now.
    pub(crate) fn pause(&self, key: &str) -> Duration {
        self.entries.get(key).map_or(INITIAL, |e| e.pause).unsigned_abs()
    }

    /// Forgets `key`.
    pub(crate) fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

fn expired(entry: &Entry, at: Timestamp) -> bool {
    at.duration_since(entry.updated) > MAX * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::go_duration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("in range")
    }

    #[test]
    fn doubles_to_five_minutes_and_is_forgotten_after_ten() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.until("a", at(0), at(0)), None, "the first restart is immediate");
        let mut pauses = Vec::new();
        for now in 0..7 {
            backoff.next("a", at(now));
            pauses.push(go_duration(backoff.pause("a")));
        }
        assert_eq!(pauses, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        assert_eq!(backoff.until("a", at(10), at(20)), Some(at(310)));
        assert_eq!(backoff.until("a", at(10), at(310)), None);
        assert_eq!(backoff.until("a", at(700), at(701)), None, "ran longer than ten minutes");
        backoff.next("a", at(700));
        assert_eq!(backoff.pause("a"), INITIAL.unsigned_abs());
        assert_eq!(backoff.until("b", at(0), at(0)), None);
    }

    #[test]
    fn waiting_is_not_running() {
        let mut backoff = Backoff::default();
        backoff.restore("a", SignedDuration::from_secs(300), at(0));
        // It ran for nine minutes and waited for five: its pause stays the longest.
        backoff.next_after("a", at(540), at(840));
        assert_eq!(go_duration(backoff.pause("a")), "5m0s");
        // It ran for more than ten minutes.
        backoff.next_after("a", at(840 + 601), at(840 + 901));
        assert_eq!(go_duration(backoff.pause("a")), "10s");
    }
}
