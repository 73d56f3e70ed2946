//! `/metrics/cadvisor`: what cAdvisor inside kubelet tells of containers, under its names, as far as the usual
//! dashboards and alerts ask for it.

use super::Snapshot;
use super::network::{Interface, Traffic};
use super::pods::{Container, Pod};
use crate::agent::counts::text::{Kind, Text, epoch_seconds, seconds};
use crate::runtime::spec::ContainerStats;

/// The processors a figure is of: all together.
const ALL_CPUS: [(&str, &str); 1] = [("cpu", "total")];

/// A figure of a control group: name, kind, labels, help, value.
struct Figure {
    name: &'static str,
    kind: Kind,
    labels: &'static [(&'static str, &'static str)],
    help: &'static str,
    value: fn(&ContainerStats) -> Value,
}

/// A number as it is written.
enum Value {
    Whole(u64),
    Seconds(f64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Seconds(number) => number.fmt(f),
        }
    }
}

fn time(nanoseconds: u64) -> Value {
    Value::Seconds(seconds(nanoseconds))
}

macro_rules! figures {
    ($($name:literal $kind:ident $labels:expr, $help:literal, $value:expr;)*) => {
        [$(Figure { name: $name, kind: Kind::$kind, labels: $labels, help: $help, value: $value }),*]
    };
}

const FIGURES: [Figure; 19] = figures! {
    "container_cpu_usage_seconds_total" Counter &ALL_CPUS, "Cumulative cpu time consumed in seconds.", |s| time(s.cpu_usage_ns);
    "container_cpu_user_seconds_total" Counter &[], "Cumulative user cpu time consumed in seconds.", |s| time(s.cpu_user_ns);
    "container_cpu_system_seconds_total" Counter &[], "Cumulative system cpu time consumed in seconds.", |s| time(s.cpu_system_ns);
    "container_cpu_cfs_periods_total" Counter &[], "Number of elapsed enforcement period intervals.", |s| Value::Whole(s.cpu_periods);
    "container_cpu_cfs_throttled_periods_total" Counter &[], "Number of throttled period intervals.", |s| Value::Whole(s.cpu_throttled_periods);
    "container_cpu_cfs_throttled_seconds_total" Counter &[], "Total time duration the container has been throttled.", |s| time(s.cpu_throttled_ns);
    "container_memory_usage_bytes" Gauge &[], "Current memory usage in bytes, including all memory regardless of when it was accessed", |s| Value::Whole(s.memory_usage);
    "container_memory_working_set_bytes" Gauge &[], "Current working set in bytes.", |s| Value::Whole(s.memory_working_set);
    "container_memory_rss" Gauge &[], "Size of RSS in bytes.", |s| Value::Whole(s.memory_rss);
    "container_memory_cache" Gauge &[], "Number of bytes of page cache memory.", |s| Value::Whole(s.memory_cache);
    "container_memory_mapped_file" Gauge &[], "Size of memory mapped files in bytes.", |s| Value::Whole(s.memory_mapped);
    "container_memory_max_usage_bytes" Gauge &[], "Maximum memory usage recorded in bytes", |s| Value::Whole(s.memory_peak);
    "container_memory_swap" Gauge &[], "Container swap usage in bytes.", |s| Value::Whole(s.swap_usage.unwrap_or(0));
    "container_oom_events_total" Counter &[], "Count of out of memory events observed for the container", |s| Value::Whole(s.oom_kills);
    "container_processes" Gauge &[], "Number of processes running inside the container.", |s| Value::Whole(s.pids);
    "container_spec_memory_limit_bytes" Gauge &[], "Memory limit for the container.", |s| Value::Whole(s.memory_limit.unwrap_or(0));
    "container_spec_memory_swap_limit_bytes" Gauge &[], "Memory swap limit for the container.", |s| Value::Whole(s.swap_limit.unwrap_or(0));
    "container_memory_failures_total" Counter &[("failure_type", "pgfault"), ("scope", "container")], "Cumulative count of memory allocation failures.", |s| Value::Whole(s.page_faults);
    "container_memory_failures_total" Counter &[("failure_type", "pgmajfault"), ("scope", "container")], "", |s| Value::Whole(s.major_page_faults);
};

/// A control group and the labels by which it is told from others.
struct Group<'a> {
    labels: Vec<(&'static str, &'a str)>,
    stats: &'a ContainerStats,
    /// Milliseconds since the epoch.
    started: i64,
}

fn labels<'a>(
    pod: Option<&'a Pod>,
    container: Option<&'a Container>,
    id: &'a str,
) -> Vec<(&'static str, &'a str)> {
    vec![
        ("container", container.map_or("", |c| &c.name)),
        ("id", id),
        ("image", container.map_or("", |c| &c.image)),
        ("name", container.map_or_else(|| pod.map_or("", |p| &p.sandbox), |c| &c.id)),
        ("namespace", pod.map_or("", |p| &p.namespace)),
        ("pod", pod.map_or("", |p| &p.name)),
    ]
}

/// The cgroup of a pod, from one of its containers'.
fn pod_group(pod: &Pod) -> &str {
    let group = pod.containers.first().and_then(|c| c.cgroup.rsplit_once('/'));
    group.map_or("", |(pod, _)| pod)
}

/// The text.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    let node = &snapshot.node;
    let mut groups =
        vec![Group { labels: labels(None, None, "/"), stats: &node.stats, started: node.booted }];
    for pod in &snapshot.pods {
        let own = labels(Some(pod), None, pod_group(pod));
        groups.push(Group { labels: own, stats: &pod.stats, started: pod.started });
        groups.extend(pod.containers.iter().map(|c| Group {
            labels: labels(Some(pod), Some(c), &c.cgroup),
            stats: &c.stats,
            started: c.started,
        }));
    }
    for figure in &FIGURES {
        if !figure.help.is_empty() {
            text.metric(figure.name, figure.kind, figure.help);
        }
        for group in &groups {
            let labels = [&group.labels, figure.labels].concat();
            text.sample(figure.name, &labels, (figure.value)(group.stats), Some(group.stats.at));
        }
    }
    let name = "container_start_time_seconds";
    text.metric(name, Kind::Gauge, "Start time of the container since unix epoch in seconds.");
    for group in &groups {
        text.sample(name, &group.labels, epoch_seconds(group.started), Some(group.stats.at));
    }
    let name = "container_last_seen";
    text.metric(name, Kind::Gauge, "Last time a container was seen by the exporter");
    for group in &groups {
        text.sample(name, &group.labels, group.stats.at / 1000, Some(group.stats.at));
    }
    network(&mut text, snapshot);
    disks(&mut text, snapshot);
    text.single("machine_cpu_cores", Kind::Gauge, "Number of logical CPU cores.", node.cpus);
    text.single(
        "machine_memory_bytes",
        Kind::Gauge,
        "Amount of memory installed on the machine.",
        node.memory,
    );
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    text.single("container_scrape_error", Kind::Gauge, help, 0);
    text.finish()
}

/// One number of many.
type Reading<T> = fn(&T) -> u64;

fn network(text: &mut Text, snapshot: &Snapshot) {
    let at = snapshot.at.as_millisecond();
    let own = snapshot
        .pods
        .iter()
        .filter_map(|p| p.network.as_ref().map(|n| (labels(Some(p), None, pod_group(p)), n)));
    let node = snapshot.node.interfaces.iter().map(|i| (labels(None, None, "/"), i));
    let all: Vec<(Vec<(&str, &str)>, &Interface)> = node.chain(own).collect();
    let figures: [(&str, Reading<Traffic>); 4] = [
        ("bytes", |t| t.bytes),
        ("packets", |t| t.packets),
        ("errors", |t| t.errors),
        ("packets_dropped", |t| t.dropped),
    ];
    for direction in ["receive", "transmit"] {
        let traffic = |i: &Interface| if direction == "receive" { i.received } else { i.sent };
        for (what, value) in figures {
            let name = format!("container_network_{direction}_{what}_total");
            text.metric(&name, Kind::Counter, &format!("Cumulative count of {what}: {direction}"));
            for (labels, interface) in &all {
                let labels = [&labels[..], &[("interface", &*interface.name)]].concat();
                text.sample(&name, &labels, value(&traffic(interface)), Some(at));
            }
        }
    }
}

fn disks(text: &mut Text, snapshot: &Snapshot) {
    let at = snapshot.at.as_millisecond();
    let containers = snapshot.pods.iter().flat_map(|p| p.containers.iter().map(move |c| (p, c)));
    let spaces = containers.filter_map(|(p, c)| Some((labels(Some(p), Some(c), &c.cgroup), c.rootfs?)));
    let node = snapshot.node.fs.map(|space| (labels(None, None, "/"), space));
    let all: Vec<_> = node.into_iter().chain(spaces).collect();
    let figures: [(&str, &str, Reading<super::disk::Space>); 4] = [
        (
            "container_fs_usage_bytes",
            "Number of bytes that are consumed by the container on this filesystem.",
            |s| s.used.bytes,
        ),
        (
            "container_fs_limit_bytes",
            "Number of bytes that can be consumed by the container on this filesystem.",
            |s| s.fs.capacity,
        ),
        ("container_fs_inodes_total", "Number of Inodes", |s| s.fs.inodes),
        ("container_fs_inodes_free", "Number of available Inodes", |s| s.fs.inodes_free),
    ];
    for (name, help, value) in figures {
        text.metric(name, Kind::Gauge, help);
        for (labels, space) in &all {
            let labels = [&labels[..], &[("device", "")]].concat();
            text.sample(name, &labels, value(space), Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stats::Node;

    #[test]
    fn dashboards_find_their_metrics() {
        let stats = ContainerStats {
            at: 2000,
            cpu_usage_ns: 1_000_000_000,
            page_faults: 3,
            ..ContainerStats::default()
        };
        let container = Container {
            name: "c".into(),
            id: "i".into(),
            image: "m".into(),
            cgroup: "/k/pod/i".into(),
            stats,
            ..Container::default()
        };
        let network = Interface { name: "eth0".into(), ..Interface::default() };
        let pod = Pod {
            name: "p".into(),
            namespace: "n".into(),
            sandbox: "s".into(),
            stats,
            network: Some(network),
            containers: vec![container],
            ..Pod::default()
        };
        let node = Node { cpus: 2, memory: 64, ..Node::default() };
        let text = super::text(&Snapshot { at: jiff::Timestamp::UNIX_EPOCH, node, pods: vec![pod] });
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",id=\"/k/pod/i\",image=\"m\",name=\"i\",namespace=\"n\",pod=\"p\",cpu=\"total\"} 1 2000",
            "container_memory_working_set_bytes{container=\"\",id=\"/k/pod\",image=\"\",name=\"s\",namespace=\"n\",pod=\"p\"} 0 2000",
            "container_network_receive_bytes_total{container=\"\",id=\"/k/pod\",image=\"\",name=\"s\",namespace=\"n\",pod=\"p\",interface=\"eth0\"} 0 0",
            "container_last_seen{container=\"c\",id=\"/k/pod/i\",image=\"m\",name=\"i\",namespace=\"n\",pod=\"p\"} 2 2000",
            "machine_cpu_cores 2",
            "machine_memory_bytes 64",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        let heads: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let distinct: std::collections::BTreeSet<&str> = heads.iter().copied().collect();
        assert_eq!(heads.len(), distinct.len(), "each metric has one head");
    }
}
