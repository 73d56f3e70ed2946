//! Which checks a standard has, and what they find together.

use super::baseline as base;
use super::pod::{Finding, Pod};
use super::policy::{Level, Standard, Version};
use super::restricted as hard;

/// The newest release whose policies are known.
const NEWEST: u32 = 36;

struct Check {
    /// The minor versions it exists in.
    since: u32,
    /// Restricted pods are not asked since this version: a stricter check is there.
    overridden_since: u32,
    find: fn(Pod<'_>, u32) -> Option<Finding>,
}

const NEVER: u32 = u32::MAX;

const fn check(since: u32, overridden_since: u32, find: fn(Pod<'_>, u32) -> Option<Finding>) -> Check {
    Check { since, overridden_since, find }
}

/// In the order of their upstream names, which is that of the findings.
const BASELINE: [Check; 12] = [
    check(0, NEVER, base::apparmor_profile),
    check(0, 22, base::capabilities),
    check(0, NEVER, base::host_namespaces),
    check(0, 0, base::host_path_volumes),
    check(0, NEVER, base::host_ports),
    check(34, NEVER, base::host_probes),
    check(0, NEVER, base::privileged),
    check(0, 35, base::proc_mount),
    check(0, NEVER, base::selinux_options),
    check(0, 19, base::seccomp_profile),
    check(0, NEVER, base::sysctls),
    check(0, NEVER, base::windows_host_process),
];
const RESTRICTED: [Check; 7] = [
    check(8, NEVER, hard::privilege_escalation),
    check(22, NEVER, hard::capabilities),
    check(35, NEVER, base::any_proc_mount),
    check(0, NEVER, hard::volumes),
    check(0, NEVER, hard::run_as_non_root),
    check(23, NEVER, hard::run_as_user),
    check(19, NEVER, hard::seccomp_profile),
];

/// Everything a standard has against a pod.
pub fn findings(standard: Standard, pod: Pod<'_>) -> Vec<Finding> {
    let minor = match standard.version {
        Version::Minor(minor) => minor.min(NEWEST),
        Version::Latest => NEWEST,
    };
    let restricted = standard.level == Level::Restricted;
    let more: &[Check] = if restricted { &RESTRICTED } else { &[] };
    let all: &[Check] = if standard.level == Level::Privileged { &[] } else { &BASELINE };
    let applies = |check: &&Check| minor >= check.since && !(restricted && minor >= check.overridden_since);
    all.iter().chain(more).filter(applies).filter_map(|check| (check.find)(pod, minor)).collect()
}

/// The findings with their details, as a refusal or warning of one object says them.
pub fn in_detail(findings: &[Finding]) -> String {
    let one = |finding: &Finding| match finding.detail.as_str() {
        "" => finding.reason.clone(),
        detail => format!("{} ({detail})", finding.reason),
    };
    findings.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The findings in short, as a warning about many pods says them.
pub fn in_short(findings: &[Finding]) -> String {
    findings.iter().map(|f| f.reason.as_str()).collect::<Vec<_>>().join(", ")
}
