//! `/metrics`: the agent itself, under kubelet's names.

use std::fs;

use super::disk::{Space, Volume};
use crate::agent::context::Context;
use crate::agent::counts::text::{Kind, Text, epoch_seconds, seconds};
use crate::runtime::spec::{ContainerState, SandboxStatus};

/// The text.
pub(super) fn text(context: &Context, sandboxes: &[SandboxStatus], claims: &[Volume]) -> String {
    let mut text = Text::default();
    running(&mut text, sandboxes);
    text.metric("kubelet_node_name", Kind::Gauge, "[ALPHA] The node's name. The count is always 1.");
    text.sample("kubelet_node_name", &[("node", &context.settings.node_name)], 1, None);
    let pods = context.pods.all().len();
    let help = "[ALPHA] The number of pods the kubelet was asked to run";
    text.single("kubelet_desired_pods", Kind::Gauge, help, pods);
    context.pods.starts.write(&mut text);
    volumes(&mut text, claims);
    let version = "v1.36.0+kedge";
    text.metric("kubernetes_build_info", Kind::Gauge, "[ALPHA] The version, always 1.");
    let labels = [("git_version", version), ("major", "1"), ("minor", "36")];
    text.sample("kubernetes_build_info", &labels, 1, None);
    let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let booted = fs::read_to_string("/proc/stat").unwrap_or_default();
    process(&mut text, &read("stat"), &read("status"), &booted, open);
    text.finish()
}

fn running(text: &mut Text, sandboxes: &[SandboxStatus]) {
    let pods = sandboxes.iter().filter(|s| s.ready).count();
    text.single(
        "kubelet_running_pods",
        Kind::Gauge,
        "[ALPHA] Number of pods that have a running pod sandbox",
        pods,
    );
    let name = "kubelet_running_containers";
    text.metric(name, Kind::Gauge, "[ALPHA] Number of containers currently running");
    let all = || sandboxes.iter().flat_map(|s| &s.containers);
    for (state, label) in [
        (ContainerState::Created, "created"),
        (ContainerState::Exited, "exited"),
        (ContainerState::Running, "running"),
    ] {
        let count = all().filter(|c| c.state == state).count();
        if count > 0 || state == ContainerState::Running {
            text.sample(name, &[("container_state", label)], count, None);
        }
    }
}

fn volumes(text: &mut Text, claims: &[Volume]) {
    type Figure = fn(&Space) -> u64;
    let figures: [(&str, &str, Figure); 6] = [
        ("available_bytes", "Number of available bytes in the volume", |s| s.fs.available),
        ("capacity_bytes", "Capacity in bytes of the volume", |s| s.fs.capacity),
        ("inodes", "Maximum number of inodes in the volume", |s| s.fs.inodes),
        ("inodes_free", "Number of free inodes in the volume", |s| s.fs.inodes_free),
        ("inodes_used", "Number of used inodes in the volume", |s| s.used.inodes),
        ("used_bytes", "Number of used bytes in the volume", |s| s.used.bytes),
    ];
    for (name, help, value) in figures {
        let name = format!("kubelet_volume_stats_{name}");
        let mut seen = std::collections::BTreeSet::new();
        for volume in claims {
            let Some((namespace, claim)) = &volume.claim else { continue };
            if seen.is_empty() {
                text.metric(&name, Kind::Gauge, &format!("[ALPHA] {help}"));
            }
            if seen.insert((namespace, claim)) {
                let labels = [("namespace", &**namespace), ("persistentvolumeclaim", &**claim)];
                text.sample(&name, &labels, value(&volume.space), None);
            }
        }
    }
}

fn process(text: &mut Text, stat: &str, status: &str, booted: &str, open: usize) {
    let (started, used) = super::node::own_process(stat, status, super::node::booted(booted));
    let help = "Total user and system CPU time spent in seconds.";
    text.single("process_cpu_seconds_total", Kind::Counter, help, seconds(used.cpu_usage_ns));
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let help = "Maximum number of open file descriptors.";
    text.single("process_max_fds", Kind::Gauge, help, limit.map_or(0, |(soft, _)| soft));
    text.single("process_open_fds", Kind::Gauge, "Number of open file descriptors.", open);
    let help = "Resident memory size in bytes.";
    text.single("process_resident_memory_bytes", Kind::Gauge, help, used.memory_usage);
    let help = "Start time of the process since unix epoch in seconds.";
    text.single("process_start_time_seconds", Kind::Gauge, help, epoch_seconds(started));
    let size = super::node::kib(status, "VmSize:");
    text.single("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory size in bytes.", size);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_told_once() {
        let volume =
            Volume { name: "v".into(), claim: Some(("n".into(), "data".into())), space: Space::default() };
        let mut text = Text::default();
        volumes(&mut text, &[volume.clone(), volume]);
        let text = text.finish();
        let line = "kubelet_volume_stats_capacity_bytes{namespace=\"n\",persistentvolumeclaim=\"data\"} 0";
        assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{text}");
    }

    #[test]
    fn this_process_is_told() {
        let read = |path: &str| fs::read_to_string(path).unwrap();
        let mut text = Text::default();
        process(&mut text, &read("/proc/self/stat"), &read("/proc/self/status"), &read("/proc/stat"), 3);
        let text = text.finish();
        let value = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name} "))).expect("there");
            line.parse::<f64>().expect("a number")
        };
        assert!(value("process_resident_memory_bytes") > 0.0 && value("process_max_fds") > 0.0);
        assert_eq!(value("process_open_fds"), 3.0);
    }
}
