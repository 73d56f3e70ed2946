//! A pod's phase from its containers' statuses, by kubelet's rules.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, PodSpec};

use crate::agent::spec::is_sidecar;

#[derive(Default)]
struct Count {
    pending_init: usize,
    failed_init: usize,
    unknown: usize,
    waiting: usize,
    running: usize,
    stopped: usize,
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
        count.init(container, find(init, &container.name));
    }
    for container in &spec.containers {
        count.app(find(containers, &container.name));
    }
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let started = containers.iter().any(|c| c.started == Some(true) || ran(c));
    if count.failed_init > 0 && policy == "Never" {
        return "Failed";
    }
    if (count.pending_init > 0 && !started) || count.waiting > 0 {
        return if ended { "Failed" } else { "Pending" };
    }
    if count.running > 0 && count.unknown == 0 {
        return "Running";
    }
    if count.running == 0 && count.stopped > 0 && count.unknown == 0 {
        if policy == "Always" && !ended {
            return "Running";
        }
        if count.stopped == count.succeeded {
            return "Succeeded";
        }
        return if policy == "Never" || ended { "Failed" } else { "Running" };
    }
    if ended { "Failed" } else { "Pending" }
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerState> {
    statuses.iter().find(|s| s.name == name)?.state.as_ref()
}

fn ran(status: &ContainerStatus) -> bool {
    status.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
        || status.state.as_ref().is_some_and(|s| s.terminated.is_some() || s.running.is_some())
}

impl Count {
    fn init(&mut self, container: &Container, state: Option<&ContainerState>) {
        match state {
            Some(ContainerState { terminated: Some(t), .. }) if is_sidecar(container) => {
                // A sidecar that ended is restarted; it does not decide the phase.
                let _ = t;
            }
            Some(ContainerState { terminated: Some(t), .. }) => {
                self.failed_init += usize::from(t.exit_code != 0);
            }
            Some(ContainerState { running: Some(_), .. }) if is_sidecar(container) => {}
            _ => self.pending_init += 1,
        }
    }

    fn app(&mut self, state: Option<&ContainerState>) {
        match state {
            None => self.unknown += 1,
            Some(ContainerState { running: Some(_), .. }) => self.running += 1,
            Some(ContainerState { terminated: Some(t), .. }) => {
                self.stopped += 1;
                self.succeeded += usize::from(t.exit_code == 0);
            }
            Some(ContainerState { waiting: Some(w), .. })
                if w.reason.as_deref() == Some("CrashLoopBackOff") =>
            {
                self.stopped += 1;
            }
            Some(_) => self.waiting += 1,
        }
    }
}
