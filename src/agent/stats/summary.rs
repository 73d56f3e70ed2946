//! `/stats/summary`: a [`Snapshot`] in the JSON of kubelet's `stats/v1alpha1`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::disk::{Space, Volume};
use super::network::Interface;
use super::node::Node;
use super::pods::{Container, Pod};
use super::{Detail, Snapshot};
use crate::runtime::spec::ContainerStats;

/// The summary; with [`Detail::Cpu`] only CPU and memory are in it.
pub(super) fn of(snapshot: &Snapshot, detail: Detail) -> Value {
    let pods: Vec<Value> = snapshot.pods.iter().map(|p| pod(p, detail, snapshot.at)).collect();
    json!({"node": node(&snapshot.node, detail, snapshot.at), "pods": pods})
}

/// Seconds precision, as `metav1.Time` is written.
fn time(at: Timestamp) -> Value {
    json!(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn millis(at: i64) -> Value {
    time(Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn node(node: &Node, detail: Detail, at: Timestamp) -> Value {
    let mut value = json!({
        "nodeName": node.name,
        "startTime": millis(node.booted),
        "cpu": cpu(&node.stats, node.cpu_rate),
        "memory": memory(&node.stats, Some(node.memory)),
        "systemContainers": node.parts.iter().map(|part| json!({
            "name": part.name,
            "startTime": millis(part.started),
            "cpu": cpu(&part.stats, part.cpu_rate),
            // All pods together may have what the machine has.
            "memory": memory(&part.stats, part.stats.memory_limit.or((part.name == "pods").then_some(node.memory))),
        })).collect::<Vec<_>>(),
    });
    if detail == Detail::Cpu {
        return value;
    }
    value["swap"] = swap(&node.stats);
    value["network"] = network(&node.interfaces, node.default_interface.as_deref(), at);
    if let Some(space) = &node.fs {
        value["fs"] = fs(space);
        let images = node.images.as_ref().unwrap_or(space);
        value["runtime"] = json!({"imageFs": fs(images), "containerFs": fs(space)});
    }
    value["rlimit"] = json!({"time": time(at), "maxpid": node.pids.0, "curproc": node.pids.1});
    value
}

fn pod(pod: &Pod, detail: Detail, at: Timestamp) -> Value {
    let containers: Vec<Value> = pod.containers.iter().map(|c| container(c, detail)).collect();
    let mut value = json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": millis(pod.started),
        "containers": containers,
        "cpu": cpu(&pod.stats, pod.cpu_rate),
        "memory": memory(&pod.stats, pod.stats.memory_limit),
    });
    if detail == Detail::Cpu {
        return value;
    }
    value["swap"] = swap(&pod.stats);
    if let Some(interface) = &pod.network {
        value["network"] = network(std::slice::from_ref(interface), Some(&interface.name), at);
    }
    if !pod.volumes.is_empty() {
        value["volume"] = pod.volumes.iter().map(volume).collect();
    }
    if let Some(space) = &pod.ephemeral {
        value["ephemeral-storage"] = fs(space);
    }
    value["process_stats"] = json!({"process_count": pod.stats.pids});
    value
}

fn container(container: &Container, detail: Detail) -> Value {
    let mut value = json!({
        "name": container.name,
        "startTime": millis(container.started),
        "cpu": cpu(&container.stats, container.cpu_rate),
        "memory": memory(&container.stats, container.stats.memory_limit),
    });
    if detail == Detail::Cpu {
        return value;
    }
    value["swap"] = swap(&container.stats);
    for (name, space) in [("rootfs", &container.rootfs), ("logs", &container.logs)] {
        if let Some(space) = space {
            value[name] = fs(space);
        }
    }
    value
}

fn cpu(stats: &ContainerStats, rate: u64) -> Value {
    json!({"time": millis(stats.at), "usageNanoCores": rate, "usageCoreNanoSeconds": stats.cpu_usage_ns})
}

fn memory(stats: &ContainerStats, limit: Option<u64>) -> Value {
    let mut value = json!({
        "time": millis(stats.at),
        "usageBytes": stats.memory_usage,
        "workingSetBytes": stats.memory_working_set,
        "rssBytes": stats.memory_rss,
        "pageFaults": stats.page_faults,
        "majorPageFaults": stats.major_page_faults,
    });
    if let Some(limit) = limit {
        value["availableBytes"] = json!(limit.saturating_sub(stats.memory_working_set));
    }
    value
}

fn swap(stats: &ContainerStats) -> Value {
    let mut value = json!({"time": millis(stats.at)});
    if let Some(used) = stats.swap_usage {
        value["swapUsageBytes"] = json!(used);
        if let Some(limit) = stats.swap_limit {
            value["swapAvailableBytes"] = json!(limit.saturating_sub(used));
        }
    }
    value
}

fn interface(of: &Interface) -> Map<String, Value> {
    let numbers = [
        ("rxBytes", of.received.bytes),
        ("rxErrors", of.received.errors),
        ("txBytes", of.sent.bytes),
        ("txErrors", of.sent.errors),
    ];
    let numbers = numbers.map(|(name, number)| (name.to_owned(), json!(number)));
    [("name".to_owned(), json!(of.name))].into_iter().chain(numbers).collect()
}

fn network(interfaces: &[Interface], default: Option<&str>, at: Timestamp) -> Value {
    let main = interfaces.iter().find(|i| Some(&*i.name) == default).or(interfaces.first());
    let mut value =
        main.map(interface).unwrap_or_else(|| [("name".to_owned(), json!(""))].into_iter().collect());
    value.insert("time".into(), time(at));
    value.insert("interfaces".into(), interfaces.iter().map(|i| Value::Object(interface(i))).collect());
    Value::Object(value)
}

fn fs(space: &Space) -> Value {
    json!({
        "time": time(space.at),
        "availableBytes": space.fs.available,
        "capacityBytes": space.fs.capacity,
        "usedBytes": space.used.bytes,
        "inodesFree": space.fs.inodes_free,
        "inodes": space.fs.inodes,
        "inodesUsed": space.used.inodes,
    })
}

fn volume(volume: &Volume) -> Value {
    let mut value = fs(&volume.space);
    value["name"] = json!(volume.name);
    if let Some((namespace, name)) = &volume.claim {
        value["pvcRef"] = json!({"name": name, "namespace": namespace});
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::disk::{FsStats, Usage};
    use crate::agent::stats::network::Traffic;

    fn snapshot() -> Snapshot {
        let stats = ContainerStats {
            at: 1_000,
            cpu_usage_ns: 5,
            memory_working_set: 60,
            memory_limit: Some(100),
            pids: 3,
            ..ContainerStats::default()
        };
        let space = Space {
            at: Timestamp::UNIX_EPOCH,
            used: Usage { bytes: 7, inodes: 2 },
            fs: FsStats { capacity: 50, available: 40, ..FsStats::default() },
        };
        let container = Container {
            name: "c".into(),
            stats,
            cpu_rate: 9,
            rootfs: Some(space),
            logs: Some(space),
            ..Container::default()
        };
        let received = Traffic { bytes: 11, ..Traffic::default() };
        let network = Interface { name: "eth0".into(), received, ..Interface::default() };
        let volumes = vec![Volume { name: "v".into(), claim: Some(("n".into(), "data".into())), space }];
        let pod = Pod {
            name: "p".into(),
            namespace: "n".into(),
            stats,
            network: Some(network.clone()),
            containers: vec![container],
            volumes,
            ephemeral: Some(space),
            ..Pod::default()
        };
        let node = Node { memory: 200, stats, interfaces: vec![network], fs: Some(space), ..Node::default() };
        Snapshot { at: Timestamp::UNIX_EPOCH, node, pods: vec![pod] }
    }

    #[test]
    fn the_names_are_kubelets() {
        let all = of(&snapshot(), Detail::All);
        let container = &all["pods"][0]["containers"][0];
        assert_eq!(container["cpu"]["usageNanoCores"], 9);
        assert_eq!(container["cpu"]["time"], "1970-01-01T00:00:01Z");
        assert_eq!(container["memory"]["availableBytes"], 40);
        assert_eq!(container["rootfs"]["usedBytes"], 7);
        assert_eq!(all["node"]["memory"]["availableBytes"], 140);
        assert_eq!(all["node"]["runtime"]["imageFs"]["capacityBytes"], 50);
        let pod = &all["pods"][0];
        assert_eq!(pod["network"]["rxBytes"], 11);
        assert_eq!(pod["network"]["interfaces"][0]["name"], "eth0");
        assert_eq!(pod["volume"][0]["pvcRef"], json!({"name": "data", "namespace": "n"}));
        assert_eq!(pod["ephemeral-storage"]["inodesUsed"], 2);
        assert_eq!(pod["process_stats"]["process_count"], 3);
    }

    #[test]
    fn cpu_and_memory_alone() {
        let some = of(&snapshot(), Detail::Cpu);
        let pod = &some["pods"][0];
        for name in ["network", "volume", "ephemeral-storage", "process_stats", "swap"] {
            assert_eq!(pod[name], Value::Null, "{name}");
        }
        assert!(some["node"]["fs"].is_null() && pod["containers"][0]["rootfs"].is_null());
        assert_eq!(pod["memory"]["workingSetBytes"], 60);
    }
}
