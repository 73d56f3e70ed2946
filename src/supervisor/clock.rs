//! The machine's clock: being told when somebody sets it, without looking again and again
//! (`timerfd_create(2)`, `TFD_TIMER_CANCEL_ON_SET`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// Tells when the clock of this machine is set: by NTP at a start, by hand, after a suspend.
#[derive(Debug)]
pub struct ClockWatch {
    /// Closing it ends the watch.
    _timer: TimerFd,
    ready: AsyncFd<OwnedFd>,
}

impl ClockWatch {
    /// Watches from now on; also tells when the clock comes to `at`, if that is given.
    ///
    /// # Errors
    /// The kernel gives no timer.
    pub fn new(at: Option<SystemTime>) -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let seconds = at.map(|at| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        // A time nobody lives to see.
        let seconds = seconds.and_then(|s| i64::try_from(s).ok()).unwrap_or(i64::from(u32::MAX) * 2);
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        match timer.set(Expiration::OneShot(TimeSpec::seconds(seconds.saturating_add(1))), flags) {
            // The clock was set meanwhile; the timer stands.
            Ok(()) | Err(Errno::ECANCELED) => {}
            Err(error) => return Err(error.into()),
        }
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd, which stays open while registered; its successor is an unsafe fn"
        )]
        let ready = AsyncFd::new(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self { _timer: timer, ready })
    }

    /// Ends when the clock was set, or has come to the time that was given.
    ///
    /// # Errors
    /// The timer fails.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.ready.readable_mut().await?;
            let mut count = [0; 8];
            match nix::unistd::read(ready.get_inner().as_raw_fd(), &mut count) {
                Ok(_) | Err(Errno::ECANCELED) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_time_that_comes_is_told_and_nothing_else() {
        let soon = SystemTime::now() + Duration::from_millis(500);
        let mut watch = ClockWatch::new(Some(soon)).expect("a timer");
        watch.changed().await.expect("told");
        assert!(SystemTime::now() >= soon);
        let mut never = ClockWatch::new(None).expect("a timer");
        for watch in [&mut watch, &mut never] {
            let told = tokio::time::timeout(Duration::from_millis(50), watch.changed()).await;
            assert!(told.is_err(), "{told:?}");
        }
    }
}
