//! How fast CPU time is used: the difference between two readings.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Two readings closer than this, in milliseconds, say little: the rate before them is told again.
const LEAST: i64 = 500;
/// Readings of what was not asked for in so long are forgotten.
const KEPT: SignedDuration = SignedDuration::from_mins(10);

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: i64,
    used: u64,
    rate: u64,
}

/// The newest readings by what they are of.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<String, Reading>>);

impl Rates {
    /// Nanoseconds of CPU time used a second, by `used` nanoseconds at `at` and the reading before; without one,
    /// since `started`. Times are milliseconds since the epoch.
    pub(super) fn rate(&self, of: &str, at: i64, used: u64, started: i64) -> u64 {
        let mut readings = self.0.lock();
        let before = readings.get(of).copied();
        // What was started again counts from nought.
        let before = before.filter(|b| b.used <= used && b.at >= started);
        let rate = match before {
            Some(b) if at - b.at < LEAST => return b.rate,
            Some(b) => per_second(used - b.used, at - b.at),
            None => per_second(used, at - started),
        };
        readings.insert(of.to_owned(), Reading { at, used, rate });
        rate
    }

    /// Forgets what nobody asked for in a long time.
    pub(super) fn forget_older(&self, now: Timestamp) {
        let oldest = (now - KEPT).as_millisecond();
        self.0.lock().retain(|_, r| r.at >= oldest);
    }
}

fn per_second(nanoseconds: u64, milliseconds: i64) -> u64 {
    let milliseconds = u64::try_from(milliseconds).unwrap_or(0).max(1);
    let rate = u128::from(nanoseconds) * 1000 / u128::from(milliseconds);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_compares_with_the_reading_before() {
        let rates = Rates::default();
        assert_eq!(rates.rate("a", 2_000, 500, 1_000), 500, "since its start");
        assert_eq!(rates.rate("a", 4_000, 4_500, 1_000), 2_000);
        assert_eq!(rates.rate("a", 4_100, 9_000, 1_000), 2_000, "too soon to tell");
        assert_eq!(rates.rate("b", 4_000, 10, 3_000), 10);
        assert_eq!(rates.rate("a", 10_000, 300, 9_000), 300, "it was started again");
        rates.forget_older(Timestamp::from_millisecond(20 * 60_000).unwrap());
        assert!(rates.0.lock().is_empty());
    }
}
