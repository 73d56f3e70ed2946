//! Whether this node takes a pod that was given to it, by kubelet's rules: kernel parameters, the
//! scheduler's predicates once more, host ports, AppArmor. A pod that is not taken fails for good; for a
//! critical pod others have to make room.

mod apparmor;
mod predicates;
mod preempt;
mod sysctls;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

/// Reason of pods whose required node affinity does not select the node: upstream asks the API for
/// the node's labels once more before it says so.
pub(crate) const NODE_AFFINITY: &str = "NodeAffinity";

/// Why a pod is not taken, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The pod's `status.reason`, and the event's.
    pub reason: String,
    /// For people; the pod's `status.message` puts `Pod was rejected: ` in front of it.
    pub message: String,
    /// Of a critical pod to which nothing else stands in the way: what the node has too little of.
    pub lacking: Vec<Lack>,
}

/// The node has too little of a resource for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    /// The resource.
    pub name: String,
    /// How much is missing: thousandths of a CPU, else units.
    pub amount: i64,
}

impl Refusal {
    pub(crate) fn new(reason: &str, message: String) -> Self {
        Self { reason: reason.to_owned(), message, lacking: Vec::new() }
    }
}

pub(crate) use predicates::{NoRoom, room};
pub(crate) use preempt::{still_lacking, victims};

/// What a decision depends on.
pub(crate) struct Inputs<'a> {
    /// The node as last seen.
    pub node: &'a Node,
    /// The pod.
    pub pod: &'a Pod,
    /// It is defined by a file of this node.
    pub is_static: bool,
    /// The pods that run here or are to.
    pub others: &'a [Arc<Pod>],
    /// Kernel parameters that may be set beside the safe ones.
    pub allowed_sysctls: &'a [String],
    /// The kernel has AppArmor, and it is on.
    pub apparmor: bool,
}

impl Inputs<'_> {
    /// Decides.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        sysctls::check(self.pod, self.allowed_sysctls)?;
        predicates::check(self)?;
        apparmor::check(self.pod, self.apparmor)
    }
}
