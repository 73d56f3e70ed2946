//! The end of groups: their processes are killed, their directories removed.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::limits::LIMITED;
use super::{Cgroups, field, ignore_missing, tree, warn};
use crate::runtime::sys;

/// How long killed processes may take to be gone.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a group may stay busy after its last process has ended.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(2);
/// Version 1 tells nobody when a group gets empty.
const EMPTY_STEP: Duration = Duration::from_millis(2);

impl Cgroups {
    /// Kills all processes of a group except the caller and waits until they are gone. Children of
    /// the caller stay as zombies until it reaps them.
    pub fn kill(&self, group: &str) -> io::Result<()> {
        let deadline = Instant::now() + DEATH_TIMEOUT;
        if let Self::V2(mount) = self {
            // All at once, so that none can fork away (Linux 5.14). The loop sees to the rest.
            let _ = fs::write(mount.join(group).join("cgroup.kill"), "1");
        }
        // Again, because a process may fork while its group is being read.
        loop {
            let mut handles = Vec::new();
            for pid in self.processes(group) {
                // 0 is a process of a PID namespace that is not ours; it cannot be named from here.
                if pid <= 0 || pid == std::process::id() as i32 {
                    continue;
                }
                let Ok(handle) = sys::pidfd_open(pid) else {
                    continue;
                };
                if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() && !sys::has_exited(&handle) {
                    handles.push(handle);
                }
            }
            if handles.is_empty() {
                return Ok(());
            }
            for handle in handles {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                if poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("processes of cgroup {group} do not end"),
                    ));
                }
            }
        }
    }

    /// Removes a group and the groups in it, in all hierarchies. That it is not there is fine.
    pub fn remove(&self, group: &str) {
        if group.trim_matches('/').is_empty() {
            return;
        }
        for dir in self.dirs(group) {
            for dir in tree(&dir) {
                warn("remove", &dir, self.remove_one(&dir));
            }
        }
    }

    /// Removes a directory without others in it. A process that has ended may be in its group for an
    /// instant still.
    fn remove_one(&self, dir: &Path) -> io::Result<()> {
        let deadline = Instant::now() + EMPTY_TIMEOUT;
        loop {
            match fs::remove_dir(dir) {
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {}
                other => return other.or_else(ignore_missing),
            }
            if self.is_v2() {
                wait_until_empty(dir, deadline)?;
            } else {
                std::thread::sleep(EMPTY_STEP);
            }
        }
    }

    /// Removes a group if nothing is in it, then its parents up to `top` likewise, but for those to `keep`
    /// where limits are set.
    pub fn remove_empty_parents(&self, group: &str, top: &str, keep: impl Fn(&str) -> bool) {
        for dir in self.dirs("") {
            let limited = self.is_v2() || LIMITED.iter().any(|c| self.dir(c, "").as_ref() == Some(&dir));
            let stays = |group: &Path| limited && group.to_str().is_some_and(&keep);
            let mut group = Path::new(group);
            while group.starts_with(top) && group != Path::new("") && !stays(group) {
                // Fails while another pod's group is in it, which is the point.
                if fs::remove_dir(dir.join(group)).or_else(ignore_missing).is_err() {
                    break;
                }
                let Some(parent) = group.parent() else { break };
                group = parent;
            }
        }
    }
}

/// Waits for the event that a group and those in it have no process any more (cgroup v2, `cgroup.events`).
fn wait_until_empty(dir: &Path, deadline: Instant) -> io::Result<()> {
    // Gone meanwhile, which the next try finds.
    let Ok(file) = fs::File::open(dir.join("cgroup.events")) else { return Ok(()) };
    if field(&io::read_to_string(&file)?, "populated") == 0 {
        // Empty and busy: another is being removed inside of it.
        std::thread::yield_now();
        return Ok(());
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_go_when_they_are_empty_and_nobody_keeps_them() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::V2(dir.path().to_path_buf());
        for group in ["k/p/burstable/a", "k/p/burstable/b", "k/p/besteffort/c"] {
            fs::create_dir_all(dir.path().join(group)).unwrap();
        }
        let there = |group: &str| dir.path().join(group).exists();
        cgroups.remove_empty_parents("k/p/burstable/a", "k", |_| false);
        assert!(!there("k/p/burstable/a") && there("k/p/burstable"));
        cgroups.remove_empty_parents("k/p/besteffort/c", "k", |g| g == "k/p/besteffort");
        assert!(!there("k/p/besteffort/c") && there("k/p/besteffort"));
        fs::remove_dir(dir.path().join("k/p/besteffort")).unwrap();
        cgroups.remove_empty_parents("k/p/burstable/b", "k", |_| false);
        assert!(!there("k"));
        cgroups.remove("k/none");
    }

    #[test]
    fn what_is_kept_is_kept_where_it_limits_something() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = ["memory", "freezer"].map(|c| (c.to_string(), dir.path().join(c)));
        let cgroups = Cgroups::V1(mounts.into());
        for controller in ["memory", "freezer"] {
            fs::create_dir_all(dir.path().join(controller).join("k/p/a")).unwrap();
        }
        cgroups.remove_empty_parents("k/p/a", "k", |g| g == "k/p");
        assert!(dir.path().join("memory/k/p").exists() && !dir.path().join("freezer/k").exists());
    }
}
