//! Work inside another network namespace.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Runs `work` on a thread of its own that has entered the network namespace `netns` and ends
/// afterwards. Never on a thread of a pool: threads born meanwhile would inherit the namespace.
pub fn inside<T: Send>(netns: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
    })
}
