//! Writing a pod's status beside the worker's other work: an API server that is slow or away holds
//! nothing up. One write is under way at a time; what changes meanwhile is written after it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinHandle;

use super::observed::Observed;
use super::worker::{RETRY, Worker};
use super::{report, status};
use crate::agent::mirrors::{is_mirror, is_static};
use crate::agent::spec::name;
use crate::agent::steady;

/// An API server that has not answered by then is asked anew.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a write went: the pod as the API has it now, `None` if it is gone; or why it failed.
pub(super) type Written = Result<Option<Pod>, String>;

/// The write that is under way.
#[derive(Default)]
pub(super) struct Writing {
    task: Option<JoinHandle<Written>>,
    /// The status changed since it began.
    again: bool,
}

impl Writing {
    /// Ends with the write that is under way; never, if there is none.
    pub(super) async fn done(&mut self) -> Written {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let written = task.await.unwrap_or_else(|e| Err(e.to_string()));
        self.task = None;
        written
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Worker {
    /// Writes the pod's status if it changed, without waiting for it.
    pub(super) fn report_soon(&mut self, pod: &Pod, observed: &Observed, ended: bool) {
        if self.writing.task.is_some() {
            self.writing.again = true;
        } else if let Some(write) = self.write(pod, observed, ended) {
            self.writing.task = Some(tokio::spawn(write));
        }
    }

    /// Writes the pod's status if it changed.
    pub(super) async fn report(&mut self, pod: &Pod, observed: &Observed, ended: bool) {
        if self.writing.task.is_some() {
            let written = self.writing.done().await;
            self.written(written);
        }
        if let Some(write) = self.write(pod, observed, ended) {
            let written = write.await;
            self.written(written);
        }
    }

    /// Takes note of how a write went; whether another is due now.
    pub(super) fn written(&mut self, written: Written) -> bool {
        match written {
            Ok(Some(mirror)) if is_mirror(&mirror) => self.context.statics.set_mirror(Arc::new(mirror)),
            Ok(Some(pod)) => self.known = Some(Box::new(pod)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(pod = name(&self.pod()), %error, "the pod's status was not written");
                self.retry_at(Some(steady::now() + RETRY));
            }
        }
        std::mem::take(&mut self.writing.again)
    }

    /// The write that brings the API up to date, if one is needed.
    fn write(
        &self,
        pod: &Pod,
        observed: &Observed,
        ended: bool,
    ) -> Option<impl Future<Output = Written> + Send + 'static> {
        let base = match &self.known {
            // A static pod's status is its mirror's, if there is one.
            _ if is_static(pod) => {
                let mirror = self.context.statics.mirror_of(pod)?;
                Pod { spec: pod.spec.clone(), ..Pod::clone(&mirror) }
            }
            Some(known) if known.metadata.uid == pod.metadata.uid => self.newest(&pod.clone().into()),
            _ => pod.clone(),
        };
        let inputs = status::Inputs {
            pod: &base,
            observed,
            memory: &self.memory,
            node_addresses: &self.context.node_addresses(),
            ended,
            now: Timestamp::now(),
        };
        let patch = report::patch(&base, &inputs.status())?;
        let client = self.context.client.clone();
        Some(async move {
            match tokio::time::timeout(PATIENCE, report::write(&client, &base, patch)).await {
                Ok(written) => written.map_err(|e| e.to_string()),
                Err(_) => Err(format!("the API server did not answer within {} s", PATIENCE.as_secs())),
            }
        })
    }
}
