//! Time for pauses: a time line that runs evenly from the start of the process, whatever is done to
//! the clock of the machine.
//!
//! Boards without a battery start in 1970 and jump by decades once they hear of the time; a laptop's
//! clock is set back. Back-offs, deadlines and retries count on this line, so that a jump neither ends
//! nor prolongs them. What others read (statuses, events, leases) tells the clock's time.

use std::sync::OnceLock;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

static START: OnceLock<(Instant, Timestamp)> = OnceLock::new();

/// Now. Equal to the clock's time when this was first asked for in this process.
pub(crate) fn now() -> Timestamp {
    let (began, at) = START.get_or_init(|| (Instant::now(), Timestamp::now()));
    let passed = SignedDuration::try_from(began.elapsed()).unwrap_or(SignedDuration::MAX);
    at.checked_add(passed).unwrap_or(Timestamp::MAX)
}

/// When on this line something happened that is heard of just now, and that the clock dated `clock`.
/// Nothing is heard of before it happens.
pub(crate) fn past(clock: Timestamp) -> Timestamp {
    placed(clock, Timestamp::now(), now())
}

/// When on this line it will be `clock`; now, if the clock says that it has been.
pub(crate) fn future(clock: Timestamp) -> Timestamp {
    let left = clock.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
    now().checked_add(left).unwrap_or(Timestamp::MAX)
}

fn placed(event: Timestamp, clock: Timestamp, steady: Timestamp) -> Timestamp {
    let age = clock.duration_since(event).max(SignedDuration::ZERO);
    steady.checked_sub(age).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    #[test]
    fn what_the_clock_dates_in_the_future_happened_now() {
        assert_eq!(placed(at(90), at(100), at(7_000)), at(6_990), "ten seconds ago on either");
        assert_eq!(placed(at(5_000), at(100), at(7_000)), at(7_000), "the clock was set back meanwhile");
        assert_eq!(placed(at(0), at(i64::from(i32::MAX)), at(100)), at(100 - i64::from(i32::MAX)));
    }

    #[test]
    fn it_never_goes_back() {
        let before = now();
        assert!(now() >= before && future(Timestamp::MIN) >= before && past(Timestamp::MAX) >= before);
    }
}
