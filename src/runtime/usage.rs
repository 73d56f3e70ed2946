//! What control groups use: CPU time, memory, swap, processes. Read when asked for, never sampled.

use std::fs;

use super::Runtime;
use super::cgroup::{Cgroups, field};
use super::error::Error;
use super::protocol::now_ms;
use super::spec::ContainerStats;

/// "No limit" reads as a number near the largest in version 1.
const UNLIMITED: u64 = 1 << 62;

/// The files of one group.
struct Files<'a> {
    cgroups: &'a Cgroups,
    group: &'a str,
}

impl Files<'_> {
    fn text(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.cgroups.dir(controller, self.group)?.join(file)).ok()
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.text(controller, file)?.trim().parse().ok()
    }
}

impl Cgroups {
    /// What a group uses now; zeros where there is no such group.
    pub fn stats(&self, group: &str) -> ContainerStats {
        let files = Files { cgroups: self, group };
        let read = if self.is_v2() { stats_v2(&files) } else { stats_v1(&files) };
        ContainerStats {
            at: now_ms(),
            pids: files.number("pids", "pids.current").unwrap_or(0),
            oom_kills: self.oom_kills(group),
            ..read
        }
    }
}

fn stats_v2(files: &Files<'_>) -> ContainerStats {
    let cpu = files.text("cpu", "cpu.stat").unwrap_or_default();
    let memory = files.text("memory", "memory.stat").unwrap_or_default();
    let usage = files.number("memory", "memory.current").unwrap_or(0);
    let (cpu, memory) = (|key: &str| field(&cpu, key), |key: &str| field(&memory, key));
    ContainerStats {
        cpu_usage_ns: cpu("usage_usec") * 1000,
        cpu_user_ns: cpu("user_usec") * 1000,
        cpu_system_ns: cpu("system_usec") * 1000,
        cpu_periods: cpu("nr_periods"),
        cpu_throttled_periods: cpu("nr_throttled"),
        cpu_throttled_ns: cpu("throttled_usec") * 1000,
        memory_usage: usage,
        memory_working_set: usage.saturating_sub(memory("inactive_file")),
        memory_rss: memory("anon"),
        memory_cache: memory("file"),
        memory_mapped: memory("file_mapped"),
        memory_limit: files.number("memory", "memory.max"),
        memory_peak: files.number("memory", "memory.peak").unwrap_or(0),
        swap_usage: files.number("memory", "memory.swap.current"),
        swap_limit: files.number("memory", "memory.swap.max"),
        page_faults: memory("pgfault"),
        major_page_faults: memory("pgmajfault"),
        ..ContainerStats::default()
    }
}

fn stats_v1(files: &Files<'_>) -> ContainerStats {
    let throttling = files.text("cpu", "cpu.stat").unwrap_or_default();
    let memory = files.text("memory", "memory.stat").unwrap_or_default();
    let cpu = |file: &str| files.number("cpuacct", file).unwrap_or(0);
    let bytes = |file: &str| files.number("memory", file);
    let memory = |key: &str| field(&memory, key);
    let usage = bytes("memory.usage_in_bytes").unwrap_or(0);
    let limit = bytes("memory.limit_in_bytes").filter(|l| *l < UNLIMITED);
    // Memory and swap are counted together.
    let with_swap = bytes("memory.memsw.usage_in_bytes");
    let limit_with_swap = bytes("memory.memsw.limit_in_bytes").filter(|l| *l < UNLIMITED);
    ContainerStats {
        cpu_usage_ns: cpu("cpuacct.usage"),
        cpu_user_ns: cpu("cpuacct.usage_user"),
        cpu_system_ns: cpu("cpuacct.usage_sys"),
        cpu_periods: field(&throttling, "nr_periods"),
        cpu_throttled_periods: field(&throttling, "nr_throttled"),
        cpu_throttled_ns: field(&throttling, "throttled_time"),
        memory_usage: usage,
        memory_working_set: usage.saturating_sub(memory("total_inactive_file")),
        memory_rss: memory("total_rss"),
        memory_cache: memory("total_cache"),
        memory_mapped: memory("total_mapped_file"),
        memory_limit: limit,
        memory_peak: bytes("memory.max_usage_in_bytes").unwrap_or(0),
        swap_usage: with_swap.map(|_| memory("total_swap")),
        swap_limit: limit.zip(limit_with_swap).map(|(memory, both)| both.saturating_sub(memory)),
        page_faults: memory("total_pgfault"),
        major_page_faults: memory("total_pgmajfault"),
        ..ContainerStats::default()
    }
}

impl Runtime {
    /// What a container uses now.
    ///
    /// # Errors
    /// There is no such container.
    pub async fn stats(&self, id: &str) -> Result<ContainerStats, Error> {
        let (sandbox, _) = self.place(id)?;
        let (_, record) = self.record(&sandbox)?;
        Ok(self.0.cgroups.stats(&format!("{}/{id}", record.cgroup())))
    }

    /// What all containers of a sandbox use now, together with what ended ones left behind.
    ///
    /// # Errors
    /// There is no such sandbox.
    pub fn sandbox_stats(&self, sandbox: &str) -> Result<ContainerStats, Error> {
        let (_, record) = self.record(sandbox)?;
        Ok(self.0.cgroups.stats(&record.cgroup()))
    }

    /// What the whole machine uses now. With cgroup version 2 only its CPU time and faults are told: the kernel
    /// keeps no account of the root group's memory.
    pub fn machine_stats(&self) -> ContainerStats {
        self.0.cgroups.stats("")
    }

    /// Path of a container's cgroup from the root of the hierarchy, with a leading slash.
    pub fn cgroup_of(&self, id: &str) -> Option<String> {
        let (sandbox, _) = self.place(id).ok()?;
        let (_, record) = self.record(&sandbox).ok()?;
        Some(format!("/{}/{id}", record.cgroup()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    fn write(dir: &std::path::Path, files: &[(&str, &str)]) {
        fs::create_dir_all(dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn version_2() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            (
                "cpu.stat",
                "usage_usec 12\nuser_usec 8\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 5\n",
            ),
            ("memory.current", "900\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 500\nfile 400\ninactive_file 300\npgfault 7\npgmajfault 1\n"),
            ("memory.swap.current", "64\n"),
            ("memory.swap.max", "0\n"),
            ("memory.events", "oom 2\noom_kill 1\n"),
            ("pids.current", "6\n"),
        ];
        write(&dir.path().join("k/pod"), &files);
        let stats = Cgroups::V2(dir.path().to_path_buf()).stats("k/pod");
        assert_eq!((stats.memory_usage, stats.memory_working_set, stats.memory_rss), (900, 600, 500));
        assert_eq!((stats.cpu_usage_ns, stats.cpu_user_ns, stats.cpu_system_ns), (12_000, 8_000, 4_000));
        assert_eq!((stats.cpu_periods, stats.cpu_throttled_periods, stats.cpu_throttled_ns), (3, 2, 5_000));
        assert_eq!((stats.memory_limit, stats.swap_usage, stats.swap_limit), (None, Some(64), Some(0)));
        assert_eq!((stats.page_faults, stats.major_page_faults, stats.oom_kills, stats.pids), (7, 1, 1, 6));
    }

    #[test]
    fn version_1() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("cpuacct.usage", "12000\n"),
            ("cpu.stat", "nr_periods 3\nnr_throttled 2\nthrottled_time 5\n"),
            ("memory.usage_in_bytes", "900\n"),
            ("memory.limit_in_bytes", "1000\n"),
            ("memory.memsw.usage_in_bytes", "960\n"),
            ("memory.memsw.limit_in_bytes", "1200\n"),
            (
                "memory.stat",
                "rss 1\ntotal_rss 500\ntotal_inactive_file 300\ntotal_swap 60\ntotal_pgfault 7\n",
            ),
        ];
        write(&dir.path().join("g"), &files);
        let mounts: BTreeMap<String, PathBuf> =
            ["cpu", "cpuacct", "memory"].map(|c| (c.to_owned(), dir.path().to_path_buf())).into();
        let stats = Cgroups::V1(mounts.clone()).stats("g");
        assert_eq!((stats.memory_usage, stats.memory_working_set, stats.memory_rss), (900, 600, 500));
        assert_eq!(
            (stats.memory_limit, stats.swap_usage, stats.swap_limit),
            (Some(1000), Some(60), Some(200))
        );
        assert_eq!((stats.cpu_usage_ns, stats.cpu_throttled_ns, stats.page_faults), (12_000, 5, 7));
        let none = Cgroups::V1(mounts).stats("none");
        assert_eq!(ContainerStats { at: 0, ..none }, ContainerStats::default());
    }
}
