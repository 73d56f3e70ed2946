//! What this node, its pods and their containers use: read from the kernel when somebody asks.
//!
//! [`Stats::read`] makes a [`Snapshot`]; [`summary`] shows it as kubelet's `stats/v1alpha1` JSON, [`resource`],
//! [`cadvisor`] and [`kubelet`] as metrics in Prometheus' text format. Nothing is sampled in the background: a
//! rate of CPU use compares with the reading before, whenever that was.

mod cadvisor;
mod disk;
mod kubelet;
mod network;
mod node;
mod pods;
mod rates;
mod resource;
mod summary;

use std::sync::Arc;

use jiff::Timestamp;

use super::context::Context;
use super::spec::uid;
use disk::Disk;
pub(super) use node::Node;
pub(super) use pods::Pod;
use rates::Rates;

/// How much of it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// CPU and memory: a few small files of the kernel's.
    Cpu,
    /// Disk and network as well: directories are walked.
    All,
}

/// What everything used at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// When it was read.
    at: Timestamp,
    /// The machine.
    node: Node,
    /// Pods that run, by namespace and name.
    pods: Vec<Pod>,
}

/// The node's statistics.
pub(super) struct Stats {
    context: Arc<Context>,
    rates: Rates,
    disk: Disk,
}

impl Stats {
    /// Of this node.
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, rates: Rates::default(), disk: Disk::default() }
    }

    /// Reads what is used now.
    pub(super) async fn read(&self, detail: Detail) -> Snapshot {
        let at = Timestamp::now();
        let interfaces = network::read();
        let mut pods = pods::read(&self.context, &self.rates, &interfaces).await;
        let mut node = node::read(&self.context, &self.rates, &interfaces);
        if detail == Detail::All {
            for pod in &mut pods {
                self.disk.of_pod(&self.context, pod).await;
            }
            self.disk.of_node(&self.context, &mut node).await;
        }
        self.rates.forget_older(at);
        Snapshot { at, node, pods }
    }

    /// `/stats/summary`.
    pub(super) async fn summary(&self, only_cpu_and_memory: bool) -> serde_json::Value {
        let detail = if only_cpu_and_memory { Detail::Cpu } else { Detail::All };
        summary::of(&self.read(detail).await, detail)
    }

    /// `/metrics/resource`.
    pub(super) async fn resource_metrics(&self) -> String {
        resource::text(&self.read(Detail::Cpu).await)
    }

    /// `/metrics/cadvisor`.
    pub(super) async fn cadvisor_metrics(&self) -> String {
        cadvisor::text(&self.read(Detail::All).await)
    }

    /// `/metrics/probes`.
    pub(super) fn probe_metrics(&self) -> String {
        let pods = self.context.pods.all();
        self.context.probe_counts.text(&pods.iter().map(|pod| uid(pod)).collect())
    }

    /// `/metrics`.
    pub(super) async fn kubelet_metrics(&self) -> String {
        let sandboxes = self.context.runtime.sandboxes().await;
        let volumes = self.disk.claims(&self.context).await;
        kubelet::text(&self.context, &sandboxes, &volumes)
    }
}
