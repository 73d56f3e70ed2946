//! The control groups above those of the pods: all pods together get what the node does not reserve,
//! burstable ones share in the measure of what they ask for, best-effort ones get what is left
//! (kubelet's `kubepods`, `kubepods/burstable`, `kubepods/besteffort`).

use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::error::Error;
use super::node::reserved;
use super::qos::{Ask, Class, PODS, class_of, shares, total};
use super::spec::is_terminal;
use crate::runtime::spec::Resources;

/// A limit below what pods use is tried again after this long.
const RETRY: SignedDuration = SignedDuration::from_mins(1);

/// Keeps the groups until cancelled.
pub(crate) async fn run(context: &Context, token: CancellationToken) -> Result<(), Error> {
    tell_what_is_missing(context);
    let mut pods = context.pods.changed();
    let mut enforced = enforce(context);
    context.runtime.set_group(Class::BestEffort.group(), &only_shares(2))?;
    let mut told = None;
    loop {
        pods.mark_unchanged();
        let sum = shares(burstable(context));
        if told != Some(sum) {
            context.runtime.set_group(Class::Burstable.group(), &only_shares(sum))?;
            told = Some(sum);
        }
        let retry = RETRY.unsigned_abs();
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            changed = pods.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(retry), if !enforced => enforced = enforce(context),
        }
    }
}

fn only_shares(shares: u64) -> Resources {
    Resources { cpu_shares: Some(shares), ..Resources::default() }
}

/// Thousandths of a CPU that burstable pods ask for together.
fn burstable(context: &Context) -> i64 {
    let all = context.pods.all();
    let burstable = all.iter().filter(|p| !is_terminal(p) && class_of(p) == Class::Burstable);
    burstable.filter_map(|p| p.spec.as_ref()).map(|spec| total(spec, Ask::Requests, "cpu")).sum()
}

/// Limits all pods together; `false` if that is to be tried again.
fn enforce(context: &Context) -> bool {
    let kubelet = &context.settings.kubelet;
    let memory = context.memory_capacity - reserved(kubelet, "memory") / 1000;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = i64::try_from(cpus).unwrap_or(1) * 1000 - reserved(kubelet, "cpu");
    let limits = Resources {
        cpu_shares: Some(shares(cpu.max(0))),
        memory_limit: Some(memory.max(0)),
        pids_limit: context.runtime.process_limit().map(|most| {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            (most - reserved(kubelet, "pid") / 1000).max(1)
        }),
        ..Resources::default()
    };
    // The group of the installation weighs as much as that of its pods does elsewhere, at the top.
    let top = context.runtime.set_group("", &only_shares(shares(cpu.max(0))));
    match top.and_then(|()| context.runtime.set_group(PODS, &limits)) {
        Ok(()) => {
            let text = "Updated Node Allocatable limit across pods";
            context.node_event("Normal", "NodeAllocatableEnforced", text.into());
            true
        }
        Err(error) => {
            tracing::warn!(%error, "what pods may use together is not limited");
            let text = format!("Failed to update Node Allocatable Limits [\"{PODS}\"]: {error}");
            context.node_event("Warning", "FailedNodeAllocatableEnforcement", text);
            false
        }
    }
}

/// Without a controller pods run, and nothing holds them to their limits: whoever looks should know.
fn tell_what_is_missing(context: &Context) {
    if !may_lower_oom_scores(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
        tracing::warn!(
            "without CAP_SYS_RESOURCE the kernel's choice of whom to kill for want of memory does not spare \
             guaranteed and critical pods"
        );
    }
    let missing = context.runtime.missing_controllers();
    if missing.is_empty() {
        return;
    }
    let mut text = format!(
        "This kernel offers no control groups for {}: the limits of pods are not enforced.",
        missing.join(", ")
    );
    if missing.contains(&"memory") {
        text += " On a Raspberry Pi add \"cgroup_enable=memory cgroup_memory=1\" to the line in \
                 /boot/firmware/cmdline.txt (/boot/cmdline.txt on older systems) and restart it.";
    }
    tracing::warn!("{text}");
    context.node_event("Warning", "MissingControlGroups", text);
}

/// Whether this process has CAP_SYS_RESOURCE, by `/proc/self/status`.
fn may_lower_oom_scores(status: &str) -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok()).is_some_and(|caps| caps & SYS_RESOURCE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read() {
        assert!(may_lower_oom_scores("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_lower_oom_scores("CapEff:\t00000000a80425fb\n"));
        assert!(!may_lower_oom_scores(""));
    }
}
