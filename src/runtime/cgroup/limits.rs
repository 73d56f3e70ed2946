//! Limits: which file of which controller says what, in either version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cgroups, warn};
use crate::runtime::spec::Resources;

/// Controllers of version 1 in which groups are made for their limits and statistics.
pub(super) const LIMITED: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "hugetlb"];

/// A file of a group, and what is to be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    /// Needed for the file to be there.
    controller: &'static str,
    file: String,
    value: String,
    /// The kernel may do without it, for lack of swap accounting or huge pages.
    optional: bool,
}

impl Setting {
    fn new(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Self {
        Self { controller, file: file.into(), value: value.to_string(), optional: false }
    }

    fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

impl Cgroups {
    /// Makes a group in the hierarchies whose limits and statistics are used, and sets its limits.
    pub fn create(&self, group: &str, resources: &Resources) {
        match self {
            Self::V1(_) => {
                for controller in LIMITED {
                    if let Some(dir) = self.dir(controller, group) {
                        warn("make", &dir, fs::create_dir_all(&dir));
                    }
                }
            }
            Self::V2(mount) => {
                let dir = mount.join(group);
                warn("make", &dir, fs::create_dir_all(&dir));
                let mut parent = mount.clone();
                for part in Path::new(group) {
                    enable(mount, &parent);
                    parent.push(part);
                }
            }
        }
        if let Err(e) = self.limit(group, resources) {
            tracing::warn!("cgroup {group}: {e}");
        }
    }

    /// Sets limits of a group that is there. All are tried; the error tells of the first that was refused.
    /// Controllers that the machine lacks are no error: [`Cgroups::missing`] names them.
    pub fn limit(&self, group: &str, resources: &Resources) -> io::Result<()> {
        let settings = if self.is_v2() { version_2(resources) } else { version_1(resources) };
        let missing = self.missing();
        let mut result = Ok(());
        // The limits of memory alone and of memory with swap must never contradict each other: which
        // one goes first depends on what was there, so a refusal counts only the second time.
        let mut refused = Vec::new();
        for setting in settings {
            if missing.contains(&setting.controller) {
                continue;
            }
            let Some(dir) = self.dir(setting.controller, group) else { continue };
            if set(&dir, &setting).is_err() {
                refused.push((dir, setting));
            }
        }
        for (dir, setting) in refused {
            if let Err(e) = set(&dir, &setting) {
                let text = format!("write {} to {}: {e}", setting.value, dir.join(&setting.file).display());
                result = result.and(Err(io::Error::new(e.kind(), text)));
            }
        }
        result
    }
}

fn set(dir: &Path, setting: &Setting) -> io::Result<()> {
    let file = dir.join(&setting.file);
    match fs::write(&file, &setting.value) {
        // Some kernels have the file and refuse all values.
        Err(e) if setting.optional && (!file.exists() || e.raw_os_error() == Some(libc::EOPNOTSUPP)) => {
            Ok(())
        }
        other => other,
    }
}

/// `-1` is no limit in version 1.
fn version_1(r: &Resources) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(shares) = r.cpu_shares {
        all.push(Setting::new("cpu", "cpu.shares", shares.max(2)));
    }
    if let Some(period) = r.cpu_period.filter(|p| *p > 0) {
        all.push(Setting::new("cpu", "cpu.cfs_period_us", period));
    }
    if let Some(quota) = r.cpu_quota.filter(|q| *q != 0) {
        all.push(Setting::new("cpu", "cpu.cfs_quota_us", quota.max(-1)));
    }
    if let Some(limit) = r.memory_limit.filter(|l| *l != 0) {
        all.push(Setting::new("memory", "memory.limit_in_bytes", limit.max(-1)));
        // No swap, as the kubelet's default: only where swap is accounted for.
        all.push(Setting::new("memory", "memory.memsw.limit_in_bytes", limit.max(-1)).optional());
    }
    if let Some(pids) = r.pids_limit.filter(|p| *p != 0) {
        all.push(Setting::new("pids", "pids.max", number_or_max(pids)));
    }
    for (size, limit) in &r.hugepage_limits {
        all.push(Setting::new("hugetlb", format!("hugetlb.{size}.limit_in_bytes"), limit).optional());
        // What a program reserves counts too: else it is killed when it touches what it was promised.
        all.push(Setting::new("hugetlb", format!("hugetlb.{size}.rsvd.limit_in_bytes"), limit).optional());
    }
    all
}

fn version_2(r: &Resources) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(shares) = r.cpu_shares {
        all.push(Setting::new("cpu", "cpu.weight", weight(shares)));
    }
    if let Some(quota) = r.cpu_quota.filter(|q| *q != 0) {
        let period = r.cpu_period.filter(|p| *p > 0).unwrap_or(100_000);
        all.push(Setting::new("cpu", "cpu.max", format!("{} {period}", number_or_max(quota))));
    }
    if let Some(limit) = r.memory_limit.filter(|l| *l != 0) {
        all.push(Setting::new("memory", "memory.max", number_or_max(limit)));
        let swap = if limit < 0 { "max" } else { "0" };
        all.push(Setting::new("memory", "memory.swap.max", swap).optional());
    }
    if r.oom_group {
        all.push(Setting::new("memory", "memory.oom.group", 1).optional());
    }
    if let Some(pids) = r.pids_limit.filter(|p| *p != 0) {
        all.push(Setting::new("pids", "pids.max", number_or_max(pids)));
    }
    for (size, limit) in &r.hugepage_limits {
        all.push(Setting::new("hugetlb", format!("hugetlb.{size}.max"), limit).optional());
        all.push(Setting::new("hugetlb", format!("hugetlb.{size}.rsvd.max"), limit).optional());
    }
    all
}

fn number_or_max(value: i64) -> String {
    if value < 0 { "max".to_string() } else { value.to_string() }
}

/// `cpu.shares` of version 1 as `cpu.weight` of version 2: a curve through (2, 1), (1024, 100) and
/// (262144, 10000), as runc 1.3.2 and crun 1.23 have it. The straight line before gave a pod that asks
/// for one CPU less than half of what system services get.
fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    // No number of shares comes near the limits of f64.
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

/// Lets the groups in `parent` have controllers. Those this kernel lacks are refused one by one.
fn enable(mount: &Path, parent: &Path) {
    let file = parent.join("cgroup.subtree_control");
    for controller in ["+cpu", "+memory", "+pids", "+io", "+cpuset", "+hugetlb"] {
        let Err(e) = fs::write(&file, controller) else { continue };
        // A group with processes of its own gives nothing to others (cgroups(7)). At the top that is a
        // container's root, where kedge and whatever started it are: they move, as with k3s.
        let busy = e.raw_os_error() == Some(libc::EBUSY) && parent == mount;
        let result = if busy { evacuate(mount).and_then(|()| fs::write(&file, controller)) } else { Err(e) };
        if let Err(e) = result {
            tracing::debug!("enable {controller} in {}: {e}", file.display());
        }
    }
}

/// Moves all processes of the root of the hierarchy to a group of their own.
fn evacuate(mount: &Path) -> io::Result<()> {
    let init: PathBuf = mount.join("init");
    fs::create_dir_all(&init)?;
    for pid in fs::read_to_string(mount.join("cgroup.procs"))?.lines() {
        if let Err(e) = fs::write(init.join("cgroup.procs"), pid) {
            // It has ended meanwhile, or is a thread of the kernel's.
            tracing::debug!("move process {pid} to {}: {e}", init.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn resources() -> Resources {
        Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_period: None,
            memory_limit: Some(1 << 20),
            pids_limit: Some(7),
            oom_group: true,
            hugepage_limits: BTreeMap::from([("2MB".to_string(), 4 << 20)]),
        }
    }

    #[test]
    fn shares_become_weights() {
        for (shares, expected) in [
            (0, 1),
            (2, 1),
            (3, 2),
            (102, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn files_of_either_version() {
        let texts = |all: Vec<Setting>| -> Vec<String> {
            all.into_iter().map(|s| format!("{} {}={}", s.controller, s.file, s.value)).collect()
        };
        assert_eq!(
            texts(version_1(&resources())),
            [
                "cpu cpu.shares=1024",
                "cpu cpu.cfs_quota_us=50000",
                "memory memory.limit_in_bytes=1048576",
                "memory memory.memsw.limit_in_bytes=1048576",
                "pids pids.max=7",
                "hugetlb hugetlb.2MB.limit_in_bytes=4194304",
                "hugetlb hugetlb.2MB.rsvd.limit_in_bytes=4194304",
            ]
        );
        assert_eq!(
            texts(version_2(&resources())),
            [
                "cpu cpu.weight=100",
                "cpu cpu.max=50000 100000",
                "memory memory.max=1048576",
                "memory memory.swap.max=0",
                "memory memory.oom.group=1",
                "pids pids.max=7",
                "hugetlb hugetlb.2MB.max=4194304",
                "hugetlb hugetlb.2MB.rsvd.max=4194304",
            ]
        );
        let none = Resources {
            cpu_quota: Some(-1),
            memory_limit: Some(-1),
            pids_limit: Some(-1),
            ..Resources::default()
        };
        assert_eq!(
            texts(version_1(&none)),
            [
                "cpu cpu.cfs_quota_us=-1",
                "memory memory.limit_in_bytes=-1",
                "memory memory.memsw.limit_in_bytes=-1",
                "pids pids.max=max",
            ]
        );
        assert_eq!(
            texts(version_2(&none)),
            [
                "cpu cpu.max=max 100000",
                "memory memory.max=max",
                "memory memory.swap.max=max",
                "pids pids.max=max"
            ]
        );
        assert!(version_1(&Resources::default()).is_empty() && version_2(&Resources::default()).is_empty());
    }

    #[test]
    fn version_2_files_are_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let cgroups = Cgroups::V2(dir.path().to_path_buf());
        cgroups.create("k/pod", &resources());
        let read = |f: &str| fs::read_to_string(dir.path().join("k/pod").join(f)).unwrap();
        assert_eq!(read("cpu.weight"), "100");
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("pids.max"), "7");
    }

    #[test]
    fn a_controller_that_is_not_there_is_left_alone_and_a_refusal_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        let cgroups = Cgroups::V2(dir.path().to_path_buf());
        cgroups.create("k/pod", &resources());
        assert!(!dir.path().join("k/pod/memory.max").exists());
        fs::create_dir(dir.path().join("k/pod2")).unwrap();
        fs::create_dir(dir.path().join("k/pod2/pids.max")).unwrap();
        let error = cgroups.limit("k/pod2", &resources()).unwrap_err().to_string();
        assert!(error.starts_with("write 7 to ") && error.contains("k/pod2/pids.max"), "{error}");
        assert!(dir.path().join("k/pod2/cpu.weight").exists(), "the others are set");
    }

    #[test]
    fn whoever_is_in_the_root_moves_away() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.procs"), "12\n").unwrap();
        evacuate(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("init/cgroup.procs")).unwrap(), "12");
    }
}
