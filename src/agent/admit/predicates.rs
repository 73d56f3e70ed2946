//! The scheduler's predicates as the node checks them again (`pkg/kubelet/lifecycle/predicate.go`):
//! a pod may have been given to it by hand, or the node may have changed since.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec};
use serde_json::{Value, json};

use super::{Inputs, Lack, NODE_AFFINITY, Refusal};
use crate::agent::spec::{is_critical, is_sidecar};
use crate::api::scheduling::{node_selectors, tolerations};
use crate::api::{Quantity, pod_requests};

type Amounts = BTreeMap<String, Quantity>;

/// Upstream's resource names for which there are reasons; others are told as `OutOf<name>` all the same.
const CPU: &str = "cpu";
const PODS: &str = "pods";
const OS_LABEL: &str = "kubernetes.io/os";

/// Refuses a pod that does not fit, for the first reason in upstream's order; a critical one for lack of
/// resources only if nothing else stands in its way.
pub(super) fn check(inputs: &Inputs<'_>) -> Result<(), Refusal> {
    let Some(spec) = &inputs.pod.spec else { return Ok(()) };
    operating_system(inputs.pod, spec)?;
    let short = resources(inputs, spec);
    let lacking = short.iter().map(|(lack, _)| lack.clone()).collect();
    let Some((Lack { name, .. }, message)) = short.into_iter().next() else { return placement(inputs, spec) };
    if !is_critical(inputs.pod) {
        return Err(Refusal::new(&format!("OutOf{name}"), message));
    }
    placement(inputs, spec)?;
    Err(Refusal { lacking, ..Refusal::new(&format!("OutOf{name}"), message) })
}

fn placement(inputs: &Inputs<'_>, spec: &PodSpec) -> Result<(), Refusal> {
    let failed = |predicate: &str, why: &str| {
        Err(Refusal::new(predicate, format!("Predicate {predicate} failed: {why}")))
    };
    if !selected(spec, inputs.node) {
        return failed(NODE_AFFINITY, "node(s) didn't match Pod's node affinity/selector");
    }
    let node_name = inputs.node.metadata.name.as_deref();
    if spec.node_name.as_deref().is_some_and(|n| !n.is_empty() && Some(n) != node_name) {
        return failed("NodeName", "node(s) didn't match the requested node name");
    }
    let ports = host_ports(spec);
    let taken = inputs.others.iter().filter_map(|p| p.spec.as_ref()).flat_map(host_ports);
    if taken.into_iter().any(|t| ports.iter().any(|p| conflict(p, &t))) {
        return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    let taints = inputs.node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let tolerated = spec.tolerations.as_deref().unwrap_or_default();
    if !inputs.is_static && tolerations::untolerated(taints, tolerated, &["NoExecute"]).is_some() {
        return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

fn operating_system(pod: &Pod, spec: &PodSpec) -> Result<(), Refusal> {
    let label = pod.metadata.labels.as_ref().and_then(|l| l.get(OS_LABEL));
    if label.is_some_and(|l| l != "linux") {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(Refusal::new("PodOSSelectorNodeLabelDoesNotMatch", message.into()));
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(Refusal::new("PodOSNotSupported", message.into()));
    }
    Ok(())
}

/// Whether the pod's node selector and required node affinity select the node.
fn selected(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let simple = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    simple && required.is_none_or(|r| node_selectors::selects(r, name, &labels))
}

/// Address (empty: any), protocol and number of the ports a pod takes on the node.
fn host_ports(spec: &PodSpec) -> Vec<(String, String, i32)> {
    let of = |container: &Container| {
        let ports = container.ports.clone().unwrap_or_default();
        ports.into_iter().filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            let address = p.host_ip.filter(|a| a != "0.0.0.0").unwrap_or_default();
            Some((address, p.protocol.unwrap_or_else(|| "TCP".into()), port))
        })
    };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    spec.containers.iter().chain(sidecars).flat_map(of).collect()
}

fn conflict(a: &(String, String, i32), b: &(String, String, i32)) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0.is_empty() || b.0.is_empty())
}

/// What a pod asks for: its containers together, or what is asked for the pod as a whole; and its overhead.
fn requests(spec: &PodSpec) -> Amounts {
    let spec = json!(spec);
    let mut all = pod_requests::aggregate(&spec);
    let list = |v: &Value| -> Amounts {
        let entries = v.as_object().into_iter().flatten();
        entries.filter_map(|(name, value)| Some((name.clone(), pod_requests::quantity(value)?))).collect()
    };
    all.extend(list(&spec["resources"]["requests"]));
    for (name, amount) in list(&spec["overhead"]) {
        let sum = all.get(&name).map_or(amount, |a| a.plus(amount));
        all.insert(name, sum);
    }
    all
}

/// An amount as upstream counts the resource: thousandths of a CPU, else units.
fn number(name: &str, amount: Quantity) -> i64 {
    if name == CPU { amount.to_millis() } else { amount.to_units() }
}

/// How much of a resource a pod asks for; it is one of the pods.
pub(super) fn requested(pod: &Pod, name: &str) -> i64 {
    if name == PODS {
        return 1;
    }
    let all = pod.spec.as_ref().map(requests).unwrap_or_default();
    all.get(name).map_or(0, |amount| number(name, *amount))
}

/// Why a pod that runs cannot have more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The node as a whole has not that much.
    Never(String),
    /// The other pods leave too little.
    NotNow(String),
}

/// Whether the node has room for the CPU and memory a pod asks for now beside the others
/// (`canResizePod` of kubelet's allocation manager).
pub(crate) fn room(node: &Node, pod: &Pod, others: &[Arc<Pod>]) -> Result<(), NoRoom> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    for name in ["memory", CPU] {
        let capacity = allocatable.and_then(|a| a.get(name)).and_then(|q| q.0.parse::<Quantity>().ok());
        let (requested, capacity) = (requested(pod, name), capacity.map(|q| number(name, q)));
        if let Some(capacity) = capacity.filter(|c| requested > *c) {
            let message = format!(
                "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
            );
            return Err(NoRoom::Never(message));
        }
    }
    let inputs = Inputs { node, pod, is_static: false, others, allowed_sysctls: &[], apparmor: false };
    let mut short = resources(&inputs, spec).into_iter();
    short
        .find(|(lack, _)| [CPU, "memory"].contains(&lack.name.as_str()))
        .map_or(Ok(()), |(_, m)| Err(NoRoom::NotNow(m)))
}

/// What the node has too little of, with upstream's messages.
fn resources(inputs: &Inputs<'_>, spec: &PodSpec) -> Vec<(Lack, String)> {
    let allocatable = inputs.node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    // Before the node told what it has nothing can be said.
    let Some(allocatable) = allocatable else { return Vec::new() };
    let capacity = |name: &str| {
        allocatable.get(name).and_then(|q| q.0.parse::<Quantity>().ok()).map(|q| number(name, q))
    };
    let check = |name: &str, requested: i64, used: i64, capacity: i64| {
        let amount = requested - (capacity - used);
        (requested != 0 && amount > 0).then(|| {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            (Lack { name: name.to_owned(), amount }, message)
        })
    };
    let pods = i64::try_from(inputs.others.len()).unwrap_or(i64::MAX);
    let mut all = Vec::from_iter(check(PODS, 1, pods, capacity(PODS).unwrap_or(i64::MAX)));
    let wanted = requests(spec);
    let taken: Vec<Amounts> = inputs.others.iter().filter_map(|p| p.spec.as_ref()).map(requests).collect();
    let basic = ["cpu", "memory", "ephemeral-storage"].map(str::to_owned);
    let others = wanted.keys().filter(|n| !basic.contains(n)).cloned();
    for name in basic.iter().cloned().chain(others) {
        let Some(amount) = wanted.get(&name) else { continue };
        // What the node does not know of is the cluster's affair.
        let Some(capacity) = capacity(&name) else { continue };
        let used = taken.iter().filter_map(|t| t.get(&name)).map(|q| number(&name, *q)).sum();
        all.extend(check(&name, number(&name, *amount), used, capacity));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &Value) -> Pod {
        let mut spec = spec.clone();
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    fn verdict(spec: &Value, others: &[Value], is_static: bool) -> Option<(String, String)> {
        let node = json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3", "ephemeral-storage": "10"}}});
        let node: Node = serde_json::from_value(node).expect("a node");
        let others: Vec<Arc<Pod>> = others.iter().map(|o| Arc::new(pod(o))).collect();
        let pod = pod(spec);
        let inputs = Inputs {
            node: &node,
            pod: &pod,
            is_static,
            others: &others,
            allowed_sysctls: &[],
            apparmor: false,
        };
        super::super::Inputs::check(&inputs).err().map(|r| (r.reason, r.message))
    }

    #[test]
    fn refusals_in_upstreams_words() {
        let tolerate = json!([{"operator": "Exists"}]);
        let asks = |name: &str, amount: &str| json!({"tolerations": tolerate, "containers": [{"name": "c", "resources": {"requests": {name: amount}}}]});
        let port = |ip: &str| json!({"tolerations": tolerate, "containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80, "hostIP": ip}]}]});
        let plain = json!({"tolerations": tolerate});
        let affinity = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        for (spec, others, expected) in [
            (plain.clone(), vec![], None),
            (
                asks("cpu", "2500m"),
                vec![],
                Some((
                    "OutOfcpu",
                    "Node didn't have enough resource: cpu, requested: 2500, used: 0, capacity: 2000",
                )),
            ),
            (
                asks("cpu", "1"),
                vec![asks("cpu", "1500m")],
                Some((
                    "OutOfcpu",
                    "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000",
                )),
            ),
            (
                asks("memory", "2Gi"),
                vec![],
                Some((
                    "OutOfmemory",
                    "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824",
                )),
            ),
            (
                plain.clone(),
                vec![plain.clone(), plain.clone(), plain.clone()],
                Some((
                    "OutOfpods",
                    "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
                )),
            ),
            (asks("example.com/gpu", "1"), vec![], None),
            (
                json!({"tolerations": tolerate, "nodeSelector": {"disk": "hdd"}}),
                vec![],
                Some(("NodeAffinity", affinity)),
            ),
            (
                json!({"tolerations": tolerate, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                    {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}]}}}}),
                vec![],
                Some(("NodeAffinity", affinity)),
            ),
            (
                port(""),
                vec![port("10.0.0.1")],
                Some((
                    "NodePorts",
                    "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
                )),
            ),
            (port("10.0.0.2"), vec![port("10.0.0.1")], None),
            (
                json!({}),
                vec![],
                Some((
                    "TaintToleration",
                    "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
                )),
            ),
            (
                json!({"os": {"name": "windows"}}),
                vec![],
                Some(("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")),
            ),
        ] {
            let told = verdict(&spec, &others, false);
            assert_eq!(told.as_ref().map(|(r, m)| (r.as_str(), m.as_str())), expected, "{spec}");
        }
        assert_eq!(verdict(&json!({}), &[], true), None, "taints do not concern static pods");
    }

    #[test]
    fn of_a_critical_pod_all_that_it_lacks_is_told_if_nothing_else_is_wrong() {
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "1"}}});
        let node: Node = serde_json::from_value(node).expect("a node");
        let asks = |spec: Value| {
            let mut spec = spec;
            spec["containers"] =
                json!([{"name": "c", "resources": {"requests": {"cpu": "1500m", "memory": "3Gi"}}}]);
            spec["priority"] = json!(2_000_000_000);
            let pod = pod(&spec);
            let others = [Arc::new(super::tests::pod(
                &json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "250m"}}}]}),
            ))];
            let inputs = Inputs {
                node: &node,
                pod: &pod,
                is_static: false,
                others: &others,
                allowed_sysctls: &[],
                apparmor: false,
            };
            super::super::Inputs::check(&inputs).expect_err("it does not fit")
        };
        let lack = |name: &str, amount: i64| Lack { name: name.into(), amount };
        let told = asks(json!({}));
        assert_eq!(told.lacking, [lack("pods", 1), lack("cpu", 750), lack("memory", 2 << 30)]);
        let told = asks(json!({"nodeSelector": {"x": "y"}}));
        assert_eq!((told.reason.as_str(), told.lacking.len()), ("NodeAffinity", 0));
    }

    #[test]
    fn room_for_a_pod_that_grows() {
        let node =
            json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}});
        let node: Node = serde_json::from_value(node).expect("a node");
        let asks =
            |cpu: &str| pod(&json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}));
        let others = [Arc::new(asks("1500m"))];
        assert_eq!(room(&node, &asks("500m"), &others), Ok(()));
        let later = "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000";
        assert_eq!(room(&node, &asks("501m"), &others), Err(NoRoom::NotNow(later.into())));
        let never = "Node didn't have enough capacity: cpu, requested: 2001, capacity: 2000";
        assert_eq!(room(&node, &asks("2001m"), &others), Err(NoRoom::Never(never.into())));
    }

    #[test]
    fn a_pod_asks_for_what_its_spec_says_as_a_whole_and_its_overhead() {
        let spec = json!({"resources": {"requests": {"cpu": "1"}}, "overhead": {"cpu": "250m", "memory": "1Mi"},
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "3", "memory": "1Mi"}}}]});
        let all = requests(&serde_json::from_value(spec).expect("a spec"));
        assert_eq!((all["cpu"].to_millis(), all["memory"].to_units()), (1250, 2 << 20));
    }
}
