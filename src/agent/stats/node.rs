//! What the whole machine uses, and kedge on it.

use std::fs;

use jiff::Timestamp;

use super::disk::Space;
use super::network::{Interface, default_interface};
use super::rates::Rates;
use crate::agent::context::Context;
use crate::runtime::spec::ContainerStats;

/// The machine.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Node {
    /// Its name in the cluster.
    pub name: String,
    /// When it was booted, in milliseconds since the epoch.
    pub booted: i64,
    /// CPU time and memory.
    pub stats: ContainerStats,
    /// Nanoseconds of CPU time a second.
    pub cpu_rate: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Interfaces that lead outside.
    pub interfaces: Vec<Interface>,
    /// The one of the default route, among them.
    pub default_interface: Option<String>,
    /// Most process ids, and those in use.
    pub pids: (u64, u64),
    /// The parts of the machine kubelet tells apart.
    pub parts: Vec<Part>,
    /// The file system of the node's data, if it was looked at.
    pub fs: Option<Space>,
    /// The images on it, if they were looked at.
    pub images: Option<Space>,
    /// Logical processors.
    pub cpus: usize,
}

/// A part of the machine: kubelet's "system containers".
#[derive(Clone, Debug)]
pub(in crate::agent) struct Part {
    /// `kubelet` or `pods`.
    pub name: &'static str,
    /// When it was started, in milliseconds since the epoch.
    pub started: i64,
    /// What it uses.
    pub stats: ContainerStats,
    /// Nanoseconds of CPU time a second.
    pub cpu_rate: u64,
}

/// Reads what the machine uses now.
pub(super) fn read(context: &Context, rates: &Rates, interfaces: &[Interface]) -> Node {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let booted = booted(&text("/proc/stat"));
    let meminfo = text("/proc/meminfo");
    let mut stats = context.runtime.machine_stats();
    set_memory(&mut stats, &meminfo);
    let attached = context.network.borrow().as_ref().map(|n| n.attachments()).unwrap_or_default();
    let outer = interfaces.iter().filter(|i| i.is_outer() && !attached.iter().any(|a| a.interface == i.name));
    let routes = text("/proc/net/route");
    let pods = context.runtime.group_stats(crate::agent::qos::PODS).unwrap_or_default();
    let own = own_process(&text("/proc/self/stat"), &text("/proc/self/status"), booted);
    let part = |name, started, stats: ContainerStats| Part {
        name,
        started,
        stats,
        cpu_rate: rates.rate(&format!("/{name}"), stats.at, stats.cpu_usage_ns, started),
    };
    Node {
        name: context.settings.node_name.clone(),
        booted,
        cpu_rate: rates.rate("/", stats.at, stats.cpu_usage_ns, booted),
        stats,
        memory: kib(&meminfo, "MemTotal:"),
        interfaces: outer.cloned().collect(),
        default_interface: default_interface(&routes).map(str::to_owned),
        pids: (
            text("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0),
            processes(&text("/proc/loadavg")),
        ),
        parts: vec![part("kubelet", own.0, own.1), part("pods", booted, pods)],
        fs: None,
        images: None,
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }
}

/// The number of a line of kibibytes, in bytes; 0 if it is not there.
pub(super) fn kib(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(key));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// When the machine was booted, in milliseconds since the epoch.
pub(super) fn booted(stat: &str) -> i64 {
    let seconds = stat.lines().find_map(|l| l.strip_prefix("btime "));
    seconds.and_then(|s| s.trim().parse::<i64>().ok()).unwrap_or(0) * 1000
}

/// The machine's memory as `/proc/meminfo` has it, for both cgroup versions alike; kubelet computes it so for the
/// root group of version 2.
fn set_memory(stats: &mut ContainerStats, meminfo: &str) {
    let bytes = |key: &str| kib(meminfo, key);
    stats.memory_usage = bytes("MemTotal:").saturating_sub(bytes("MemFree:"));
    stats.memory_working_set = stats.memory_usage.saturating_sub(bytes("Inactive(file):"));
    stats.memory_rss = bytes("AnonPages:");
    stats.memory_cache = bytes("Cached:");
    stats.memory_mapped = bytes("Mapped:");
    stats.memory_limit = None;
    stats.swap_usage = Some(bytes("SwapTotal:").saturating_sub(bytes("SwapFree:")));
    stats.swap_limit = Some(bytes("SwapTotal:"));
}

/// Processes and threads, by `/proc/loadavg`.
fn processes(loadavg: &str) -> u64 {
    let field = loadavg.split_whitespace().nth(3).and_then(|f| f.split_once('/'));
    field.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

/// When this process was started and what it uses, by its `/proc` files.
pub(super) fn own_process(stat: &str, status: &str, booted: i64) -> (i64, ContainerStats) {
    // Fields are counted after the program's name, which may have blanks in it.
    let fields: Vec<u64> = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.split(' ').map(|f| f.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let ticks = sysconf_ticks();
    let nanoseconds = |count: u64| count * (1_000_000_000 / ticks);
    let (user, system) = (nanoseconds(field(14)), nanoseconds(field(15)));
    let since_boot = i64::try_from(field(22) * 1000 / ticks).unwrap_or(0);
    let stats = ContainerStats {
        at: Timestamp::now().as_millisecond(),
        cpu_usage_ns: user + system,
        cpu_user_ns: user,
        cpu_system_ns: system,
        memory_usage: kib(status, "VmRSS:"),
        memory_working_set: kib(status, "VmRSS:"),
        memory_rss: kib(status, "RssAnon:"),
        page_faults: field(10),
        major_page_faults: field(12),
        pids: field(20),
        ..ContainerStats::default()
    };
    (booted + since_boot, stats)
}

/// Clock ticks a second in which `/proc` counts time.
fn sysconf_ticks() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_and_clock() {
        let mut stats = ContainerStats::default();
        let text = "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 200 kB\nAnonPages: 100 kB\nSwapTotal: 8 kB\nSwapFree: 2 kB\n";
        set_memory(&mut stats, text);
        assert_eq!((stats.memory_usage, stats.memory_working_set), (700 << 10, 500 << 10));
        assert_eq!((stats.memory_rss, stats.swap_usage), (100 << 10, Some(6 << 10)));
        assert_eq!(booted("cpu 1\nbtime 1700000000\n"), 1_700_000_000_000);
        assert_eq!(processes("0.1 0.2 0.3 2/345 678"), 345);
    }

    #[test]
    fn this_process() {
        let read = |path: &str| fs::read_to_string(path).unwrap();
        let booted = booted(&read("/proc/stat"));
        let (started, stats) = own_process(&read("/proc/self/stat"), &read("/proc/self/status"), booted);
        let now = Timestamp::now().as_millisecond();
        // The kernel tells the time of boot in whole seconds.
        assert!(started > booted && started <= now + 1000, "{booted} {started} {now}");
        assert!(stats.memory_rss > 0 && stats.memory_working_set >= stats.memory_rss && stats.pids > 0);
        let odd = "1 (a) b c) S 1 2 3 4 5 6 70 8 9 10 140 150 16 17 18 19 20 21 22";
        let (_, stats) = own_process(odd, "", 0);
        assert_eq!((stats.page_faults, stats.major_page_faults, stats.pids), (70, 9, 20));
    }
}
