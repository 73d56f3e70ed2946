//! Whether the node takes a pod that is new to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;

use super::{Source, sandboxes_of};
use crate::agent::admit::{self, NODE_AFFINITY, Refusal};
use crate::agent::mirrors::is_static;
use crate::agent::pod::Verdict;
use crate::agent::spec::{full_name, is_terminal, uid};
use crate::agent::{eviction, orders};
use crate::runtime::apparmor::Machine;

/// The API server is given so long to tell of the node; what is known of it decides otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

impl Source {
    /// Whether the node takes a new pod; why not.
    pub(super) async fn admit(&self, pod: &Arc<Pod>) -> Option<Verdict> {
        let decided = is_terminal(pod)
            || pod.metadata.deletion_timestamp.is_some()
            || pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
        if decided || !sandboxes_of(&self.context, uid(pod)).await.is_empty() {
            return None;
        }
        let mut node = self.context.node.borrow().clone();
        let mut refusal = self.check(&node, pod).err()?;
        if refusal.reason == NODE_AFFINITY {
            // Its labels may have changed since they were last seen.
            let api: Api<Node> = Api::all(self.context.client.clone());
            let asked = tokio::time::timeout(PATIENCE, api.get(&self.context.settings.node_name)).await;
            if let Ok(Ok(newer)) = asked {
                node = Arc::new(newer);
                refusal = self.check(&node, pod).err()?;
            }
        }
        let Refusal { reason, message } = refusal;
        tracing::info!(pod = %full_name(pod), %reason, why = %message, "the node does not take a pod");
        self.context.events.pod(pod, None, "Warning", reason.clone(), message.clone());
        Some(Verdict { reason, message: format!("Pod was rejected: {message}") })
    }

    fn check(&self, node: &Node, pod: &Pod) -> Result<(), Refusal> {
        if let Some(message) = eviction::refused(pod, *self.context.pressure.borrow()) {
            return Err(Refusal { reason: orders::REASON.to_owned(), message });
        }
        let rejected: BTreeSet<String> = {
            let workers = self.workers.lock();
            workers.iter().filter(|(_, e)| e.rejected).map(|(uid, _)| uid.clone()).collect()
        };
        let mut others = self.context.pods.all();
        others.retain(|p| uid(p) != uid(pod) && !is_terminal(p) && !rejected.contains(uid(p)));
        let inputs = admit::Inputs {
            node,
            pod,
            is_static: is_static(pod),
            others: &others,
            allowed_sysctls: &self.context.settings.kubelet.allowed_unsafe_sysctls,
            apparmor: Machine::this().is_enabled(),
        };
        inputs.check()
    }
}
