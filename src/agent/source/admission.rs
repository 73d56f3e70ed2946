//! Whether the node takes a pod that is new to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;

use super::Source;
use crate::agent::admit::{self, NODE_AFFINITY, Refusal};
use crate::agent::mirrors::is_static;
use crate::agent::pod::Verdict;
use crate::agent::spec::{full_name, is_terminal, uid};
use crate::agent::{eviction, labels, orders};
use crate::runtime::apparmor::Machine;

/// The API server is given so long to tell of the node; what is known of it decides otherwise.
const PATIENCE: Duration = Duration::from_secs(5);
/// Reason of pods that make room for a critical one, and of the event.
const PREEMPTING: &str = "Preempting";
/// What is told of them.
const PREEMPTED: &str = "Preempted in order to admit critical pod";

/// What was decided of a pod that is new to the node.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission {
    /// Why the node does not take it.
    pub rejected: Option<Verdict>,
    /// The uids of the pods whose end it has to wait for.
    pub after: Vec<String>,
}

impl Source {
    /// Whether the node takes a new pod; why not, or when.
    pub(super) async fn admit(&self, pod: &Arc<Pod>) -> Admission {
        let decided = is_terminal(pod)
            || pod.metadata.deletion_timestamp.is_some()
            || pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
        if decided || !labels::sandboxes_of(&self.context.runtime, uid(pod)).await.is_empty() {
            return Admission::default();
        }
        match self.decide(pod).await {
            Ok(after) => Admission { rejected: None, after },
            Err(Refusal { reason, message, .. }) => {
                tracing::info!(pod = %full_name(pod), %reason, why = %message, "the node does not take a pod");
                self.context.events.pod(pod, None, "Warning", reason.clone(), message.clone());
                let rejected = Verdict { reason, message: format!("Pod was rejected: {message}") };
                Admission { rejected: Some(rejected), after: Vec::new() }
            }
        }
    }

    /// Takes the pod, after the end of others perhaps, or tells why not.
    async fn decide(&self, pod: &Arc<Pod>) -> Result<Vec<String>, Refusal> {
        let node = self.context.node.borrow().clone();
        let mut decision = self.check(&node, pod);
        if decision.as_ref().is_err_and(|refusal| refusal.reason == NODE_AFFINITY) {
            // Its labels may have changed since they were last seen.
            let api: Api<Node> = Api::all(self.context.client.clone());
            let asked = tokio::time::timeout(PATIENCE, api.get(&self.context.settings.node_name)).await;
            if let Ok(Ok(newer)) = asked {
                decision = self.check(&newer, pod);
            }
        }
        match decision {
            Ok(()) => Ok(Vec::new()),
            Err(refusal) if refusal.lacking.is_empty() => Err(refusal),
            Err(refusal) => self.make_room(pod, &refusal.lacking),
        }
    }

    fn check(&self, node: &Node, pod: &Pod) -> Result<(), Refusal> {
        if let Some(message) = eviction::refused(pod, *self.context.pressure.borrow()) {
            return Err(Refusal::new(orders::REASON, message));
        }
        let inputs = admit::Inputs {
            node,
            pod,
            is_static: is_static(pod),
            others: &self.others(pod),
            allowed_sysctls: &self.context.settings.kubelet.allowed_unsafe_sysctls,
            apparmor: Machine::this().is_enabled(),
        };
        inputs.check()
    }

    /// The other pods that run here or are to.
    fn others(&self, pod: &Pod) -> Vec<Arc<Pod>> {
        let rejected: BTreeSet<String> = {
            let workers = self.workers.lock();
            workers.iter().filter(|(_, e)| e.rejected).map(|(uid, _)| uid.clone()).collect()
        };
        let mut others = self.context.pods.all();
        others.retain(|p| uid(p) != uid(pod) && !is_terminal(p) && !rejected.contains(uid(p)));
        others
    }

    /// Has pods evicted for a critical one; the uids of those that are on their way out.
    fn make_room(&self, pod: &Pod, lacking: &[admit::Lack]) -> Result<Vec<String>, Refusal> {
        let (leaving, staying): (Vec<_>, Vec<_>) =
            self.others(pod).into_iter().partition(|p| self.context.evictions.of(uid(p)).is_some());
        let lacking = admit::still_lacking(lacking, &leaving);
        let victims = admit::victims(pod, &staying, &lacking).map_err(|error| {
            let message = format!(
                "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: {error}"
            );
            Refusal::new("UnexpectedAdmissionError", message)
        })?;
        for victim in &victims {
            tracing::warn!(pod = %full_name(victim), critical = %full_name(pod), "a pod makes room for a critical one");
            self.context.events.pod(victim, None, "Warning", PREEMPTING, PREEMPTED.into());
            let grace = victim.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
            let condition = "Pod was preempted by Kubelet to accommodate a critical pod.";
            let eviction = orders::Eviction {
                reason: PREEMPTING.into(),
                message: PREEMPTED.into(),
                grace: grace.unwrap_or(30),
                disruption: Some(condition.into()),
            };
            self.context.evictions.give(uid(victim), eviction);
        }
        Ok(leaving.iter().chain(&victims).map(|p| uid(p).to_owned()).collect())
    }
}
