//! Whom to evict first, and what to tell of it (`helpers.go` of kubelet's eviction manager).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::threshold::{Observations, Signal, Threshold};
use crate::agent::disk::{PodDisk, Usage};
use crate::agent::qos::{Ask, total};
use crate::agent::spec::{name, priority};
use crate::agent::volumes::is_local;
use crate::api::quantity::{Format, Quantity};

/// A pod that may be evicted, and what it uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidate {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What it uses; a pod of which nothing is known goes first.
    pub used: Option<Used>,
}

/// What a pod uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    /// Working set of the pod's group, in bytes.
    pub memory: u64,
    /// Working sets of its containers by name, in bytes.
    pub containers: BTreeMap<String, u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Files; measured only for lack of disk.
    pub disk: PodDisk,
}

/// Which of a pod's files are on the file system that runs full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Writable layers.
    pub layers: bool,
    /// Logs and volumes.
    pub files: bool,
}

impl Parts {
    /// With one file system for all, everything counts; with one for images, each has its own.
    pub(super) fn of(signal: Signal, dedicated_images: bool) -> Self {
        let images = matches!(signal, Signal::ImageFs | Signal::ImageFsInodes);
        Self { layers: images || !dedicated_images, files: !images || !dedicated_images }
    }
}

fn disk_of(pod: &Pod, used: &Used, parts: Parts) -> Usage {
    let containers = used.disk.containers.values().map(|c| match (parts.layers, parts.files) {
        (true, true) => c.total(),
        (true, false) => c.rootfs,
        _ => c.logs,
    });
    let volumes =
        pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter(|v| parts.files && is_local(v));
    let volumes = volumes.filter_map(|v| used.disk.volumes.get(&v.name).copied());
    containers.chain(volumes).sum()
}

/// Puts those to be evicted first at the front. For memory and disk: whoever uses more than it asked
/// for, then by priority, then by how much more. For processes: by priority, then by number.
pub(super) fn order(candidates: &mut [Candidate], signal: Signal, parts: Parts) {
    let none = PodSpec::default();
    candidates.sort_by_cached_key(|candidate| {
        let pod = &candidate.pod;
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let Some(used) = &candidate.used else { return (0, 0, priority(pod), Reverse(0)) };
        let (usage, request, over) = match signal {
            Signal::Pids => return (1, 0, priority(pod), Reverse(signed(used.pids))),
            Signal::Memory | Signal::PodsMemory => {
                let request = total(spec, Ask::Requests, "memory");
                (signed(used.memory), request, signed(used.memory) - request)
            }
            _ => {
                let usage = disk_of(pod, used, parts);
                let request = total(spec, Ask::Requests, "ephemeral-storage");
                if signal.is_bytes() {
                    (signed(usage.bytes), request, signed(usage.bytes) - request)
                } else {
                    // Nobody can ask for inodes; upstream takes the request of bytes off all the same.
                    (signed(usage.inodes), 0, signed(usage.inodes) - request)
                }
            }
        };
        (1, i32::from(usage <= request), priority(pod), Reverse(over))
    });
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An amount of what a signal measures, in upstream's form.
pub(super) fn quantity(value: u64, bytes: bool) -> String {
    let format = if bytes { Format::BinarySi } else { Format::DecimalSi };
    Quantity::from_units(signed(value), format).to_string()
}

/// Why a pod is evicted for a threshold, in upstream's words.
pub(super) fn message(
    candidate: &Candidate,
    signal: Signal,
    due: &[Threshold],
    observations: &Observations,
) -> String {
    let resource = signal.resource();
    let mut text = format!("The node was low on resource: {resource}. ");
    let met = due.iter().filter(|t| t.signal.resource() == resource);
    if let Some((threshold, seen)) = met.filter_map(|t| Some((t, observations.get(&t.signal)?))).next() {
        let amount = |value| quantity(value, threshold.signal.is_bytes());
        let (limit, available) = (amount(threshold.limit(seen.capacity)), amount(seen.available));
        text += &format!("Threshold quantity: {limit}, available: {available}. ");
    }
    let (Some(used), Some(spec)) = (&candidate.used, &candidate.pod.spec) else { return text };
    let whole = spec.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get(resource));
    if let Some(request) = whole.filter(|_| resource == "memory") {
        let (pod, memory) = (name(&candidate.pod), quantity(used.memory, true));
        text += &format!(
            "Pod {pod} was using {memory}, request is {}, has larger consumption of {resource}. ",
            request.0
        );
    }
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let usage = match resource {
            "memory" => used.containers.get(&container.name).copied(),
            "ephemeral-storage" => used.disk.containers.get(&container.name).map(|c| c.total().bytes),
            _ => None,
        };
        let request = request_of(container, resource);
        let asked = request.parse::<Quantity>().map_or(0, Quantity::to_units);
        if let Some(usage) = usage.filter(|u| signed(*u) > asked) {
            text += &format!(
                "Container {} was using {}, request is {request}, has larger consumption of {resource}. ",
                container.name,
                quantity(usage, true)
            );
        }
    }
    text
}

fn request_of(container: &Container, resource: &str) -> String {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    requests.and_then(|r| r.get(resource)).map_or_else(|| "0".to_owned(), |q| q.0.clone())
}

#[cfg(test)]
#[path = "rank_tests.rs"]
mod tests;
