//! Columns of pods and pod templates.

use serde_json::{Value, json};

use super::{AGE, Clock, Column, NAME, NONE, int_at, items, label_selector, labels, of_containers, text_at};

/// Columns of pods.
pub const PODS: &[Column] = &[
    NAME,
    Column::text("Ready", "The aggregate readiness state of this pod for accepting traffic.", ready),
    Column::text("Status", "The aggregate status of the containers in this pod.", |o, _| {
        Summary::of(o).reason.into()
    }),
    Column::text(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        restarts,
    ),
    AGE,
    Column::text("IP", "Address of the pod.", |o, _| text_at(o, "/status/podIP", NONE).into()).wide(),
    Column::text("Node", "The node the pod runs on.", |o, _| text_at(o, "/spec/nodeName", NONE).into())
        .wide(),
    Column::text("Nominated Node", "The node a preemption makes room on.", |o, _| {
        text_at(o, "/status/nominatedNodeName", NONE).into()
    })
    .wide(),
    Column::text("Readiness Gates", "Conditions met of the pod's readiness gates.", gates).wide(),
];

/// Columns of pod templates.
pub const TEMPLATES: &[Column] = &[
    NAME,
    Column::text("Containers", "Names of each container in the template.", |o, _| {
        of_containers(o, "/template/spec/containers", "name")
    }),
    Column::text("Images", "Images referenced by each container in the template.", |o, _| {
        of_containers(o, "/template/spec/containers", "image")
    }),
    Column::text("Pod Labels", "The labels for the pod template.", |o, _| {
        labels(o.pointer("/template/metadata/labels")).into()
    }),
];

/// What the columns say of the pod's containers.
#[derive(Debug, Default)]
struct Summary {
    reason: String,
    restarts: i64,
    last_restart: Option<Value>,
    ready: usize,
    total: usize,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let phase = text_at(pod, "/status/phase", "");
        let mut summary = Self {
            reason: text_at(pod, "/status/reason", phase).to_owned(),
            total: items(pod, "/spec/containers").len(),
            ..Self::default()
        };
        if scheduling_gated(pod) {
            summary.reason = "SchedulingGated".into();
        }
        let initializing = summary.init_containers(pod);
        if !initializing || condition(pod, "Initialized") {
            summary.containers(pod);
        }
        if pod.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null()) {
            if text_at(pod, "/status/reason", "") == "NodeLost" {
                summary.reason = "Unknown".into();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.reason = "Terminating".into();
            }
        }
        summary
    }

    /// Whether init containers are still at work.
    fn init_containers(&mut self, pod: &Value) -> bool {
        let specs = items(pod, "/spec/initContainers");
        let restartable = |name: &str| {
            specs.iter().any(|c| c["name"] == name && text_at(c, "/restartPolicy", "") == "Always")
        };
        self.total += specs.iter().filter(|c| text_at(c, "/restartPolicy", "") == "Always").count();
        let mut sidecars = (0, None);
        for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
            let sidecar = restartable(text_at(status, "/name", ""));
            self.count_restarts(status);
            if sidecar {
                sidecars.0 += int_at(status, "/restartCount");
                sidecars.1 = sidecars.1.max(finished_last(status));
            }
            let terminated = status.pointer("/state/terminated").filter(|t| !t.is_null());
            if terminated.is_some_and(|t| int_at(t, "/exitCode") == 0) {
                continue;
            }
            if sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            let waiting = text_at(status, "/state/waiting/reason", "");
            self.reason = match terminated {
                Some(t) => format!("Init:{}", termination(t)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => {
                    format!("Init:{waiting}")
                }
                None => format!("Init:{index}/{}", specs.len()),
            };
            return true;
        }
        // From here on only what restarts beside the containers counts.
        self.restarts = sidecars.0;
        self.last_restart = sidecars.1.map(Value::from);
        false
    }

    fn containers(&mut self, pod: &Value) {
        let mut running = false;
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = text_at(status, "/state/waiting/reason", "");
            let terminated = status.pointer("/state/terminated").filter(|t| !t.is_null());
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = terminated {
                self.reason = termination(terminated);
            } else if status["ready"] == true
                && status.pointer("/state/running").is_some_and(|r| !r.is_null())
            {
                running = true;
                self.ready += 1;
            }
        }
        // A pod that completed is shown as running while another of its containers still is.
        if self.reason == "Completed" && running {
            self.reason = if condition(pod, "Ready") { "Running" } else { "NotReady" }.into();
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += int_at(status, "/restartCount");
        let finished = finished_last(status);
        if finished.as_deref() > self.last_restart.as_ref().and_then(Value::as_str) {
            self.last_restart = finished.map(Value::from);
        }
    }
}

fn finished_last(status: &Value) -> Option<String> {
    status.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str).map(str::to_owned)
}

fn termination(terminated: &Value) -> String {
    match (text_at(terminated, "/reason", ""), int_at(terminated, "/signal"), int_at(terminated, "/exitCode"))
    {
        ("", 0, code) => format!("ExitCode:{code}"),
        ("", signal, _) => format!("Signal:{signal}"),
        (reason, ..) => reason.to_owned(),
    }
}

fn condition(pod: &Value, kind: &str) -> bool {
    items(pod, "/status/conditions").iter().any(|c| c["type"] == kind && c["status"] == "True")
}

fn scheduling_gated(pod: &Value) -> bool {
    items(pod, "/status/conditions")
        .iter()
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated")
}

fn ready(pod: &Value, _: &Clock) -> Value {
    let summary = Summary::of(pod);
    json!(format!("{}/{}", summary.ready, summary.total))
}

fn restarts(pod: &Value, clock: &Clock) -> Value {
    let summary = Summary::of(pod);
    match summary.last_restart {
        Some(time) if summary.restarts > 0 => {
            json!(format!("{} ({} ago)", summary.restarts, clock.age(&time)))
        }
        _ => json!(summary.restarts.to_string()),
    }
}

fn gates(pod: &Value, _: &Clock) -> Value {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return json!(NONE);
    }
    let met = gates.iter().filter(|g| condition(pod, text_at(g, "/conditionType", ""))).count();
    json!(format!("{met}/{}", gates.len()))
}

/// The selector of a workload in one line.
pub(super) fn selector(object: &Value, _: &Clock) -> Value {
    label_selector(object.pointer("/spec/selector")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(pod: &Value) -> Vec<String> {
        let clock = Clock("2026-01-01T01:00:00Z".parse().unwrap());
        PODS[1..4].iter().map(|c| (c.cell)(pod, &clock).as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_running_pod() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}, {"name": "d"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "c", "ready": true, "restartCount": 2, "state": {"running": {}},
                 "lastState": {"terminated": {"finishedAt": "2026-01-01T00:50:00Z"}}},
                {"name": "d", "ready": false, "restartCount": 0, "state": {"running": {}}}]}});
        assert_eq!(cells(&pod), ["1/2", "Running", "2 (10m ago)"]);
    }

    #[test]
    fn reasons_come_from_containers() {
        let state = |state: Value| {
            json!({"spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running", "containerStatuses":
                [{"name": "c", "restartCount": 0, "ready": false, "state": state}]}})
        };
        for (container, reason) in [
            (json!({"waiting": {"reason": "CrashLoopBackOff"}}), "CrashLoopBackOff"),
            (json!({"terminated": {"reason": "Error", "exitCode": 1}}), "Error"),
            (json!({"terminated": {"exitCode": 3}}), "ExitCode:3"),
            (json!({"terminated": {"exitCode": 137, "signal": 9}}), "Signal:9"),
        ] {
            assert_eq!(cells(&state(container))[1], reason);
        }
    }

    #[test]
    fn init_containers_show_how_far_they_are() {
        let mut pod = json!({"spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
                {"name": "j", "restartCount": 1, "state": {"running": {}}}]}});
        assert_eq!(cells(&pod), ["0/1", "Init:1/2", "1"]);
        pod["status"]["initContainerStatuses"][1]["state"] = json!({"waiting": {"reason": "ErrImagePull"}});
        assert_eq!(cells(&pod)[1], "Init:ErrImagePull");
    }

    #[test]
    fn a_sidecar_counts_as_a_container() {
        let pod = json!({"spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "initContainerStatuses": [
                {"name": "s", "started": true, "ready": true, "restartCount": 0, "state": {"running": {}}}],
             "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}}]}});
        assert_eq!(cells(&pod), ["2/2", "Running", "0"]);
    }

    #[test]
    fn a_pod_marked_for_deletion_is_terminating() {
        let pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": [{}]},
            "status": {"phase": "Running"}});
        assert_eq!(cells(&pod)[1], "Terminating");
    }
}
