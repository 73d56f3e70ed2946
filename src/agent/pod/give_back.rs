//! What a pod can do without when the disk is full.

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::observed::Observed;
use super::worker::Worker;
use crate::agent::logs;
use crate::agent::spec::full_name;
use crate::runtime::spec::ContainerState;

impl Worker {
    /// Removes containers that ended, for want of disk: all of a pod that will not run again, with their logs,
    /// else all but the last attempt that ended (kubelet's `containerGC`).
    pub(super) async fn give_back(&mut self, pod: &Pod, observed: Observed) {
        let runtime = &self.context.runtime;
        let result = match self.sandbox.take_if(|_| self.finished) {
            Some(id) => {
                self.memory.absorb(&observed, Timestamp::now());
                let logs = self.context.paths.pod_logs(pod);
                if let Err(error) = logs::remove_pod(&logs) {
                    tracing::warn!(pod = %full_name(pod), %error, "logs could not be removed");
                }
                runtime.remove_sandbox(&id).await.inspect_err(|_| self.sandbox = Some(id))
            }
            None => {
                let ended = observed.containers.values().flat_map(|attempts| {
                    attempts.iter().filter(|c| c.state == ContainerState::Exited).skip(1)
                });
                try_join_all(ended.map(|c| runtime.remove_container(&c.id))).await.map(drop)
            }
        };
        if let Err(error) = result {
            tracing::warn!(pod = %full_name(pod), %error, "ended containers could not be removed");
        }
    }
}
