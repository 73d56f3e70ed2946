use super::*;
use crate::agent::disk::ContainerDisk;
use crate::agent::eviction::threshold::Observation;
use crate::config::Threshold::{Percentage, Quantity as Amount};
use serde_json::{Value, json};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const ALL: Parts = Parts { layers: true, files: true };

fn pod(value: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(value).expect("a pod"))
}

fn candidate(name: &str, priority: i32, request: &str, used: Option<Used>) -> Candidate {
    let requests =
        if request.is_empty() { json!({}) } else { json!({"memory": request, "ephemeral-storage": request}) };
    let pod = pod(json!({"metadata": {"name": name}, "spec": {"priority": priority,
        "containers": [{"name": "c", "resources": {"requests": requests}}],
        "volumes": [{"name": "e", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}]}}));
    Candidate { pod, used }
}

fn memory(bytes: u64) -> Option<Used> {
    Some(Used { memory: bytes, containers: [("c".to_owned(), bytes)].into(), ..Used::default() })
}

fn disk(layers: u64, logs: u64, volume: u64, inodes: u64) -> Option<Used> {
    let bytes = |bytes| Usage { bytes, inodes };
    let container = ContainerDisk { rootfs: bytes(layers), logs: Usage { bytes: logs, inodes: 0 } };
    let disk = PodDisk {
        containers: [("c".to_owned(), container)].into(),
        volumes: [("e".to_owned(), Usage { bytes: volume, inodes: 0 }), ("m".to_owned(), bytes(1 << 40))]
            .into(),
        managed: Usage::default(),
    };
    Some(Used { disk, ..Used::default() })
}

fn ordered(mut all: Vec<Candidate>, signal: Signal, parts: Parts) -> Vec<String> {
    order(&mut all, signal, parts);
    all.iter().map(|c| name(&c.pod).to_owned()).collect()
}

#[test]
fn memory_goes_by_excess_then_priority_then_how_much() {
    let all = vec![
        candidate("below-high", 1000, "1Gi", memory(200 * MIB)),
        candidate("below-low", -1, "1Gi", memory(900 * MIB)),
        candidate("over-high", 1000, "100Mi", memory(900 * MIB)),
        candidate("over-low", 1, "100Mi", memory(150 * MIB)),
        candidate("over-low-more", 1, "100Mi", memory(160 * MIB)),
        candidate("best-effort", 1, "", memory(155 * MIB)),
        candidate("unknown", 5000, "1Gi", None),
        candidate("exact", 0, "100Mi", memory(100 * MIB)),
    ];
    assert_eq!(
        ordered(all, Signal::Memory, ALL),
        [
            "unknown",
            "best-effort",
            "over-low-more",
            "over-low",
            "over-high",
            "below-low",
            "exact",
            "below-high"
        ]
    );
}

#[test]
fn processes_go_by_priority_then_number() {
    let pids = |n| Some(Used { pids: n, ..Used::default() });
    let all = vec![
        candidate("high", 10, "", pids(5000)),
        candidate("few", 0, "", pids(3)),
        candidate("many", 0, "", pids(400)),
    ];
    assert_eq!(ordered(all, Signal::Pids, ALL), ["many", "few", "high"]);
}

#[test]
fn disk_counts_what_is_on_the_file_system_that_is_full() {
    let all = || {
        vec![
            candidate("layers", 0, "", disk(900, 10, 10, 1)),
            candidate("volume", 0, "", disk(10, 10, 800, 3)),
            candidate("logs", 0, "", disk(100, 500, 0, 2)),
            candidate("asked", 0, "1Gi", disk(5000, 0, 0, 9)),
        ]
    };
    let one = Parts::of(Signal::NodeFs, false);
    assert_eq!(ordered(all(), Signal::NodeFs, one), ["layers", "volume", "logs", "asked"]);
    let files = Parts::of(Signal::NodeFs, true);
    assert_eq!(ordered(all(), Signal::NodeFs, files), ["volume", "logs", "layers", "asked"]);
    let images = Parts::of(Signal::ImageFs, true);
    assert_eq!(ordered(all(), Signal::ImageFs, images), ["layers", "logs", "volume", "asked"]);
    assert_eq!(ordered(all(), Signal::NodeFsInodes, one), ["volume", "logs", "layers", "asked"]);
}

#[test]
fn the_critical_ones_are_spared() {
    for (value, expected) in [
        (json!({"spec": {"priority": 2_000_000_000, "containers": []}}), true),
        (json!({"spec": {"priority": 1_999_999_999, "containers": []}}), false),
        (json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}), true),
        (json!({"metadata": {"annotations": {"kubernetes.io/config.source": "file"}}}), true),
        (json!({"metadata": {"annotations": {"kubernetes.io/config.source": "api"}}}), false),
    ] {
        assert_eq!(crate::agent::spec::is_critical(&pod(value.clone())), expected, "{value}");
    }
}

fn due(signal: Signal, value: crate::config::Threshold) -> Vec<Threshold> {
    vec![Threshold { signal, value, grace: Duration::ZERO, reclaim: None }]
}

#[test]
fn messages_are_upstreams() {
    let seen = [(Signal::Memory, Observation { available: 50 * MIB, capacity: 1 << 30 })].into();
    let of = |c: &Candidate| message(c, Signal::Memory, &due(Signal::Memory, Amount(100 * MIB)), &seen);
    assert_eq!(
        of(&candidate("p", 0, "", memory(50 * MIB))),
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was \
         using 50Mi, request is 0, has larger consumption of memory. "
    );
    assert_eq!(
        of(&candidate("p", 0, "64Mi", memory(50 * MIB))),
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
    );
    let seen = [(Signal::NodeFs, Observation { available: 1025 * 1024, capacity: 100 * MIB })].into();
    assert_eq!(
        message(
            &candidate("p", 0, "1", disk(1024, 1024, 0, 0)),
            Signal::NodeFs,
            &due(Signal::NodeFs, Percentage(5.0)),
            &seen
        ),
        "The node was low on resource: ephemeral-storage. Threshold quantity: 5Mi, available: 1025Ki. \
         Container c was using 2Ki, request is 1, has larger consumption of ephemeral-storage. "
    );
    let seen = [(Signal::NodeFsInodes, Observation { available: 100, capacity: 10_000 })].into();
    assert_eq!(
        message(
            &candidate("p", 0, "", disk(0, 0, 0, 7)),
            Signal::NodeFsInodes,
            &due(Signal::NodeFsInodes, Percentage(5.0)),
            &seen
        ),
        "The node was low on resource: inodes. Threshold quantity: 500, available: 100. "
    );
    let whole =
        pod(json!({"metadata": {"name": "w"}, "spec": {"resources": {"requests": {"memory": "10Mi"}},
        "containers": [{"name": "c"}]}}));
    let whole = Candidate { pod: whole, used: memory(20 * MIB) };
    assert_eq!(
        message(&whole, Signal::Memory, &[], &Observations::new()),
        "The node was low on resource: memory. Pod w was using 20Mi, request is 10Mi, has larger consumption \
         of memory. Container c was using 20Mi, request is 0, has larger consumption of memory. "
    );
}
