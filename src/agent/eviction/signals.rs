//! Reading the signals: a few small files and the file systems' own figures.

use std::path::PathBuf;

use super::threshold::{Observation, Observations, Signal, Threshold};
use crate::agent::context::Context;
use crate::agent::disk::{FsStats, filesystem};
use crate::agent::qos::PODS;

/// Where the signals come from.
pub(super) struct Sources {
    /// A directory on the file system of volumes and logs.
    node: PathBuf,
    /// A directory on the file system of images and writable layers.
    images: PathBuf,
    /// Bytes of memory of the machine.
    memory: u64,
}

impl Sources {
    /// Those of this node.
    pub(super) fn of(context: &Context) -> Self {
        Self {
            node: context.paths.pods().to_path_buf(),
            images: context.settings.data_dir.join("agent/image-store"),
            memory: u64::try_from(context.memory_capacity).unwrap_or(0),
        }
    }

    /// Images are on a file system of their own.
    pub(super) fn dedicated_images(&self) -> bool {
        let device = |path| filesystem(path).ok().map(|s: FsStats| s.device);
        let (node, images) = (device(&self.node), device(&self.images));
        images.is_some() && node != images
    }

    /// Reads the signals that some threshold is about.
    pub(super) fn read(&self, context: &Context, thresholds: &[Threshold]) -> Observations {
        let wanted = |signals: &[Signal]| thresholds.iter().any(|t| signals.contains(&t.signal));
        let mut all = Observations::new();
        if wanted(&[Signal::Memory]) {
            all.extend(self.machine_memory(context).map(|o| (Signal::Memory, o)));
        }
        if wanted(&[Signal::PodsMemory]) {
            all.extend(pods_memory(context).map(|o| (Signal::PodsMemory, o)));
        }
        if wanted(&[Signal::Pids]) {
            all.extend(processes(context).map(|o| (Signal::Pids, o)));
        }
        for (path, space, inodes) in [
            (&self.node, Signal::NodeFs, Signal::NodeFsInodes),
            (&self.images, Signal::ImageFs, Signal::ImageFsInodes),
        ] {
            if wanted(&[space, inodes])
                && let Ok(stats) = filesystem(path)
            {
                all.insert(space, Observation { available: stats.available, capacity: stats.capacity });
                if stats.inodes > 0 {
                    let seen = Observation { available: stats.inodes_free, capacity: stats.inodes };
                    all.insert(inodes, seen);
                }
            }
        }
        all
    }

    /// What is neither free nor page cache that was not used lately counts as used: version 1 tells it of
    /// the root group, version 2 only of the machine, which cAdvisor and so kubelet then take.
    fn machine_memory(&self, context: &Context) -> Option<Observation> {
        let root =
            (!context.runtime.unified_cgroups()).then(|| context.runtime.machine_working_set()).flatten();
        let used = root.or_else(|| working_set(&std::fs::read_to_string("/proc/meminfo").ok()?))?;
        Some(Observation { available: self.memory.saturating_sub(used), capacity: self.memory })
    }
}

/// What the pods' group may have and has left; nothing where it has no limit.
fn pods_memory(context: &Context) -> Option<Observation> {
    let stats = context.runtime.group_stats(PODS).ok()?;
    let capacity = stats.memory_limit?;
    Some(Observation { available: capacity.saturating_sub(stats.memory_working_set), capacity })
}

/// Bytes in use, by `/proc/meminfo`.
fn working_set(meminfo: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    let (total, free) = (field("MemTotal:")?, field("MemFree:")?);
    Some(total.saturating_sub(free).saturating_sub(field("Inactive(file):")?))
}

/// How many processes and threads there may be, and are not.
fn processes(context: &Context) -> Option<Observation> {
    let capacity = context.runtime.process_limit()?;
    let running = running(&std::fs::read_to_string("/proc/loadavg").ok()?)?;
    Some(Observation { available: capacity.saturating_sub(running), capacity })
}

/// The second number of `runnable/all` in `/proc/loadavg`.
fn running(loadavg: &str) -> Option<u64> {
    loadavg.split(' ').nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel() {
        let text = "MemTotal:       2048 kB\nMemFree:         48 kB\nMemAvailable:  9 kB\nInactive(file):   1000 kB\n";
        assert_eq!(working_set(text), Some(1000 << 10));
        assert_eq!(working_set("MemTotal: 1 kB"), None);
        assert_eq!(running("0.10 0.20 0.30 2/417 12345\n"), Some(417));
        assert_eq!(running("nonsense"), None);
        let meminfo = std::fs::read_to_string("/proc/meminfo").expect("read");
        assert!(working_set(&meminfo).is_some_and(|w| w > 0));
    }
}
