//! Control groups, version 1 (and hybrid) and 2: limits, statistics, killing, removal.
//!
//! A group is named by its path from the root of the hierarchy, the same in all of them. What the
//! kernel does not have or refuses is warned of, and the rest goes on: a limit that cannot be set
//! must not keep a pod from running.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

use super::spec::Resources;
use super::sys;

/// How long killed processes may take to be gone.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);

/// The hierarchies of this machine.
#[derive(Clone, Debug)]
pub(crate) enum Cgroups {
    /// Version 1: where each controller is mounted.
    V1(BTreeMap<String, PathBuf>),
    /// Version 2: the one mount.
    V2(PathBuf),
}

impl Cgroups {
    /// Looks at what is mounted.
    pub fn detect() -> Self {
        let unified = Path::new("/sys/fs/cgroup");
        if statfs(unified).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            return Self::V2(unified.to_path_buf());
        }
        Self::V1(parse_v1(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()))
    }

    /// Whether this is version 2.
    pub fn is_v2(&self) -> bool {
        matches!(self, Self::V2(_))
    }

    /// The directory of `group` in a controller's hierarchy.
    pub fn dir(&self, controller: &str, group: &str) -> Option<PathBuf> {
        match self {
            Self::V1(mounts) => Some(mounts.get(controller)?.join(group)),
            Self::V2(mount) => Some(mount.join(group)),
        }
    }

    /// The directories of `group` in all hierarchies.
    fn dirs(&self, group: &str) -> Vec<PathBuf> {
        match self {
            Self::V1(mounts) => {
                let mut dirs: Vec<_> = mounts.values().map(|m| m.join(group)).collect();
                // Controllers mounted together share one directory.
                dirs.sort();
                dirs.dedup();
                dirs
            }
            Self::V2(mount) => vec![mount.join(group)],
        }
    }

    /// Makes a group in the hierarchies whose limits and statistics are used, and sets its limits.
    pub fn create(&self, group: &str, resources: &Resources) {
        match self {
            Self::V1(_) => {
                for controller in ["memory", "cpu", "cpuacct", "pids"] {
                    if let Some(dir) = self.dir(controller, group) {
                        warn("make", &dir, fs::create_dir_all(&dir));
                    }
                }
                self.limit_v1(group, resources);
            }
            Self::V2(mount) => {
                let dir = mount.join(group);
                warn("make", &dir, fs::create_dir_all(&dir));
                let mut parent = mount.clone();
                for part in Path::new(group) {
                    for controller in ["+cpu", "+memory", "+pids", "+io", "+cpuset"] {
                        let file = parent.join("cgroup.subtree_control");
                        // Controllers this kernel lacks are refused one by one.
                        if let Err(e) = fs::write(&file, controller) {
                            tracing::debug!("enable {controller} in {}: {e}", file.display());
                        }
                    }
                    parent.push(part);
                }
                limit_v2(&dir, resources);
            }
        }
    }

    fn limit_v1(&self, group: &str, r: &Resources) {
        let set = |controller: &str, file: &str, value: String| match self.dir(controller, group) {
            Some(dir) => write(&dir.join(file), &value),
            None => tracing::warn!("no {controller} cgroup: {file}={value} is not enforced"),
        };
        if let Some(shares) = r.cpu_shares {
            set("cpu", "cpu.shares", shares.max(2).to_string());
        }
        if let Some(period) = r.cpu_period.filter(|p| *p > 0) {
            set("cpu", "cpu.cfs_period_us", period.to_string());
        }
        if let Some(quota) = r.cpu_quota.filter(|q| *q != 0) {
            set("cpu", "cpu.cfs_quota_us", quota.to_string());
        }
        if let Some(limit) = r.memory_limit.filter(|l| *l > 0) {
            set("memory", "memory.limit_in_bytes", limit.to_string());
            // No swap, as the kubelet's default: only where swap accounting exists.
            if let Some(file) = self
                .dir("memory", group)
                .map(|d| d.join("memory.memsw.limit_in_bytes"))
                .filter(|f| f.exists())
            {
                write(&file, &limit.to_string());
            }
        }
        if let Some(pids) = r.pids_limit.filter(|p| *p > 0) {
            set("pids", "pids.max", pids.to_string());
        }
    }

    /// Moves a process into a group, which is made: where its use is accounted for, and where
    /// systemd would find and end it together with kedge.
    pub fn join(&self, group: &str, pid: u32) {
        let controllers: &[&str] =
            if self.is_v2() { &[""] } else { &["memory", "cpu", "cpuacct", "pids", SYSTEMD] };
        for controller in controllers {
            let Some(dir) = self.dir(controller, group) else {
                continue;
            };
            warn("make", &dir, fs::create_dir_all(&dir));
            write(&dir.join("cgroup.procs"), &pid.to_string());
        }
    }

    /// All processes of a group and of the groups in it.
    pub fn processes(&self, group: &str) -> Vec<i32> {
        let mut pids = Vec::new();
        for dir in self.dirs(group) {
            for dir in tree(&dir) {
                let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
            }
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills all processes of a group except the caller and waits until they are gone. Children of
    /// the caller stay as zombies until it reaps them.
    pub fn kill(&self, group: &str) -> io::Result<()> {
        let deadline = Instant::now() + DEATH_TIMEOUT;
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
                let gone = fs::remove_dir(&dir).or_else(ignore_missing);
                warn("remove", &dir, gone);
            }
        }
    }

    /// Removes a group if nothing is in it, then its parents up to `top` likewise.
    pub fn remove_empty_parents(&self, group: &str, top: &str) {
        for dir in self.dirs("") {
            let mut group = Path::new(group);
            while group.starts_with(top) && group != Path::new("") {
                // Fails while another pod's group is in it, which is the point.
                if fs::remove_dir(dir.join(group)).or_else(ignore_missing).is_err() {
                    break;
                }
                let Some(parent) = group.parent() else { break };
                group = parent;
            }
        }
    }

    /// How many processes of the group the kernel killed for want of memory.
    pub fn oom_kills(&self, group: &str) -> u64 {
        let file = if self.is_v2() { "memory.events" } else { "memory.oom_control" };
        let Some(dir) = self.dir("memory", group) else {
            return 0;
        };
        field(&fs::read_to_string(dir.join(file)).unwrap_or_default(), "oom_kill")
    }
}

fn limit_v2(dir: &Path, r: &Resources) {
    if let Some(shares) = r.cpu_shares {
        write(&dir.join("cpu.weight"), &weight(shares).to_string());
    }
    if let Some(quota) = r.cpu_quota.filter(|q| *q != 0) {
        let period = r.cpu_period.filter(|p| *p > 0).unwrap_or(100_000);
        let max = if quota < 0 { "max".to_string() } else { quota.to_string() };
        write(&dir.join("cpu.max"), &format!("{max} {period}"));
    }
    if let Some(limit) = r.memory_limit.filter(|l| *l > 0) {
        write(&dir.join("memory.max"), &limit.to_string());
        let swap = dir.join("memory.swap.max");
        if swap.exists() {
            write(&swap, "0");
        }
    }
    if let Some(pids) = r.pids_limit.filter(|p| *p > 0) {
        write(&dir.join("pids.max"), &pids.to_string());
    }
}

/// `cpu.shares` of version 1 as `cpu.weight` of version 2, by the kubelet's and runc's formula.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Where each controller is mounted, from `/proc/self/mountinfo`.
fn parse_v1(mountinfo: &str) -> BTreeMap<String, PathBuf> {
    let mut mounts = BTreeMap::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut right = right.split(' ');
        if right.next() != Some("cgroup") {
            continue;
        }
        let (Some(point), Some(options)) = (left.split(' ').nth(4), right.nth(1)) else {
            continue;
        };
        for option in options.split(',').filter(|o| CONTROLLERS.contains(o)) {
            mounts.entry(option.to_string()).or_insert_with(|| PathBuf::from(point));
        }
    }
    mounts
}

/// The hierarchy without a controller by which systemd keeps track of services.
const SYSTEMD: &str = "name=systemd";

/// What to look for: the controllers in which libcontainer makes groups, and systemd's.
const CONTROLLERS: [&str; 13] = [
    SYSTEMD,
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// A directory and those in it, deepest first.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(entries) = fs::read_dir(dir) {
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            found.extend(tree(&entry.path()));
        }
        found.push(dir.to_path_buf());
    }
    found
}

/// The number behind `key` in a file of `key number` lines; 0 if it is not there.
pub(super) fn field(text: &str, key: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(number).unwrap_or(0)
}

fn write(file: &Path, value: &str) {
    if let Err(e) = fs::write(file, value) {
        tracing::warn!("write {value} to {}: {e}", file.display());
    }
}

fn warn(action: &str, dir: &Path, result: io::Result<()>) {
    if let Err(e) = result {
        tracing::warn!("{action} cgroup {}: {e}", dir.display());
    }
}

fn ignore_missing(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        assert_eq!(weight(2), 1);
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(262_144), 10_000);
        assert_eq!(weight(0), 1);
    }

    #[test]
    fn controllers_are_found_where_they_are_mounted() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                    31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                    32 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                    33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let mounts = parse_v1(text);
        assert_eq!(mounts.keys().collect::<Vec<_>>(), ["cpu", "cpuacct", "memory", SYSTEMD]);
        let cgroups = Cgroups::V1(mounts);
        assert_eq!(cgroups.dirs("kedge").len(), 3);
        assert_eq!(cgroups.dir("memory", "a/b"), Some("/sys/fs/cgroup/memory/a/b".into()));
        assert_eq!(cgroups.dir("pids", "a"), None);
    }

    #[test]
    fn fields_are_matched_whole() {
        let text = "oom 3\noom_kill 2\noom_kill_disable 0\n";
        assert_eq!(field(text, "oom_kill"), 2);
        assert_eq!(field(text, "kill"), 0);
    }

    #[test]
    fn version_2_files() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::V2(dir.path().to_path_buf());
        let resources = Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            memory_limit: Some(1 << 20),
            pids_limit: Some(7),
            ..Default::default()
        };
        cgroups.create("k/pod", &resources);
        let read = |f: &str| fs::read_to_string(dir.path().join("k/pod").join(f)).unwrap();
        assert_eq!(read("cpu.weight"), "39");
        assert_eq!(read("cpu.max"), "50000 100000");
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("pids.max"), "7");
    }
}
