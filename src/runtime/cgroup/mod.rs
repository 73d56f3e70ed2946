//! Control groups, version 1 (and hybrid) and 2: limits, statistics, killing, removal.
//!
//! A group is named by its path from the root of the hierarchy, the same in all of them. What the
//! kernel does not have or refuses is warned of, and the rest goes on: a limit that cannot be set
//! must not keep a pod from running.

mod end;
mod limits;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// The hierarchies of this machine.
#[derive(Clone, Debug)]
pub(crate) enum Cgroups {
    /// Version 1: where each controller is mounted.
    V1(BTreeMap<String, PathBuf>),
    /// Version 2: the one mount.
    V2(PathBuf),
}

impl Cgroups {
    /// What is mounted, looked at once in a process.
    pub fn detect() -> Self {
        static FOUND: OnceLock<Cgroups> = OnceLock::new();
        FOUND.get_or_init(Self::look).clone()
    }

    fn look() -> Self {
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

    /// Those of the controllers that limits need which this machine does not offer.
    pub fn missing(&self) -> Vec<&'static str> {
        let offered = match self {
            Self::V1(_) => String::new(),
            Self::V2(mount) => fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default(),
        };
        let has = |name: &str| match self {
            Self::V1(mounts) => mounts.contains_key(name),
            Self::V2(_) => offered.split_whitespace().any(|o| o == name),
        };
        ["cpu", "memory", "pids"].into_iter().filter(|name| !has(name)).collect()
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

    /// How many processes of the group the kernel killed for want of memory.
    pub fn oom_kills(&self, group: &str) -> u64 {
        let file = if self.is_v2() { "memory.events" } else { "memory.oom_control" };
        let Some(dir) = self.dir("memory", group) else {
            return 0;
        };
        field(&fs::read_to_string(dir.join(file)).unwrap_or_default(), "oom_kill")
    }
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
    fn what_the_kernel_lacks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io pids\n").unwrap();
        assert_eq!(Cgroups::V2(dir.path().to_path_buf()).missing(), ["memory"]);
        let mounts = BTreeMap::from([("cpu".to_string(), "/x".into()), ("memory".to_string(), "/y".into())]);
        assert_eq!(Cgroups::V1(mounts).missing(), ["pids"]);
    }
}
