//! `/metrics/resource`: CPU and memory of the node, its pods and containers, with times, as metrics-server and
//! Prometheus' adapters read them.

use super::Snapshot;
use super::pods::{Container, Pod};
use crate::agent::counts::text::{Kind, Text, epoch_seconds, seconds};
use crate::runtime::spec::ContainerStats;

/// What is told of one thing: the end of the metric's name, what it is, help, its value.
type Figure = (&'static str, Kind, &'static str, fn(&ContainerStats) -> Option<f64>);

const CPU: Figure = (
    "cpu_usage_seconds_total",
    Kind::Counter,
    "[STABLE] Cumulative cpu time consumed by the {} in core-seconds",
    |s| Some(seconds(s.cpu_usage_ns)),
);
const MEMORY: Figure =
    ("memory_working_set_bytes", Kind::Gauge, "[STABLE] Current working set of the {} in bytes", |s| {
        Some(bytes(s.memory_working_set))
    });
const SWAP: Figure = (
    "swap_usage_bytes",
    Kind::Gauge,
    "[ALPHA] Current amount of the {} swap usage in bytes. Reported only on non-windows systems",
    |s| s.swap_usage.map(bytes),
);
const SWAP_LIMIT: Figure = (
    "swap_limit_bytes",
    Kind::Gauge,
    "[ALPHA] Current amount of the {} swap limit in bytes. Reported only on non-windows systems",
    |s| s.swap_limit.map(bytes),
);

#[allow(clippy::cast_precision_loss, reason = "Prometheus has floating point numbers only")]
fn bytes(number: u64) -> f64 {
    number as f64
}

/// The text.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    let containers: Vec<(&Pod, &Container)> =
        snapshot.pods.iter().flat_map(|p| p.containers.iter().map(move |c| (p, c))).collect();
    let labelled = containers.iter().map(|(pod, container)| {
        let labels =
            vec![("container", &*container.name), ("namespace", &*pod.namespace), ("pod", &*pod.name)];
        (labels, &container.stats)
    });
    let labelled: Vec<_> = labelled.collect();
    for figure in [CPU, MEMORY, SWAP, SWAP_LIMIT] {
        family(&mut text, "container", figure, &labelled);
    }
    let name = "container_start_time_seconds";
    text.metric(name, Kind::Gauge, "[STABLE] Start time of the container since unix epoch in seconds");
    for ((labels, _), (_, container)) in labelled.iter().zip(&containers) {
        text.sample(name, labels, epoch_seconds(container.started), None);
    }
    for figure in [CPU, MEMORY, SWAP] {
        family(&mut text, "node", figure, &[(Vec::new(), &snapshot.node.stats)]);
    }
    let pods: Vec<_> = snapshot
        .pods
        .iter()
        .map(|pod| (vec![("namespace", &*pod.namespace), ("pod", &*pod.name)], &pod.stats))
        .collect();
    for figure in [CPU, MEMORY, SWAP] {
        family(&mut text, "pod", figure, &pods);
    }
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    text.single("resource_scrape_error", Kind::Gauge, &format!("[STABLE] {help}"), 0);
    text.single("scrape_error", Kind::Gauge, &format!("[ALPHA] (Deprecated since 1.29.0) {help}"), 0);
    text.finish()
}

fn family(text: &mut Text, of: &str, figure: Figure, samples: &[(Vec<(&str, &str)>, &ContainerStats)]) {
    let (end, kind, help, value) = figure;
    let name = format!("{of}_{end}");
    text.metric(&name, kind, &help.replace("{}", of));
    for (labels, stats) in samples {
        if let Some(value) = value(stats) {
            text.sample(&name, labels, value, Some(stats.at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stats::Node;

    #[test]
    fn names_labels_and_times_are_kubelets() {
        let stats = ContainerStats {
            at: 5,
            cpu_usage_ns: 2_500_000_000,
            memory_working_set: 4096,
            swap_usage: Some(0),
            ..ContainerStats::default()
        };
        let container = Container { name: "c".into(), started: 1500, stats, ..Container::default() };
        let pod = Pod {
            name: "p".into(),
            namespace: "n".into(),
            stats,
            containers: vec![container],
            ..Pod::default()
        };
        let node = Node { stats, ..Node::default() };
        let text = super::text(&Snapshot { at: jiff::Timestamp::UNIX_EPOCH, node, pods: vec![pod] });
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 2.5 5",
            "container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 4096 5",
            "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5",
            "node_cpu_usage_seconds_total 2.5 5",
            "node_memory_working_set_bytes 4096 5",
            "node_swap_usage_bytes 0 5",
            "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 2.5 5",
            "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 4096 5",
            "# TYPE pod_memory_working_set_bytes gauge",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("container_swap_limit_bytes{"), "no limit is known\n{text}");
    }
}
