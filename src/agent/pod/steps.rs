//! What a worker does in one round, as its plan says.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::observed::Observed;
use super::plan::Plan;
use super::sandbox::NoSandbox;
use super::start::Started;
use super::worker::{RETRY, Worker};
use crate::agent::spec::{find_container, full_name};
use crate::agent::steady;
use crate::agent::volumes::{Mounted, SetUp};
use crate::runtime::spec::ContainerState;

impl Worker {
    pub(super) async fn perform(&mut self, pod: &Pod, observed: &Observed, plan: Plan) {
        if plan.restart_all {
            return self.restart_all(pod, observed).await;
        }
        if !plan.kill.is_empty() {
            self.kill_planned(pod, &plan.kill).await;
            // Their ends are decided upon in the next round.
            self.wake.notify_one();
        }
        for wait in &plan.waiting {
            let waiting = ("CrashLoopBackOff".to_owned(), wait.message.clone());
            if self.memory.waiting.get(&wait.container) != Some(&waiting) {
                let text = format!(
                    "Back-off restarting failed container {} in pod {}",
                    wait.container,
                    full_name(pod)
                );
                self.event(pod, &wait.container, "Warning", "BackOff", text);
                self.memory.waiting.insert(wait.container.clone(), waiting);
            }
        }
        self.retry_at(plan.wake_at);
        let volumes = self.set_up_volumes(pod).await;
        self.retry_at(self.volumes.refresh_at().map(steady::future));
        if plan.start.is_empty() {
            return;
        }
        let Some(volumes) = volumes else { return };
        if plan.create_sandbox && !self.new_sandbox(pod, observed).await {
            return;
        }
        for start in &plan.start {
            if let Started::Waiting = self.start(pod, start, &volumes).await {
                break;
            }
        }
    }

    /// The pod's volumes, brought up to date; a failure is told in an event.
    async fn set_up_volumes(&mut self, pod: &Pod) -> Option<Mounted> {
        let addresses = self.addresses(pod);
        let SetUp { mounted, errors, retry } = self.volumes.set_up(pod, &addresses).await;
        self.retry_at(retry.map(|pause| steady::now() + pause));
        let told = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        if !errors.is_empty() && self.last_failure != told {
            self.last_failure = told;
            for error in errors {
                self.context.events.pod(pod, None, "Warning", error.reason(), error.to_string());
            }
        }
        mounted
    }

    async fn new_sandbox(&mut self, pod: &Pod, observed: &Observed) -> bool {
        // After a reboot nothing is left of the former one but what the status tells.
        if observed.sandbox.is_some() || !self.memory.history.is_empty() {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.context.events.pod(pod, None, "Normal", "SandboxChanged", text.into());
            self.memory.absorb(observed, Timestamp::now());
        }
        match self.create_sandbox(pod).await {
            Ok(()) => {
                self.last_failure.clear();
                true
            }
            Err(NoSandbox::NetworkNotReady) => {
                let text =
                    "network is not ready: container runtime network not ready: the node has no pod CIDR yet";
                self.failure(pod, "NetworkNotReady", text.into());
                false
            }
            Err(NoSandbox::Failed(error)) => {
                self.failure(pod, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"));
                false
            }
        }
    }

    /// Tells a failure that holds the whole pod up, once, and looks again later.
    fn failure(&mut self, pod: &Pod, reason: &'static str, message: String) {
        self.retry_at(Some(steady::now() + RETRY));
        if self.last_failure != message {
            self.last_failure.clone_from(&message);
            self.context.events.pod(pod, None, "Warning", reason, message);
        }
    }

    /// Removes all containers but the ephemeral ones, without their hooks, so that all begin anew in
    /// the same sandbox (KEP-5532).
    async fn restart_all(&mut self, pod: &Pod, observed: &Observed) {
        self.memory.restarting_all = true;
        self.report(pod, observed, false).await;
        let spec = pod.spec.clone().unwrap_or_default();
        let mut removed = observed.clone();
        removed.containers.retain(|name, _| find_container(&spec, name).is_some());
        for container in removed.containers.values().flatten() {
            if container.state == ContainerState::Running {
                self.stopping.lock().insert(container.id.clone());
            }
            if let Err(error) = self.context.runtime.remove_container(&container.id).await {
                tracing::warn!(pod = %full_name(pod), %error, "a container could not be removed for the restart of all");
                self.retry_at(Some(steady::now() + RETRY));
                return;
            }
        }
        self.memory.begin_anew(&removed);
        self.memory.restarting_all = false;
        self.wake.notify_one();
    }
}
