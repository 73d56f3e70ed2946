//! A pod's phase from its containers' statuses, by kubelet's rules (`getPhase`).

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, PodSpec,
};

use super::restart::{self, RESTARTING_ALL};
use crate::agent::spec::is_sidecar;

#[derive(Default)]
struct Count {
    pending_init: usize,
    pending_sidecars: usize,
    failed_init: usize,
    unknown: usize,
    waiting: usize,
    running: usize,
    stopped: usize,
    /// Of the stopped ones, those that stay so.
    settled: usize,
    succeeded: usize,
}

/// The phase of a pod whose containers are in these states. `ended`: nothing of it will run again.
pub(crate) fn phase(
    spec: &PodSpec,
    init: &[ContainerStatus],
    containers: &[ContainerStatus],
    ended: bool,
) -> &'static str {
    let mut count = Count::default();
    for container in spec.init_containers.iter().flatten() {
        let status = find(init, &container.name);
        if is_sidecar(container) {
            count.sidecar(status);
        } else {
            count.init(spec, container, status);
        }
    }
    for container in &spec.containers {
        count.app(spec, container, find(containers, &container.name));
    }
    if count.failed_init > 0 {
        return "Failed";
    }
    let initialised = containers.iter().any(has_run);
    let pending = count.pending_init > 0 || (count.pending_sidecars > 0 && !initialised);
    if pending || count.waiting > 0 {
        return if ended { "Failed" } else { "Pending" };
    }
    if count.running > 0 && count.unknown == 0 {
        return "Running";
    }
    if count.running == 0 && count.stopped > 0 && count.unknown == 0 {
        if !ended && count.stopped != count.settled {
            return "Running";
        }
        return if count.stopped == count.succeeded { "Succeeded" } else { "Failed" };
    }
    if ended { "Failed" } else { "Pending" }
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == name)
}

/// The container runs or ran, as far as its present state tells, or that it is to run again.
pub(super) fn has_run(status: &ContainerStatus) -> bool {
    status.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
        || status.state.as_ref().is_some_and(|s| s.terminated.is_some() || s.running.is_some())
}

fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.last_state.as_ref()?.terminated.as_ref()
}

impl Count {
    fn init(&mut self, spec: &PodSpec, container: &Container, status: Option<&ContainerStatus>) {
        let failed_for_good = |t: &ContainerStateTerminated| {
            t.exit_code != 0
                && t.reason.as_deref() != Some(RESTARTING_ALL)
                && !restart::again(spec, container, t.exit_code)
        };
        let Some((status, state)) = status.and_then(|s| Some((s, s.state.as_ref()?))) else {
            return self.pending_init += 1;
        };
        match state {
            ContainerState { terminated: Some(t), .. } => self.failed_init += usize::from(failed_for_good(t)),
            ContainerState { waiting: Some(_), .. } => match last_end(status) {
                Some(t) if t.exit_code != 0 => self.failed_init += usize::from(failed_for_good(t)),
                _ => self.pending_init += 1,
            },
            _ => self.pending_init += 1,
        }
    }

    /// A sidecar that ended is restarted; it does not decide the phase.
    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        let Some(status) = status else { return self.unknown += 1 };
        match status.state.as_ref() {
            Some(ContainerState { running: Some(_), .. }) => {
                self.pending_sidecars += usize::from(status.started != Some(true));
            }
            Some(ContainerState { terminated: Some(_), .. }) => {}
            Some(ContainerState { waiting: Some(_), .. }) if last_end(status).is_some() => {}
            _ => self.pending_sidecars += 1,
        }
    }

    fn app(&mut self, spec: &PodSpec, container: &Container, status: Option<&ContainerStatus>) {
        let Some(status) = status else { return self.unknown += 1 };
        let settled = |t: &ContainerStateTerminated| {
            t.reason.as_deref() != Some(RESTARTING_ALL) && !restart::again(spec, container, t.exit_code)
        };
        match status.state.as_ref() {
            None => self.unknown += 1,
            Some(ContainerState { running: Some(_), .. }) => self.running += 1,
            Some(ContainerState { terminated: Some(t), .. }) => {
                self.stopped += 1;
                self.settled += usize::from(settled(t));
                self.succeeded += usize::from(t.exit_code == 0);
            }
            Some(ContainerState { waiting: Some(_), .. }) => match last_end(status) {
                Some(t) => {
                    self.stopped += 1;
                    self.settled += usize::from(settled(t));
                }
                None => self.waiting += 1,
            },
            Some(_) => self.unknown += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(spec: Value, init: Value, containers: Value, ended: bool) -> &'static str {
        let statuses = |v: Value| -> Vec<ContainerStatus> {
            let list = v.as_array().cloned().unwrap_or_default();
            let full = list.into_iter().map(|mut s| {
                for (field, value) in [
                    ("image", json!("")),
                    ("imageID", json!("")),
                    ("ready", json!(false)),
                    ("restartCount", json!(0)),
                ] {
                    s[field] = value;
                }
                serde_json::from_value(s).expect("a status")
            });
            full.collect()
        };
        let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
        phase(&spec, &statuses(init), &statuses(containers), ended)
    }

    #[test]
    fn phases_as_kubelet_sees_them() {
        let run = |n: &str| json!({"name": n, "state": {"running": {}}, "started": true});
        let end = |n: &str, code: i32| json!({"name": n, "state": {"terminated": {"exitCode": code}}});
        let wait = |n: &str| json!({"name": n, "state": {"waiting": {"reason": "ContainerCreating"}}});
        let crash = |n: &str, code: i32| {
            json!({"name": n, "state": {"waiting": {"reason": "ImagePullBackOff"}},
            "lastState": {"terminated": {"exitCode": code}}})
        };
        let spec = |policy: &str| {
            json!({"restartPolicy": policy, "initContainers": [{"name": "i"},
            {"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}, {"name": "b"}]})
        };
        for (policy, init, containers, ended, expected) in [
            ("Always", json!([run("i"), wait("s")]), json!([wait("a"), wait("b")]), false, "Pending"),
            ("Always", json!([end("i", 0), wait("s")]), json!([wait("a"), wait("b")]), false, "Pending"),
            ("Always", json!([end("i", 0), run("s")]), json!([run("a"), wait("b")]), false, "Pending"),
            ("Always", json!([end("i", 0), run("s")]), json!([run("a"), run("b")]), false, "Running"),
            ("Always", json!([end("i", 0), crash("s", 1)]), json!([run("a"), run("b")]), false, "Running"),
            ("Always", json!([end("i", 0), wait("s")]), json!([run("a"), run("b")]), false, "Running"),
            ("Always", json!([end("i", 0), run("s")]), json!([run("a"), crash("b", 1)]), false, "Running"),
            ("Always", json!([end("i", 0), run("s")]), json!([end("a", 0), crash("b", 1)]), false, "Running"),
            ("Always", json!([crash("i", 1), wait("s")]), json!([wait("a"), wait("b")]), false, "Pending"),
            ("Never", json!([end("i", 1), wait("s")]), json!([wait("a"), wait("b")]), false, "Failed"),
            ("OnFailure", json!([end("i", 1), wait("s")]), json!([wait("a"), wait("b")]), false, "Pending"),
            (
                "OnFailure",
                json!([end("i", 0), run("s")]),
                json!([end("a", 0), end("b", 1)]),
                false,
                "Running",
            ),
            (
                "OnFailure",
                json!([end("i", 0), run("s")]),
                json!([end("a", 0), end("b", 0)]),
                false,
                "Succeeded",
            ),
            (
                "Never",
                json!([end("i", 0), end("s", 137)]),
                json!([end("a", 0), end("b", 0)]),
                true,
                "Succeeded",
            ),
            ("Never", json!([end("i", 0), run("s")]), json!([end("a", 0), end("b", 3)]), false, "Failed"),
            (
                "Always",
                json!([end("i", 0), end("s", 0)]),
                json!([end("a", 0), end("b", 143)]),
                true,
                "Failed",
            ),
            ("Always", json!([wait("i"), wait("s")]), json!([wait("a"), wait("b")]), true, "Failed"),
        ] {
            let told = format!("{policy} {init} {containers} {ended}");
            assert_eq!(of(spec(policy), init, containers, ended), expected, "{told}");
        }
    }

    #[test]
    fn a_container_that_restarts_by_its_own_rule_keeps_the_pod_running() {
        let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]});
        let end = |code: i32| json!([{"name": "a", "state": {"terminated": {"exitCode": code}}}]);
        assert_eq!(of(spec.clone(), json!([]), end(42), false), "Running");
        assert_eq!(of(spec, json!([]), end(1), false), "Failed");
        let all = json!([{"name": "a", "state": {"waiting": {"reason": RESTARTING_ALL}},
            "lastState": {"terminated": {"exitCode": 137, "reason": RESTARTING_ALL}}}]);
        let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a"}]});
        assert_eq!(of(spec, json!([]), all, false), "Running");
    }
}
